"""Walking the batches of a segment file, with every check there is.

A walk never stops at damage: it yields a `Hole` that names the bytes and offsets which can't be
trusted and goes on with the next intact batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from penstock.errors import CorruptBatch
from penstock.protocol.batch import (
    BATCH_BYTES_MAX,
    FLAG_COMPACTED,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    Kind,
    next_offset,
    parse_header,
)
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.files import Buffer, File

_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "little")
_DATA: Final = int(Kind.DATA)
_PLAIN: Final = struct.Struct("<IIIB3xQ8xQQIxB2xI")
"""Of a header: magic, length, checksum, kind, index, base offset, append time, body checksum,
flags, records."""
_CHUNK: Final = 1024 * 1024
_HEADER_CHUNK: Final = 64 * 1024


class Found(NamedTuple):
    """One intact data batch."""

    position: int
    end: int
    base_offset: int
    next_offset: int
    log_index: int
    append_ts_us: int
    records: int


class Hole(NamedTuple):
    """Bytes that hold no intact batch; `next_offset` is None when nothing intact follows."""

    position: int
    end: int
    base_offset: int
    next_offset: int | None


def batch_at(data: Buffer, at: int, *, bodies: bool = True) -> Found | None:
    """The data batch at a position of a buffer, if it is whole and both checksums match.

    Without `bodies` only the header is looked at, and the body may lie beyond the buffer.
    """
    if at + HEADER_BYTES > len(data):
        return None
    fields = HEADER.unpack_from(data, at)
    length = fields[1]
    if fields[0] != MAGIC or not HEADER_BYTES <= length <= BATCH_BYTES_MAX or fields[3] != _DATA:
        return None
    end = at + length
    view = memoryview(data)
    if crc32c(view[at + 12 : at + HEADER_BYTES]) != fields[2]:
        return None
    if bodies and (end > len(data) or crc32c(view[at + 52 : end]) != fields[11]):
        return None
    following = fields[9] + fields[15]
    if fields[13] & FLAG_COMPACTED:
        try:
            following = next_offset(
                view[at : at + HEADER_BYTES + fields[14]], parse_header(data, at)
            )
        except (CorruptBatch, IndexError):
            return None
    return Found(at, end, fields[9], following, fields[6], fields[10], fields[15])


def servable(data: Buffer, offset: int, wanted: int, max_bytes: int) -> tuple[int, int]:
    """The range of whole, verified batches from the one with `wanted` on; (-1, -1) for none.

    The buffer begins with the batch at `offset`. At least one batch, then as many as fit into
    `max_bytes`; damage ends the range. What comes before is passed over by its headers.
    """
    view, size = memoryview(data), len(data)
    first = last = -1
    at = 0
    while at + HEADER_BYTES <= size:
        magic, length, crc, kind, _, base, _, body_crc, flags, records = _PLAIN.unpack_from(
            data, at
        )
        end = at + length
        if (
            magic != MAGIC
            or kind != _DATA
            or base != offset
            or not at + HEADER_BYTES <= end <= size
        ):
            break
        offset = base + records
        if flags & FLAG_COMPACTED:
            found = batch_at(data, at)
            if found is None:
                break
            offset = found.next_offset
        if offset > wanted:
            if first >= 0 and end - first > max_bytes:
                break
            if (
                crc32c(view[at + 12 : at + HEADER_BYTES]) != crc
                or crc32c(view[at + 52 : end]) != body_crc
            ):
                break
            first = at if first < 0 else first
            last = end
        at = end
    return first, last


def quick_headers(
    file: File, start: int, end: int, offset: int
) -> Iterator[tuple[int, int, int, int]]:
    """(position, base offset, index, append time) of plain batches; not verified.

    For sparse indexes, whose rows a read verifies. Ends early at the first batch that is not
    plainly the next one: `walk` says what it is.
    """
    at, chunk = start, _HEADER_CHUNK
    while at < end:
        data = file.pread(min(chunk, end - at), at)
        here, limit = 0, len(data) - _PLAIN.size
        if limit < 0:
            return
        while here <= limit:
            magic, length, _, kind, index, base, time, _, flags, records = _PLAIN.unpack_from(
                data, here
            )
            if magic != MAGIC or kind != _DATA or base != offset or flags & FLAG_COMPACTED:
                return
            if length < HEADER_BYTES or at + here + length > end:
                return
            offset = base + records
            yield at + here, base, index, time
            here += length
        at += here
        chunk = BLOCK if length > _HEADER_CHUNK // 2 else 4 * _HEADER_CHUNK


def claimed_length(data: Buffer, at: int) -> int:
    """The length that a header claims, if it looks like one; else 0."""
    if at + HEADER_BYTES > len(data):
        return 0
    magic, length = HEADER.unpack_from(data, at)[:2]
    return length if magic == MAGIC and HEADER_BYTES <= length <= BATCH_BYTES_MAX else 0


def walk(
    file: File, start: int, end: int, offset: int, *, bodies: bool = True
) -> Iterator[Found | Hole]:
    """Yield every batch between two positions; the first should have the base offset `offset`.

    Raises:
        OSError: the file can't be read.
    """
    at = start
    window = _Window(file, end, _CHUNK if bodies else _HEADER_CHUNK)
    held: Found | None = None  # without its body a batch is trusted when the next one fits to it
    while at < end:
        found = window.batch(at, bodies=bodies)
        if found is None or found.base_offset != offset:
            if held is not None and window.batch(held.position, bodies=True) is None:
                at, offset, held = held.position, held.base_offset, None
            following = window.search(at, offset, bodies=bodies)
            if held is not None:
                yield held
                held = None
            if following is None:
                yield Hole(at, end, offset, None)
                return
            yield Hole(at, following.position, offset, following.base_offset)
            found = following
        if held is not None:
            yield held
        held = found
        at, offset = found.end, found.next_offset
        if bodies:
            yield held
            held = None
    if held is not None:
        yield held


class _Window:
    """A moving view of a file."""

    def __init__(self, file: File, end: int, chunk: int) -> None:
        self._file = file
        self._end = end
        self._chunk = chunk
        self._start = 0
        self._data = b""

    def _load(self, position: int, length: int) -> None:
        length = min(length, self._end - position)
        here = position - self._start
        if here < 0 or here + length > len(self._data):
            wanted = min(max(length, self._chunk), self._end - position)
            self._start = position
            self._data = self._file.pread(wanted, position)
            if len(self._data) < wanted:
                self._end = position + len(self._data)  # the file is shorter than it should be

    def batch(self, at: int, *, bodies: bool) -> Found | None:
        """The batch at a position of the file."""
        self._load(at, HEADER_BYTES)
        if bodies:
            length = claimed_length(self._data, at - self._start)
            if at + length > self._end:
                return None
            self._load(at, max(length, HEADER_BYTES))
        found = batch_at(self._data, at - self._start, bodies=bodies)
        if found is None or self._start + found.end > self._end:
            return None
        return found._replace(position=self._start + found.position, end=self._start + found.end)

    def search(self, at: int, offset: int, *, bodies: bool) -> Found | None:
        """The first intact batch behind `at` with a base offset not below `offset`.

        Each place where the magic number occurs is tried, since the length of a damaged header
        can't be trusted.
        """
        at += 1
        while at + HEADER_BYTES <= self._end:
            self._load(at, HEADER_BYTES)
            here = self._data.find(_MAGIC_BYTES, at - self._start)
            if here < 0:
                at = max(self._start + len(self._data) - len(_MAGIC_BYTES) + 1, at + 1)
                if self._start + len(self._data) >= self._end:
                    return None
                continue
            at = self._start + here
            found = self.batch(at, bodies=bodies)
            if found is not None and found.base_offset >= offset:
                return found
            at += 1
        return None
