"""Building batches of records, on the producer's side.

Owns the checks on what an application hands in and the layout of the body. Invariant: whatever is
built here passes the broker's checks and decodes to the same records. The batch grows in one
buffer, a column being one C call; per record nothing runs in Python unless it has headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from penstock.errors import BadRequest, LimitExceeded, RecordTooLarge
from penstock.protocol import columns
from penstock.protocol.batch import (
    CODEC_NONE,
    CODEC_ZSTD,
    FLAG_KEY_SLOTS,
    FLAG_TENANT_SLOTS,
    HEADER_BYTES,
    RAW_BYTES_MAX,
    RECORDS_MAX,
    seal,
)
from penstock.protocol.compression import compress
from penstock.protocol.extensions import (
    EXT_DEDUP_ID,
    EXT_DELIVER_AT,
    EXT_SCHEDULE,
    EXT_TRACE_ID,
    pack_extensions,
    pack_schedule,
)

KEY_BYTES_MAX: Final = 4096
HEADERS_MAX: Final = 64
HEADER_TOTAL_BYTES_MAX: Final = 16 * 1024
TIMESTAMP_SPAN_MS_MAX: Final = 0xFFFF_FFFF

_BYTES_TYPES: Final = (bytes, bytearray, memoryview)


def encode_batch(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    timestamps_ms: Sequence[int] | None = None,
    headers: Sequence[Mapping[str, bytes] | None] | None = None,
    *,
    codec: int = CODEC_NONE,
    producer_id: int = 0,
    producer_epoch: int = 0,
    base_sequence: int = 0,
    base_ts_us: int = 0,
    dedup_id: bytes | None = None,
    deliver_at_us: int | None = None,
    trace_id: bytes | None = None,
    key_slots: Sequence[int] | None = None,
    tenant_slots: Sequence[int] | None = None,
    schedule: tuple[str, int] | None = None,
    trusted_headers: bool = False,
) -> bytearray:
    """Build one unstamped batch.

    Args:
        values: one value per record; None is a tombstone.
        keys: one key per record, or None for a batch without keys.
        timestamps_ms: the records' own times in milliseconds since 1970; without them a record's
            time is the one at which the leader appended it.
        headers: one mapping per record (None: no headers), or None for a batch without any.
        codec: `CODEC_NONE` or `CODEC_ZSTD`; what does not shrink stays uncompressed.
        producer_id: 0 for a producer without idempotence.
        producer_epoch: which incarnation of that producer this is.
        base_sequence: the producer's sequence number of the first record in this partition.
        base_ts_us: the producer's clock; replaced by the earliest of `timestamps_ms`.
        dedup_id: at most 64 bytes; the broker stores one batch of that id within its window.
        deliver_at_us: not before this time.
        trace_id: 16 bytes.
        key_slots: one `partitioning.key_slot` per record, 0 for one without a key.
        tenant_slots: the same of the part of the key that names the tenant.
        schedule: name and time (us) of the schedule that a broker publishes this for.
        trusted_headers: they come out of a batch, and a broker added its own: no limit applies.

    Raises:
        BadRequest: lengths differ, or something is not of its type or range.
        LimitExceeded: too many records or headers.
        RecordTooLarge: a key, the headers of a record, or the batch has too many bytes.
    """
    count = len(values)
    if not 0 < count <= RECORDS_MAX:
        raise LimitExceeded(f"a batch has 1 to {RECORDS_MAX} records, not {count}")
    buffer = bytearray(HEADER_BYTES)
    flags = 0
    if (
        dedup_id is not None
        or deliver_at_us is not None
        or trace_id is not None
        or schedule is not None
    ):
        buffer += _extensions(dedup_id, deliver_at_us, trace_id, schedule)
    ext_len = len(buffer) - HEADER_BYTES
    if key_slots is not None:
        buffer += _slots("key slots", key_slots, count)
        flags = FLAG_KEY_SLOTS
    if tenant_slots is not None:
        buffer += _slots("tenant slots", tenant_slots, count)
        flags |= FLAG_TENANT_SLOTS
    start = len(buffer)
    _append_values(buffer, values, count)
    if keys is not None:
        _append_keys(buffer, keys, count)
    delta = 0
    if timestamps_ms is not None:
        base_ts_us, delta = _append_timestamps(buffer, timestamps_ms, count)
    if headers is not None:
        _append_headers(buffer, headers, count, trusted_headers)
    raw_len = len(buffer) - start
    used = finish_payload(buffer, start, codec)
    seal(
        buffer,
        count=count,
        codec=used,
        flags=flags,
        ext_len=ext_len,
        raw_len=raw_len,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        base_ts_us=base_ts_us,
        max_ts_delta_ms=delta,
    )
    return buffer


def finish_payload(buffer: bytearray, start: int, codec: int) -> int:
    """Compress the raw payload from `start` on in place if that helps; returns the codec used.

    Raises:
        BadRequest: the codec is not known.
        RecordTooLarge: the payload has more than `RAW_BYTES_MAX` bytes.
    """
    raw_len = len(buffer) - start
    if raw_len > RAW_BYTES_MAX:
        raise RecordTooLarge(f"the records have {raw_len} bytes; the limit is {RAW_BYTES_MAX}")
    if codec == CODEC_NONE:
        return CODEC_NONE
    if codec != CODEC_ZSTD:
        raise BadRequest(f"there is no codec {codec}")
    with memoryview(buffer) as view, view[start:] as payload:
        packed = compress(payload)
    if packed is None:
        return CODEC_NONE
    del buffer[start:]
    buffer += packed
    return CODEC_ZSTD


def _append_values(buffer: bytearray, values: Sequence[bytes | None], count: int) -> None:
    if list(map(type, values)).count(bytes) != count:
        _check_bytes("value", values)
    columns.append_array(buffer, columns.VALUES, values)


def _append_keys(buffer: bytearray, keys: Sequence[bytes | None], count: int) -> None:
    _check_count("keys", len(keys), count)
    if list(map(type, keys)).count(bytes) == count:
        longest = max(map(len, keys))  # type: ignore[arg-type] # just found to be bytes
    else:
        _check_bytes("key", keys)
        longest = max((len(key) for key in keys if key is not None), default=-1)
        if longest < 0:
            return
    if longest > KEY_BYTES_MAX:
        raise RecordTooLarge(f"a key has {longest} bytes; the limit is {KEY_BYTES_MAX}")
    columns.append_array(buffer, columns.KEYS, keys)


def _append_timestamps(
    buffer: bytearray, timestamps_ms: Sequence[int], count: int
) -> tuple[int, int]:
    _check_count("timestamps", len(timestamps_ms), count)
    try:
        first = min(timestamps_ms)
        delta = max(timestamps_ms) - first
        if first < 0 or delta > TIMESTAMP_SPAN_MS_MAX:
            raise BadRequest("the timestamps of a batch are in ms since 1970 and within 49 days")
        columns.append_u32(buffer, columns.TIMESTAMPS, [each - first for each in timestamps_ms])
    except TypeError:
        raise BadRequest("a timestamp is an int of milliseconds") from None
    return first * 1000, delta


def _append_headers(
    buffer: bytearray, headers: Sequence[Mapping[str, bytes] | None], count: int, trusted: bool
) -> None:
    _check_count("headers", len(headers), count)
    checked = [(dict(each) if trusted else _headers(each)) if each else None for each in headers]
    if any(checked):
        columns.append_array(buffer, columns.HEADERS, checked)


def _headers(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    if len(headers) > HEADERS_MAX:
        raise LimitExceeded(f"a record has at most {HEADERS_MAX} headers, not {len(headers)}")
    total = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, bytes):
            raise BadRequest("headers are a mapping of str to bytes")
        try:
            total += len(name.encode()) + len(value)
        except UnicodeEncodeError:
            raise BadRequest("a header's name is not valid text") from None
    if total > HEADER_TOTAL_BYTES_MAX:
        raise RecordTooLarge(
            f"a record's headers have {total} bytes; the limit is {HEADER_TOTAL_BYTES_MAX}"
        )
    return dict(headers)


def _extensions(
    dedup_id: bytes | None,
    deliver_at_us: int | None,
    trace_id: bytes | None,
    schedule: tuple[str, int] | None,
) -> bytes:
    fields: list[tuple[int, bytes]] = []
    if dedup_id is not None:
        fields.append((EXT_DEDUP_ID, dedup_id))
    if deliver_at_us is not None:
        try:
            fields.append((EXT_DELIVER_AT, deliver_at_us.to_bytes(8, "little")))
        except OverflowError:
            raise BadRequest("deliver_at is a time in us since 1970") from None
    if trace_id is not None:
        fields.append((EXT_TRACE_ID, trace_id))
    if schedule is not None:
        fields.append((EXT_SCHEDULE, pack_schedule(*schedule)))
    return pack_extensions(fields)


def _slots(what: str, slots: Sequence[int], count: int) -> bytes:
    _check_count(what, len(slots), count)
    try:
        return columns.pack_u16(slots)
    except (TypeError, OverflowError):
        raise BadRequest(f"{what} are ints of 16 bits") from None


def _check_count(what: str, found: int, count: int) -> None:
    if found != count:
        raise BadRequest(f"there are {found} {what} for {count} values")


def _check_bytes(what: str, items: Sequence[bytes | None]) -> None:
    for item in items:
        if item is not None and not isinstance(item, _BYTES_TYPES):
            raise BadRequest(f"a {what} is bytes or None, not {type(item).__name__}")
