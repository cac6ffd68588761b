import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidConfig
from penstock.protocol.durations import DURATION_MS_MAX, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("7d", 604_800_000),
        ("1h30m", 5_400_000),
        ("2w3d4h5m6s7ms", 1_483_506_007),
        ("250ms", 250),
        ("0s", 0),
        ("90m", 5_400_000),
        (" 10s ", 10_000),
        ("1500", 1500),
        (1500, 1500),
        (0, 0),
    ],
)
def test_duration_is_read(text, milliseconds):
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "d", "7x", "7 d", "-1d", "1.5h", "1h1h", "1m1h", "7d!", "٣d", "1_0s", "+5s"),
        *(-1, True, None, 1.5, b"7d", DURATION_MS_MAX + 1, "9" * 16 + "w", "1" * 65, "1" * 5000),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidConfig):
        parse_duration(text)


@given(st.integers(0, DURATION_MS_MAX))
def test_formatted_duration_is_read_back(milliseconds):
    assert parse_duration(format_duration(milliseconds)) == milliseconds


def test_formatted_duration_is_short():
    assert format_duration(604_800_000) == "1w"
    assert format_duration(5_400_000) == "1h30m"
    assert format_duration(0) == "0ms"
    assert format_duration(-1) == "-1ms"
