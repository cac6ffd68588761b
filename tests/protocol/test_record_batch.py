import struct

import pytest

from penstock.errors import CorruptBatch
from penstock.protocol import columns
from penstock.protocol.batch import FLAG_COMPACTED, Kind, build, crc32c
from penstock.protocol.extensions import EXT_SPAN, pack_extensions
from penstock.protocol.records import (
    NO_HEADERS,
    Record,
    RecordBatch,
    encode_batch,
    encode_compacted,
    encode_gap,
    read_batches,
)
from tests.protocol.samples import batches, stamped, stored_batches


@pytest.mark.parametrize("name", stored_batches())
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_records_agree_with_the_columns(name, kind):
    batch = RecordBatch(kind(stored_batches()[name]), topic="t", partition=4)
    records = list(batch)
    assert len(records) == len(batch) == batch.record_count
    for at, record in enumerate(records):
        assert record == Record(
            "t",
            4,
            batch.offsets[at],
            batch.timestamps_us[at],
            batch.values[at],
            batch.keys[at],
            batch.headers[at],
        )
    assert all(isinstance(each, bytes | None) for each in batch.values)


def test_topic_and_partition_can_be_given_when_records_are_made():
    batch = RecordBatch(stored_batches()["keys"])
    assert {(each.topic, each.partition) for each in batch.records("x", 9)} == {("x", 9)}


def test_columns_are_decoded_once_and_only_when_asked_for():
    batch = RecordBatch(stored_batches()["everything"])
    assert batch._parts is None
    assert batch.values is batch.values
    assert batch.keys is batch.keys
    assert batch.headers is batch.headers
    assert batch.timestamps_us is batch.timestamps_us


def test_time_is_the_appends_unless_the_producer_gave_one():
    plain = encode_batch([b"x"], base_ts_us=77)
    assert RecordBatch(plain, verify=False).timestamps_us == [77]
    assert RecordBatch(stamped(plain)).timestamps_us == [1_700_000_000_000_001]
    timed = stamped(encode_batch([b"x", b"y"], timestamps_ms=[6, 5], base_ts_us=77))
    assert RecordBatch(timed).timestamps_us == [6000, 5000]


@pytest.mark.parametrize("offset", range(998, 1006))
@pytest.mark.parametrize("name", ["everything", "compacted", "compacted_to_nothing"])
def test_records_below_an_offset_can_be_skipped(name, offset):
    whole = RecordBatch(stored_batches()[name])
    wanted = [each for each in whole if each.offset >= offset]
    batch = RecordBatch(stored_batches()[name])
    batch.keys, batch.offsets, batch.timestamps_us  # noqa: B018 - decoded before the skip
    batch.skip_below(offset)
    assert list(batch) == wanted
    assert len(batch) == batch.record_count == len(wanted)
    assert len(batch.values) == len(batch.keys) == len(batch.headers) == len(wanted)
    assert len(batch.timestamps_us) == len(batch.offsets) == len(wanted)
    assert len(batch.key_slots) == len(batch.tenant_slots) == len(wanted)
    assert batch.next_offset == whole.next_offset


def test_run_is_read_from_an_offset_and_without_other_kinds():
    first, second = stored_batches()["keys"], bytearray(stored_batches()["everything"])
    second = stamped(second, base_offset=1003)
    control = stamped(build(b"", count=0), kind=Kind.NOOP)
    run = first + bytes(control) + bytes(second) + b"cut"
    found = list(read_batches(run, topic="t", partition=1, from_offset=1002))
    assert [list(each.offsets) for each in found] == [[1002], [1003, 1004, 1005]]
    assert list(read_batches(run, from_offset=1006)) == []
    assert [each.topic for each in found] == ["t", "t"]


def test_damage_in_a_run_is_found():
    run = bytearray(stored_batches()["keys"])
    run[-1] ^= 1
    with pytest.raises(CorruptBatch):
        list(read_batches(run))
    assert len(list(read_batches(run, verify=False))) == 1


def test_repr_tells_sizes_and_no_content():
    batch = RecordBatch(stored_batches()["one_value"])
    assert repr(batch) == f"RecordBatch(1 records, {batch.header.length} bytes, at 1000)"


