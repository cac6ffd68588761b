"""Writing segments: gathered appends, and the sealing of full ones.

A piece takes the buffers themselves; its bytes stay in the WAL until a checkpoint vouches for the
segment, so a write that meets a full disk is simply made again later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

from penstock_broker.storage import layout
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import (
    Buffer,
    File,
    Files,
    sync_file,
    sync_names,
    write_back,
)
from penstock_broker.storage.index import SparseIndex, Summary
from penstock_broker.storage.index_cache import Rows
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import LogContext, PartitionLog
from penstock_broker.storage.segment import Segment

_UNSYNCED_BYTES_MAX: Final = 8 * 1024 * 1024
"""Syncing little by little: a checkpoint that has all to sync would delay the flushes beside it."""


class Piece:
    """What is to be done for one segment: append, and sync or seal it."""

    def __init__(self, log: PartitionLog, segment: Segment, end: int, *, sync: bool) -> None:
        self.log = log
        self.segment = segment
        self.end = end
        """Bytes of the segment that are in its file after this."""
        self.position = max(log.written_bytes(segment), 0)
        start = segment.start
        self.buffers: list[Buffer] = log.tail.unwritten(start + self.position, start + end)
        self.seals = segment.sealed and end == segment.size
        self.syncs = sync or self.seals or end - segment.synced >= _UNSYNCED_BYTES_MAX
        self.creates_directory = not log.on_disk
        self.forgets_from = segment.synced if log.passing else end
        self.syncs_names = self.syncs and not log.names_durable
        self.file: File | None = segment.file
        self.rows = self._rows_to_save(log)
        self.summary: Summary = segment.summary
        self.written = False
        self.synced = False

    def _rows_to_save(self, log: PartitionLog) -> Rows | None:
        """The rows, when the segment is full, or has grown by much since a checkpoint saved them.

        A restart reads back what was saved, and the headers of no more than that growth.
        """
        segment = self.segment
        if segment.index is None:
            return None
        if self.seals:
            return Rows(segment, segment.index)
        grown = segment.size - segment.saved
        if not self.syncs or self.end < segment.size or grown < log.save_index_bytes:
            return None
        return Rows(segment, segment.index.copy())

    def work(self, files: Files, config: StorageConfig) -> None:
        if self.creates_directory:
            files.make_directory(layout.partition(self.log.gid))
            sync_names(files, layout.PARTITIONS)
        file = self._open(files)
        self._write(file, config.write_back_bytes)
        self.written = True
        if self.syncs:
            sync_file(file, self.segment.path)
            self.synced = True
            if self.forgets_from < self.end:
                file.forget(self.forgets_from, self.end - self.forgets_from)
        if self.syncs_names:
            sync_names(files, layout.partition(self.log.gid))
        if self.rows is not None:
            index = self.rows.complete(files, file, config, lambda segment, hole: None)
            write_index_file(files, self.segment, index, self.summary, sync=self.seals)

    def _write(self, file: File, step_bytes: int) -> None:
        position = self.position
        for step in _steps(self.buffers, step_bytes):
            size = sum(map(len, step))
            file.pwrite(step, position)
            if size >= step_bytes:
                write_back(file, position, size, self.segment.path)
            position += size

    def _open(self, files: Files) -> File:
        if self.file is None:
            self.file = files.open(self.segment.path, create=True)
            if self.position == 0:
                if self.file.size():
                    self.file.truncate(0)  # what an unfinished earlier life left
                sync_names(files, layout.partition(self.log.gid))
        return self.file

    def finish(self) -> None:
        segment, log = self.segment, self.log
        if not self.written:
            return
        log.on_disk = True
        log.tail.wrote(max(log.tail.written, segment.start + self.end))
        segment.file = None if self.seals else self.file
        if self.syncs_names:
            log.names_durable = True
        if self.synced:
            segment.synced = max(segment.synced, self.end)
        if self.rows is not None:
            segment.saved = self.end
        if self.seals:
            segment.indexed = True
            segment.index, segment.rows_from = None, 0


def _steps(buffers: Sequence[Buffer], step_bytes: int) -> Iterator[list[Buffer]]:
    """The buffers in runs of about so many bytes; the last one may have less."""
    step: list[Buffer] = []
    size = 0
    for buffer in buffers:
        step.append(buffer)
        size += len(buffer)
        if size >= step_bytes:
            yield step
            step, size = [], 0
    if step:
        yield step


def write_index_file(
    files: Files, segment: Segment, index: SparseIndex, summary: Summary, *, sync: bool = True
) -> None:
    """Write an index file; one that was written by half is recognised by its checksum."""
    path = layout.index_file(segment.gid, segment.base_offset)
    file = files.open(path, create=True)
    file.truncate(0)
    file.pwrite([index.encode(segment.base_offset, summary)], 0)
    if sync:
        sync_file(file, path)
        sync_names(files, layout.partition(segment.gid))


def pieces_of(log: PartitionLog, max_bytes: int, *, sync: bool) -> list[Piece]:
    """What brings a partition's segments up to date, in order, up to `max_bytes`."""
    pieces: list[Piece] = []
    room = max_bytes
    for segment in log.unfinished():
        position = max(log.written_bytes(segment), 0)
        end = segment.size
        if end - position > room:
            end = log.tail.boundary(segment.start + position, room) - segment.start
        if end > position or segment.sealed or (sync and segment.synced < end):
            pieces.append(Piece(log, segment, end, sync=sync))
        room -= end - position
        if room <= 0:
            break
    return pieces


class WriteJob(Job):
    """Appends to the segments of some partitions."""

    name: ClassVar[str] = "segment write"
    waits_for_space: ClassVar[bool] = True

    def __init__(self, context: LogContext, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._context = context
        self._pieces = pieces

    def work(self) -> None:
        for piece in self._pieces:
            piece.work(self._context.files, self._context.config)

    def finish(self) -> Flushed:
        for piece in self._pieces:
            piece.finish()
            log = piece.log
            if log.behind():
                self._context.due[log.gid] = log
        return []


class RemoveSegmentsJob(Job):
    """Removes the files of segments that a trim took out of the log, oldest first."""

    name: ClassVar[str] = "segment removal"

    def __init__(self, files: Files, gid: int, bases: Sequence[int]) -> None:
        super().__init__()
        self._files = files
        self._gid = gid
        self._bases = bases

    def work(self) -> None:
        for base in self._bases:
            self._files.remove(layout.segment_file(self._gid, base))
            self._files.remove(layout.index_file(self._gid, base))
            self._files.remove(layout.compact_file(self._gid, base))

    def finish(self) -> Flushed:
        return []
