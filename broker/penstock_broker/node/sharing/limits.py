"""Limits by key or tenant: how many records at once, and how many a second.

Soft state of a partition's leader: a new leader counts the leases that it finds, and begins with
full buckets. A bucket holds one delivery and those of a tenth of a second, so that nothing is lost
between two looks at the clock. Records of no tenant (or without a key) are under no limit.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from penstock_broker.node.sharing.timers import Timers

SECOND_US: Final = 1_000_000
BURST_PART: Final = 10


class _Slot:
    """One key or tenant."""

    __slots__ = ("at_us", "parked", "running", "tokens")

    def __init__(self, tokens: float, at_us: int) -> None:
        self.running = 0
        self.tokens = tokens
        self.at_us = at_us
        self.parked: deque[int] = deque()


class Limits:
    """What runs of each slot, and which offsets wait for that to end."""

    __slots__ = ("_burst", "_concurrency", "_rate", "_slots", "_timers", "parked")

    def __init__(self, concurrency: int, rate: int, now_us: int) -> None:
        self._concurrency = concurrency
        self._rate = rate
        self._burst = 1.0 + max(0, rate) / BURST_PART
        self._slots: dict[int, _Slot] = {}
        self._timers = Timers(now_us)
        """Slots that wait for a token alone."""
        self.parked = 0
        """Offsets that wait."""

    @property
    def next_us(self) -> int | None:
        """When the next token comes that somebody waits for."""
        return self._timers.next_us

    def _slot(self, number: int, now_us: int) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(self._burst, now_us)
        return slot

    def admit(self, number: int, offset: int, now_us: int) -> bool:
        """Count a record as running, or let it wait; True: it may go."""
        if not number:
            return True
        slot = self._slot(number, now_us)
        if not slot.parked and self._charge(slot, now_us):
            return True
        slot.parked.append(offset)
        self.parked += 1
        if len(slot.parked) == 1:
            self._watch(number, slot, now_us)
        return False

    def _charge(self, slot: _Slot, now_us: int) -> bool:
        if 0 <= self._concurrency <= slot.running:
            return False
        if self._rate >= 0:
            gained = (now_us - slot.at_us) * self._rate / SECOND_US
            slot.tokens = min(self._burst, slot.tokens + gained)
            slot.at_us = now_us
            if slot.tokens < 1.0:
                return False
            slot.tokens -= 1.0
        slot.running += 1
        return True

    def _watch(self, number: int, slot: _Slot, now_us: int) -> None:
        """Look again when the next token is there, if it is a token that is missing."""
        if self._rate > 0 and not 0 <= self._concurrency <= slot.running:
            missing = max(0.0, 1.0 - slot.tokens)
            self._timers.add(number, now_us + int(missing * SECOND_US / self._rate) + 1)

    def adopt(self, number: int, now_us: int) -> None:
        """A record of the slot runs already: it was leased under an earlier leader."""
        if number:
            self._slot(number, now_us).running += 1

    def left(self, number: int, now_us: int, unused: bool) -> list[int]:
        """A record runs no more; returns offsets that run instead.

        Args:
            number: its slot.
            now_us: the time.
            unused: it was never handed out: its token is given back.
        """
        slot = self._slots.get(number)
        if slot is None:
            return []
        slot.running -= 1
        if unused and self._rate >= 0:
            slot.tokens = min(self._burst, slot.tokens + 1.0)
        return self._next(number, slot, now_us)

    def _next(self, number: int, slot: _Slot, now_us: int) -> list[int]:
        freed: list[int] = []
        while slot.parked and self._charge(slot, now_us):
            freed.append(slot.parked.popleft())
        self.parked -= len(freed)
        if slot.parked:
            self._watch(number, slot, now_us)
        elif not slot.running and self._rate < 0:
            del self._slots[number]
        return freed

    def due(self, now_us: int) -> list[tuple[int, list[int]]]:
        """Time has passed; returns slots with offsets that run from now on."""
        freed: list[tuple[int, list[int]]] = []
        for number in sorted(set(self._timers.due(now_us))):
            slot = self._slots.get(number)
            if slot is not None:
                freed.append((number, self._next(number, slot, now_us)))
        return freed

    def sweep(self, now_us: int) -> None:
        """Forget slots that nothing is known of that a new one would not have."""
        for number in [n for n, s in self._slots.items() if not s.running and not s.parked]:
            slot = self._slots[number]
            gained = (now_us - slot.at_us) * max(self._rate, 0) / SECOND_US
            if self._rate < 0 or slot.tokens + gained >= self._burst:
                del self._slots[number]
