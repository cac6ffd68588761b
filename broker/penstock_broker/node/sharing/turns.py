"""Records that could be handed out now, in the order in which they will be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from penstock_broker.node.sharing.spans import Spans, long_runs_of


class Turns(Protocol):
    """A queue of offsets, told in runs (first offset, count)."""

    def __len__(self) -> int:
        """How many offsets wait."""

    def extend(self, spans: Iterable[tuple[int, int]]) -> None:
        """They come last."""

    def first(self, span: tuple[int, int]) -> None:
        """They come first: their turn had come before."""

    def next(self) -> int:
        """The next one."""

    def take(self, count: int) -> Spans:
        """So many of the next ones, or all."""


class InOrder:
    """First come, first served; what comes back goes before what is new. A run costs one step."""

    __slots__ = ("_count", "_runs")

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, spans: Iterable[tuple[int, int]]) -> None:
        """They come last."""
        for span in spans:
            self._runs.append(span)
            self._count += span[1]

    def first(self, span: tuple[int, int]) -> None:
        """They come first."""
        self._count += span[1]
        if self._runs and span[0] + span[1] == self._runs[0][0]:
            span = (span[0], span[1] + self._runs.popleft()[1])
        self._runs.appendleft(span)

    def next(self) -> int:
        """The first one."""
        return self.take(1)[0][0]

    def take(self, count: int) -> Spans:
        """The first ones."""
        runs, found, left = self._runs, [], min(count, self._count)
        self._count -= left
        while left:
            first, length = runs.popleft()
            if length > left:
                runs.appendleft((first + left, length - left))
                length = left
            found.append((first, length))
            left -= length
        return found


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

    def extend(self, spans: Iterable[tuple[int, int]]) -> None:
        """Each is the last of its slot."""
        for first, count in spans:
            for offset in range(first, first + count):
                self._lane(offset).append(offset)

    def first(self, span: tuple[int, int]) -> None:
        """Each is the first of its slot."""
        first, count = span
        for offset in reversed(range(first, first + count)):
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

    def take(self, count: int) -> Spans:
        """One of each slot in turn."""
        return long_runs_of(sorted({self.next() for _ in range(min(count, self._count))}))
