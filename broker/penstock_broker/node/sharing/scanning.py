"""A cursor over a partition's batches: from the RAM tail, or read from segments beforehand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock.errors import OffsetOutOfRange, PenstockError
from penstock.protocol.batch import Buffer, iterate, next_offset
from penstock_broker.node.sharing.reading import SharedRead, is_warm
from penstock_broker.node.sharing.spans import Spans
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.sharing.shared import SharedPartition

READ_BYTES: Final = 1 << 20

TakeIn = Callable[[int, int, "Buffer | None", bool], None]
"""Told of records [first, stop) of one batch (None: it can't be read), and whether they are
claimed."""


class Scanner:
    """Brings records into view, in order, each once.

    Attributes:
        next: first offset that was not brought.
    """

    __slots__ = ("_claimed", "_found", "_reading", "_shared", "_take_in", "_wake", "next")

    def __init__(
        self,
        shared: SharedPartition,
        start: int,
        take_in: TakeIn,
        claimed: Spans,
        wake: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._take_in = take_in
        self._claimed = claimed
        """Handed out before the cursor began; ascending."""
        self._wake = wake
        """Called when a read has ended."""
        self._reading = False
        self._found: list[tuple[int, int, Buffer | None]] = []
        """Batches that were read: first offset, the offset after, bytes; newest first."""
        self.next = start

    @property
    def now_us(self) -> int:
        """The round's time in this partition."""
        return self._shared.now_us

    def step(self, limit: int, budget: int) -> int:
        """Bring the rest of the batch at the cursor, below a limit.

        Returns:
            How many records it was; 0: the limit is reached, or a read is under way.
        """
        offset = self.next
        if offset >= limit or self._reading:
            return 0
        batch, stop = self._batch_at(offset)
        if stop <= offset:
            return 0
        stop = min(stop, limit, offset + budget)
        self._bring(offset, stop, batch)
        return stop - offset

    def _bring(self, first: int, stop: int, batch: Buffer | None) -> None:
        """Split by what is claimed."""
        claimed = self._claimed
        while first < stop:
            while claimed and claimed[0][0] + claimed[0][1] <= first:
                claimed.pop(0)
            until, is_claimed = stop, False
            if claimed and claimed[0][0] <= first:
                until, is_claimed = min(stop, claimed[0][0] + claimed[0][1]), True
            elif claimed:
                until = min(stop, claimed[0][0])
            self.next = until
            self._take_in(first, until, batch, is_claimed)
            first = until

    def _batch_at(self, offset: int) -> tuple[Buffer | None, int]:
        """The batch with an offset and where it ends; nothing if it is being read."""
        log = self._shared.partition.log
        self._drop_below(offset)
        if not self._found and is_warm(log, offset):
            offsets = log.tail.offsets
            at = bisect_right(offsets, offset) - 1
            stop = offsets[at + 1] if at + 1 < len(offsets) else log.end_offset
            return log.tail.buffers[at], stop
        if not self._found:
            self._read(offset)
            self._drop_below(offset)
        return (self._found[-1][2], self._found[-1][1]) if self._found else (None, offset)

    def _drop_below(self, offset: int) -> None:
        while self._found and self._found[-1][1] <= offset:
            self._found.pop()

    def _read(self, offset: int) -> None:
        partition = self._shared.partition
        try:
            cold = partition.log.read(offset, READ_BYTES)
            assert isinstance(cold, Cold), "what is not in the tail is in a segment"
        except PenstockError as error:
            self._unreadable(offset, error)
            return
        self._reading = True
        job = SharedRead(None, cold, self._finish)
        data = cold.file.try_pread(cold.length, cold.position)
        if data is None:
            partition.node.start_read(job)
        else:
            job.data = data
            self._take(job, None)

    def _finish(self, job: SharedRead, error: PenstockError | None) -> None:
        self._take(job, error)
        self._wake()

    def _take(self, job: SharedRead, error: PenstockError | None) -> None:
        self._reading = False
        try:
            if error is not None:
                raise error
            run = self._shared.partition.log.finish_read(job.cold, job.data, self.next, READ_BYTES)
        except OffsetOutOfRange:
            return  # trimmed meanwhile
        except PenstockError as failure:
            self._unreadable(self.next, failure)
            return
        found: list[tuple[int, int, Buffer | None]] = []
        for piece in run:
            view = memoryview(piece)
            for at, header in iterate(view):
                batch = view[at : at + header.length]
                found.append((header.base_offset, next_offset(batch, header), batch))
        self._found = found[::-1]

    def _unreadable(self, offset: int, error: PenstockError) -> None:
        """Pass what can't be read: whoever takes it is told."""
        end = error.detail.get("end_offset")
        stop = end if isinstance(end, int) and end > offset else offset + 1
        self._found = [(offset, stop, None)]
