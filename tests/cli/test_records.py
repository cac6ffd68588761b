from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.records import parse_row, record_name, record_row, scope_of, timestamp_us_of
from penstock.cli.where import parse


@dataclass(frozen=True)
class Record:
    value: bytes | None
    key: bytes | None = None
    headers: dict[str, bytes] | None = field(default_factory=dict)
    topic: str = "orders"
    partition: int = 0
    offset: int = 7
    timestamp_us: int = 1_700_000_000_123_456


data = st.binary(max_size=20) | st.text(max_size=10).map(str.encode)


@given(st.none() | data, st.none() | data, st.dictionaries(st.text(max_size=5), data, max_size=3))
def test_a_record_survives_the_way_through_ndjson(
    value: bytes | None, key: bytes | None, headers: dict[str, bytes]
) -> None:
    line = msgspec.json.encode(record_row(Record(value, key, headers)))
    back = parse_row(line)
    assert (back.value, back.key, dict(back.headers)) == (value, key, headers)
    assert timestamp_us_of(back) == 1_700_000_000_123_000


def test_text_stands_as_text_and_other_bytes_as_base64() -> None:
    row = record_row(Record(b"\xff", "ä".encode(), {"a": b"x", "b": b"\xfe"}))
    assert row["key"] == "ä"
    assert row["value_base64"] == "/w=="
    assert (row["headers"], row["headers_base64"]) == ({"a": "x"}, {"b": "/g=="})
    assert "value" not in row


def test_a_record_without_key_and_headers_has_neither_field() -> None:
    assert set(record_row(Record(b"x", headers=None))) == {
        *("topic", "partition", "offset", "timestamp", "value"),
    }


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"1", b"{", b'{"value":1}', b'{"value_base64":"?"}', b'{"timestamp":"soon"}',
     b'{"value":"a","value_base64":"YQ=="}', b'{"headers":{"a":1}}', b"[" * 20_000],
)  # fmt: skip
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_row(line)


@given(st.binary(max_size=60))
def test_any_line_is_a_record_or_refused(line: bytes) -> None:
    try:
        parse_row(line)
    except ValueError:
        return


def test_fields_of_other_programs_are_ignored() -> None:
    assert parse_row(b'{"value":"a","note":1}').value == b"a"


def test_a_name_says_where_the_record_lies() -> None:
    assert record_name(Record(b"")) == "orders/0/7"


@pytest.mark.parametrize(
    ("text", "value", "chosen"),
    [
        ("value.n > 1", b'{"n":2}', True),
        ("value.n > 1", b"\xff", False),
        ("value.n > 1", b"[" * 100_000, False),
        ("value.n > 1", None, False),
        ("value == null", b"\xff", True),
        ("size == 3", b"abc", True),
        ('headers.a == "x"', b"", True),
        ('timestamp like "2023-11-14*"', b"", True),
    ],
)
def test_expressions_see_the_record(text: str, value: bytes | None, chosen: bool) -> None:
    record = Record(value, b"k", {"a": b"x"})
    assert parse(text)(scope_of(record)) is chosen
