"""The record batch header: the one unit that is sent, logged, replicated and served verbatim.

A batch is a 96-byte little-endian header, extension fields, an optional key-slot column and a
payload. The header has two parts. The *stamped* part (kind, index, term, epoch, base offset,
append time) is written by the leader, or kept by a mirror, and has a checksum of its own, so that
stamping never touches the body. The *producer* part is covered by the body checksum. The broker
reads these 96 bytes and never the payload. Byte by byte: `client/PROTOCOL.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from penstock.errors import BadRequest, CorruptBatch, RecordTooLarge
from penstock.protocol.checksum import crc32c
from penstock.protocol.extensions import EXT_DEDUP_ID as EXT_DEDUP_ID
from penstock.protocol.extensions import EXT_DELIVER_AT as EXT_DELIVER_AT
from penstock.protocol.extensions import EXT_SCHEDULE as EXT_SCHEDULE
from penstock.protocol.extensions import EXT_SPAN as EXT_SPAN
from penstock.protocol.extensions import EXT_TRACE_ID as EXT_TRACE_ID
from penstock.protocol.extensions import EXTENSION_BYTES_MAX, parse_extensions

Buffer = bytes | bytearray | memoryview

MAGIC: Final = 0x31425350  # "PSB1"
HEADER_BYTES: Final = 96
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
RAW_BYTES_MAX: Final = 16 * 1024 * 1024
RECORDS_MAX: Final = 65_535
SYSTEM_PRODUCERS: Final = 1 << 63
"""Producer ids from here on belong to the brokers, which move and schedule records; theirs are
never forgotten. What a client publishes under such an id is refused."""

CODEC_NONE: Final = 0
CODEC_ZSTD: Final = 1
CODEC_BITS: Final = 0x0F
CHECKSUM_CRC32C: Final = 1 << 4
FLAG_KEY_SLOTS: Final = 1
FLAG_COMPACTED: Final = 2
FLAG_TENANT_SLOTS: Final = 4
FLAGS_SLOTS: Final = FLAG_KEY_SLOTS | FLAG_TENANT_SLOTS
_SLOT_BYTES: Final = (0, 2, 0, 2, 2, 4, 2, 4)
"""By flags: bytes of slots for each record."""

_BROKERS_EXTENSIONS: Final = frozenset((EXT_SPAN, EXT_SCHEDULE))
_CODECS: Final = frozenset((CHECKSUM_CRC32C, CHECKSUM_CRC32C | CODEC_ZSTD))


class Kind(IntEnum):
    """What a batch is; stamped by the leader, so a producer can't inject a control entry."""

    UNSTAMPED = 0
    DATA = 1
    CONTROL = 2
    CONFIG = 3
    NOOP = 4


class BatchHeader(NamedTuple):
    """The decoded header; field order is the byte order."""

    magic: int
    length: int
    header_crc: int
    kind: int
    stamp_flags: int
    zero1: int
    log_index: int
    term: int
    epoch: int
    base_offset: int
    append_ts_us: int
    body_crc: int
    codec: int
    flags: int
    ext_len: int
    record_count: int
    raw_len: int
    producer_id: int
    base_sequence: int
    base_ts_us: int
    max_ts_delta_ms: int
    producer_epoch: int
    zero2: int


HEADER: Final = struct.Struct("<IIIBBHQIIQQIBBHIIQQQIHH")
_STAMP: Final = struct.Struct("<BBHQIIQQ")
_CHECKED: Final = struct.Struct("<II40xIBBHIIQQ8x4xHH")
_U32: Final = struct.Struct("<I")
_PRODUCER: Final = struct.Struct("<BBHIIQQQIHH")
_UNSTAMPED: Final = struct.Struct("<II40xI")
assert HEADER.size == HEADER_BYTES
assert _STAMP.size == 36
assert _CHECKED.size == HEADER_BYTES
assert _PRODUCER.size == 44

_STAMP_AT: Final = 12
_BODY_AT: Final = 52


def parse_header(buffer: Buffer, at: int = 0) -> BatchHeader:
    """Decode the header at a position, without checking it.

    Raises:
        CorruptBatch: fewer than 96 bytes are left.
    """
    try:
        return BatchHeader._make(HEADER.unpack_from(buffer, at))
    except struct.error:
        raise CorruptBatch(f"a batch header needs {HEADER_BYTES} bytes") from None


PublishHeader = tuple[int, int, int, int, int]
"""What the publish path needs of a batch, as a bare tuple since it is made for every one:
record_count, producer_id, producer_epoch, base_sequence, ext_len."""


