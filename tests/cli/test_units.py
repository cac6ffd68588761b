from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli import units

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "us"),
    [("250ms", 250_000), ("90s", 90_000_000), ("1h30m", 5_400_000_000), ("7d", 604_800_000_000)],
)
def test_a_duration_is_a_chain_of_amounts(text: str, us: int) -> None:
    assert units.parse_duration_us(text) == us


@pytest.mark.parametrize("text", ["", "5", "h", "1h 2m", "-1h", "1y", "h1", "1hh"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        units.parse_duration_us(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("64KiB", 65_536), ("1.5GB", 1_500_000_000), ("2m", 2_000_000), ("7b", 7)],
)
def test_sizes_are_binary_only_with_an_i(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "5 apples", "1ib"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("17", 17),
        ("-1h", NOW - timedelta(hours=1)),
        ("2026-01-31T09:30Z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_a_position_is_an_end_an_offset_an_age_or_a_time(text: str, position: object) -> None:
    assert units.parse_position(text, NOW) == position


@pytest.mark.parametrize("text", ["", "-", "-5", "first", "99999999999999999999", "-9999999d"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not earliest"):
        units.parse_position(text, NOW)


@given(st.text(max_size=30))
def test_parsers_raise_nothing_but_value_error(text: str) -> None:
    for parse in (units.parse_duration_us, units.parse_size, units.parse_time):
        try:
            parse(text)
        except ValueError:
            continue
    try:
        units.parse_position(text, NOW)
    except ValueError:
        return


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_shown_time_reads_back_to_its_millisecond(time: datetime) -> None:
    us = units.time_us(time.replace(tzinfo=UTC))
    assert units.time_us(units.parse_time(units.show_time(us))) == us // 1000 * 1000


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (0.000_12, "120 us"), (0.25, "250 ms"), (12, "12 s"), (60, "1m"), (3661, "1h1m"),
     (604_800, "7d"), (694_800, "8d1h"), (-12, "-12 s")],
)  # fmt: skip
def test_durations_are_shown_with_their_two_largest_units(seconds: float, shown: str) -> None:
    assert units.show_duration(seconds) == shown


def test_sizes_are_shown_in_binary_units() -> None:
    assert [units.show_size(size) for size in (0, 1023, 1536, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]


def test_a_time_outside_the_calendar_is_a_dash() -> None:
    assert units.show_time(2**63) == "-"
