"""What an op has changed, gathered as runs and told as effects."""

from __future__ import annotations

from typing import NamedTuple

from penstock_broker.machine.commands import Refused
from penstock_broker.machine.effects import (
    Effect,
    MovesWaiting,
    RecordsDelayed,
    RecordsFreed,
    RecordsHeld,
    RecordsSettled,
)
from penstock_broker.machine.sharing.ops import Spans
from penstock_broker.machine.sharing.replies import OpReply


class Scene(NamedTuple):
    """What an op is applied to, beside its group."""

    entry: int
    """Raft index of the entry."""
    now_us: int
    """The entry's time."""
    log_start: int
    log_end: int
    life: int
    """The entry's `Stamp.life`."""


def add(spans: Spans, first: int, end: int) -> None:
    """Append [first, end) to spans; joined with the last one if it follows it."""
    if end <= first:
        return
    if spans and spans[-2] + spans[-1] == first:
        spans[-1] += end - first
    else:
        spans += (first, end - first)


def total(spans: Spans) -> int:
    """Records in spans."""
    return sum(spans[1::2])


class Outcome:
    """The changes of one op.

    Attributes:
        settled: left LEASED, or became DONE, MOVING or HELD.
        done: became DONE.
        freed: became FREE.
        held: became HELD.
        delayed: became DELAYED: offset and ready time.
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


UNCHANGED = Outcome()
"""The outcome of an op that changed no record."""

Result = tuple[OpReply, Outcome]


def refused(reply: Refused) -> Result:
    """The op changes nothing."""
    return reply, UNCHANGED