def check_publish(buffer: Buffer, batch_bytes_max: int = BATCH_BYTES_MAX) -> PublishHeader:
    """Check a batch that a producer sent: shape, limits and body checksum.

    Raises:
        CorruptBatch: the batch is malformed or damaged.
        RecordTooLarge: it is longer than `batch_bytes_max`.
    """
    size = len(buffer)
    if size < HEADER_BYTES:
        raise CorruptBatch(f"a batch header needs {HEADER_BYTES} bytes")
    (
        magic,
        length,
        body_crc,
        codec,
        flags,
        ext_len,
        count,
        raw_len,
        producer_id,
        sequence,
        epoch,
        zero,
    ) = _CHECKED.unpack_from(buffer)
    if magic != MAGIC or length != size:
        raise CorruptBatch("the batch's magic or length does not fit its frame")
    if size > batch_bytes_max:
        raise RecordTooLarge(f"the batch has {size} bytes; the limit is {batch_bytes_max}")
    if not 0 < count <= RECORDS_MAX or raw_len > RAW_BYTES_MAX or codec not in _CODECS or zero:
        raise CorruptBatch("the batch header has a field out of its range")
    if ext_len or flags:
        _check_extent(buffer, flags, ext_len, count)
    elif codec == CHECKSUM_CRC32C and raw_len != size - HEADER_BYTES:
        raise CorruptBatch("the batch's length differs from its payload's")
    if crc32c(memoryview(buffer)[_BODY_AT:]) != body_crc:
        raise CorruptBatch("the body checksum does not match")
    return count, producer_id, epoch, sequence, ext_len


def _check_extent(buffer: Buffer, flags: int, ext_len: int, count: int) -> None:
    if flags & ~FLAGS_SLOTS:
        raise CorruptBatch("the batch header has a flag that a producer must not set")
    header = parse_header(buffer)
    _check_payload(header, len(buffer))
    if ext_len and not extensions(buffer, header).keys().isdisjoint(_BROKERS_EXTENSIONS):
        raise CorruptBatch("a producer must not name a span or a schedule")


def check_records(buffer: Buffer, header: BatchHeader) -> None:
    """Check that a header describes a batch of records that fills the buffer.

    Raises:
        CorruptBatch: a field is out of its range or contradicts another one.
    """
    size = len(buffer)
    if header.magic != MAGIC or header.length != size or header.kind > Kind.DATA:
        raise CorruptBatch("the buffer is not one batch of records")
    if header.record_count > RECORDS_MAX or header.codec not in _CODECS:
        raise CorruptBatch("the batch header has a field out of its range")
    if header.flags & ~(FLAGS_SLOTS | FLAG_COMPACTED) or header.stamp_flags:
        raise CorruptBatch("the batch header has an unknown flag")
    if header.zero1 or header.zero2:
        raise CorruptBatch("the batch header has a byte set that must be zero")
    if not header.record_count and not header.flags & FLAG_COMPACTED:
        raise CorruptBatch("the batch has no records")
    _check_payload(header, size)


def payload_start(header: BatchHeader) -> int:
    """Where the payload begins: after extensions, key slots and tenant slots."""
    return HEADER_BYTES + header.ext_len + header.record_count * _SLOT_BYTES[header.flags & 7]


def _check_payload(header: BatchHeader, size: int) -> None:
    payload = size - payload_start(header)
    if header.ext_len > EXTENSION_BYTES_MAX:
        raise CorruptBatch(f"extension fields exceed {EXTENSION_BYTES_MAX} bytes")
    if payload < 0 or header.raw_len > RAW_BYTES_MAX:
        raise CorruptBatch("extension fields, key slots or payload exceed the batch")
    if header.codec == CHECKSUM_CRC32C and header.raw_len != payload:
        raise CorruptBatch("the batch's length differs from its payload's")


def stamp(
    buffer: bytearray | memoryview,
    kind: int,
    index: int,
    term: int,
    epoch: int,
    base_offset: int,
    append_ts_us: int,
) -> None:
    """Write the leader's part and its checksum in place."""
    _STAMP.pack_into(buffer, _STAMP_AT, kind, 0, 0, index, term, epoch, base_offset, append_ts_us)
    _U32.pack_into(buffer, 8, crc32c(buffer[_STAMP_AT:HEADER_BYTES]))


def verify(buffer: Buffer) -> BatchHeader:
    """Check both checksums of one stored batch that fills the buffer.

    Raises:
        CorruptBatch: the batch is malformed or damaged.
    """
    header = parse_header(buffer)
    verify_sums(memoryview(buffer), header)
    return header


def verify_sums(view: memoryview, header: BatchHeader) -> None:
    """Check both checksums of one stored batch that fills the view, and whose header is parsed.

    Raises:
        CorruptBatch: the batch is malformed or damaged.
    """
    if header.magic != MAGIC or header.length != len(view):
        raise CorruptBatch("the batch's magic or length is wrong")
    if crc32c(view[_STAMP_AT:HEADER_BYTES]) != header.header_crc:
        raise CorruptBatch("the header checksum does not match")
    if crc32c(view[_BODY_AT:]) != header.body_crc:
        raise CorruptBatch("the body checksum does not match")


