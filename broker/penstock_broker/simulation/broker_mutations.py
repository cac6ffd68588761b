"""Broken rules of the broker, to see that its simulation notices: each is one rule taken away.

They live here alone, as changed copies of what the broker does; the broker has no switch for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from penstock.protocol.batch import SYSTEM_PRODUCERS
from penstock_broker.machine.producers import Producers
from penstock_broker.machine.sharing import ops, sharing
from penstock_broker.machine.sharing.group import GroupRow, SharedGroup
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.session import Session
from penstock_broker.node.sharing import dispatch
from penstock_broker.node.sharing.delayed import DelayedRecords
from penstock_broker.node.sharing.dispatch import Dispatcher
from penstock_broker.node.sharing.ready import ReadyByOffset
from penstock_broker.node.sharing.waiting import Waiting
from penstock_broker.simulation.disk import SimFile

Changes = list[tuple[Any, str, Any]]


def _dedup_dropped() -> Changes:
    """The leader appends whatever a producer sends, again if it is sent again."""
    return [(Producers, "check", lambda *_: None)]


def _dedup_not_recovered() -> Changes:
    """Producers are forgotten when the broker starts from a checkpoint."""
    original = Producers.restore

    def restore(self: Producers, now_us: int, rows: list[Any]) -> None:
        original(self, now_us, [])

    return [(Producers, "restore", restore)]


def _sync_skipped() -> Changes:
    """A sync returns without having synced."""
    return [(SimFile, "sync", lambda self: None)]


def _ack_before_sync() -> Changes:
    """A quorum publish is acknowledged when it is appended."""
    original = PartitionGroup.publish

    def publish(
        self: PartitionGroup, session: Session, correlation: int, acks: int, batch: bytearray
    ) -> None:
        original(self, session, correlation, min(acks, 1), batch)

    return [(PartitionGroup, "publish", publish)]


def _offset_reused() -> Changes:
    """A new leader begins one record before the end of the log."""
    original = PartitionGroup.on_leading

    def on_leading(self: PartitionGroup) -> None:
        original(self)
        self.next_offset = max(0, self.next_offset - 1)

    return [(PartitionGroup, "on_leading", on_leading)]


def _ack_applied_twice() -> Changes:
    """An ack settles the record behind it as well."""
    original = sharing._CARRY_OUT[ops.Settle]

    def settle(group: SharedGroup, op: ops.Settle, scene: Any) -> Any:  # noqa: ANN401 - as it is
        first = original(group, op, scene)
        if op.verdict == ops.ACK:
            original(group, replace(op, spans=[op.spans[-2] + op.spans[-1], 1]), scene)
        return first

    return [(sharing, "_CARRY_OUT", {**sharing._CARRY_OUT, ops.Settle: settle})]


def _lease_not_expired_after_restart() -> Changes:
    """Leases that come out of a checkpoint never run out, and no new leader shortens them."""
    original = SharedGroup.of

    def of(row: GroupRow) -> SharedGroup:
        group = original(row)
        for lease in group.leases.values():
            lease.deadline_us = 1 << 62
        return group

    return [(SharedGroup, "of", staticmethod(of)), (Dispatcher, "shorten", lambda self: None)]


def _attempts_reset() -> Changes:
    """What went wrong with a record is forgotten when the broker starts from a checkpoint."""
    original = SharedGroup.of

    def of(row: GroupRow) -> SharedGroup:
        return original(replace(row, troubles=[]))

    return [(SharedGroup, "of", staticmethod(of))]


def _granted_twice() -> Changes:
    """What was granted can be taken again at once."""
    original = Dispatcher.grant

    def grant(self: Dispatcher, asked: Any, found: Any) -> tuple[int, int]:  # noqa: ANN401 - ditto
        granted = original(self, asked, found)
        self.ready.put_back(found.spans)
        return granted

    return [(Dispatcher, "grant", grant)]


def _order_of_keys_ignored() -> Changes:
    """Records of a key are handed out whatever has become of those before them."""
    return [(dispatch, "Lanes", lambda shared, group, claimed, *_: ReadyByOffset(
        group, shared.partition.log, claimed))]  # fmt: skip


def _dead_letter_sent_again() -> Changes:
    """What the broker publishes by itself is appended again if it is sent again."""
    original = Producers.check

    def check(self: Producers, head: Any, *more: Any) -> Any:  # noqa: ANN401 - as it is
        return None if head[1] >= SYSTEM_PRODUCERS else original(self, head, *more)

    return [(Producers, "check", check)]


def _acquire_answered_twice() -> Changes:
    """Who is being served may be served again meanwhile."""
    return [(Waiting, "serve", Waiting._serve)]


def _early_after_clock_put_back() -> Changes:
    """What is due goes by the latest time that the clock has ever shown."""
    original = DelayedRecords.tick

    def tick(self: DelayedRecords) -> None:
        node = self._partition.node
        shown, node.civil_us = node.civil_us, node.wall_us
        try:
            original(self)
        finally:
            node.civil_us = shown

    return [(DelayedRecords, "tick", tick)]


SHARED_MUTATIONS: Final[Mapping[str, Callable[[], Changes]]] = {
    "ack-applied-twice": _ack_applied_twice,
    "acquire-answered-twice": _acquire_answered_twice,
    "attempts-reset": _attempts_reset,
    "dead-letter-sent-again": _dead_letter_sent_again,
    "early-after-clock-put-back": _early_after_clock_put_back,
    "granted-twice": _granted_twice,
    "lease-not-expired-after-restart": _lease_not_expired_after_restart,
    "order-of-keys-ignored": _order_of_keys_ignored,
}
"""Those that only the world with a shared group can notice."""

MUTATIONS: Final[Mapping[str, Callable[[], Changes]]] = {
    "ack-before-sync": _ack_before_sync,
    "dedup-dropped": _dedup_dropped,
    "dedup-not-recovered": _dedup_not_recovered,
    "offset-reused": _offset_reused,
    "sync-skipped": _sync_skipped,
    **SHARED_MUTATIONS,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break a rule for a while; an empty name breaks none."""
    with ExitStack() as stack:
        for target, attribute, value in MUTATIONS[name]() if name else []:
            stack.enter_context(patch.object(target, attribute, value))
        yield