def forged(payload, *, count=1, flags=0, area=b""):
    """A batch with right checksums around any payload."""
    batch = build(area + payload, count=count, raw_len=len(payload))
    struct.pack_into("<BH", batch, 53, flags, len(area))
    struct.pack_into("<I", batch, 48, crc32c(memoryview(batch)[52:]))
    return RecordBatch(stamped(batch))


def column(id_, data):
    return columns.COLUMN.pack(id_, len(data)) + data


VALUE = column(columns.VALUES, b"\x91\xc4\x01a")


def test_batch_needs_its_values():
    with pytest.raises(CorruptBatch, match="values"):
        forged(b"").values  # noqa: B018 - decoding is the act
    with pytest.raises(CorruptBatch, match="values"):
        forged(column(columns.KEYS, b"\x91\xc0")).records()


def test_unknown_columns_are_passed_over():
    assert forged(VALUE + column(99, b"??")).values == [b"a"]


def test_offsets_belong_to_compacted_batches_only():
    span = pack_extensions([(EXT_SPAN, struct.pack("<I", 5))])
    offsets = column(columns.OFFSETS, struct.pack("<I", 4))
    assert list(forged(VALUE + offsets, flags=FLAG_COMPACTED, area=span).offsets) == [1004]
    with pytest.raises(CorruptBatch, match="compacted"):
        forged(VALUE + offsets).records()
    with pytest.raises(CorruptBatch, match="compacted"):
        forged(VALUE, flags=FLAG_COMPACTED, area=span).records()


@pytest.mark.parametrize("deltas", [(1, 1), (2, 1), (0, 5), (0, 2**32 - 1)])
def test_offsets_must_ascend_within_the_span(deltas):
    span = pack_extensions([(EXT_SPAN, struct.pack("<I", 5))])
    payload = column(columns.VALUES, b"\x92\xc0\xc0") + column(
        columns.OFFSETS, struct.pack("<II", *deltas)
    )
    with pytest.raises(CorruptBatch, match="order"):
        forged(payload, count=2, flags=FLAG_COMPACTED, area=span).records()


@pytest.mark.parametrize("name", ["keys", "everything", "headers", "timestamps"])
def test_compacting_keeps_what_the_kept_records_were(name):
    whole = RecordBatch(stored_batches()[name])
    for keep in ([], [0], [1], [0, 1], list(range(len(whole)))):
        batch = RecordBatch(encode_compacted(whole, keep))
        assert list(batch) == [list(whole)[at] for at in keep]
        assert batch.base_offset == whole.base_offset
        assert batch.next_offset == whole.next_offset
        for field in ("kind", "log_index", "term", "epoch", "append_ts_us", "producer_id"):
            assert getattr(batch.header, field) == getattr(whole.header, field)
        assert batch.header.base_sequence == whole.header.base_sequence
        if whole.key_slots is not None:
            assert list(batch.key_slots) == [whole.key_slots[at] for at in keep]
            assert list(batch.tenant_slots) == [whole.tenant_slots[at] for at in keep]


def test_compacting_twice_is_compacting_once():
    whole = RecordBatch(stored_batches()["everything"])
    once = encode_compacted(whole, [2])
    twice = encode_compacted(RecordBatch(encode_compacted(whole, [0, 2])), [1])
    assert once == twice


def test_a_gap_covers_offsets_and_has_no_records():
    last = RecordBatch(stored_batches()["everything"])
    gap = RecordBatch(encode_gap(last.header, last.base_offset - 900, last.next_offset))
    assert (gap.base_offset, gap.next_offset) == (last.base_offset - 900, last.next_offset)
    assert list(gap) == []
    for field in ("kind", "log_index", "term", "epoch", "append_ts_us"):
        assert getattr(gap.header, field) == getattr(last.header, field)


@pytest.mark.parametrize("keep", [[1, 0], [0, 0], [-1], [3], [0, 7]])
def test_positions_to_keep_must_make_sense(keep):
    from penstock.errors import BadRequest

    whole = RecordBatch(stored_batches()["keys"])
    with pytest.raises(BadRequest):
        encode_compacted(whole, keep)


def test_headers_of_records_without_any_are_one_shared_mapping():
    batch = RecordBatch(batches()["headers"], verify=False)
    assert batch.headers == [{"source": b"web", "n": b""}, {}]
    assert batch.headers[1] is NO_HEADERS
