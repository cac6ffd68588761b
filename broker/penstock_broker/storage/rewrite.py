"""The new file of a segment, from which compaction left something out.

Written beside the old one and synced, then renamed over it. The index of the old file goes before,
so it never meets the new one; the new index is a cache and comes last. A stop at any moment leaves
the old file or the new one under the segment's name, and a reader of the old file keeps it.
"""

from __future__ import annotations

from typing import Final

from penstock.protocol.batch import BatchHeader
from penstock.protocol.records import encode_gap
from penstock_broker.storage import layout
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import Buffer, Files, sync_file, sync_names
from penstock_broker.storage.index import SparseIndex, Summary
from penstock_broker.storage.jobs import is_full
from penstock_broker.storage.segment import Segment
from penstock_broker.storage.segment_jobs import write_index_file

_WRITE_BYTES: Final = 256 * 1024


class Rewrite:
    """Takes the batches of a segment in their order, then the segment's name."""

    def __init__(self, files: Files, segment: Segment, config: StorageConfig) -> None:
        self._files = files
        self._segment = segment
        self._interval = config.index_interval_bytes
        self._path = layout.compact_file(segment.gid, segment.base_offset)
        self._file = files.open(self._path, create=True)
        self._file.truncate(0)
        self._index = SparseIndex()
        self._next_row_at = 0
        self._last_index = self._max_time_us = 0
        self._gap: tuple[int, int, BatchHeader] | None = None
        """Offsets [from, to) of batches left out in a row, and the header of the last one."""
        self._gathered: list[Buffer] = []
        self._written = 0
        self.size = 0

    def add(self, buffer: Buffer, header: BatchHeader) -> None:
        """Append one batch."""
        self._close_gap()
        self._append(buffer, header.base_offset, header)

    def leave_out(self, header: BatchHeader, next_offset: int) -> None:
        """Cover the offsets of a batch of which nothing stays; neighbours share one place."""
        start = header.base_offset if self._gap is None else self._gap[0]
        self._gap = start, next_offset, header

    def _close_gap(self) -> None:
        if self._gap is not None:
            start, end, header = self._gap
            self._append(encode_gap(header, start, end), start, header)
            self._gap = None

    def _append(self, buffer: Buffer, offset: int, header: BatchHeader) -> None:
        if self.size >= self._next_row_at:
            self._index.add(offset, self.size, header.log_index, self._max_time_us)
            self._next_row_at = self.size + self._interval
        self._gathered.append(buffer)
        self.size += len(buffer)
        self._last_index = header.log_index
        self._max_time_us = max(self._max_time_us, header.append_ts_us)
        if self.size - self._written >= _WRITE_BYTES:
            self._write()

    def _write(self) -> None:
        self._file.pwrite(self._gathered, self._written)
        self._written, self._gathered = self.size, []

    def finish(self) -> None:
        """Write what is left, durably.

        Raises:
            OSError: a write failed.
            StorageFailure: the sync failed.
        """
        self._close_gap()
        self._write()
        sync_file(self._file, self._path)

    def swap(self) -> None:
        """Put the new file in the place of the old one, durably."""
        segment, files = self._segment, self._files
        directory = layout.partition(segment.gid)
        files.remove(layout.index_file(segment.gid, segment.base_offset))
        sync_names(files, directory)
        files.rename(self._path, segment.path)
        sync_names(files, directory)

    def write_index(self) -> None:
        """Write the index of the new file, if there is room for it."""
        segment = self._segment
        summary = Summary(self.size, segment.end_offset, self._last_index, self._max_time_us)
        try:
            write_index_file(self._files, segment, self._index, summary)
        except OSError as error:
            if not is_full(error):
                raise

    def drop(self) -> None:
        """The old file stays."""
        self._files.remove(self._path)
