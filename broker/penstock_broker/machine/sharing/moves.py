"""Moves of records to another partition, each exactly once.

A move begins (`Move`) by fixing target and sequence number; the leader publishes the record there
with that number under a system producer id (of partition, group and the group's `incarnation`: a
group made anew counts from 0 again), which the target admits once; then the move is confirmed
(`Moved`). A new leader resumes at the pending ones. A partition that goes on with a copy that may
lack entries has given numbers away which it forgot: it leaves them out (`leap`), or the target
would take what is moved from then on for what it has already.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Final, NamedTuple

RECENT_MAX: Final = 10_000
LIFE_SEQUENCES: Final = 1 << 40
"""Sequence numbers of a life: more than any group moves records."""
PENDING_MAX: Final = 10_000
"""Moves of a group that may be under way at once."""


class PendingMove(NamedTuple):
    """A move that has begun."""

    sequence: int
    """Sequence number of the record at the target; dense within an incarnation and a life."""
    offset: int
    target: int
    """Raft group id."""
    reason: str


class MoveRow(NamedTuple):
    """The snapshot's form."""

    next_sequence: int
    pending: list[PendingMove]
    recent: list[tuple[int, int, int]]
    carried: tuple[tuple[int, int], ...] = ()


class Moves:
    """The moves of one group.

    Attributes:
        begun: pending moves by offset, in the order of their sequence numbers.
        next_sequence: of the next move that begins.
        recent: offset -> (target, offset there) of the last moves done; 2**64-1: not known.
        carried: offset -> the first offset that a delayed record had, which stays its id; of those
            that wait.
        places: the other way round.
    """

    __slots__ = ("begun", "carried", "next_sequence", "places", "recent")

    def __init__(self) -> None:
        self.begun: dict[int, PendingMove] = {}
        self.next_sequence = 0
        self.recent: dict[int, tuple[int, int]] = {}
        self.carried: dict[int, int] = {}
        self.places: dict[int, int] = {}

    @property
    def pending(self) -> list[PendingMove]:
        """Moves that have begun and are not confirmed, in the order to be published."""
        return list(self.begun.values())

    def leap(self, life: int) -> None:
        """Begin no move of this life with a number that one of an earlier life may have had."""
        self.next_sequence = max(self.next_sequence, life * LIFE_SEQUENCES)

    def begin(self, offset: int, target: int, reason: str) -> None:
        """Give a move the next sequence number; to another target it may begin anew."""
        self.begun.pop(offset, None)
        self.begun[offset] = PendingMove(self.next_sequence, offset, target, reason)
        self.next_sequence += 1

    def arrived(self, through: int) -> list[PendingMove]:
        """The pending moves up to a sequence number; they are not pending any more."""
        found = list(takewhile(lambda move: move.sequence <= through, self.begun.values()))
        for move in found:
            del self.begun[move.offset]
        return found

    def note(self, offset: int, target: int, place: int) -> None:
        """Remember where a record was moved to."""
        self.recent[offset] = (target, place)
        if len(self.recent) > RECENT_MAX:
            del self.recent[next(iter(self.recent))]

    def carry(self, id_: int, place: int) -> None:
        """A delayed record lies at another offset from now on."""
        self.forget(place, place + 1)
        self.carried[place] = id_
        self.places[id_] = place

    def forget(self, first: int, end: int) -> None:
        """The records of [first, end) are DONE: those among them that were carried have no id."""
        few = len(self.carried) < end - first
        for offset in [o for o in (self.carried if few else range(first, end)) if first <= o < end]:
            id_ = self.carried.pop(offset, None)
            if id_ is not None:
                del self.places[id_]

    def row(self) -> MoveRow:
        """The snapshot's form."""
        recent = [(offset, *place) for offset, place in self.recent.items()]
        return MoveRow(self.next_sequence, self.pending, recent, tuple(self.carried.items()))

    @classmethod
    def of(cls, row: MoveRow) -> Moves:
        """Take over a row."""
        made = cls()
        made.next_sequence = row.next_sequence
        made.begun = {move.offset: move for move in row.pending}
        made.recent = {offset: (target, place) for offset, target, place in row.recent}
        made.carried = dict(row.carried)
        made.places = {id_: place for place, id_ in row.carried}
        return made
