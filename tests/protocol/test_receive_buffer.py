import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocol.receive_buffer import ReceiveBuffer
from tests.protocol.bounded import memory_below

pieces = st.lists(st.binary(max_size=50) | st.binary(min_size=5000, max_size=5050), max_size=20)


@given(pieces, st.lists(st.integers(1, 6000), max_size=20))
def test_bytes_come_out_as_they_went_in(fed, wanted):
    buffer, expected, got = ReceiveBuffer(), b"".join(fed), b""
    for each in fed:
        buffer.feed(each)
        if wanted and buffer.has(wanted[-1]):
            got += buffer.take(wanted.pop())
    for count in wanted:
        if buffer.has(count):
            got += buffer.take(count)
    assert len(buffer) == len(expected) - len(got)
    assert buffer.has(len(buffer))
    assert got + buffer.take(len(buffer)) == expected


def test_whole_reads_are_not_copied():
    buffer, data = ReceiveBuffer(), bytes(1000)
    buffer.feed(data)
    assert buffer.has(1000)
    assert buffer.take(1000).obj is data


@pytest.mark.parametrize("size", [10, 10_000])
def test_what_is_reused_by_the_caller_is_copied(size):
    buffer, scratch = ReceiveBuffer(), bytearray(b"a" * size)
    buffer.feed(memoryview(scratch))
    buffer.feed(memoryview(scratch))
    scratch[:] = b"b" * size
    assert buffer.has(2 * size)
    assert buffer.take(2 * size) == b"a" * (2 * size)


def test_byte_by_byte_costs_no_multiple_of_the_bytes():
    buffer, data = ReceiveBuffer(), os.urandom(300_000)
    with memory_below(1_200_000):
        for at in range(0, len(data), 3):
            buffer.feed(data[at : at + 3])
        assert not buffer.has(len(data) + 1)
        assert buffer.has(len(data))
        assert buffer.take(len(data)) == data


def test_cleared_buffer_is_empty():
    buffer = ReceiveBuffer()
    buffer.feed(b"abc")
    buffer.feed(b"def")
    buffer.clear()
    assert len(buffer) == 0
    assert not buffer.has(1)
