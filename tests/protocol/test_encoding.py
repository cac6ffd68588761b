import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest, CorruptBatch, LimitExceeded, RecordTooLarge
from penstock.protocol.batch import (
    BATCH_BYTES_MAX,
    CODEC_BITS,
    CODEC_NONE,
    CODEC_ZSTD,
    FLAG_KEY_SLOTS,
    FLAG_TENANT_SLOTS,
    RAW_BYTES_MAX,
    check_publish,
    extensions,
    parse_header,
)
from penstock.protocol.encoding import HEADERS_MAX, KEY_BYTES_MAX
from penstock.protocol.extensions import (
    EXT_DEDUP_ID,
    EXT_DELIVER_AT,
    EXT_SCHEDULE,
    EXT_TRACE_ID,
    read_schedule,
)
from penstock.protocol.records import NO_HEADERS, RecordBatch, encode_batch
from penstock.protocol.slots import read_slots
from tests.protocol.samples import stamped

blobs = st.none() | st.binary(max_size=300)
header_maps = st.none() | st.dictionaries(st.text(max_size=10), st.binary(max_size=20), max_size=3)


@st.composite
def arguments(draw):
    values = draw(st.lists(blobs, min_size=1, max_size=40))
    size = len(values)

    def column(items):
        return draw(st.none() | st.lists(items, min_size=size, max_size=size))

    return {
        "values": values,
        "keys": column(blobs),
        "timestamps_ms": column(st.integers(10**12, 10**12 + 2**32 - 1)),
        "headers": column(header_maps),
        "key_slots": column(st.integers(0, 65_535)),
        "tenant_slots": column(st.integers(0, 65_535)),
        "codec": draw(st.sampled_from([CODEC_NONE, CODEC_ZSTD])),
        "producer_id": draw(st.integers(0, 2**64 - 1)),
        "producer_epoch": draw(st.integers(0, 2**16 - 1)),
        "base_sequence": draw(st.integers(0, 2**64 - 1)),
        "base_ts_us": draw(st.integers(0, 2**64 - 1)),
        "dedup_id": draw(st.none() | st.binary(min_size=1, max_size=64)),
        "deliver_at_us": draw(st.none() | st.integers(0, 2**64 - 1)),
        "trace_id": draw(st.none() | st.binary(min_size=16, max_size=16)),
    }


@given(arguments())
def test_whatever_is_encoded_is_accepted_and_read_back(given_):
    batch = encode_batch(**given_)
    assert check_publish(batch)[0] == len(given_["values"])
    read = RecordBatch(stamped(batch, base_offset=50))
    size = len(given_["values"])
    assert read.values == given_["values"]
    assert read.keys == (given_["keys"] or [None] * size)
    assert read.headers == [each or NO_HEADERS for each in given_["headers"] or [None] * size]
    if given_["timestamps_ms"] is None:
        assert read.timestamps_us == [read.header.append_ts_us] * size
        assert read.header.base_ts_us == given_["base_ts_us"]
    else:
        assert read.timestamps_us == [each * 1000 for each in given_["timestamps_ms"]]
    slots = read.key_slots
    assert (slots if slots is None else list(slots)) == given_["key_slots"]
    slots = read.tenant_slots
    assert (slots if slots is None else list(slots)) == given_["tenant_slots"]
    assert list(read.offsets) == list(range(50, 50 + size))
    assert read.header.producer_id == given_["producer_id"]
    assert read.header.producer_epoch == given_["producer_epoch"]
    assert read.header.base_sequence == given_["base_sequence"]
    found = read.extensions
    assert found.get(EXT_DEDUP_ID) == given_["dedup_id"]
    assert found.get(EXT_TRACE_ID) == given_["trace_id"]
    if given_["deliver_at_us"] is not None:
        assert int.from_bytes(found[EXT_DELIVER_AT], "little") == given_["deliver_at_us"]


def test_columns_without_content_are_left_out():
    plain = encode_batch([b"a", b"b"])
    assert encode_batch([b"a", b"b"], [None, None], headers=[None, {}]) == plain


def test_values_may_be_any_kind_of_bytes():
    values = (bytearray(b"a"), memoryview(b"b"), None, b"d")
    assert RecordBatch(encode_batch(values), verify=False).values == [b"a", b"b", None, b"d"]


def test_codec_is_named_only_where_it_was_used():
    short = encode_batch([b"x"], codec=CODEC_ZSTD)
    long = encode_batch([b"x" * 1000], codec=CODEC_ZSTD)
    assert parse_header(short).codec & CODEC_BITS == CODEC_NONE
    assert parse_header(long).codec & CODEC_BITS == CODEC_ZSTD
    assert len(long) < 200


def test_key_slots_lie_open_before_the_payload():
    batch = encode_batch([b"x" * 500] * 2, key_slots=[1, 258], codec=CODEC_ZSTD)
    assert parse_header(batch).flags == FLAG_KEY_SLOTS
    assert batch[96:100] == b"\x01\x00\x02\x01"


