"""Rewriting a batch without the records that key compaction dropped, on the broker's side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from penstock.errors import BadRequest
from penstock.protocol import columns
from penstock.protocol.batch import (
    CODEC_BITS,
    FLAG_COMPACTED,
    FLAGS_SLOTS,
    HEADER_BYTES,
    BatchHeader,
    seal,
    stamp,
)
from penstock.protocol.encoding import finish_payload
from penstock.protocol.extensions import (
    EXT_SPAN,
    pack_extensions,
)
from penstock.protocol.record_batch import RecordBatch

_T = TypeVar("_T")


def encode_compacted(batch: RecordBatch, keep: Sequence[int]) -> bytearray:
    """Build the stamped batch that holds only some of a stamped batch's records.

    Offsets, times, producer and stamp stay as they were; the batch still covers all its offsets.
    Compacting a compacted batch works likewise. With nothing kept the batch has no records.

    Args:
        batch: the batch as stored, nothing skipped.
        keep: ascending positions in `batch.values` to keep.

    Raises:
        BadRequest: the positions are not ascending or out of range.
        CorruptBatch: the batch is damaged.
    """
    if list(keep) != sorted(set(keep)) or (keep and not 0 <= keep[0] <= keep[-1] < len(batch)):
        raise BadRequest("the positions to keep must be ascending and within the batch")
    header = batch.header
    span = batch.next_offset - header.base_offset
    fields = {**batch.extensions, EXT_SPAN: span.to_bytes(4, "little")}
    packed = pack_extensions(sorted(fields.items()))
    buffer = bytearray(HEADER_BYTES) + packed
    for slots in (batch.key_slots, batch.tenant_slots):
        if slots is not None:
            buffer += columns.pack_u16(_pick(slots, keep))
    start = len(buffer)
    _append_columns(buffer, batch, keep)
    raw_len = len(buffer) - start
    seal(
        buffer,
        count=len(keep),
        codec=finish_payload(buffer, start, header.codec & CODEC_BITS),
        flags=FLAG_COMPACTED | (header.flags & FLAGS_SLOTS),
        ext_len=len(packed),
        raw_len=raw_len,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        base_ts_us=header.base_ts_us,
        max_ts_delta_ms=header.max_ts_delta_ms,
    )
    _restamp(buffer, header, header.base_offset)
    return buffer


def encode_gap(header: BatchHeader, base_offset: int, next_offset: int) -> bytearray:
    """Build a stamped batch without records that covers offsets of which nothing is left.

    Args:
        header: of the last batch that it stands for; index, term and times are taken from it.
        base_offset: the first offset that it covers.
        next_offset: the offset behind it.
    """
    span = next_offset - base_offset
    packed = pack_extensions([(EXT_SPAN, span.to_bytes(4, "little"))])
    buffer = bytearray(HEADER_BYTES) + packed
    columns.append_array(buffer, columns.VALUES, [])
    columns.append_u32(buffer, columns.OFFSETS, [])
    seal(
        buffer,
        count=0,
        flags=FLAG_COMPACTED,
        ext_len=len(packed),
        raw_len=len(buffer) - HEADER_BYTES - len(packed),
        base_ts_us=header.base_ts_us,
    )
    _restamp(buffer, header, base_offset)
    return buffer


def _restamp(buffer: bytearray, header: BatchHeader, base_offset: int) -> None:
    stamp(
        buffer,
        header.kind,
        header.log_index,
        header.term,
        header.epoch,
        base_offset,
        header.append_ts_us,
    )


def _append_columns(buffer: bytearray, batch: RecordBatch, keep: Sequence[int]) -> None:
    columns.append_array(buffer, columns.VALUES, _pick(batch.values, keep))
    present = batch.column_ids()
    if columns.KEYS in present:
        columns.append_array(buffer, columns.KEYS, _pick(batch.keys, keep))
    if columns.TIMESTAMPS in present:
        base = batch.header.base_ts_us
        times = [(each - base) // 1000 for each in _pick(batch.timestamps_us, keep)]
        columns.append_u32(buffer, columns.TIMESTAMPS, times)
    if columns.HEADERS in present:
        kept = [dict(each) or None for each in _pick(batch.headers, keep)]
        columns.append_array(buffer, columns.HEADERS, kept)
    base_offset = batch.base_offset
    offsets = [each - base_offset for each in _pick(batch.offsets, keep)]
    columns.append_u32(buffer, columns.OFFSETS, offsets)


def _pick(items: Sequence[_T], keep: Sequence[int]) -> list[_T]:
    return [items[position] for position in keep]
