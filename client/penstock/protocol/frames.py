"""Frames: how requests and replies are cut on a byte stream.

Every frame starts with 16 bytes, little endian: length of the whole frame, type, flags, two zero
bytes, correlation id, group (the partition's Raft group id on hot frames, else 0). Publish and
fetch have fixed binary bodies, since they are most of the traffic; all others carry one CBOR map
(`penstock.protocol.codec`). A reply has its request's type and correlation id.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from penstock.errors import BadRequest, RemoteProtocolError
from penstock.protocol.batch import BATCH_BYTES_MAX, HEADER_BYTES, Buffer

FRAME_HEADER: Final = struct.Struct("<IBBHII")
FRAME_HEADER_BYTES: Final = FRAME_HEADER.size

FLAG_RESPONSE: Final = 1
FLAG_ERROR: Final = 2
FLAG_DUPLICATE: Final = 4

PUBLISH: Final = 0x10
FETCH: Final = 0x11

PUBLISH_REQUEST: Final = struct.Struct("<IBBHIIBBHI")
"""Frame header + acks, zero, zero, timeout_ms; then one record batch."""
PUBLISH_REPLY: Final = struct.Struct("<IBBHIIQQ")
"""Frame header + base_offset, append_ts_us."""
FETCH_REQUEST: Final = struct.Struct("<IBBHIIQIIII")
"""Frame header + offset, max_bytes, min_bytes, max_wait_ms, flags."""
FETCH_REPLY: Final = struct.Struct("<IBBHIIQQ")
"""Frame header + high_watermark, log_start_offset; then whole batches verbatim."""
_PUBLISH_FIELDS: Final = struct.Struct("<BBHI")
_FETCH_FIELDS: Final = struct.Struct("<QIIII")

PUBLISH_REQUEST_BYTES: Final = PUBLISH_REQUEST.size
FETCH_REQUEST_BYTES: Final = FETCH_REQUEST.size
REPLY_BYTES: Final = PUBLISH_REPLY.size
assert PUBLISH_REQUEST_BYTES == 24
assert FETCH_REQUEST_BYTES == 40
assert REPLY_BYTES == FETCH_REPLY.size == 32

FETCH_ANY_REPLICA: Final = 1
"""A broker that does not lead the partition answers too; what it has may be a little behind."""
FETCH_LINEARIZABLE: Final = 2
"""The leader makes sure that it still leads: all that was acknowledged before is there."""
FETCH_FLAGS: Final = FETCH_ANY_REPLICA | FETCH_LINEARIZABLE

ACKS_NONE: Final = 0
ACKS_LEADER: Final = 1
ACKS_QUORUM: Final = 2

HELLO_BYTES_MAX: Final = 16 * 1024
REQUEST_BYTES_MAX: Final = BATCH_BYTES_MAX + PUBLISH_REQUEST_BYTES
FETCH_BYTES_MAX: Final = 16 * 1024 * 1024
REPLY_BYTES_MAX: Final = FETCH_BYTES_MAX + BATCH_BYTES_MAX + REPLY_BYTES


class Frame(NamedTuple):
    """One frame's header and where its body lies in the scanned buffer."""

    type: int
    flags: int
    correlation: int
    group: int
    start: int
    end: int


def frame(type_: int, flags: int, correlation: int, body: Buffer = b"", group: int = 0) -> bytes:
    """Build a frame around a body."""
    length = FRAME_HEADER_BYTES + len(body)
    return FRAME_HEADER.pack(length, type_, flags, 0, correlation, group) + body


def publish_head(correlation: int, group: int, acks: int, timeout_ms: int, batch_len: int) -> bytes:
    """The 24 bytes before a published batch."""
    return PUBLISH_REQUEST.pack(
        PUBLISH_REQUEST_BYTES + batch_len, PUBLISH, 0, 0, correlation, group, acks, 0, 0, timeout_ms
    )


def fetch_request(
    correlation: int,
    group: int,
    offset: int,
    max_bytes: int,
    min_bytes: int,
    max_wait_ms: int,
    flags: int = 0,
) -> bytes:
    """A whole fetch request."""
    return FETCH_REQUEST.pack(
        FETCH_REQUEST_BYTES, FETCH, 0, 0, correlation, group, offset, max_bytes, min_bytes,
        max_wait_ms, flags,
    )  # fmt: skip


def read_publish(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Read (acks, timeout_ms) of a publish request; the batch fills the frame's rest.

    Raises:
        BadRequest: the frame is too short for a batch, or a field is out of its range.
    """
    if end - start < PUBLISH_REQUEST_BYTES + HEADER_BYTES:
        raise BadRequest("a publish request is too short to hold a batch")
    acks, zero, zeros, timeout_ms = _PUBLISH_FIELDS.unpack_from(buffer, start + FRAME_HEADER_BYTES)
    if acks > ACKS_QUORUM or zero or zeros:
        raise BadRequest("a publish request has a field out of its range")
    return acks, timeout_ms


def read_fetch(buffer: Buffer, start: int, end: int) -> tuple[int, int, int, int, int]:
    """Read (offset, max_bytes, min_bytes, max_wait_ms, flags) of a fetch request.

    Raises:
        BadRequest: the frame has another length, or a field is out of its range.
    """
    if end - start != FETCH_REQUEST_BYTES:
        raise BadRequest(f"a fetch request has {FETCH_REQUEST_BYTES} bytes")
    offset, max_bytes, min_bytes, max_wait_ms, flags = _FETCH_FIELDS.unpack_from(
        buffer, start + FRAME_HEADER_BYTES
    )
    if flags & ~FETCH_FLAGS:
        raise BadRequest("a fetch request has a field out of its range")
    return offset, max_bytes, min_bytes, max_wait_ms, flags


def scan(buffer: Buffer, start: int, end: int, limit: int) -> tuple[list[Frame], int]:
    """Find the whole frames between two positions.

    Returns:
        The frames (`start` is the first byte of the frame, `end` the byte after it) and how many
        bytes the next, unfinished frame has in all (0: its length is not there yet).

    Raises:
        RemoteProtocolError: a length is impossible or beyond `limit`.
    """
    frames: list[Frame] = []
    append, unpack, new = frames.append, FRAME_HEADER.unpack_from, tuple.__new__
    while end - start >= FRAME_HEADER_BYTES:
        length, type_, flags, zero, correlation, group = unpack(buffer, start)
        if length < FRAME_HEADER_BYTES or length > limit or zero:
            raise RemoteProtocolError(f"a frame of {length} bytes can't be (limit {limit})")
        if length > end - start:
            return frames, length
        # A third of the cost of `Frame(...)`, and there is one for every reply.
        append(new(Frame, (type_, flags, correlation, group, start, start + length)))
        start += length
    return frames, 0
