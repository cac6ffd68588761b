"""Sizes, durations, times and positions: read from the command line and shown to people. Pure.

Time of day comes in as an argument, so that every function gives the same answer again.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

Position = int | datetime | Literal["earliest", "latest"]
"""A place in a partition: an offset, a time, or one of the two ends."""

SECOND_US: Final = 1_000_000
_DURATION_US: Final = {
    "us": 1,
    "ms": 1_000,
    "s": SECOND_US,
    "m": 60 * SECOND_US,
    "h": 3_600 * SECOND_US,
    "d": 86_400 * SECOND_US,
    "w": 604_800 * SECOND_US,
}
_SIZE: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION_PART: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(us|ms|s|m|h|d|w)")
_SIZE_FORM: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET_MAX: Final = 2**63 - 1


def parse_duration_us(text: str) -> int:
    """`90s`, `1h30m`, `7d`, `250ms` in microseconds.

    Raises:
        ValueError: the text is not a duration.
    """
    at, total = 0, 0.0
    for part in _DURATION_PART.finditer(text):
        if part.start() != at:
            break
        total += float(part[1]) * _DURATION_US[part[2]]
        at = part.end()
    if at == 0 or at != len(text):
        raise ValueError(f"{text!r} is not a duration such as 250ms, 90s, 1h30m or 7d")
    return round(total)


def parse_size(text: str) -> int:
    """`512`, `64KiB`, `1.5GB` in bytes; `k`, `m`, `g` alone are powers of 1000.

    Raises:
        ValueError: the text is not a size.
    """
    form = _SIZE_FORM.fullmatch(text.strip())
    if form is None or (form[3] and not form[2]):
        raise ValueError(f"{text!r} is not a size such as 512, 64KiB or 1GB")
    unit = form[2].lower()
    return round(float(form[1]) * (_BINARY[unit] if form[3] else _SIZE[unit]))


def parse_time(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC.

    Raises:
        ValueError: the text is not a time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T09:30Z") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def parse_position(text: str, now: datetime) -> Position:
    """`earliest`, `latest`, an offset, `-1h` (that long before `now`) or an ISO 8601 time.

    Raises:
        ValueError: the text is none of these.
    """
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if text.isascii() and text.isdigit() and int(text) <= _OFFSET_MAX:
        return int(text)
    try:
        if text.startswith("-"):
            return now - timedelta(microseconds=parse_duration_us(text[1:]))
        return parse_time(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not earliest, latest, an offset, an age such as -1h"
            " or a time such as 2026-01-31T09:30Z"
        ) from None


def time_us(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def time_at(microseconds: int) -> datetime:
    """The aware time so many microseconds after 1970.

    Raises:
        OverflowError: it lies outside the calendar's years.
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def show_time(microseconds: int) -> str:
    """A time in UTC with milliseconds, as ISO 8601; "-" outside the calendar's years."""
    try:
        time = time_at(microseconds)
    except OverflowError:
        return "-"
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def show_size(size: float) -> str:
    """Bytes as people read them: `512 B`, `1.5 MiB`."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(value) >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def count_of(number: int, noun: str, plural: str = "") -> str:
    """`1 record`, `2 records`; `plural` is for nouns that do not take an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def show_count(count: float) -> str:
    """A whole number with separators: `1,234,567`."""
    return f"{count:,.0f}"


def show_duration(seconds: float) -> str:
    """A duration with its two largest units, or as few digits as it takes."""
    if seconds < 0:
        return "-" + show_duration(-seconds)
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (60.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}" if seconds else "0 s"
    whole = round(seconds)
    parts = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    shown: list[str] = []
    for unit, size in parts:
        amount, whole = divmod(whole, size)
        if amount or shown:
            shown.append(f"{amount}{unit}")
    return "".join(part for part in shown[:2] if not part.startswith("0"))


def show_moment(microseconds: int, now_us: int) -> str:
    """A time and how far it is from now: `2026-01-31T09:30:00.000Z (12 s ago)`."""
    distance = (microseconds - now_us) / SECOND_US
    far = f"in {show_duration(distance)}" if distance > 0 else f"{show_duration(-distance)} ago"
    return f"{show_time(microseconds)} ({far})"
