"""Reading records back from a partition's own log, one by one, from RAM or in the reader thread."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import CorruptBatch, CorruptData, OffsetOutOfRange, PenstockError
from penstock.protocol.batch import (
    FLAG_COMPACTED,
    HEADER_BYTES,
    Buffer,
    next_offset,
    parse_header,
)
from penstock.protocol.records import RecordBatch
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup

READ_BYTES: Final = 64 * 1024
"""Read at once where records are asked for one after the other; else the batch of each alone."""
NEAR_RECORDS: Final = 1_000
"""So far behind the last one a record counts as following it."""
STOCK_RECORDS_MAX: Final = 4_000
STOCK_BYTES_MAX: Final = 8 << 20
_PLACE: Final = struct.Struct("<4xI24xQ13xB2xI").unpack_from
"""Length, base offset, flags and record count in a stamped batch's header."""


class Found(NamedTuple):
    """A record in the log."""

    batch: RecordBatch
    place: int
    """Of the record in the batch."""
    buffer: Buffer
    """The batch's bytes."""


class Source:
    """The batches of a partition's log around the offsets that are asked for.

    What the last read brought stays at hand. At most one read is under way; when it ends, `resume`
    is called, and whoever waited asks again.
    """

    __slots__ = ("_at", "_current", "_failed", "_partition", "_reading", "_resume",
                 "_run")  # fmt: skip

    def __init__(self, partition: PartitionGroup, resume: Callable[[], None]) -> None:
        self._partition = partition
        self._resume = resume
        self._run: list[Buffer] = []
        """What is at hand: whole batches, several in a buffer if they come from a segment."""
        self._at = 0
        """From where to go on in the first of them: batches are looked through forwards only."""
        self._current: Found | None = None
        self._reading = False
        self._failed: dict[int, PenstockError] = {}

    def find(self, offset: int) -> Found | None:
        """The batch that holds a record; None: it is being read.

        Raises:
            OffsetOutOfRange, CorruptData: it can't be read, and never will be.
        """
        if self._reading:
            return None
        current = self._current
        if current is None or not current.batch.base_offset <= offset < current.batch.next_offset:
            buffer = self._held(offset) or self._read(offset)
            if buffer is None:
                return None
            try:
                current = Found(RecordBatch(buffer, verify=False), 0, buffer)
            except CorruptBatch as error:
                raise CorruptData(f"the batch of offset {offset} is damaged: {error}") from error
            self._current = current
        return current._replace(place=_place_of(current.batch, offset))

    def _held(self, offset: int) -> Buffer | None:
        """The batch that holds a record, if it is at hand."""
        run = self._run
        while run:
            view, at = memoryview(run[0]), self._at
            while at + HEADER_BYTES <= len(view):
                length, base, flags, count = _PLACE(view, at)
                if offset < base:
                    return None
                end = base + count
                if flags & FLAG_COMPACTED:
                    end = next_offset(view[at:], parse_header(view, at))
                if offset < end:
                    self._at = at
                    return view[at : at + length]
                at += length
            del run[0]
            self._at = 0
        return None

    def _read(self, offset: int) -> Buffer | None:
        failure = self._failed.pop(offset, None)
        if failure is not None:
            raise failure
        log = self._partition.log
        current = self._current
        ahead = offset - current.batch.next_offset if current is not None else 0
        size = READ_BYTES if 0 <= ahead < NEAR_RECORDS else 1
        found = log.read(offset, size)
        if not isinstance(found, Cold):
            self._keep(found.buffers)
            return self._held(offset)
        data = found.file.try_pread(found.length, found.position)
        if data is not None:
            self._keep(log.finish_read(found, data, offset, size))
            return self._held(offset)
        self._reading = True
        read = SharedRead(None, found, lambda read, error: self._finish(read, offset, size, error))
        self._partition.node.start_read(read)
        return None

    def _finish(
        self, read: SharedRead, offset: int, size: int, error: PenstockError | None
    ) -> None:
        self._reading = False
        try:
            if error is not None:
                raise error
            self._keep(self._partition.log.finish_read(read.cold, read.data, offset, size))
        except PenstockError as failure:
            self._failed = {offset: failure}
        self._resume()

    def _keep(self, buffers: list[Buffer]) -> None:
        self._run, self._at = list(buffers), 0


class Stock:
    """Records that are wanted next, in whatever order: read in the order of their offsets.

    Records that become due together lie anywhere in the log; one by one each would cost a read.
    """

    __slots__ = ("_found", "_partition", "_source", "_wanted")

    def __init__(self, partition: PartitionGroup, resume: Callable[[], None]) -> None:
        self._partition = partition
        self._source = Source(partition, resume)
        self._wanted: list[int] = []
        """Not read yet, the lowest last."""
        self._found: dict[int, Found | PenstockError] = {}

    @property
    def limit(self) -> int:
        """How many records may be ordered, by what a record takes on the average."""
        log = self._partition.log
        average = log.size_bytes // max(log.end_offset - log.start_offset, 1) + 1
        return max(1, min(STOCK_RECORDS_MAX, STOCK_BYTES_MAX // average))

    @property
    def empty(self) -> bool:
        """Whether nothing is ordered that was not fetched."""
        return not self._wanted

    def order(self, offsets: list[int]) -> None:
        """Have records read; what was fetched before and not used is forgotten."""
        self._found.clear()
        self._wanted = sorted(offsets, reverse=True)

    def fetch(self) -> bool:
        """Read what was ordered; False: that goes on in the thread, `resume` is called."""
        wanted, last = self._wanted, None
        while wanted:
            offset = wanted[-1]
            try:
                found: Found | PenstockError | None = self._source.find(offset)
            except (CorruptData, OffsetOutOfRange) as error:
                found = error
            if found is None:
                return False
            if isinstance(found, Found):
                found = last = _kept(found, last)
            self._found[offset] = found
            wanted.pop()
        return True

    def has(self, offset: int) -> bool:
        """Whether a record was fetched."""
        return offset in self._found

    def get(self, offset: int) -> Found | PenstockError:
        """A record that was fetched, or why it can't be read."""
        return self._found[offset]

    def clear(self) -> None:
        """Forget everything."""
        self._wanted = []
        self._found.clear()


def _kept(found: Found, last: Found | None) -> Found:
    """A record whose batch does not keep the bytes around it in memory, one copy a batch."""
    if last is not None and last.batch.base_offset == found.batch.base_offset:
        return last._replace(place=found.place)
    view = memoryview(found.buffer)
    if view.nbytes == memoryview(view.obj).nbytes:
        return found
    copy = bytes(found.buffer)
    return Found(RecordBatch(copy, verify=False), found.place, copy)


def _place_of(batch: RecordBatch, offset: int) -> int:
    offsets = batch.offsets
    if isinstance(offsets, range):
        return offset - offsets.start
    place = bisect_left(offsets, offset)
    if place == len(offsets) or offsets[place] != offset:
        raise CorruptData(f"the record at offset {offset} was compacted away")
    return place
