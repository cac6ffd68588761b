"""How fast records are copied from this broker: as fast as clients do not notice.

The one thing that tells is how long clients wait. So the time from a proposal to its commit is
measured, of one proposal at a time. While that is about what it is without copies, copying becomes
faster; when it is longer, slower, but never slower than a floor: a replica that is missing is a
danger too.

Invariant: `room` is what may be copied now; it is refilled by time and bounded by a burst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_broker.node.group import Group

SLOWEST: Final = 48 * 1024 * 1024
FASTEST: Final = 1024 * 1024 * 1024
"""Bytes a second, for all copies from this node together."""
BURST_SECONDS: Final = 0.05
STEP_SECONDS: Final = 0.1
"""How often the pace is looked at."""
FASTER: Final = 1.3
SLOWER: Final = 0.7
LONGER: Final = 1.5
"""So many times the usual wait, and `GRACE_SECONDS` more, is too long."""
GRACE_SECONDS: Final = 0.001
SAMPLE_SECONDS: Final = 0.005
WEIGHT: Final = 1 / 32
"""Of one sample in the usual wait."""
COPYING_SECONDS: Final = 1.0
"""For so long after a copy what is measured does not count as usual."""


class Pace:
    """Bytes that may be copied now; fed with the waits of clients.

    Attributes:
        room: how many bytes may be copied now; may fall below zero by one piece.
        rate: bytes a second.
        waits: whether `watch` is to be called for what is proposed.
    """

    __slots__ = ("_began", "_copied_at", "_index", "_next_at", "_refilled_at", "_step_at", "_term",
                 "_waits", "_watched", "rate", "room", "usual", "waits")  # fmt: skip

    def __init__(self) -> None:
        self.rate = float(SLOWEST)
        self.room = int(SLOWEST * BURST_SECONDS)
        self.usual = 0.0
        """Seconds from proposal to commit while nothing is copied; 0: not known."""
        self.waits = True
        self._watched: Group | None = None
        self._index = self._term = 0
        self._began = self._next_at = 0.0
        self._copied_at = -COPYING_SECONDS
        self._refilled_at = self._step_at = 0.0
        self._waits: list[float] = []
        """Of this step."""

    # ----- what clients wait

    def watch(self, groups: Iterable[Group], now: float) -> None:
        """Measure one of the proposals that are about to be made."""
        if now < self._next_at:
            return
        for group in groups:
            if group.pending and group.gid:
                self._watched, self._began = group, now
                self._index, self._term = group.next_index - 1, group.raft.term
                self.waits = False
                return

    def look(self, now: float) -> None:
        """Whether what is measured is committed; called once a round while `waits` is not set."""
        group = self._watched
        if group is None or group.gone or group.raft.term != self._term:
            self._over(now)
        elif group.applied_index >= self._index:
            self.measured(now - self._began, now)
            self._over(now)

    def _over(self, now: float) -> None:
        self._watched, self.waits = None, True
        self._next_at = now + SAMPLE_SECONDS

    def measured(self, seconds: float, now: float) -> None:
        """A client waited for so long."""
        if now - self._copied_at < COPYING_SECONDS:
            self._waits.append(seconds)
        elif self.usual:
            self.usual += (seconds - self.usual) * WEIGHT
        else:
            self.usual = seconds

    # ----- what may be copied

    def refill(self, now: float) -> None:
        """Time has passed; called while somebody wants records."""
        passed = min(now - self._refilled_at, BURST_SECONDS)
        self._refilled_at = now
        if now - self._copied_at >= COPYING_SECONDS:
            self.rate, self._step_at, self._waits = float(SLOWEST), now + STEP_SECONDS, []
        elif now >= self._step_at:
            self._step(now)
        self._copied_at = now
        self.room = min(int(self.rate * BURST_SECONDS), self.room + int(passed * self.rate))

    def _step(self, now: float) -> None:
        waits, self._waits = self._waits, []
        self._step_at = now + STEP_SECONDS
        mean = sum(waits) / len(waits) if waits else self.waiting(now)
        if self.usual and mean > self.usual * LONGER + GRACE_SECONDS:
            self.rate = max(SLOWEST, self.rate * SLOWER)
        else:
            self.rate = min(FASTEST, self.rate * FASTER)

    def waiting(self, now: float) -> float:
        """For how long the one that is measured waits already."""
        return 0.0 if self.waits else now - self._began

    def spent(self, size: int) -> None:
        """So many bytes were copied."""
        self.room -= size
