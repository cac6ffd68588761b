import struct

import pytest

from penstock.errors import CorruptBatch
from penstock.protocol import columns
from tests.protocol.bounded import memory_below


def column(id_, data):
    return columns.COLUMN.pack(id_, len(data)) + data


def test_columns_are_found_and_unknown_ones_are_kept_apart():
    payload = column(1, b"abc") + column(2, b"") + column(200, b"later")
    assert columns.split(payload) == {1: b"abc", 2: b"", 200: b"later"}
    assert columns.split(b"") == {}


@pytest.mark.parametrize(
    "payload",
    [
        column(1, b"abc")[:-1],
        column(1, b"abc") + b"\0",
        column(1, b"")[:7],
        column(2, b"a") + column(1, b"b"),
        column(1, b"a") + column(1, b"b"),
        column(0, b"a"),
        struct.pack("<BBBBI", 1, 0, 0, 1, 0),
        struct.pack("<BBBBI", 1, 1, 0, 0, 0),
        columns.COLUMN.pack(1, 2**32 - 1) + b"abc",
    ],
)
def test_payload_that_columns_do_not_fill_exactly_is_refused(payload):
    with pytest.raises(CorruptBatch):
        columns.split(payload)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 256, 65_535])
def test_array_of_any_count_comes_back(count):
    buffer = bytearray()
    columns.append_array(buffer, columns.VALUES, [b"x"] * count)
    data = columns.split(buffer)[columns.VALUES]
    assert columns.decode_array(data, count, columns.BYTES_DECODER) == [b"x"] * count
    for other in (count - 1, count + 1, 0):
        with pytest.raises(CorruptBatch):
            columns.decode_array(data, other, columns.BYTES_DECODER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91",
        b"\x91\xa1a",
        b"\x91\x01",
        b"\x91\xc4\x05abc",
        b"\x91\xc6\xff\xff\xff\xffabc",
        b"\x91\xc4\x01a\x00",
        b"\x91\x91\xc0",
        b"\x91\xd4\x01a",
        b"\xdd\x00\x00\x00\x01\xc4\x01a",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\x00\x01\xc4\x01a",
        b"\x81\xc0\xc0",
    ],
)
def test_array_that_is_not_one_byte_string_is_refused(data):
    with memory_below(100_000), pytest.raises(CorruptBatch):
        columns.decode_array(memoryview(data), 1, columns.BYTES_DECODER)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91\xdf\xff\xff\xff\xff",
        b"\x91\x81\x01\xc4\x01a",
        b"\x91\x81\xa1\xff\xc4\x01a",
        b"\x91\x81\xa1a\xa1b",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\x81\xdb\xff\xff\xff\xff",
    ],
)
def test_headers_that_are_not_text_to_bytes_are_refused(data):
    with memory_below(100_000), pytest.raises(CorruptBatch):
        columns.decode_array(memoryview(data), 1, columns.HEADERS_DECODER)


def test_hostile_count_takes_no_memory():
    data = b"\xdc\xff\xff"
    with memory_below(2_000_000), pytest.raises(CorruptBatch):
        columns.decode_array(memoryview(data), 65_535, columns.BYTES_DECODER)


def test_numbers_come_back_and_need_their_exact_length():
    buffer = bytearray()
    columns.append_u32(buffer, columns.OFFSETS, [0, 1, 2**32 - 1])
    data = columns.split(buffer)[columns.OFFSETS]
    assert list(columns.decode_u32(data, 3)) == [0, 1, 2**32 - 1]
    for count in (0, 2, 4, 2**31):
        with memory_below(100_000), pytest.raises(CorruptBatch):
            columns.decode_u32(data, count)
    packed = columns.pack_u16([0, 65_535])
    assert packed == b"\0\0\xff\xff"
    assert list(columns.decode_u16(memoryview(packed), 2)) == [0, 65_535]
    with pytest.raises(CorruptBatch):
        columns.decode_u16(memoryview(packed), 1)
