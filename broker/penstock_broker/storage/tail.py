"""The newest batches of a partition in RAM, and the budget that all partitions share.

A tail holds the very buffers that were logged, from some position of the partition's log to its
end. Positions count the bytes appended since the partition was opened. A buffer leaves only after
it was written to its segment, oldest of all partitions first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Final

from penstock_broker.storage.files import Buffer

_OVERHEAD: Final = 128  # a bytearray and its places in three lists
_COMPACT_AT: Final = 1024


class TailBudget:
    """Bytes of RAM for the tails of all partitions together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.unwritten = 0
        """Bytes that are not in a segment file yet: they can't be dropped."""
        self.order: deque[Tail] = deque()
        """One place for each buffer, in the order in which they came."""

    def shrink(self) -> None:
        """Drop written buffers, oldest first, until the rest fits."""
        order = self.order
        while self.used > self.limit and order:
            size = order[0].drop_oldest()
            if size < 0:
                return  # not written yet; a segment write comes and calls again
            order.popleft()
            if size:
                self.used -= size + _OVERHEAD

    def released(self, count: int, size: int) -> None:
        """A tail was cleared as a whole; its places in the order find nothing and go."""
        self.used -= size + count * _OVERHEAD


class Tail:
    """One partition's newest batches."""

    __slots__ = ("_budget", "_head", "_stale", "buffers", "end", "ends", "offsets", "written")

    def __init__(self, budget: TailBudget) -> None:
        self._budget = budget
        self.offsets: list[int] = []
        self.ends: list[int] = []
        self.buffers: list[Buffer] = []
        self.end = 0
        """Position after the newest batch."""
        self.written = 0
        """Position up to which segments hold the bytes."""
        self._head = 0
        self._stale = 0  # places in the budget's order that a clear left behind

    def __len__(self) -> int:
        return len(self.offsets) - self._head

    @property
    def first_offset(self) -> int:
        """Base offset of the oldest batch held; the tail is not empty."""
        return self.offsets[self._head]

    @property
    def has_unwritten(self) -> bool:
        """Whether a segment write has something to do."""
        return self.end > self.written

    def append(self, offset: int, buffer: Buffer) -> None:
        size = len(buffer)
        self.end += size
        self.offsets.append(offset)
        self.ends.append(self.end)
        self.buffers.append(buffer)
        budget = self._budget
        budget.order.append(self)
        budget.used += size + _OVERHEAD
        budget.unwritten += size
        if budget.used > budget.limit:
            budget.shrink()

    def read(self, offset: int, max_bytes: int) -> list[Buffer]:
        """Whole batches from the one with `offset` on: at least one, then up to `max_bytes`."""
        first = bisect_right(self.offsets, offset, self._head) - 1
        start = self.ends[first] - len(self.buffers[first])
        last = bisect_right(self.ends, start + max_bytes, first)
        return self.buffers[first : max(last, first + 1)]

    def position_of(self, offset: int) -> int:
        """Where the batch with `offset` begins, which is in the tail."""
        first = bisect_right(self.offsets, offset, self._head) - 1
        return self.ends[first] - len(self.buffers[first])

    def unwritten(self, from_position: int, to_position: int) -> list[Buffer]:
        """The batches between two batch boundaries."""
        first = bisect_right(self.ends, from_position, self._head)
        last = bisect_right(self.ends, to_position, first)
        return self.buffers[first:last]

    def boundary(self, from_position: int, max_bytes: int) -> int:
        """The last batch boundary within `max_bytes`, at least one batch on."""
        first = bisect_right(self.ends, from_position, self._head)
        last = bisect_right(self.ends, from_position + max_bytes, first)
        return self.ends[max(last - 1, first)]

    def wrote(self, position: int) -> None:
        """Segments hold everything up to a position now."""
        self._budget.unwritten -= position - self.written
        self.written = position
        if self._budget.used > self._budget.limit:
            self._budget.shrink()

    def drop_oldest(self) -> int:
        """Drop the oldest batch; its size, 0 when there was nothing, -1 when it must stay."""
        if self._stale:
            self._stale -= 1
            return 0
        head = self._head
        if self.ends[head] > self.written:
            return -1
        size = len(self.buffers[head])
        self.buffers[head] = b""
        self._head = head + 1
        if head > _COMPACT_AT and head * 2 > len(self.offsets):
            self._forget(self._head)
        return size

    def clear(self) -> None:
        """Drop all, written or not: the partition was deleted or replaced."""
        count = len(self)
        self._budget.released(count, sum(map(len, self.buffers[self._head :])))
        self._budget.unwritten -= self.end - self.written
        self.written = self.end
        self._stale += count
        self._forget(len(self.offsets))

    def _forget(self, count: int) -> None:
        del self.offsets[:count], self.ends[:count], self.buffers[:count]
        self._head = 0
