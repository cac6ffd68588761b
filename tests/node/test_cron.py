"""When schedules are due: expressions, and what happens where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidConfig
from penstock_broker.node.cron import Cron, Every, parse

BERLIN = ZoneInfo("Europe/Berlin")  # 29 March 2026: 2:00 -> 3:00; 25 October 2026: 3:00 -> 2:00
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # the clocks change by half an hour
APIA = ZoneInfo("Pacific/Apia")  # had no 30 December 2011


def us(text: str, zone: tzinfo = UTC, fold: int = 0) -> int:
    when = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return int(when.timestamp() * 1_000_000)


def due(expression: str, after: str, count: int = 1, zone: tzinfo = UTC) -> list[str]:
    """The next due times, in UTC."""
    recurrence, at, found = parse(expression), us(after), []
    for _ in range(count):
        following = recurrence.next_after(at, zone)
        assert following is not None
        assert following > at
        at = following
        found.append(f"{datetime.fromtimestamp(at / 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("* * * * *", "2026-01-01T00:00:59", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:00:00"),
        ("5/20 * * * *", "2026-01-01T00:26:00", "2026-01-01T00:45:00"),
        ("0 9-17/4 * * mon-fri", "2026-01-02T17:00:00", "2026-01-05T09:00:00"),
        ("30 4 1,15 * fri", "2026-01-02T04:30:00", "2026-01-09T04:30:00"),
        ("30 4 1,15 * *", "2026-01-02T04:30:00", "2026-01-15T04:30:00"),
        ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 */2 * 1", "2026-01-01T00:00:00", "2026-01-05T00:00:00"),
        ("@yearly", "2026-06-01T00:00:00", "2027-01-01T00:00:00"),
        ("@monthly", "2026-12-02T00:00:00", "2027-01-01T00:00:00"),
        ("@Weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("@daily", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("@hourly", "2026-01-01T00:00:00", "2026-01-01T01:00:00"),
        ("@every 90s", "2026-01-01T00:00:00", "2026-01-01T00:01:30"),
    ],
)
def test_the_next_due_time_is_the_first_that_fits(
    expression: str, after: str, expected: str
) -> None:
    assert due(expression, after) == [expected]


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *"),
        *("* * * * 8", "5-1 * * * *", "*/0 * * * *", "a * * * *", "1,, * * * *", "1- * * * *"),
        *("* * * * monday", "@fortnightly", "@every", "@every 10ms", "@every 1h 2m", "-1 * * * *"),
        *("0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6 *", "\u0661 * * * *", "* " * 300),
    ],
)
def test_what_is_no_expression_or_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(InvalidConfig):
        parse(expression)


def test_a_time_that_the_clocks_leave_out_fires_when_they_have_leapt() -> None:
    assert due("30 2 * * *", "2026-03-28T02:00:00", 2, BERLIN) == [
        "2026-03-29T01:00:00",  # 3:00 by the clock
        "2026-03-30T00:30:00",
    ]


def test_several_times_that_the_clocks_leave_out_fire_once() -> None:
    assert due("*/20 2,3 * * *", "2026-03-28T23:00:00", 4, BERLIN) == [
        "2026-03-29T01:00:00",
        "2026-03-29T01:20:00",
        "2026-03-29T01:40:00",
        "2026-03-30T00:00:00",
    ]


def test_a_time_that_the_clocks_repeat_fires_the_first_time_only() -> None:
    assert due("30 2 * * *", "2026-10-24T23:00:00", 2, BERLIN) == [
        "2026-10-25T00:30:00",
        "2026-10-26T01:30:00",
    ]


def test_a_schedule_for_every_hour_goes_with_the_clocks() -> None:
    assert due("30 * * * *", "2026-10-24T23:40:00", 3, BERLIN) == [
        "2026-10-25T00:30:00",
        "2026-10-25T01:30:00",
        "2026-10-25T02:30:00",
    ]
    assert due("30 * * * *", "2026-03-29T00:00:00", 2, BERLIN) == [
        "2026-03-29T00:30:00",
        "2026-03-29T01:30:00",
    ]


def test_a_day_that_the_calendar_left_out_fires_at_its_end() -> None:
    assert due("0 9 * * *", "2011-12-29T20:00:00", 3, APIA) == [
        "2011-12-30T10:00:00",  # midnight of the 31st
        "2011-12-30T19:00:00",
        "2011-12-31T19:00:00",
    ]


def test_the_last_dates_of_the_calendar_end_the_search() -> None:
    assert parse("* * * * *").next_after(us("9995-01-01T00:00:00"), UTC) is None
    assert parse("* * * * *").next_after(1 << 62, UTC) is None


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, APIA])
@pytest.mark.parametrize("expression", ["*/7 * * * *", "*/10 1-3 * * *", "15 */2 * * *"])
def test_no_due_time_is_skipped_wherever_one_asks(zone: tzinfo, expression: str) -> None:
    """Asking at any moment gives the first of the times that a walk from the start finds."""
    recurrence = parse(expression)
    for start in ("2026-03-28T10:00:00", "2026-04-04T10:00:00", "2026-10-03T10:00:00",
                  "2026-10-24T20:00:00", "2011-12-29T18:00:00"):  # fmt: skip
        at, end = us(start), us(start) + 20 * 3_600_000_000
        walk = [at]
        while walk[-1] < end:
            following = recurrence.next_after(walk[-1], zone)
            assert following is not None
            walk.append(following)
        for moment in range(at, end, 600_000_000):
            expected = next(each for each in walk[1:] if each > moment)
            assert recurrence.next_after(moment, zone) == expected


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)),
    st.sets(st.integers(0, 59), min_size=1, max_size=5),
    st.sets(st.integers(0, 23), min_size=1, max_size=5),
    st.sets(st.integers(1, 28), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_every_due_time_fits_the_expression(
    start: datetime, minutes: set[int], hours: set[int], days: set[int]
) -> None:
    fields = [",".join(map(str, sorted(each))) for each in (minutes, hours, days)]
    recurrence = parse(" ".join([*fields, "*", "*"]))
    assert isinstance(recurrence, Cron)
    at = us(start.isoformat())
    found = recurrence.next_after(at, UTC)
    assert found is not None
    when = datetime(1970, 1, 1) + timedelta(microseconds=found)
    assert (when.minute in minutes, when.hour in hours, when.day in days) == (True, True, True)


def test_an_interval_does_not_depend_on_when_one_asks() -> None:
    every = Every(10_000_000)
    assert every.next_after(0) == 10_000_000
    assert every.next_after(9_999_999) == 10_000_000
    assert every.next_after(10_000_000) == 20_000_000
