"""The sparse index of one segment: where to start reading for an offset or a time.

One row per `interval` bytes of log: offset, position and Raft index of a batch, and the highest
append time of all batches before it in the segment. That running maximum makes the time column
sorted whatever the leaders' clocks did. The index of a sealed segment is kept beside it in a file
with a checksum; it is a cache and is rebuilt from the log when missing or damaged.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from crc32c import crc32c

_HEADER: Final = struct.Struct("<8sIIQQQQQ")
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"PSINDEX1"
_COLUMNS: Final = 4


class Place(NamedTuple):
    """Where to start reading, and where at the latest the wanted batch ends."""

    position: int
    end: int | None
    """None: at the end of the segment."""


class Summary(NamedTuple):
    """What a segment holds as a whole."""

    log_bytes: int
    end_offset: int
    last_index: int
    max_time_us: int


class SparseIndex:
    """Rows in four parallel arrays; 32 bytes a row."""

    __slots__ = ("indexes", "offsets", "positions", "times")

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.positions = array("Q")
        self.indexes = array("Q")
        self.times = array("Q")

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size_bytes(self) -> int:
        return 32 * len(self.offsets)

    def add(self, offset: int, position: int, index: int, max_time_before: int) -> None:
        self.offsets.append(offset)
        self.positions.append(position)
        self.indexes.append(index)
        self.times.append(max_time_before)

    def copy(self) -> SparseIndex:
        """The rows of this moment, for another thread."""
        index = SparseIndex()
        index.append_all(self, 0)
        return index

    def append_all(self, later: SparseIndex, max_time_before: int) -> None:
        """Add the rows of what follows."""
        self.offsets += later.offsets
        self.positions += later.positions
        self.indexes += later.indexes
        first = bisect_left(later.times, max_time_before)
        self.times.extend([max_time_before] * first)
        self.times += later.times[first:]

    def for_offset(self, offset: int) -> Place:
        """Between which positions the batch with an offset lies; the index is not empty."""
        return self._place(max(bisect_right(self.offsets, offset) - 1, 0))

    def _place(self, row: int) -> Place:
        end = self.positions[row + 1] if row + 1 < len(self.positions) else None
        return Place(self.positions[row], end)

    def encode(self, base_offset: int, summary: Summary) -> bytes:
        """The bytes of the index file."""
        head = _HEADER.pack(_MAGIC, len(self), 0, base_offset, *summary)
        body = head + b"".join(
            _little(column).tobytes()
            for column in (self.offsets, self.positions, self.indexes, self.times)
        )
        return body + _CRC.pack(crc32c(body))


def decode_index(data: bytes, base_offset: int) -> tuple[SparseIndex, Summary] | None:
    """Read an index file; None when it is damaged or belongs to another segment."""
    if len(data) < _HEADER.size + _CRC.size:
        return None
    body = memoryview(data)[: -_CRC.size]
    if _CRC.unpack_from(data, len(body))[0] != crc32c(body):
        return None
    magic, rows, _, base, *summary = _HEADER.unpack_from(data)
    column = 8 * rows
    if magic != _MAGIC or base != base_offset or len(body) != _HEADER.size + _COLUMNS * column:
        return None
    index = SparseIndex()
    for number, target in enumerate((index.offsets, index.positions, index.indexes, index.times)):
        at = _HEADER.size + number * column
        target.frombytes(body[at : at + column])
        if sys.byteorder == "big":
            target.byteswap()
    return index, Summary(*summary)


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column
