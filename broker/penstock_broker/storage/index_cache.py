"""Indexes and descriptors of sealed segments, kept while they are used.

Both are caches with a limit, so that memory and start-up do not grow with the log. A missing or
damaged index file is rebuilt from the batch headers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from penstock_broker.storage import layout
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import File, Files
from penstock_broker.storage.index import SparseIndex, Summary, decode_index
from penstock_broker.storage.scan import Hole, quick_headers, walk
from penstock_broker.storage.segment import Segment

OnHole = Callable[[Segment, Hole], object]
_Key = tuple[int, int]


class IndexCache:
    """Least recently used indexes and open files of segments."""

    def __init__(self, files: Files, config: StorageConfig) -> None:
        self._files = files
        self._config = config
        self._indexes: OrderedDict[_Key, SparseIndex] = OrderedDict()
        self._open: OrderedDict[_Key, File] = OrderedDict()
        self.size_bytes = 0

    def open(self, segment: Segment) -> File:
        """The segment's file; dropping it from the cache does not take it from a reader."""
        if segment.file is not None:
            return segment.file
        key = segment.gid, segment.base_offset
        file = self._open.get(key)
        if file is None:
            file = self._open[key] = self._files.open(segment.path)
            if len(self._open) > self._config.open_segments_max:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(key)
        return file

    def get(self, segment: Segment, on_hole: OnHole) -> SparseIndex:
        """The segment's index, from RAM, from its file or from the log itself; blocks then."""
        index = segment.index
        if index is not None:
            if segment.rows_from:
                file = self.open(segment)
                rows = Rows(segment, index)
                segment.index = index = rows.complete(self._files, file, self._config, on_hole)
                segment.rows_from = 0
            return index
        key = segment.gid, segment.base_offset
        cached = self._indexes.get(key)
        if cached is not None:
            self._indexes.move_to_end(key)
            return cached
        index = self._load(segment, on_hole)
        self._indexes[key] = index
        self.size_bytes += index.size_bytes
        while self.size_bytes > self._config.index_cache_bytes and len(self._indexes) > 1:
            self.size_bytes -= self._indexes.popitem(last=False)[1].size_bytes
        return index

    def _load(self, segment: Segment, on_hole: OnHole) -> SparseIndex:
        read = read_index_file(self._files, segment)
        if read is None:
            file = self.open(segment)
            read = build_index(file, segment, segment.size, self._config, on_hole)
            if read[1].end_offset < segment.end_offset:
                end, size = read[1].end_offset, segment.size
                on_hole(segment, Hole(size, size, end, segment.end_offset))
        segment.last_index = read[1].last_index
        segment.max_time_us = read[1].max_time_us
        return read[0]

    def forget(self, gid: int, base_offset: int) -> None:
        """The segment was removed or replaced."""
        self._open.pop((gid, base_offset), None)
        index = self._indexes.pop((gid, base_offset), None)
        if index is not None:
            self.size_bytes -= index.size_bytes


def read_index_file(files: Files, segment: Segment) -> tuple[SparseIndex, Summary] | None:
    """The index file of a sealed segment, if it is intact and fits the log."""
    path = layout.index_file(segment.gid, segment.base_offset)
    if not files.exists(path):
        return None
    file = files.open(path)
    found = decode_index(file.pread(file.size(), 0), segment.base_offset)
    if found is None or found[1].log_bytes != segment.size:
        return None
    return found if found[1].end_offset == segment.end_offset and len(found[0]) else None


def build_index(
    file: File, segment: Segment, end: int, config: StorageConfig, on_hole: OnHole
) -> tuple[SparseIndex, Summary]:
    """Index the first `end` bytes of a segment from its batch headers."""
    return extend_index(
        file, segment, (SparseIndex(), Summary(0, segment.base_offset, 0, 0)), end, config, on_hole
    )


def extend_index(
    file: File,
    segment: Segment,
    prior: tuple[SparseIndex, Summary],
    end: int,
    config: StorageConfig,
    on_hole: OnHole,
) -> tuple[SparseIndex, Summary]:
    """Go on with an index from where it ends to a position."""
    index, (position, offset, last_index, max_time) = prior
    interval = config.index_interval_bytes
    next_row_at = index.positions[-1] + interval if len(index) else position
    for at, base, log_index, time in quick_headers(file, position, end, offset):
        if at >= next_row_at:
            index.add(base, at, log_index, max_time)
            next_row_at = at + interval
        last_index = log_index
        if time > max_time:
            max_time = time
        position, offset = at, base  # the last one is looked at again: its length may lie
    for piece in walk(file, position, end, offset, bodies=False):
        if isinstance(piece, Hole):
            on_hole(segment, piece)
            next_row_at = 0  # a row behind the damage, so that reads need not cross it
            continue
        if piece.position >= next_row_at:
            index.add(piece.base_offset, piece.position, piece.log_index, max_time)
            next_row_at = piece.position + interval
        last_index, offset = piece.log_index, piece.next_offset
        max_time = max(max_time, piece.append_ts_us)
    return index, Summary(end, offset, last_index, max_time)


class Rows:
    """The rows of a segment that are in RAM at one moment."""

    def __init__(self, segment: Segment, index: SparseIndex) -> None:
        self._segment = segment
        self._index = index
        self._rows_from = segment.rows_from

    def complete(
        self, files: Files, file: File, config: StorageConfig, on_hole: OnHole
    ) -> SparseIndex:
        """The rows of what recovery did not read, then those in RAM."""
        if not self._rows_from:
            return self._index
        prior = _saved(files, self._segment, self._rows_from)
        index, summary = extend_index(file, self._segment, prior, self._rows_from, config, on_hole)
        index.append_all(self._index, summary.max_time_us)
        return index


def _saved(files: Files, segment: Segment, limit: int) -> tuple[SparseIndex, Summary]:
    """What an index file has of the first bytes of a segment that was not full."""
    path = layout.index_file(segment.gid, segment.base_offset)
    if files.exists(path):
        file = files.open(path)
        found = decode_index(file.pread(file.size(), 0), segment.base_offset)
        if found is not None and found[1].log_bytes <= limit:
            return found
    return SparseIndex(), Summary(0, segment.base_offset, 0, 0)
