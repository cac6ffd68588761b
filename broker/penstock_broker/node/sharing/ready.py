"""Which records are next, for groups without order, limits and shares: by offset, in runs.

Two sources: a cursor over what was never handed out, and a heap of runs that came back. A run in
the heap is only a hint: when it is taken, the window says what of it can be granted, so that late
acks, purges and trims need not be looked for here. The same record may be in several hints, and the
window shows it as free until its grant is applied: what was taken is remembered until then.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

from penstock_broker.machine.sharing.state import DELAYED, FREE
from penstock_broker.node.sharing.spans import Spans, merged, pairs, runs_of, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.storage import PartitionLog

_EVERY_RUN = 1 << 62


class Ready(Protocol):
    """What a dispatcher asks which records are next. Spans are ascending."""

    def take(self, count: int, now_us: int) -> Spans:
        """Up to so many records, which nobody else gets now."""

    def put_back(self, spans: Spans) -> None:
        """Taken, and not granted after all."""

    def applied(self, spans: Spans) -> None:
        """The grant of what was taken is applied: the window tells of it from now on."""

    def set_aside(self, spans: Spans) -> None:
        """Taken, and not readable: `due` will name them."""

    def freed(self, numbers: Sequence[int]) -> None:
        """These (a flat list of spans) became FREE."""

    def due(self, offsets: Sequence[int]) -> None:
        """The ready time of these DELAYED records has passed, or is not so any more."""

    def settled(self, numbers: Sequence[int], done: Sequence[int]) -> None:
        """These are not LEASED any more, some of them DONE."""

    def work(self, now_us: int) -> None:
        """Go on with what is done piece by piece."""

    @property
    def busy(self) -> bool:
        """Whether there is such work left: it is done as time passes."""

    @property
    def scanning(self) -> bool:
        """Whether it takes a while to find out what is next."""

    @property
    def next_us(self) -> int | None:
        """When there is something to go on with (0: now); None: there is no such work."""

    @property
    def blocked_by(self) -> str:
        """Why the last `take` gave less than was asked; empty: there was nothing more."""

    def why(self, offset: int) -> tuple[str, int]:
        """What keeps a record from being delivered, and the record that does (-1: none)."""


def grantable(group: SharedGroup, first: int, count: int, now_us: int) -> Spans:
    """What of a run can be granted at a time."""
    window, stop = group.window, first + count
    if first >= window.end:
        return [(first, count)] if count > 0 else []
    found: Spans = []
    for state, _, low, high in window.pieces(first, stop):
        if state == FREE:
            found.append((low, high - low))
        elif state == DELAYED:
            found += window.due(low, high, now_us)
    beyond = max(first, window.end)
    if beyond < stop:
        found.append((beyond, stop - beyond))
    return merged(found) if len(found) > 1 else found


class ReadyByOffset:
    """`Ready` by offset."""

    __slots__ = ("_again", "_group", "_log", "_taken", "blocked_by", "next")

    def __init__(self, group: SharedGroup, log: PartitionLog, claimed: Spans) -> None:
        self._group = group
        self._log = log
        start = max(group.end, log.start_offset)
        self.next = max([start, *(first + count for first, count in claimed)])
        """First offset that was never handed out."""
        again = group.window.runs(FREE, limit=_EVERY_RUN)
        if self.next > start:
            again.append((start, self.next - start))
        self._again = without(again, claimed)
        heapify(self._again)
        self._taken: set[int] = set()
        """Came back and were taken; their grants are not applied."""
        for first, count in claimed:
            self._taken.update(range(first, first + count))
        self.blocked_by = ""

    @property
    def busy(self) -> bool:
        """There is never anything left to do."""
        return False

    @property
    def next_us(self) -> int | None:
        """Never."""
        return None

    @property
    def scanning(self) -> bool:
        """It is always known."""
        return False

    def work(self, now_us: int) -> None:
        """There is nothing to do."""

    def take(self, count: int, now_us: int) -> Spans:
        """The lowest offsets first."""
        found: Spans = []
        if self._group.end > self.next:
            self._take_in_skipped()
        if self._again:
            count = self._take_again(found, count, now_us)
        self.blocked_by = ""
        if count:
            self._take_new(found, count, now_us)
        return found

    def _take_in_skipped(self) -> None:
        """A late ack beyond the cursor made the window grow: what it skipped is still to come."""
        for run in self._group.window.runs(FREE, self.next, _EVERY_RUN):
            heappush(self._again, run)
        self.next = self._group.end

    def _take_again(self, found: Spans, count: int, now_us: int) -> int:
        again, group = self._again, self._group
        while again and count:
            begin, size = heappop(again)
            if found:  # what is told twice counts once
                size = max(0, begin + size - max(begin, found[-1][0] + found[-1][1]))
                begin = max(begin, found[-1][0] + found[-1][1])
            for first, length in self._left(grantable(group, begin, size, now_us)):
                taken = min(length, count)
                if taken:
                    found.append((first, taken))
                    self._taken.update(range(first, first + taken))
                    count -= taken
                if taken < length:
                    heappush(again, (first + taken, length - taken))
        if len(found) > 1:
            found[:] = merged(found)
        return count

    def _left(self, spans: Spans) -> Spans:
        """What of these is not taken yet."""
        taken = self._taken
        if not taken or all(taken.isdisjoint(range(first, first + n)) for first, n in spans):
            return spans
        offsets = (offset for first, n in spans for offset in range(first, first + n))
        return runs_of([offset for offset in offsets if offset not in taken])

    def _take_new(self, found: Spans, count: int, now_us: int) -> None:
        group, log = self._group, self._log
        self.next = max(self.next, log.start_offset)
        limit = group.start + group.settings.window_max
        stop = min(log.end_offset, limit)
        while count and self.next < stop:
            size = min(count, stop - self.next)
            # Acks of grants that were lost with their leader may have settled some already.
            for first, length in grantable(group, self.next, size, now_us):
                count -= length
                if found and found[-1][0] + found[-1][1] == first:
                    found[-1] = (found[-1][0], found[-1][1] + length)
                else:
                    found.append((first, length))
            self.next += size
        if count and stop == limit:
            self.blocked_by = "window"

    def put_back(self, spans: Spans) -> None:
        """The newest runs go before the cursor again, the others among what came back."""
        self.applied(spans)
        for first, count in reversed(spans):
            if first + count == self.next and first >= self._group.end:
                self.next = first
            else:
                heappush(self._again, (first, count))

    def applied(self, spans: Spans) -> None:
        """They may come back."""
        if self._taken:
            for first, count in spans:
                self._taken.difference_update(range(first, first + count))

    def set_aside(self, spans: Spans) -> None:
        """Nothing is known of them until they are due."""
        self.applied(spans)

    def freed(self, numbers: Sequence[int]) -> None:
        """They can be taken again."""
        for run in pairs(numbers):
            heappush(self._again, run)

    def due(self, offsets: Sequence[int]) -> None:
        """They can be taken again."""
        for run in runs_of(sorted(offsets)):
            heappush(self._again, run)

    def settled(self, numbers: Sequence[int], done: Sequence[int]) -> None:
        """Whoever takes records sees that."""

    def why(self, offset: int) -> tuple[str, int]:
        """No record waits for another one."""
        return "", -1