def test_tenant_slots_lie_behind_the_key_slots():
    batch = encode_batch([b"x"] * 2, key_slots=[1, 2], tenant_slots=[3, 4], trace_id=bytes(16))
    header = parse_header(batch)
    assert header.flags == FLAG_KEY_SLOTS | FLAG_TENANT_SLOTS
    assert batch[114:122] == b"\x01\x00\x02\x00\x03\x00\x04\x00"
    assert [list(each) for each in read_slots(batch, header)] == [[1, 2], [3, 4]]
    with pytest.raises(CorruptBatch):
        read_slots(batch[:121], header)


def test_a_firing_names_its_schedule_and_comes_from_no_client():
    batch = encode_batch([b"x"], schedule=("nightly", 2**50))
    [(kind, data)] = extensions(batch, parse_header(batch)).items()
    assert (kind, read_schedule(data)) == (EXT_SCHEDULE, ("nightly", 2**50))
    with pytest.raises(CorruptBatch, match="schedule"):
        check_publish(batch)
    with pytest.raises(CorruptBatch, match="text"):
        read_schedule(data + b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": ["text"]},
        {"values": [b"a", 5]},
        {"values": [b"a"], "keys": ["text"]},
        {"values": [b"a"], "keys": []},
        {"values": [b"a"], "keys": [b"a", b"b"]},
        {"values": [b"a"], "timestamps_ms": []},
        {"values": [b"a"], "timestamps_ms": ["now"]},
        {"values": [b"a"], "timestamps_ms": [1.5]},
        {"values": [b"a"], "timestamps_ms": [-1]},
        {"values": [b"a"], "timestamps_ms": [2**63]},
        {"values": [b"a", b"b"], "timestamps_ms": [0, 2**32]},
        {"values": [b"a"], "headers": []},
        {"values": [b"a"], "headers": [{"a": "text"}]},
        {"values": [b"a"], "headers": [{1: b"b"}]},
        {"values": [b"a"], "headers": [{"\ud800": b"b"}]},
        {"values": [b"a"], "key_slots": []},
        {"values": [b"a"], "key_slots": [65_536]},
        {"values": [b"a"], "key_slots": [-1]},
        {"values": [b"a"], "key_slots": ["x"]},
        {"values": [b"a"], "tenant_slots": []},
        {"values": [b"a"], "tenant_slots": [65_536]},
        {"values": [b"a"], "schedule": ("", 5)},
        {"values": [b"a"], "schedule": ("x" * 201, 5)},
        {"values": [b"a"], "schedule": ("x", -1)},
        {"values": [b"a"], "dedup_id": b""},
        {"values": [b"a"], "dedup_id": bytes(65)},
        {"values": [b"a"], "trace_id": bytes(15)},
        {"values": [b"a"], "deliver_at_us": -1},
        {"values": [b"a"], "deliver_at_us": 2**64},
        {"values": [b"a"], "codec": 2},
        {"values": [b"a"], "producer_id": -1},
    ],
)
def test_what_does_not_fit_is_a_bad_request(arguments):
    with pytest.raises(BadRequest):
        encode_batch(**arguments)


@pytest.mark.parametrize("count", [0, 65_536])
def test_count_beyond_the_limits_is_refused(count):
    with pytest.raises(LimitExceeded):
        encode_batch([b""] * count)


def test_65535_records_fit():
    batch = encode_batch([b""] * 65_535)
    assert RecordBatch(batch, verify=False).values == [b""] * 65_535


def test_keys_and_headers_have_limits():
    encode_batch([b""], [bytes(KEY_BYTES_MAX)])
    with pytest.raises(RecordTooLarge):
        encode_batch([b""], [bytes(KEY_BYTES_MAX + 1)])
    with pytest.raises(RecordTooLarge):
        encode_batch([b"", b""], [None, bytes(KEY_BYTES_MAX + 1)])
    encode_batch([b""], headers=[{str(number): b"" for number in range(HEADERS_MAX)}])
    with pytest.raises(LimitExceeded):
        encode_batch([b""], headers=[{str(number): b"" for number in range(HEADERS_MAX + 1)}])
    encode_batch([b""], headers=[{"a": bytes(16 * 1024 - 1)}])
    with pytest.raises(RecordTooLarge):
        encode_batch([b""], headers=[{"a": bytes(16 * 1024)}])


def test_batch_has_a_size_limit_before_and_after_compression():
    with pytest.raises(RecordTooLarge):
        encode_batch([bytes(BATCH_BYTES_MAX)])
    assert len(encode_batch([bytes(BATCH_BYTES_MAX)], codec=CODEC_ZSTD)) < 5000
    with pytest.raises(RecordTooLarge):
        encode_batch([bytes(RAW_BYTES_MAX)], codec=CODEC_ZSTD)