def header_is_intact(buffer: Buffer, at: int = 0) -> bool:
    """Whether the 96 bytes at a position are a stamped header with a right checksum."""
    head = memoryview(buffer)[at : at + HEADER_BYTES]
    if len(head) < HEADER_BYTES:
        return False
    magic, length, crc = struct.unpack_from("<III", head)
    if magic != MAGIC or not HEADER_BYTES <= length <= BATCH_BYTES_MAX:
        return False
    return bool(crc32c(head[_STAMP_AT:]) == crc)


def length_at(buffer: Buffer, at: int) -> int:
    """The length of the batch at a position of a run of whole ones.

    Raises:
        CorruptBatch: it has an impossible length.
    """
    (length,) = _U32.unpack_from(buffer, at + 4)
    if not HEADER_BYTES <= length <= BATCH_BYTES_MAX:
        raise CorruptBatch(f"no batch starts at byte {at} of the run")
    return int(length)


def iterate(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of each whole batch in a run; a cut last batch ends the run.

    Raises:
        CorruptBatch: a header's magic or length is impossible.
    """
    at, end = 0, len(buffer)
    while at + HEADER_BYTES <= end:
        header = parse_header(buffer, at)
        if header.magic != MAGIC or not HEADER_BYTES <= header.length <= BATCH_BYTES_MAX:
            raise CorruptBatch(f"no batch starts at byte {at} of the run")
        if at + header.length > end:
            return
        yield at, header
        at += header.length


def seal(
    buffer: bytearray,
    *,
    count: int,
    codec: int = CODEC_NONE,
    flags: int = 0,
    ext_len: int = 0,
    raw_len: int = 0,
    producer_id: int = 0,
    producer_epoch: int = 0,
    base_sequence: int = 0,
    base_ts_us: int = 0,
    max_ts_delta_ms: int = 0,
) -> None:
    """Write the header of an unstamped batch over the first 96 bytes; the body lies behind them.

    Raises:
        RecordTooLarge: the batch is longer than `BATCH_BYTES_MAX`.
        BadRequest: a number does not fit its field.
    """
    length = len(buffer)
    if length > BATCH_BYTES_MAX:
        raise RecordTooLarge(f"the batch has {length} bytes; the limit is {BATCH_BYTES_MAX}")
    try:
        _PRODUCER.pack_into(
            buffer,
            _BODY_AT,
            codec | CHECKSUM_CRC32C,
            flags,
            ext_len,
            count,
            raw_len,
            producer_id,
            base_sequence,
            base_ts_us,
            max_ts_delta_ms,
            producer_epoch,
            0,
        )
    except struct.error as error:
        raise BadRequest(f"a number does not fit its field in the batch header: {error}") from None
    _UNSTAMPED.pack_into(buffer, 0, MAGIC, length, crc32c(memoryview(buffer)[_BODY_AT:]))


def build(body: bytes, *, count: int, raw_len: int = 0) -> bytearray:
    """Put an unstamped header before a body of the plain codec without extensions."""
    buffer = bytearray(HEADER_BYTES)
    buffer += body
    seal(buffer, count=count, raw_len=raw_len)
    return buffer


def control_batch(body: bytes = b"") -> bytearray:
    """An unstamped batch around an opaque body: every Raft entry has this one form."""
    return build(body, count=0, raw_len=len(body))


def control_body(buffer: Buffer) -> bytes:
    """The opaque body of a control batch."""
    return bytes(memoryview(buffer)[HEADER_BYTES:])


def extensions(buffer: Buffer, header: BatchHeader) -> dict[int, bytes]:
    """Decode the extension fields: type -> data; unknown types are kept.

    Raises:
        CorruptBatch: a field is repeated, has a wrong size, or reaches beyond the extension area.
    """
    end = HEADER_BYTES + header.ext_len
    if end > len(buffer):
        raise CorruptBatch("extension fields exceed the batch")
    return parse_extensions(bytes(buffer[HEADER_BYTES:end]))


def next_offset(buffer: Buffer, header: BatchHeader) -> int:
    """The offset after the batch: a compacted batch covers more offsets than it has records.

    Raises:
        CorruptBatch: a compacted batch names no span.
    """
    if header.flags & FLAG_COMPACTED:
        span = extensions(buffer, header).get(EXT_SPAN)
        if span is None:
            raise CorruptBatch("a compacted batch names no span")
        return header.base_offset + int(_U32.unpack(span)[0])
    return header.base_offset + header.record_count
