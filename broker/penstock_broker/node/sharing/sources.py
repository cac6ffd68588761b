"""Reading records back from a partition's own log, one by one, from RAM or in the reader thread."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import CorruptBatch, CorruptData, PenstockError
from penstock.protocol.batch import Buffer, iterate, next_offset
from penstock.protocol.records import RecordBatch
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup

READ_BYTES: Final = 64 * 1024


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

    __slots__ = ("_bases", "_current", "_end", "_failed", "_partition", "_reading", "_resume",
                 "_run")  # fmt: skip

    def __init__(self, partition: PartitionGroup, resume: Callable[[], None]) -> None:
        self._partition = partition
        self._resume = resume
        self._bases: list[int] = []
        self._run: list[Buffer] = []
        self._end = 0
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
        if not self._bases or not self._bases[0] <= offset < self._end:
            return None
        return self._run[bisect_right(self._bases, offset) - 1]

    def _read(self, offset: int) -> Buffer | None:
        failure = self._failed.pop(offset, None)
        if failure is not None:
            raise failure
        log = self._partition.log
        found = log.read(offset, READ_BYTES)
        if not isinstance(found, Cold):
            self._keep(found.buffers)
            return self._held(offset)
        data = found.file.try_pread(found.length, found.position)
        if data is not None:
            self._keep(log.finish_read(found, data, offset, READ_BYTES))
            return self._held(offset)
        self._reading = True
        read = SharedRead(None, found, lambda read, error: self._finish(read, offset, error))
        self._partition.node.start_read(read)
        return None

    def _finish(self, read: SharedRead, offset: int, error: PenstockError | None) -> None:
        self._reading = False
        try:
            if error is not None:
                raise error
            self._keep(self._partition.log.finish_read(read.cold, read.data, offset, READ_BYTES))
        except PenstockError as failure:
            self._failed = {offset: failure}
        self._resume()

    def _keep(self, buffers: list[Buffer]) -> None:
        self._bases, self._run = [], []
        for buffer in buffers:
            view = memoryview(buffer)
            for at, header in iterate(view):
                piece = view[at : at + header.length]
                self._bases.append(header.base_offset)
                self._run.append(piece)
                self._end = next_offset(piece, header)


def _place_of(batch: RecordBatch, offset: int) -> int:
    offsets = batch.offsets
    if isinstance(offsets, range):
        return offset - offsets.start
    place = bisect_left(offsets, offset)
    if place == len(offsets) or offsets[place] != offset:
        raise CorruptData(f"the record at offset {offset} was compacted away")
    return place
