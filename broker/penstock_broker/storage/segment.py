"""One segment file of a partition: its extent, and how much of it is written and durable.

Segments hold committed data batches only and are never truncated while running. A segment is
`sealed` when the next one has begun; its index goes to a file then.
"""

from __future__ import annotations

from penstock_broker.storage import layout
from penstock_broker.storage.files import File, Files
from penstock_broker.storage.index import SparseIndex, Summary


class Segment:
    """A range of a partition's log."""

    __slots__ = (
        "base_offset",
        "end_offset",
        "file",
        "first_time_us",
        "gid",
        "index",
        "indexed",
        "last_index",
        "max_time_us",
        "next_row_at",
        "rewrites",
        "rows_from",
        "saved",
        "sealed",
        "size",
        "start",
        "synced",
    )

    def __init__(self, gid: int, base_offset: int, start: int) -> None:
        self.gid = gid
        self.base_offset = base_offset
        self.end_offset = base_offset
        self.start = start
        """Position of the segment's first byte in the partition's log; negative when recovered."""
        self.size = 0
        self.synced = 0
        """Bytes that are durable."""
        self.last_index = 0
        self.first_time_us = 0
        """Append time of the first batch; as recovered, the time is not known until needed."""
        self.max_time_us = 0
        self.sealed = False
        self.indexed = False
        """Whether the index file was written."""
        self.index: SparseIndex | None = None
        """Rows of the active segment; a sealed segment's are loaded when needed."""
        self.rows_from = 0
        """Where the rows in RAM begin: recovery does not read what a checkpoint vouches for."""
        self.saved = 0
        """Bytes of which an index file has the rows, as far as this process knows."""
        self.next_row_at = 0
        self.file: File | None = None
        """Open while the segment is written or rewritten."""
        self.rewrites = 0
        """How often compaction replaced the file."""

    @property
    def path(self) -> str:
        return layout.segment_file(self.gid, self.base_offset)

    @property
    def summary(self) -> Summary:
        return Summary(self.size, self.end_offset, self.last_index, self.max_time_us)

    def open(self, files: Files) -> File:
        """The open file; it exists."""
        return self.file if self.file is not None else files.open(self.path)

    def extend(
        self, length: int, offset: int, end_offset: int, index: int, time_us: int, interval: int
    ) -> None:
        """Account for one batch at the end."""
        if self.size >= self.next_row_at and self.index is not None:
            self.index.add(offset, self.size, index, self.max_time_us)
            self.next_row_at = self.size + interval
        self.size += length
        self.end_offset = end_offset
        self.last_index = index
        if time_us > self.max_time_us:
            self.max_time_us = time_us
