"""When offsets are due: a timer wheel of plain numbers, for a million of them in little memory.

Offsets that follow one another and have one time are one entry.

An entry lies in the bucket of its time, on the finest level that reaches that far; a bucket of a
coarser level is dealt out again when its time begins. Nothing fires early; an entry fires at most
a grain after its time, plus what the caller's own rhythm adds. Without a grain (0 bits, for clocks
that stand still) it fires exactly then. Entries are not removed: whoever
is told that an offset is due looks whether that is still so.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import repeat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.window import Window

GRAIN_BITS: Final = 12
GRAIN_US: Final = 1 << GRAIN_BITS
"""Width of the finest buckets, unless another is asked for: 4 ms."""
TAKEN_AT_ONCE: Final = 20_000
"""Entries that are made of a window at once; a little more may come."""
_LEVEL_BITS: Final = 6
_LEVELS: Final = 7
_REACH: Final = 1 << _LEVEL_BITS
"""Buckets of a level that lie ahead: the coarsest level has 64 of 9 years."""


class Timers:
    """Runs of offsets and their times, given back when their time has come."""

    __slots__ = ("_buckets", "_count", "_grain_bits", "_now_us", "_order")

    def __init__(self, now_us: int, grain_bits: int = GRAIN_BITS) -> None:
        self._now_us = now_us
        self._grain_bits = grain_bits
        self._count = 0
        self._buckets: dict[tuple[int, int], array[int]] = {}
        """By level and number: offset, count, time, offset, count, time, ..."""
        self._order: list[tuple[int, int, int]] = []
        """(when to look at it, level, number) of each bucket."""

    def __len__(self) -> int:
        return self._count

    @property
    def next_us(self) -> int | None:
        """When to call `due` next."""
        return self._order[0][0] if self._order else None

    def add(self, offset: int, at_us: int, count: int = 1) -> None:
        """Have offsets given back once a time has come; in the past means at the next look."""
        level, shift = 0, self._grain_bits
        now_us = self._now_us
        while level < _LEVELS - 1 and (at_us >> shift) - (now_us >> shift) >= _REACH:
            level += 1
            shift += _LEVEL_BITS
        number = at_us >> shift
        bucket = self._buckets.get((level, number))
        if bucket is None:
            bucket = self._buckets[level, number] = array("Q")
            look_at = number << shift if level or not shift else (number + 1) << shift
            heappush(self._order, (look_at, level, number))
        bucket.append(offset)
        bucket.append(count)
        bucket.append(at_us)
        self._count += count

    def upcoming(self, from_us: int) -> Iterator[tuple[int, int]]:
        """Time and offset of the entries from a time on, in that order; no look past what is used.

        Nothing may be added or taken meanwhile.
        """
        places = []
        for level, number in self._buckets:
            shift = self._grain_bits + level * _LEVEL_BITS
            if number + 1 << shift > from_us:
                places.append((number << shift, level, number))
        heap: list[tuple[int, int, int]] = []
        for start_us, level, number in sorted(places):
            while heap and heap[0][0] < start_us:
                yield from _each(heappop(heap))
            bucket = self._buckets[level, number]
            heap += [(at_us, first, count) for first, count, at_us in _entries(bucket)
                     if at_us >= from_us]  # fmt: skip
            heapify(heap)
        while heap:
            yield from _each(heappop(heap))

    def due(self, now_us: int) -> list[int]:
        """Take the offsets whose time has come; one may be there more than once."""
        found: list[int] = []
        order = self._order
        self._now_us = max(self._now_us, now_us)
        while order and order[0][0] <= now_us:
            _, level, number = heappop(order)
            bucket = self._buckets.pop((level, number))
            for first, count, at_us in _entries(bucket):
                self._count -= count
                if level:
                    self.add(first, at_us, count)
                elif count == 1:
                    found.append(first)
                else:
                    found += range(first, first + count)
        return found


def take_in(timers: Timers, window: Window, first: int, end: int) -> int:
    """Give what is DELAYED from an offset on to timers; a million at once would hold up others.

    Returns:
        From where to go on: `end`, or an offset before it.
    """
    entries = 0
    while first < end and entries < TAKEN_AT_ONCE:
        found = window.waiting(first, TAKEN_AT_ONCE)
        for offset, count, at_us in found:
            timers.add(offset, at_us, count)
        entries += len(found)
        first = found[-1][0] + found[-1][1] if found else end
    return min(first, end)


def _each(run: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    at_us, first, count = run
    return zip(repeat(at_us), range(first, first + count), strict=False)


def _entries(bucket: array[int]) -> Iterator[tuple[int, int, int]]:
    numbers = iter(bucket)
    return zip(numbers, numbers, numbers, strict=True)
