from datetime import UTC, datetime

import msgspec
import pytest

from penstock.errors import BadRequest
from penstock.protocol.records import NO_HEADERS, Record


def record(value, key=None):
    return Record("orders", 3, 42, 1_700_000_000_123_456, value, key)


def test_timestamp_is_exact_and_in_utc():
    assert record(b"").timestamp == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


def test_json_value_is_decoded_and_checked():
    class Order(msgspec.Struct):
        id: int

    assert record(b'{"id": 5}').json() == {"id": 5}
    assert record(b'{"id": 5}').json(Order) == Order(5)
    with pytest.raises(BadRequest, match="orders/3@42"):
        record(b'{"id": "x"}').json(Order)


@pytest.mark.parametrize("value", [None, b"", b"{", b'"\xff"', b"1 2"])
def test_value_that_is_no_json_is_an_error(value):
    with pytest.raises(BadRequest):
        record(value).json()


def test_repr_tells_sizes_and_no_content():
    shown = repr(Record("orders", 3, 42, 7, b"secret", b"private", {"token": b"hidden"}))
    assert shown == ("Record(orders/3@42, 7 us, value=<6 bytes>, key=<7 bytes>, headers=<1>)")
    assert repr(record(None)).endswith("value=None, key=None, headers=<0>)")


def test_record_is_immutable_and_compares_by_content():
    assert record(b"a") == record(b"a")
    assert record(b"a") != record(b"b")
    with pytest.raises(AttributeError):
        record(b"a").value = b"b"
    with pytest.raises(TypeError):
        NO_HEADERS["a"] = b"b"
