"""Rewriting a segment with fewer records: the new file, and batches that cover the offsets left out.

The new file is complete and durable before it takes the old one's name.
"""

from __future__ import annotations

import struct
from typing import Final

from crc32c import crc32c

from penstock.errors import CorruptBatch
from penstock.protocol.batch import EXT_SPAN, FLAG_COMPACTED, HEADER_BYTES, parse_header, stamp
from penstock.protocol.records import RecordBatch, encode_compacted
from penstock_broker.storage import layout
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import Files, sync_file, sync_names
from penstock_broker.storage.index import SparseIndex, Summary
from penstock_broker.storage.segment import Segment
from penstock_broker.storage.segment_jobs import write_index_file

_U32: Final = struct.Struct("<I")
_BODY_CRC_AT: Final = 48


def readable(batch: RecordBatch) -> bool:
    """Whether the broker can decode a producer's batch; one that it can't stays as it is."""
    try:
        return len(batch.keys) == len(batch.values) == len(batch.offsets) == len(batch)
    except CorruptBatch:
        return False


def widened(data: bytes, batch: RecordBatch, span: int) -> bytes:
    """A batch that covers more offsets: those behind it whose records are gone.

    Raises:
        CorruptBatch: its columns can't be decoded.
    """
    buffer = bytearray(data)
    header = parse_header(buffer)
    if not header.flags & FLAG_COMPACTED:
        buffer = encode_compacted(batch, range(len(batch)))
        header = parse_header(buffer)
    at = HEADER_BYTES
    while buffer[at] != EXT_SPAN:
        at += 2 + buffer[at + 1]
    _U32.pack_into(buffer, at + 2, span)
    _U32.pack_into(buffer, _BODY_CRC_AT, crc32c(memoryview(buffer)[_BODY_CRC_AT + 4 :]))
    stamp(
        buffer,
        header.kind,
        header.log_index,
        header.term,
        header.epoch,
        header.base_offset,
        header.append_ts_us,
    )
    return bytes(buffer)


class Rewrite:
    """The new file of one segment."""

    def __init__(self, files: Files, segment: Segment, config: StorageConfig) -> None:
        self._files = files
        self._segment = segment
        self._config = config
        self._path = layout.compact_file(segment.gid, segment.base_offset)
        self._file = files.open(self._path, create=True)
        self._file.truncate(0)
        self._index = SparseIndex()
        self._next_row_at = 0
        self._held: tuple[RecordBatch, bytes] | None = None
        """The newest batch: it may have to cover the offsets of dropped ones that follow."""
        self._time_before = 0
        self.size = 0
        self.last_index = 0
        self.max_time_us = 0
        self.changed = False

    def add(self, batch: RecordBatch, data: bytes, kept: list[int] | None) -> bool:
        """Append what is left of a batch; None: all of it. False when it must stay as it is."""
        intact = True
        if kept is not None:
            try:
                left = bytes(encode_compacted(batch, kept))
            except CorruptBatch:
                kept, intact = None, False
        if kept is None:
            left = data
        if kept != [] or not self._widen(batch.next_offset):
            self._write_held()
            self._held = batch, left
        self.changed = self.changed or kept is not None
        self.last_index = batch.header.log_index
        self.max_time_us = max(self.max_time_us, batch.header.append_ts_us)
        return intact

    def _widen(self, next_offset: int) -> bool:
        """Let the batch in hand cover the offsets of one behind it that lost all its records."""
        if self._held is None:
            return False
        batch, data = self._held
        try:
            self._held = batch, widened(data, batch, next_offset - batch.base_offset)
        except CorruptBatch:
            return False
        return True

    def _write_held(self) -> None:
        if self._held is None:
            return
        batch, data = self._held
        self._held = None
        if self.size >= self._next_row_at:
            self._index.add(batch.base_offset, self.size, batch.header.log_index, self._time_before)
            self._next_row_at = self.size + self._config.index_interval_bytes
        self._time_before = self.max_time_us
        self._file.pwrite([data], self.size)
        self.size += len(data)

    def end(self) -> None:
        """All batches were added."""
        self._write_held()

    def swap(self) -> None:
        """Put the new file in the place of the old one, durably."""
        segment, files = self._segment, self._files
        directory = layout.partition(segment.gid)
        sync_file(self._file, self._path)
        files.remove(layout.index_file(segment.gid, segment.base_offset))
        sync_names(files, directory)  # an index of the old file never meets the new one
        files.rename(self._path, segment.path)
        sync_names(files, directory)
        summary = Summary(self.size, segment.end_offset, self.last_index, self.max_time_us)
        write_index_file(files, segment, self._index, summary)

    def drop(self) -> None:
        """Nothing was left out: the old file stays."""
        self._files.remove(self._path)
