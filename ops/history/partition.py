"""The rules of one partition's log."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from ops.history.form import Operation, Record

Broken = Callable[[str, str], None]
"""Told of a violation: its kind, and words."""
Name = tuple[str, int]
"""Producer and sequence of a record."""


def check_partition(operations: Sequence[Operation], broken: Broken) -> set[int] | None:
    """Check publishes, reads and ends of a partition, in the order in which they began.

    Returns:
        The offsets of the final partition; None if the history has none.
    """
    log = _Log(operations, broken)
    log.learn()
    log.check_order()
    _check_real_time(operations, broken)
    _check_stale(operations, broken)
    return log.check_final()


class _Log:
    """What all operations together say of the partition."""

    def __init__(self, operations: Sequence[Operation], broken: Broken) -> None:
        self._operations = operations
        self._broken = broken
        self._at: dict[int, tuple[Name, str]] = {}
        self._place: dict[Name, int] = {}
        self._sent: dict[Name, tuple[str, str]] = {}
        """Record -> digest, and outcome of its publish (the best one, if it was sent again)."""
        self._trimmed = max((o.more["offset"] for o in operations if o.op == "trim"), default=0)

    def learn(self) -> None:
        """Collect what was sent, then what was seen where."""
        publishes = [operation for operation in self._operations if operation.op == "publish"]
        for operation in publishes:
            self._note_sent(operation)
        for operation in publishes:
            more = operation.more
            if operation.outcome == "ok" and more["offset"] >= 0:
                for at, digest in enumerate(more["digests"]):
                    name = more["producer"], more["sequence"] + at
                    self._see((more["offset"] + at, *name, digest), operation)
        for operation in self._operations:
            if operation.op in ("read", "final"):
                self._read(operation)

    def _note_sent(self, operation: Operation) -> None:
        more, outcome = operation.more, operation.outcome
        for at, digest in enumerate(more["digests"]):
            name = more["producer"], more["sequence"] + at
            known = self._sent.get(name)
            if known is not None and known[0] != digest:
                self._broken("changed", f"{name} was published with two contents: {operation}")
            if known is None or outcome == "ok" or known[1] == "failed":
                self._sent[name] = digest, outcome

    def _read(self, operation: Operation) -> None:
        due = operation.more["offset"]
        for record in operation.more["records"]:
            offset = record[0]
            if offset != due and not due < self._trimmed <= offset:
                self._broken("gap", f"offset {offset} came when {due} was due, {operation}")
            due = offset + 1
            self._see(tuple(record), operation)

    def _see(self, record: Record, operation: Operation) -> None:
        offset, producer, sequence, digest = record
        name = producer, sequence
        sent = self._sent.get(name)
        if sent is None:
            self._broken("unknown", f"nobody published {name} at {offset}: {operation}")
        elif sent[1] == "failed":
            self._broken("unknown", f"{name} failed and is at {offset}: {operation}")
        elif sent[0] and digest and sent[0] != digest:
            self._broken("changed", f"{name} at {offset} has other bytes: {operation}")
        known = self._at.setdefault(offset, (name, digest))
        if known[0] != name:
            self._broken("changed", f"{offset} was {known[0]} and is {name}: {operation}")
        place = self._place.setdefault(name, offset)
        if place != offset:
            self._broken("duplicated", f"{name} is at {place} and at {offset}: {operation}")

    def check_order(self) -> None:
        """Records of a producer keep their order."""
        last: dict[str, tuple[int, int]] = {}
        for offset in sorted(self._at):
            producer, sequence = self._at[offset][0]
            before, where = last.get(producer, (-1, -1))
            if sequence < before:
                words = f"{producer}/{sequence} at {offset} stands behind {before} at {where}"
                self._broken("reordered", words)
            last[producer] = sequence, offset

    def check_final(self) -> set[int] | None:
        """All that was acknowledged is in the partition as it was read in the end."""
        parts = sorted(
            (o for o in self._operations if o.op == "final"), key=lambda o: o.more["offset"]
        )
        if not parts:
            return None
        due = parts[0].more["offset"]
        if due > self._trimmed:
            self._broken("gap", f"the final partition begins at {due}, trimmed {self._trimmed}")
        found: dict[Name, int] = {}
        for part in parts:
            if part.more["offset"] != due:
                self._broken("gap", f"the final partition has nothing at {due}: {part}")
            records = part.more["records"]
            due = records[-1][0] + 1 if records else due
            found.update(((record[1], record[2]), record[0]) for record in records)
        self._check_kept(found)
        return set(found.values())

    def _check_kept(self, found: dict[Name, int]) -> None:
        for name, (_, outcome) in self._sent.items():
            place = self._place.get(name, -1)
            # Where it stood is not known, and something was trimmed: it may have been there.
            gone = 0 <= place < self._trimmed or (place < 0 and self._trimmed)
            if outcome == "ok" and name not in found and not gone:
                self._broken("lost", f"{name} was acknowledged at {place} and is not there")
        for offset, (name, _) in self._at.items():
            at = found.get(name)
            if at is None and offset >= self._trimmed:
                self._broken("lost", f"{name} was seen at {offset} and is not there")
            elif at is not None and at != offset:
                self._broken("moved", f"{name} was seen at {offset} and is at {at}")


def _check_real_time(operations: Sequence[Operation], broken: Broken) -> None:
    """Who begins after another was answered stands behind it."""
    began: dict[Name, float] = {}
    stored: list[tuple[float, int, Operation]] = []
    for operation in operations:
        if operation.op != "publish":
            continue
        more = operation.more
        # What is sent again may stand where its first attempt put it.
        start = began.setdefault((more["producer"], more["sequence"]), operation.start)
        if operation.outcome == "ok" and more["offset"] >= 0:
            stored.append((start, operation.line, operation))
    ended: list[tuple[float, int]] = []
    highest = -1
    for start, _, operation in sorted(stored, key=lambda item: item[:2]):
        offset = operation.more["offset"]
        while ended and ended[0][0] < start:
            highest = max(highest, heapq.heappop(ended)[1])
        if offset < highest:
            broken("overtaken", f"{operation} is before {highest}, answered before it began")
        heapq.heappush(ended, (operation.end, offset))


def _check_stale(operations: Sequence[Operation], broken: Broken) -> None:
    """A linearizable look knows of all that was answered before it began."""
    ended: list[tuple[float, int]] = []
    known = 0
    for operation in operations:
        if operation.outcome != "ok":
            continue
        while ended and ended[0][0] < operation.start:
            known = max(known, heapq.heappop(ended)[1])
        end = _end_told(operation)
        if end is not None and end < known:
            broken("stale", f"{operation} says that the log ends at {end}, {known} was known")
        heapq.heappush(ended, (operation.end, _end_known(operation)))


def _end_told(operation: Operation) -> int | None:
    """The end of the log as a linearizable operation tells it."""
    more = operation.more
    if not more.get("linearizable") or operation.op not in ("read", "end"):
        return None
    if operation.op == "end" or not more["records"]:
        end: int = more["offset"]
        return end
    return None


def _end_known(operation: Operation) -> int:
    """The log is known to reach so far once this was answered."""
    more = operation.more
    if operation.op == "publish" and more["offset"] >= 0:
        return int(more["offset"]) + len(more["digests"])
    if operation.op in ("read", "final") and more["records"]:
        return int(more["records"][-1][0]) + 1
    return int(more["offset"]) if operation.op == "end" else 0
