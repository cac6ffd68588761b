"""Where to begin reading: words, offsets, times and "-1h" as the numbers that brokers resolve."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from penstock.errors import BadRequest

Start = str | int | datetime
"""\"earliest", "latest", an offset, an aware datetime, or "-90s", "-15m", "-1h", "-7d" ago."""

EARLIEST: Final = -2
LATEST: Final = -1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WORDS: Final = {"earliest": EARLIEST, "latest": LATEST}
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
OFFSET_MAX: Final = (1 << 63) - 1

_AGO: Final = re.compile(r"-(\d{1,9})([smhd])", re.ASCII)


def datetime_of(time_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime."""
    return EPOCH + timedelta(microseconds=time_us)


def microseconds_of(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970.

    Raises:
        BadRequest: it has no time zone, or lies before 1970.
    """
    if moment.tzinfo is None:
        raise BadRequest("a datetime needs a time zone, for example datetime.now(UTC)")
    found = (moment - EPOCH) // timedelta(microseconds=1)
    if found < 0:
        raise BadRequest("a time lies after 1970")
    return found


def resolvable(start: Start, wall_us: int) -> int:
    """A word or a time as `ListOffsets` takes it: -2, -1, or microseconds.

    Raises:
        BadRequest: it is an offset, or none of the forms.
    """
    if isinstance(start, datetime):
        return microseconds_of(start)
    if isinstance(start, str):
        if start in WORDS:
            return WORDS[start]
        ago = _AGO.fullmatch(start)
        if ago is not None:
            return max(0, wall_us - int(ago[1]) * UNITS[ago[2]] * 1_000_000)
    raise BadRequest(f"{start!r} is none of earliest, latest, an offset, a datetime, '-1h'")


def exact_offset(start: Start) -> int | None:
    """The offset, if it is one.

    Raises:
        BadRequest: it is negative or too large.
    """
    if not isinstance(start, int) or isinstance(start, bool):
        return None
    if not 0 <= start <= OFFSET_MAX:
        raise BadRequest(f"an offset lies between 0 and {OFFSET_MAX}, not {start}")
    return start
