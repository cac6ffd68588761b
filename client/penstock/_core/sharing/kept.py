"""Batches that a partition's next records may lie in, kept so that they are not sent again.

Invariants: at most `HAVE_MAX` batches and `KEPT_BYTES_MAX` bytes; none is dropped between an
acquire that named it and the answer. A kept batch owns its bytes, not those of a whole answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from penstock.errors import CorruptBatch
from penstock.protocol.batch import Buffer, Kind, iterate
from penstock.protocol.leases import HAVE_MAX
from penstock.protocol.record_batch import RecordBatch

KEPT_BYTES_MAX: Final = 4 * 1024 * 1024


class Kept:
    """The kept batches of one partition, the least recently used first."""

    __slots__ = ("_batches", "_bytes")

    def __init__(self) -> None:
        self._batches: dict[int, RecordBatch] = {}
        self._bytes = 0

    @property
    def have(self) -> list[int]:
        """The base offsets of what is kept, ascending."""
        return sorted(self._batches)

    def get(self, base_offset: int) -> RecordBatch | None:
        """A kept batch, which is the most recently used one now."""
        found = self._batches.pop(base_offset, None)
        if found is not None:
            self._batches[base_offset] = found
        return found

    def keep(self, batch: RecordBatch) -> None:
        """Keep a batch, and drop others if there are too many."""
        base = batch.base_offset
        if base not in self._batches:
            self._bytes += batch.header.length
        self._batches[base] = batch
        while len(self._batches) > HAVE_MAX or self._bytes > KEPT_BYTES_MAX:
            self.drop(next(iter(self._batches)))

    def drop(self, base_offset: int) -> None:
        """Do not keep a batch any longer."""
        found = self._batches.pop(base_offset, None)
        if found is not None:
            self._bytes -= found.header.length

    def clear(self) -> None:
        """Keep nothing."""
        self._batches.clear()
        self._bytes = 0


class Extent:
    """The offsets [base, end) that one batch covers; no batch: it is damaged."""

    __slots__ = ("base", "batch", "end", "single")

    def __init__(self, base: int, end: int, batch: RecordBatch | None, single: bool) -> None:
        self.base = base
        self.end = end
        self.batch = batch
        self.single = single
        """Whether the bytes that it lies on hold nothing else."""

    def own(self) -> None:
        """Put the batch on bytes of its own."""
        if self.batch is not None and not self.single:
            self.batch = self.batch.copy()
            self.single = True


def read_extents(run: Buffer, topic: str, partition: int) -> Iterator[Extent]:
    """The batches of records in a run, those without any record left and damaged ones too.

    Raises:
        CorruptBatch: the run can't be cut into batches.
    """
    view = memoryview(run)
    for at, header in iterate(view):
        if header.kind != Kind.DATA:
            continue
        single = header.length == len(view)
        try:
            batch = RecordBatch(view[at : at + header.length], topic=topic, partition=partition)
        except CorruptBatch:
            end = header.base_offset + max(1, header.record_count)
            yield Extent(header.base_offset, end, None, single)
        else:
            yield Extent(header.base_offset, batch.next_offset, batch, single)
