"""The frames that run per record of a shared group: acquire and settle.

An acquire asks for records under a lease; its reply names them by spans and brings the batches that
hold them, verbatim: the reader cuts out its offsets. A settle says what became of records; its
reply leaves when that is durable. Both name the member by the handle that `AttachGroup` gave on the
same connection. The body of a settle is MessagePack, decoded into exactly the declared types.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from penstock.errors import BadRequest, RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import FLAG_RESPONSE, FRAME_HEADER, FRAME_HEADER_BYTES

ACQUIRE: Final = 0x12
SETTLE: Final = 0x13

ACK: Final = 1
NACK: Final = 2
REJECT: Final = 3
RELEASE: Final = 4

HAVE_MAX: Final = 64
"""Batches that a member may say it keeps."""
SETTLE_BYTES_MAX: Final = 256 * 1024
VERDICTS_MAX: Final = 10_000
"""Entries of one settle frame."""
SPANS_MAX: Final = 20_000
"""Spans of one acquire reply."""
EXTEND_MS_MAX: Final = 12 * 3_600_000
"""How much longer a holder may ask to hold a lease."""
REASON_CHARACTERS_MAX: Final = 200
ERROR_CHARACTERS_MAX: Final = 2_000

ACQUIRE_REQUEST: Final = struct.Struct("<IBBHIIIIII")
"""Frame header + handle, max_records, max_bytes, max_wait_ms; then u64 base offsets (`have`)."""
ACQUIRE_REPLY: Final = struct.Struct("<IBBHIIQQQII")
"""Frame header + lease, deadline_us, high_watermark, lease_ms, spans; then these, then batches."""
SPAN: Final = struct.Struct("<QIHHHH")
"""First offset, records, then of each of them: delivered, failed, timed_out, redrives."""
SETTLE_REQUEST: Final = struct.Struct("<IBBHIII")
"""Frame header + handle; then MessagePack."""

ACQUIRE_REQUEST_BYTES: Final = ACQUIRE_REQUEST.size
ACQUIRE_REPLY_BYTES: Final = ACQUIRE_REPLY.size
SPAN_BYTES: Final = SPAN.size
SETTLE_REQUEST_BYTES: Final = SETTLE_REQUEST.size

_ACQUIRE_FIELDS: Final = struct.Struct("<IIII")
_HANDLE: Final = struct.Struct("<I")


class Acquire(NamedTuple):
    """An acquire request."""

    handle: int
    max_records: int
    max_bytes: int
    max_wait_ms: int
    have: Sequence[int] = ()
    """Base offsets of batches that the member keeps: the reply leaves their bytes out."""


class Span(NamedTuple):
    """Records of a lease that follow one another and have equal counters."""

    first: int
    records: int
    delivered: int = 1
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0


class Acquired(NamedTuple):
    """The answer to an acquire; no spans: nothing was there in time (lease 0)."""

    lease: int
    deadline_us: int
    high_watermark: int
    lease_ms: int
    spans: list[Span]
    run: Buffer
    """The batches."""


class Verdict(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of a run of records of one lease."""

    lease: int
    first: int
    count: int
    verdict: int
    """ACK, NACK, REJECT or RELEASE."""
    ready_at_us: int = 0
    """NACK: not before this time, instead of what the group's policy says; 0: the policy."""
    reason: str = ""
    error: str = ""


