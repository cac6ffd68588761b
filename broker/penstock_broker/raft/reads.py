"""Linearizable reads without a log entry (read index, thesis 6.4).

A read waits for the next round of heartbeats. When a quorum has answered that round, or a later
one, the leader led when the round began, so all that was decided before the read is at or before
the commit that was noted then. Reads that wait together share a round, whatever their number.
"""

from collections import deque
from typing import NamedTuple


class ReadState(NamedTuple):
    """The read `context` may be answered once `index` is applied."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    context: object


class ReadQueue:
    """Reads on their way: `waiting` for a round, then part of one, then `done`."""

    __slots__ = ("count", "done", "round", "rounds", "waiting")

    def __init__(self) -> None:
        self.waiting: list[object] = []
        self.rounds: deque[tuple[int, int, list[object]]] = deque()
        self.done: list[ReadState] = []
        self.round = 0
        self.count = 0

    def add(self, context: object) -> None:
        """Queue a read."""
        self.waiting.append(context)
        self.count += 1

    def begin(self, number: int, commit: int, may_read: bool) -> None:
        """A round of heartbeats leaves now: it answers for all reads that wait, if they may."""
        assert number >= self.round, f"round {number} after round {self.round}"
        self.round = number
        if may_read and self.waiting:
            self.rounds.append((number, commit, self.waiting))
            self.waiting = []

    def finish(self, number: int) -> None:
        """A quorum has answered round `number`."""
        while self.rounds and self.rounds[0][0] <= number:
            _, index, contexts = self.rounds.popleft()
            self.count -= len(contexts)
            self.done += [ReadState(index, context) for context in contexts]

    def abandon(self) -> None:
        """Drop what can't be answered any more: the node leads no longer."""
        self.waiting.clear()
        self.rounds.clear()
        self.count = self.round = 0
