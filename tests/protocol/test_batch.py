import struct

import pytest

from penstock.errors import BadRequest, CorruptBatch, PenstockError, RecordTooLarge
from penstock.protocol import batch as b
from penstock.protocol.records import RecordBatch, encode_batch
from tests.protocol.samples import batches, stamped, stored_batches


@pytest.mark.parametrize("name", batches())
def test_publish_check_accepts_what_the_encoder_builds(name):
    batch = batches()[name]
    head = b.check_publish(batch)
    whole = b.parse_header(batch)
    assert head == (
        whole.record_count,
        whole.producer_id,
        whole.producer_epoch,
        whole.base_sequence,
        whole.ext_len,
    )


@pytest.mark.parametrize("name", batches())
def test_publish_check_finds_every_flipped_bit_of_what_the_producer_wrote(name):
    batch = batches()[name]
    for position in [*range(8), *range(48, len(batch))]:
        for bit in range(8):
            damaged = bytearray(batch)
            damaged[position] ^= 1 << bit
            with pytest.raises((CorruptBatch, RecordTooLarge)):
                b.check_publish(damaged)


@pytest.mark.parametrize("name", stored_batches())
def test_verify_finds_every_flipped_bit_of_a_stored_batch(name):
    batch = stored_batches()[name]
    assert b.verify(batch).length == len(batch)
    for position in range(len(batch)):
        for bit in range(8):
            damaged = bytearray(batch)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptBatch):
                RecordBatch(damaged)


def test_no_prefix_of_a_batch_passes_for_a_batch():
    batch = stored_batches()["everything"]
    for size in range(len(batch)):
        with pytest.raises(CorruptBatch):
            b.check_publish(batch[:size])
        with pytest.raises(CorruptBatch):
            RecordBatch(batch[:size])


def test_trailing_bytes_are_refused():
    batch = stored_batches()["everything"] + b"\0"
    with pytest.raises(CorruptBatch):
        b.check_publish(batch)
    with pytest.raises(CorruptBatch):
        b.verify(batch)


def test_stamping_leaves_the_producers_part_alone():
    batch = encode_batch([b"x"])
    before = bytes(batch)
    b.stamp(batch, b.Kind.DATA, 1, 2, 3, 4, 5)
    assert batch[48:] == before[48:]
    header = b.verify(batch)
    assert (header.kind, header.log_index, header.term, header.epoch) == (1, 1, 2, 3)
    assert (header.base_offset, header.append_ts_us) == (4, 5)
    assert b.header_is_intact(batch)
    b.check_publish(batch)


def test_stamped_header_is_told_from_anything_else():
    batch = stamped(encode_batch([b"x"]))
    assert b.header_is_intact(b"junk" + batch, 4)
    assert not b.header_is_intact(batch[:95])
    assert not b.header_is_intact(bytes(96))
    assert not b.header_is_intact(encode_batch([b"x"]))
    too_long = bytearray(batch)
    struct.pack_into("<I", too_long, 4, b.BATCH_BYTES_MAX + 1)
    assert not b.header_is_intact(too_long)


def resealed(batch, at, layout, value):
    """A batch with a forged field and checksums that fit."""
    forged = bytearray(batch)
    struct.pack_into(layout, forged, at, value)
    struct.pack_into("<I", forged, 48, b.crc32c(memoryview(forged)[52:]))
    return stamped(forged)


