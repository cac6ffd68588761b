"""Addresses, durations, positions and texts that applications hand in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from penstock._core.options import Acks, Options, parse_servers, seconds
from penstock._core.positions import (
    EARLIEST,
    LATEST,
    datetime_of,
    exact_offset,
    microseconds_of,
    resolvable,
)
from penstock._core.texts import as_bytes, as_dedup_id, as_headers, as_key
from penstock.errors import BadRequest, LimitExceeded, RecordTooLarge


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", (("localhost", 7400),)),
        ("penstock://a:1,b:2/", (("a", 1), ("b", 2))),
        (" a:1 , b ", (("a", 1), ("b", 7400))),
        ("[::1]:99", (("::1", 99),)),
        ("[::1]", (("::1", 7400),)),
        ("::1", (("::1", 7400),)),
        ("[fe80::1%eth0]:99", (("fe80::1%eth0", 99),)),
        ("10.0.0.1:7401,", (("10.0.0.1", 7401),)),
    ],
)
def test_servers_are_read(text: str, expected: tuple) -> None:
    assert parse_servers(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ",", "a:0", "a:99999", "a:port", "http://a:1", "user@a:1", "a:1/path", ":7400", "a:1:2"],
)
def test_impossible_servers_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_servers(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"acks": "all"},
        {"acks": "none", "idempotent": True},
        {"compression": "gzip"},
        {"name": "x" * 1000},
        {"delivery_timeout": 0.0},
        {"request_timeout": float("nan")},
        {"pipelined_requests": 100},
        {"buffer_bytes": 1},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadRequest):
        Options(servers=parse_servers("a"), **wrong)


@pytest.mark.parametrize(("acks", "idempotent"), [("quorum", True), ("none", False)])
def test_resends_are_dropped_by_default_where_that_can_be(acks: Acks, idempotent: bool) -> None:
    assert Options(servers=parse_servers("a"), acks=acks).idempotent is idempotent


def test_durations_are_seconds_or_timedelta() -> None:
    assert seconds(2, "x") == 2.0
    assert seconds(timedelta(minutes=1), "x") == 60.0
    with pytest.raises(BadRequest, match="patience"):
        seconds(-1, "patience")


def test_positions_are_words_times_and_offsets() -> None:
    now_us = 1_700_000_000_000_000
    assert resolvable("earliest", now_us) == EARLIEST
    assert resolvable("latest", now_us) == LATEST
    assert resolvable("-90s", now_us) == now_us - 90_000_000
    assert resolvable("-2h", now_us) == now_us - 7_200_000_000
    assert resolvable("-9999999d", now_us) == 0
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert resolvable(moment, now_us) == microseconds_of(datetime(2026, 1, 1, tzinfo=UTC))
    assert datetime_of(microseconds_of(moment)) == moment
    assert exact_offset(5) == 5
    assert exact_offset("earliest") is None


@pytest.mark.parametrize("wrong", ["soon", "1h", "-1w", "-h", 7, True, datetime(2026, 1, 1)])
def test_other_positions_are_refused(wrong: object) -> None:
    with pytest.raises(BadRequest):
        resolvable(wrong, 0)


def test_times_before_1970_are_refused() -> None:
    with pytest.raises(BadRequest):
        microseconds_of(datetime(1969, 1, 1, tzinfo=UTC))


def test_texts_become_bytes() -> None:
    assert as_bytes("ä") == "ä".encode()
    assert as_bytes(bytearray(b"a")) == as_bytes(memoryview(b"a")) == b"a"
    assert as_bytes(None) is None
    assert as_key("k") == b"k"
    assert as_headers({}) is None
    assert as_headers({"a": "b", "c": b"d"}) == {"a": b"b", "c": b"d"}
    assert as_dedup_id("order-1") == b"order-1"


def test_texts_that_can_not_be_are_refused() -> None:
    for wrong in (7, ["a"], "\ud800"):
        with pytest.raises(BadRequest):
            as_bytes(wrong)
    with pytest.raises(LimitExceeded):
        as_headers({str(number): b"" for number in range(65)})
    with pytest.raises(RecordTooLarge):
        as_key(b"k" * 4097)
    with pytest.raises(BadRequest):
        as_dedup_id(b"")
