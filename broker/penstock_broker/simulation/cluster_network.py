"""The network of a simulated cluster: connections whose bytes are late, held back, or gone.

A connection carries bytes in order, each way, as TCP does. While a way between two places is cut,
what was sent waits and arrives after the cut has healed, unless the connection broke meanwhile.
Places are hosts by number; all clients are at `OUTSIDE`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from struct import Struct
from typing import Final, Protocol
from zlib import crc32

OUTSIDE: Final = 0
DELAY: Final = 0.0004
"""Seconds on the way, on average, when the network is well."""
DIAL_SECONDS_MAX: Final = 2.0
_TIME: Final = Struct("<d")


class Clock(Protocol):
    """Who knows the time and lets things happen later."""

    now: float

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""


class Taker(Protocol):
    """Who is at an end of a connection."""

    def arrived(self, end: End) -> None:
        """Bytes came, into `end.inbox`."""

    def hung_up(self, end: End) -> None:
        """The other side closed, or the connection broke."""


@dataclass(eq=False, slots=True)
class End:
    """One end of a connection."""

    place: int
    taker: Taker
    inbox: bytearray = field(default_factory=bytearray)
    """What has arrived and was not taken."""
    closed: bool = False
    other: End = field(init=False, repr=False)
    _latest: float = 0.0
    """When the last bytes that were sent from here arrive."""
    _sent: deque[bytes | None] = field(default_factory=deque)
    """What was sent from here and has not arrived."""
    _due: int = 0
    """For how many of these an arrival is on its way."""


class Network:
    """All connections and cuts."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self.digest = 0
        """Of all that was sent, and when: the same for a seed wherever it is run."""
        self.cuts: set[tuple[int, int]] = set()
        """Ways (from, to) on which nothing passes."""
        self.slow: dict[tuple[int, int], float] = {}
        """Ways with another delay, in seconds on average."""
        self._ends: dict[End, None] = {}
        self._holding: dict[End, None] = {}

    # ----- connections

    def connect(self, place: int, taker: Taker, to: int, accept: Taker) -> End:
        """Open a connection; the end at `place` is returned, the other is its `other`."""
        near, far = End(place, taker), End(to, accept)
        near.other, far.other = far, near
        self._ends[near] = self._ends[far] = None
        return near

    def is_cut(self, one: int, other: int) -> bool:
        """Whether a connection between two places can't be opened."""
        return (one, other) in self.cuts or (other, one) in self.cuts

    def send(self, end: End, data: bytes | None) -> None:
        """Send bytes from an end to the other; None says that nothing more will come."""
        self.digest = crc32(data or b"", crc32(_TIME.pack(self._clock.now), self.digest))
        end._sent.append(data)
        if (end.place, end.other.place) in self.cuts:
            self._holding[end] = None
        else:
            self._schedule(end)

    def _schedule(self, end: End) -> None:
        """Have the next bytes that were sent arrive, after those before them."""
        end._due += 1
        delay = self._random.expovariate(1 / self.slow.get((end.place, end.other.place), DELAY))
        end._latest = max(end._latest, self._clock.now + delay)
        self._clock.after(end._latest - self._clock.now, lambda: self._arrive(end))

    def _arrive(self, end: End) -> None:
        end._due -= 1
        if (end.place, end.other.place) in self.cuts:
            self._holding[end] = None
            return
        data, far = end._sent.popleft(), end.other
        if far.closed:
            return
        if data is None:
            self.drop(far)
            far.taker.hung_up(far)
        else:
            far.inbox += data
            far.taker.arrived(far)

    def close(self, end: End) -> None:
        """Close from one end; the other hears of it when the bytes before have arrived."""
        if not end.closed:
            self.drop(end)
            self.send(end, None)

    def drop(self, end: End) -> None:
        """Forget an end without telling the other."""
        end.closed = True
        self._ends.pop(end, None)

    def break_one(self, end: End) -> None:
        """Break a connection for both ends."""
        for side in (end, end.other):
            if not side.closed:
                self.drop(side)
                side.taker.hung_up(side)

    def ends_at(self, place: int) -> list[End]:
        """All open ends at a place."""
        return [end for end in self._ends if end.place == place]

    # ----- cuts

    def cut(self, one: int, other: int) -> None:
        """Nothing passes this way any more."""
        self.cuts.add((one, other))

    def restore(self, ways: Iterable[tuple[int, int]]) -> None:
        """These pass again; what was held back arrives."""
        self.cuts.difference_update(ways)
        held, self._holding = self._holding, {}
        for end in held:
            self._release(end)

    def heal(self) -> None:
        """Everything passes again."""
        self.slow.clear()
        self.restore(list(self.cuts))

    def _release(self, end: End) -> None:
        for _ in range(len(end._sent) - end._due):
            self._schedule(end)