FORGED = {
    "count_zero": (56, "<I", 0),
    "count_above_limit": (56, "<I", 65_536),
    "count_huge": (56, "<I", 2**32 - 1),
    "raw_length_above_limit": (60, "<I", b.RAW_BYTES_MAX + 1),
    "raw_length_other": (60, "<I", 1),
    "codec_unknown": (52, "<B", 0x12),
    "checksum_unknown": (52, "<B", 0x00),
    "flag_unknown": (53, "<B", 8),
    "last_bytes_not_zero": (94, "<H", 256),
    "flag_compacted": (53, "<B", 2),
    "flag_key_slots_without_room": (53, "<B", 1),
    "flag_tenant_slots_without_room": (53, "<B", 4),
    "flags_of_both_slots_without_room": (53, "<B", 5),
    "extension_length_beyond_the_batch": (54, "<H", 0xFFFF),
    "extension_length_into_the_payload": (54, "<H", 8),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_forged_header_field_is_refused_by_broker_and_reader(forgery):
    batch = resealed(encode_batch([b"hello world"]), *FORGED[forgery])
    with pytest.raises(CorruptBatch):
        b.check_publish(batch)
    with pytest.raises(CorruptBatch):
        RecordBatch(batch).records()


@pytest.mark.parametrize(("at", "value"), [(13, 1), (14, 1), (15, 128)])
def test_reader_refuses_a_stamp_with_bytes_set_that_must_be_zero(at, value):
    batch = stamped(encode_batch([b"x"]))
    batch[at] = value
    struct.pack_into("<I", batch, 8, b.crc32c(memoryview(batch)[12:96]))
    b.verify(batch)
    with pytest.raises(CorruptBatch):
        RecordBatch(batch)


def test_publish_above_the_topics_limit_is_too_large():
    batch = encode_batch([b"x" * 100])
    with pytest.raises(RecordTooLarge):
        b.check_publish(batch, 150)


def test_extension_area_above_its_limit_is_refused():
    body = bytes(1100)
    batch = b.build(body, count=1, raw_len=0)
    batch = resealed(batch, 54, "<H", 1100)
    with pytest.raises(CorruptBatch, match="1024"):
        b.check_publish(batch)


@pytest.mark.parametrize(
    "area",
    [
        b"\x01",
        b"\x01\x05abc",
        b"\x01\x00",
        b"\x01\x41" + bytes(0x41),
        b"\x02\x07" + bytes(7),
        b"\x03\x03" + bytes(3),
        b"\x04\x0f" + bytes(15),
        b"\x01\x01a\x01\x01b",
    ],
)
def test_malformed_extension_is_refused(area):
    payload = bytes(encode_batch([b"x"])[96:])
    batch = b.build(area + payload, count=1, raw_len=len(payload))
    batch = resealed(batch, 54, "<H", len(area))
    with pytest.raises(CorruptBatch):
        b.check_publish(batch)
    with pytest.raises(CorruptBatch):
        b.extensions(batch, b.parse_header(batch))


def test_unknown_extension_is_kept_and_a_span_is_refused_from_producers():
    payload = bytes(encode_batch([b"x"])[96:])
    for area, found in ((b"\xc8\x02hi", {200: b"hi"}), (b"\x03\x04abcd", None)):
        batch = b.build(area + payload, count=1, raw_len=len(payload))
        batch = resealed(batch, 54, "<H", len(area))
        if found is None:
            with pytest.raises(CorruptBatch, match="span"):
                b.check_publish(batch)
        else:
            b.check_publish(batch)
            assert RecordBatch(batch).extensions == found


def test_extensions_never_read_beyond_the_buffer():
    batch = resealed(encode_batch([b"x"]), 54, "<H", 500)
    with pytest.raises(CorruptBatch):
        b.extensions(batch, b.parse_header(batch))


def test_compacted_batch_without_a_span_is_refused():
    batch = resealed(encode_batch([b"x"]), 53, "<B", b.FLAG_COMPACTED)
    with pytest.raises(CorruptBatch, match="span"):
        b.next_offset(batch, b.parse_header(batch))


def test_next_offset_counts_records_or_takes_the_span():
    stored = stored_batches()
    for name, count in (("keys", 3), ("compacted", 3), ("compacted_to_nothing", 3)):
        batch = stored[name]
        assert b.next_offset(batch, b.parse_header(batch)) == 1000 + count


def test_run_of_batches_is_walked_up_to_a_cut_one():
    one, two = stored_batches()["keys"], stored_batches()["everything"]
    run = one + two + one[:-1]
    assert [(at, header.length) for at, header in b.iterate(run)] == [
        (0, len(one)),
        (len(one), len(two)),
    ]
    assert list(b.iterate(run[:50])) == []


@pytest.mark.parametrize(("at", "value"), [(0, 0), (4, 95), (4, b.BATCH_BYTES_MAX + 1)])
def test_run_that_is_no_run_is_refused(at, value):
    run = bytearray(stored_batches()["keys"])
    struct.pack_into("<I", run, at, value)
    with pytest.raises(CorruptBatch, match="byte 0"):
        list(b.iterate(run))


def test_control_batch_keeps_its_opaque_body():
    batch = b.control_batch(b"\x80 anything")
    stamped(batch, kind=b.Kind.CONTROL)
    assert b.control_body(batch) == b"\x80 anything"
    assert b.verify(batch).record_count == 0
    with pytest.raises(CorruptBatch):
        RecordBatch(batch)


def test_header_of_too_few_bytes_is_corrupt():
    with pytest.raises(CorruptBatch):
        b.parse_header(bytes(95))
    with pytest.raises(CorruptBatch):
        b.parse_header(bytes(200), 150)


def test_batch_beyond_the_hard_limit_can_not_be_built():
    with pytest.raises(RecordTooLarge):
        b.control_batch(bytes(b.BATCH_BYTES_MAX))


@pytest.mark.parametrize(
    "field", [{"producer_id": 2**64}, {"base_sequence": -1}, {"producer_epoch": 2**16}]
)
def test_number_that_does_not_fit_its_field_is_refused(field):
    with pytest.raises(BadRequest):
        encode_batch([b"x"], **field)


def test_random_bytes_never_raise_anything_but_our_errors():
    for seed in range(200):
        junk = bytes((seed * 31 + at * at) & 0xFF for at in range(seed))
        for act in (b.check_publish, b.verify, lambda run: list(b.iterate(run))):
            try:
                act(junk)
            except PenstockError:
                continue
            assert act is not b.verify
