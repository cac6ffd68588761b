"""Records that could be handed out now, in the order in which they will be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol


class Turns(Protocol):
    """A queue of offsets."""

    def __len__(self) -> int:
        """How many wait."""

    def extend(self, offsets: Iterable[int]) -> None:
        """They come last."""

    def first(self, offset: int) -> None:
        """It comes first: its turn had come before."""

    def next(self) -> int:
        """The next one."""


class InOrder(deque[int]):
    """First come, first served; what comes back goes before what is new."""

    first = deque.appendleft
    next = deque.popleft


class InTurns:
    """Every slot that has records waiting gets one out, then the next slot (round robin).

    A slot that comes anew waits until all others had their turn once.
    """

    __slots__ = ("_base", "_count", "_lanes", "_order", "_slots")

    def __init__(self, slots: Sequence[int], base: int) -> None:
        self._slots = slots
        """Slot of each offset, from `_base` on; grows and is cut by its owner."""
        self._base = base
        self._lanes: dict[int, deque[int]] = {}
        self._order: deque[int] = deque()
        self._count = 0

    def rebase(self, base: int) -> None:
        """The slots begin at this offset now."""
        self._base = base

    def __len__(self) -> int:
        return self._count

    def _lane(self, offset: int) -> deque[int]:
        self._count += 1
        slot = self._slots[offset - self._base]
        lane = self._lanes.get(slot)
        if lane is None:
            lane = self._lanes[slot] = deque()
            self._order.append(slot)
        return lane

    def extend(self, offsets: Iterable[int]) -> None:
        """Each is the last of its slot."""
        for offset in offsets:
            self._lane(offset).append(offset)

    def first(self, offset: int) -> None:
        """It is the first of its slot."""
        self._lane(offset).appendleft(offset)

    def next(self) -> int:
        """The first of the slot whose turn it is."""
        slot = self._order.popleft()
        lane = self._lanes[slot]
        offset = lane.popleft()
        self._count -= 1
        if lane:
            self._order.append(slot)
        else:
            del self._lanes[slot]
        return offset
