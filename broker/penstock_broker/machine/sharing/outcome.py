"""What an op has changed, gathered as runs and told as effects."""

from __future__ import annotations

from penstock_broker.machine.effects import (
    Effect,
    MovesWaiting,
    RecordsDelayed,
    RecordsFreed,
    RecordsHeld,
    RecordsSettled,
)
from penstock_broker.machine.sharing.ops import Spans


def add(spans: Spans, first: int, end: int) -> None:
    """Append [first, end) to spans; joined with the last one if it follows it."""
    if spans and spans[-2] + spans[-1] == first:
        spans[-1] += end - first
    elif end > first:
        spans += (first, end - first)


def total(spans: Spans) -> int:
    """Records in spans."""
    return sum(spans[1::2])


class Outcome:
    """The changes of one op.

    Attributes:
        settled: left LEASED, or became DONE.
        done: became DONE.
        ended: leases that are over.
        moving: whether the mover has work.
    """

    __slots__ = ("delayed", "done", "ended", "freed", "held", "moving", "settled")

    def __init__(self) -> None:
        self.settled: Spans = []
        self.done: Spans = []
        self.freed: Spans = []
        self.held: Spans = []
        self.delayed: list[tuple[int, int]] = []
        self.ended: list[int] = []
        self.moving = False

    def effects(self, group: str) -> list[Effect]:
        """What the node is told."""
        found: list[Effect] = []
        if self.settled or self.ended:
            found.append(RecordsSettled(group, self.settled, self.done, self.ended))
        if self.freed:
            found.append(RecordsFreed(group, self.freed))
        if self.delayed:
            found.append(RecordsDelayed(group, self.delayed))
        if self.held:
            found.append(RecordsHeld(group, self.held))
        if self.moving:
            found.append(MovesWaiting(group))
        return found
