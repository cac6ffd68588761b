"""The rules of the groups that consume one partition."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from ops.history.form import Operation
from ops.history.partition import Broken


def check_commits(group: str, operations: Sequence[Operation], broken: Broken) -> None:
    """A linearizable position knows every commit and seek that was answered before it began.

    Between two seeks, commits of one owner only grow; a position may be the last acknowledged one
    or that of any commit that was under way.
    """
    seeks = [operation for operation in operations if operation.op == "seek"]
    ended: list[tuple[float, int]] = []
    known = -1
    for operation in operations:
        if operation.op not in ("commit", "position"):
            continue
        while ended and ended[0][0] < operation.start:
            known = max(known, heapq.heappop(ended)[1])
        offset = operation.more["offset"]
        asked = operation.op == "position" and operation.more["linearizable"]
        moved = any(seek.start <= operation.end for seek in seeks)
        if asked and operation.outcome == "ok" and offset < known and not moved:
            broken("stale", f"group {group}: {operation}, though {known} was known")
        if operation.outcome == "ok":
            heapq.heappush(ended, (operation.end, offset))


def check_leases(
    group: str, operations: Sequence[Operation], due: set[int], broken: Broken
) -> None:
    """Leases of a shared group: one at a time, attempts grow, what is acked never comes again.

    What is due was delivered in the end.
    """
    by_offset: dict[int, list[Operation]] = {}
    for operation in operations:
        by_offset.setdefault(operation.more["offset"], []).append(operation)
    confirmed = _confirmed(operations)
    for offset, asked in sorted(by_offset.items()):
        _check_record(f"group {group}, offset {offset}", asked, confirmed, broken)
    delivered = {
        offset
        for offset, asked in by_offset.items()
        if any(operation.op == "deliver" for operation in asked)
    }
    missing = sorted(due - delivered)
    if missing:
        words = f"group {group}: {len(missing)} records were never delivered: {missing[:5]}"
        broken("undelivered", words)


def _leader(operation: Operation) -> str:
    """Who gave the lease."""
    return str(operation.more["lease"]).rpartition(".")[0]


def _confirmed(operations: Sequence[Operation]) -> dict[str, float]:
    """Leader -> when the latest verdict that it confirmed was sent.

    What it had handed out before is known to every leader after it: its log has an order.
    """
    latest: dict[str, float] = {}
    for operation in operations:
        if operation.op == "settle" and operation.outcome == "ok":
            leader = operation.more["by"]
            latest[leader] = max(latest.get(leader, 0.0), operation.start)
    return latest


def _check_record(
    where: str, asked: Sequence[Operation], confirmed: Mapping[str, float], broken: Broken
) -> None:
    over: dict[str, float] = {}
    """Lease -> when its holder began to give it up: from then on another may have it."""
    acked = float("inf")
    for operation in asked:
        if operation.op != "settle":
            continue
        lease = operation.more["lease"]
        over[lease] = min(over.get(lease, float("inf")), operation.start)
        if operation.more["verdict"] == "ack" and operation.outcome == "ok":
            acked = min(acked, operation.end)
    held: tuple[float, Operation] | None = None
    attempt = 0
    for operation in asked:
        if operation.op != "deliver":
            continue
        more = operation.more
        if operation.start > acked:
            broken("redelivered", f"{where}: {operation}, acked at {acked:.6f}")
        if more["attempt"] < attempt:
            broken("forgotten", f"{where}: attempt {more['attempt']} after {attempt}: {operation}")
        attempt = max(attempt, more["attempt"])
        # Two leases overlap for certain if the second was granted, at the latest when it was
        # heard of, while the first ran and its holder had not begun to give it up.
        overlap = held is not None and operation.end < held[0]
        if held is not None and overlap and not _may_overlap(held[1], operation, confirmed):
            broken("shared", f"{where}: {operation} while {held[1]} holds it")
        free = min(float(more["until"]), over.get(more["lease"], float("inf")))
        held = (free, operation)


def _may_overlap(first: Operation, second: Operation, confirmed: Mapping[str, float]) -> bool:
    """Whether it is one lease, or a leader that is gone gave the first and told nobody in time."""
    if first.more["lease"] == second.more["lease"]:
        return True
    leader = _leader(first)
    return leader != _leader(second) and confirmed.get(leader, 0.0) <= first.end
