"""Appends of many groups in one frame: a table of heads, then all batches verbatim.

A head is (group, term, previous index, its term, commit, number of entries, their bytes). An
entry's index, term and kind are read from its batch's header, so nothing is sent twice. Raft's own
entries travel as batches too. Batches are neither copied nor encoded on the way out; on the way in,
one that is a large part of its frame stays in the frame's buffer, a small one is copied, since it
would keep the whole frame in memory. Invariant: every batch that gets through has both checksums
right, and its index and term follow those before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import (
    BATCH_BYTES_MAX,
    HEADER_BYTES,
    MAGIC,
    Buffer,
    Kind,
    control_batch,
    stamp,
)
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import APPENDS, APPENDS_BYTES_MAX, ROWS_MAX, check
from penstock_broker.raft import Append, Configuration, Entry, Message
from penstock_broker.raft.entry import CONFIG, RESERVED_KINDS

_COUNT: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IIQIQII")
_BATCH: Final = struct.Struct("<IIIB3xQI20xI")
"""Of a batch's header: magic, length, header checksum, kind, index, term, body checksum."""
_STAMP_AT: Final = 12
_BODY_AT: Final = 52
_SHARE_MIN: Final = 16
"""A batch that is less than this part of its frame is copied out of it."""

Sized = tuple[int, Append, int]
"""Group, append, bytes of its batches."""


def size_of(append: Append) -> int:
    """Bytes of the batches of an append, Raft's own entries included."""
    return sum(
        len(data) + HEADER_BYTES * (kind in RESERVED_KINDS) for _, _, kind, data in append.entries
    )


def pack_appends(appends: Sequence[Sized]) -> Iterator[list[Buffer]]:
    """Frames, each as the buffers to send one after another."""
    first = size = 0
    for number, (_, _, bytes_) in enumerate(appends):
        if number > first and (size + bytes_ > APPENDS_BYTES_MAX or number - first == ROWS_MAX):
            yield _pack(appends[first:number])
            first, size = number, 0
        size += bytes_
    if first < len(appends):
        yield _pack(appends[first:])


def _pack(appends: Sequence[Sized]) -> list[Buffer]:
    pack = _HEAD.pack
    parts = [_COUNT.pack(len(appends))]
    batches: list[Buffer] = []
    size = 0
    for gid, (_, _, term, prev_index, prev_term, entries, commit), bytes_ in appends:
        parts.append(pack(gid, term, prev_index, prev_term, commit, len(entries), bytes_))
        batches += [entry.data if entry.kind not in RESERVED_KINDS else _wrapped(entry)
                    for entry in entries]  # fmt: skip
        size += bytes_
    heads = b"".join(parts)
    length = FRAME_HEADER_BYTES + len(heads) + size
    header = FRAME_HEADER.pack(length, APPENDS, 0, 0, crc32c(heads), 0)
    return [header + heads, *batches]


def _wrapped(entry: Entry) -> Buffer:
    batch = control_batch(bytes(entry.data))
    stamp(batch, entry.kind, entry.index, entry.term, 0, 0, 0)
    return batch


def unpack_appends(
    buffer: memoryview, start: int, end: int, owned: bool, sender: int, to: int
) -> list[tuple[int, Message]]:
    """(group, append) of each head; entries of an owned buffer may stay in it.

    Raises:
        RemoteProtocolError: the frame or a batch in it is damaged, or the batches do not follow
            each other.
    """
    at = start + FRAME_HEADER_BYTES
    if end - at < _COUNT.size:
        raise RemoteProtocolError("a frame of appends is cut off")
    (count,) = _COUNT.unpack_from(buffer, at)
    covered = _COUNT.size + count * _HEAD.size
    if count > ROWS_MAX or covered > end - at:
        raise RemoteProtocolError(f"a frame of {count} appends can't have {end - start} bytes")
    check(buffer, start, end, covered)
    heads = list(_HEAD.iter_unpack(buffer[at + _COUNT.size : at + covered]))
    at += covered
    if sum(head[6] for head in heads) != end - at:
        raise RemoteProtocolError("a frame of appends has not the length that it names")
    kept_min = (end - start) // _SHARE_MIN if owned else end - start + 1
    found: list[tuple[int, Message]] = []
    for gid, term, prev_index, prev_term, commit, entries, size in heads:
        taken = _entries(buffer, at, at + size, (prev_index, prev_term, term, entries), kept_min)
        found.append((gid, Append(sender, to, term, prev_index, prev_term, taken, commit)))
        at += size
    return found


def _entries(
    buffer: memoryview, at: int, end: int, place: tuple[int, int, int, int], kept_min: int
) -> list[Entry]:
    """The entries in `buffer[at:end]`, checked; those of `kept_min` bytes stay in the buffer."""
    index, last_term, term, count = place
    entries: list[Entry] = []
    unpack, new = _BATCH.unpack_from, tuple.__new__
    for _ in range(count):
        if end - at < HEADER_BYTES:
            raise RemoteProtocolError("an append is cut off")
        magic, length, crc, kind, of_index, of_term, body_crc = unpack(buffer, at)
        index += 1
        if magic != MAGIC or not HEADER_BYTES <= length <= min(BATCH_BYTES_MAX, end - at):
            raise RemoteProtocolError("a batch in an append is malformed")
        if of_index != index or not last_term <= of_term <= term or not 0 < kind <= Kind.NOOP:
            raise RemoteProtocolError("the batches of an append do not follow each other")
        batch = buffer[at : at + length]
        at += length
        if crc32c(batch[_STAMP_AT:HEADER_BYTES]) != crc or crc32c(batch[_BODY_AT:]) != body_crc:
            raise RemoteProtocolError("a batch in an append is damaged")
        last_term = of_term
        if kind in RESERVED_KINDS:
            entries.append(Entry(index, of_term, kind, _own(kind, batch)))
            continue
        data = batch if length >= kept_min else bytes(batch)
        entries.append(new(Entry, (index, of_term, kind, data)))
    if at != end:
        raise RemoteProtocolError("an append has more bytes than its batches")
    return entries


def _own(kind: int, batch: memoryview) -> bytes:
    """What is in the batch of one of Raft's own entries."""
    data = bytes(batch[HEADER_BYTES:])
    if kind == CONFIG:
        try:
            Configuration.decode(data)
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from None
    return data
