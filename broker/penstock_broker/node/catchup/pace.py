"""How fast records are copied: as fast as those who wait for this broker do not notice.

What tells is how long they wait (`waits`). While that is about what it is without copies, copying
becomes faster little by little; as soon as it is longer, much slower, but never slower than a
floor: a replica that is missing is a danger too. Where nobody waits there is nobody to spare.

Invariant: `room` is what may be copied now; it is refilled by time and bounded by a burst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock_broker.node.catchup.waits import Meter, Waits

SLOWEST: Final = 16 * 1024 * 1024
FASTEST: Final = 1024 * 1024 * 1024
"""Bytes a second, for all copies from this node, or to it, together."""
BURST_SECONDS: Final = 0.05
STEP_SECONDS: Final = 0.1
"""How often the pace is looked at."""
ALONE: Final = 2.0
"""So many times as fast after a step in which nobody waited,"""
FASTER: Final = 1.3
"""or nobody has waited for too long since copying began,"""
CAREFUL: Final = 1.03
"""or somebody has."""
SLOWER: Final = 0.5
UNUSED: Final = 1.5
"""So many times what was copied the pace may be and still grow."""
REST_SECONDS: Final = 1.0
"""After so long without a copy the pace begins anew."""


class Pace:
    """Bytes that may be copied now.

    Attributes:
        room: how many bytes may be copied now; may fall below zero by one piece.
        rate: bytes a second.
    """

    __slots__ = ("_began", "_copied", "_copied_at", "_factor", "_meters", "_refilled_at", "_seen",
                 "_waits", "rate", "room")  # fmt: skip

    def __init__(self, waits: Waits, *meters: Meter) -> None:
        self._waits = waits
        self._meters = meters
        """Those of its waits that matter."""
        self._seen = [(0, 0.0) for _ in meters]
        """Count and total of each when the step began."""
        self._copied_at = -REST_SECONDS
        self._refilled_at = self._began = 0.0
        self._copied = 0
        """Since the step began."""
        self._factor = FASTER
        self.rate = float(SLOWEST)
        self.room = int(SLOWEST * BURST_SECONDS)

    def refill(self, now: float) -> None:
        """Time has passed; called while somebody wants records."""
        passed = min(now - self._refilled_at, BURST_SECONDS)
        self._refilled_at = now
        if now - self._copied_at >= REST_SECONDS:
            self.rate, self._factor = float(SLOWEST), FASTER
            self._begin_step(now)
        elif now >= self._began + STEP_SECONDS:
            self._step(now)
            self._begin_step(now)
        self._copied_at = now
        self._waits.copies(now, slowest=self.rate <= SLOWEST)
        self.room = min(int(self.rate * BURST_SECONDS), self.room + int(passed * self.rate))

    def _begin_step(self, now: float) -> None:
        self._began, self._copied = now, 0
        self._seen = [(meter.count, meter.total) for meter in self._meters]

    def _step(self, now: float) -> None:
        means = [self._mean(at, now) for at in range(len(self._meters))]
        late = [meter.too_long(mean) for meter, mean in zip(self._meters, means, strict=True)]
        # What is not used up says nothing: it neither grows, nor has to shrink first.
        most = self._copied / (now - self._began) * UNUSED
        if any(late):
            self._factor = CAREFUL
            self.rate = max(SLOWEST, min(self.rate, most) * SLOWER)
        elif self.rate < most:
            self.rate = min(FASTEST, self.rate * (self._factor if any(means) else ALONE))

    def _mean(self, at: int, now: float) -> float:
        """What was waited in this step; 0: nobody waited."""
        meter, (count, total) = self._meters[at], self._seen[at]
        if meter.count > count:
            return (meter.total - total) / (meter.count - count)
        return now - meter.since if meter.since is not None else 0.0

    def spent(self, size: int) -> None:
        """So many bytes were copied."""
        self.room -= size
        self._copied += size