class Settled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to a settle: it is durable."""

    accepted: int
    """Records whose state changed by this."""
    late: int
    """Of these, acks that came after the lease was over."""
    duplicates: int
    """Records that were settled before."""
    lost: list[int]
    """Spans of records whose verdict came too late to count."""


_VERDICTS: Final = msgspec.msgpack.Decoder(list[Verdict])
_SETTLED: Final = msgspec.msgpack.Decoder(Settled)
_ENCODER: Final = msgspec.msgpack.Encoder()


def acquire_request(correlation: int, group: int, wanted: Acquire) -> bytes:
    """A whole acquire request."""
    have = array("Q", wanted.have)
    return (
        ACQUIRE_REQUEST.pack(
            ACQUIRE_REQUEST_BYTES + 8 * len(have), ACQUIRE, 0, 0, correlation, group,
            wanted.handle, wanted.max_records, wanted.max_bytes, wanted.max_wait_ms,
        )
        + have.tobytes()
    )  # fmt: skip


def read_acquire(buffer: Buffer, start: int, end: int) -> Acquire:
    """Read an acquire request.

    Raises:
        BadRequest: the frame has an impossible length, or asks for no records.
    """
    rest = end - start - ACQUIRE_REQUEST_BYTES
    if rest < 0 or rest % 8 or rest > 8 * HAVE_MAX:
        raise BadRequest(f"an acquire request can't have {end - start} bytes")
    handle, records, size, wait_ms = _ACQUIRE_FIELDS.unpack_from(buffer, start + FRAME_HEADER_BYTES)
    if not records or not size:
        raise BadRequest("an acquire asks for at least one record and one byte")
    have = array("Q", bytes(memoryview(buffer)[end - rest : end])) if rest else ()
    return Acquire(handle, records, size, wait_ms, have)


def acquire_reply_head(correlation: int, group: int, found: Acquired, run_bytes: int) -> bytes:
    """What comes before the batches of an acquire reply."""
    spans = b"".join([SPAN.pack(*span) for span in found.spans])
    return (
        ACQUIRE_REPLY.pack(
            ACQUIRE_REPLY_BYTES + len(spans) + run_bytes, ACQUIRE, FLAG_RESPONSE, 0, correlation,
            group, found.lease, found.deadline_us, found.high_watermark, found.lease_ms,
            len(found.spans),
        )
        + spans
    )  # fmt: skip


def read_acquired(buffer: Buffer, start: int, end: int) -> Acquired:
    """Read an acquire reply; the batches are a view of the buffer.

    Raises:
        RemoteProtocolError: the frame is too short for what it says.
    """
    if end - start < ACQUIRE_REPLY_BYTES:
        raise RemoteProtocolError("an acquire reply is too short")
    lease, deadline, high, lease_ms, count = ACQUIRE_REPLY.unpack_from(buffer, start)[6:]
    at = start + ACQUIRE_REPLY_BYTES
    spans_end = at + count * SPAN_BYTES
    if spans_end > end or count > SPANS_MAX:
        raise RemoteProtocolError("an acquire reply is too short for its spans")
    view = memoryview(buffer)
    spans = list(map(Span._make, SPAN.iter_unpack(view[at:spans_end])))
    return Acquired(lease, deadline, high, lease_ms, spans, view[spans_end:end])


def settle_request(correlation: int, group: int, handle: int, verdicts: Sequence[Verdict]) -> bytes:
    """A whole settle request."""
    body = _ENCODER.encode(verdicts)
    length = SETTLE_REQUEST_BYTES + len(body)
    return SETTLE_REQUEST.pack(length, SETTLE, 0, 0, correlation, group, handle) + body


def read_settle(buffer: Buffer, start: int, end: int) -> tuple[int, list[Verdict]]:
    """Read the handle and the verdicts of a settle request.

    Raises:
        BadRequest: the body is malformed, or a value is out of its range.
    """
    if not SETTLE_REQUEST_BYTES <= end - start <= SETTLE_REQUEST_BYTES + SETTLE_BYTES_MAX:
        raise BadRequest(f"a settle request can't have {end - start} bytes")
    (handle,) = _HANDLE.unpack_from(buffer, start + FRAME_HEADER_BYTES)
    try:
        verdicts = _VERDICTS.decode(memoryview(buffer)[start + SETTLE_REQUEST_BYTES : end])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"a settle request is malformed: {error}") from None
    if not 0 < len(verdicts) <= VERDICTS_MAX:
        raise BadRequest(f"a settle request has 1 to {VERDICTS_MAX} verdicts")
    for verdict in verdicts:
        _check_verdict(verdict)
    return handle, verdicts


def _check_verdict(verdict: Verdict) -> None:
    lease, first, count, kind, ready_at_us, reason, error = msgspec.structs.astuple(verdict)
    fits = (
        0 <= lease < 1 << 64
        and 0 <= first < 1 << 63
        and 0 < count < 1 << 31
        and ACK <= kind <= RELEASE
        and 0 <= ready_at_us < 1 << 63
    )
    if not fits:
        raise BadRequest("a verdict has a field out of its range")
    if len(reason) > REASON_CHARACTERS_MAX or len(error) > ERROR_CHARACTERS_MAX:
        raise BadRequest("the reason or the error of a verdict is too long")


def settle_reply(correlation: int, group: int, settled: Settled) -> bytes:
    """A whole settle reply."""
    body = _ENCODER.encode(settled)
    length = FRAME_HEADER_BYTES + len(body)
    return FRAME_HEADER.pack(length, SETTLE, FLAG_RESPONSE, 0, correlation, group) + body


def read_settled(buffer: Buffer, start: int, end: int) -> Settled:
    """Read a settle reply.

    Raises:
        RemoteProtocolError: the body is malformed.
    """
    try:
        return _SETTLED.decode(memoryview(buffer)[start + FRAME_HEADER_BYTES : end])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a settle reply is malformed: {error}") from None
