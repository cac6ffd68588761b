"""Broken rules of the broker, to see that its simulation notices: each is one rule taken away.

They live here alone, as changed copies of what the broker does; the broker has no switch for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from penstock_broker.machine.producers import Producers
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.session import Session
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


MUTATIONS: Final[Mapping[str, Callable[[], Changes]]] = {
    "ack-before-sync": _ack_before_sync,
    "dedup-dropped": _dedup_dropped,
    "dedup-not-recovered": _dedup_not_recovered,
    "offset-reused": _offset_reused,
    "sync-skipped": _sync_skipped,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break a rule for a while; an empty name breaks none."""
    with ExitStack() as stack:
        for target, attribute, value in MUTATIONS[name]() if name else []:
            stack.enter_context(patch.object(target, attribute, value))
        yield
