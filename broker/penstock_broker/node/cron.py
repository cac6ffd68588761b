"""When a recurring schedule is due: cron expressions and fixed intervals in a time zone.

An expression has the five fields of POSIX `crontab` (minute, hour, day of month, month, day of
week) with lists, ranges, steps and English names, or is one of `@hourly`, `@daily` (`@midnight`),
`@weekly`, `@monthly`, `@yearly` (`@annually`) and `@every 90s`. If both kinds of day are
restricted, a day that fits either one counts, as in POSIX.

Where clocks change, an expression with fixed hours fires once for each time it names: a time that
the clocks leave out fires when they have leapt, one that they repeat fires the first time only. An
expression for every hour (an hour field that begins with `*`) goes with the clocks instead: left
out times are left out, repeated ones are repeated. Intervals are counted from 1970 in UTC.

Nothing here reads a clock or a time zone database: the caller hands in time and `tzinfo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from typing import Final

from penstock.errors import InvalidConfig
from penstock.protocol.durations import parse_duration

EXPRESSION_CHARACTERS_MAX: Final = 200
INTERVAL_MS_MIN: Final = 1000
YEARS_MAX: Final = 9
"""29 February comes after eight years at the latest."""

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun",
                  "jul", "aug", "sep", "oct", "nov", "dec")  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_IN_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EPOCH: Final = datetime(1970, 1, 1)
_SECOND: Final = timedelta(seconds=1)
_HOUR: Final = timedelta(hours=1)
_OVERLAP_HOURS: Final = 3
"""Clocks are put back by so much at most."""


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed interval, counted from 1970."""

    interval_us: int

    def next_after(self, after_us: int, zone: tzinfo = UTC) -> int | None:
        """The first due time later than this one."""
        del zone
        return (after_us // self.interval_us + 1) * self.interval_us


@dataclass(frozen=True, slots=True)
class Cron:
    """The times that a cron expression names."""

    minutes: tuple[int, ...]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Both kinds of day are restricted: one that fits is enough."""
    hourly: bool
    """The hour field begins with `*`: goes with the clocks where they change."""

    def next_after(self, after_us: int, zone: tzinfo) -> int | None:
        """The first due time (microseconds since 1970) later than this one; None: never again."""
        begin = _wall(after_us, zone)
        if begin is None or begin.year + YEARS_MAX > MAXYEAR:
            return None
        hour = begin.replace(minute=0, second=0, microsecond=0) - _OVERLAP_HOURS * _HOUR
        for wall in self._hours_from(hour, begin.year + YEARS_MAX):
            due = self._due_in(wall, zone, after_us)
            if due is None:
                continue
            if not _is_steady(wall, zone):  # a later hour by the clock may come sooner
                for step in range(1, _OVERLAP_HOURS + 1):
                    later = wall + step * _HOUR
                    if later.hour in self.hours and self._has_day(later):
                        due = min(due, self._due_in(later, zone, after_us) or due)
            return due
        return None

    def _hours_from(self, wall: datetime, last_year: int) -> Iterator[datetime]:
        """The hours by the clock that have due times."""
        while wall.year <= last_year:
            if wall.month not in self.months:
                wall = (wall.replace(day=1, hour=0) + timedelta(days=32)).replace(day=1)
            elif not self._has_day(wall):
                wall = wall.replace(hour=0) + timedelta(days=1)
            else:
                if wall.hour in self.hours:
                    yield wall
                wall += _HOUR

    def _has_day(self, wall: datetime) -> bool:
        if wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (day or weekday) if self.either_day else (day and weekday)

    def _due_in(self, wall: datetime, zone: tzinfo, after_us: int) -> int | None:
        """The first due time within an hour by the clock that is later than `after_us`."""
        if _is_steady(wall, zone):
            first = _instant(wall, zone, 0)
            found = [first + minute * 60_000_000 for minute in self.minutes]
        else:
            found = []
            for minute in self.minutes:
                found += self._instants(wall.replace(minute=minute), zone)
        return min((due for due in found if due > after_us), default=None)

    def _instants(self, wall: datetime, zone: tzinfo) -> list[int]:
        """When the clocks show this: once, twice, or never."""
        first, second = _instant(wall, zone, 0), _instant(wall, zone, 1)
        if _wall(first, zone) == wall:
            return [first, second] if self.hourly and second > first else [first]
        return [] if self.hourly else [_end_of_gap(second, first, zone)]


Recurrence = Cron | Every


def parse(text: str) -> Recurrence:
    """Read an expression.

    Raises:
        InvalidConfig: it is malformed, or names a date that never comes.
    """
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise InvalidConfig(f"a schedule has at most {EXPRESSION_CHARACTERS_MAX} characters")
    words = text.lower().split()
    if words and words[0] == "@every":
        return _interval(words[1:])
    if len(words) == 1:
        words = _MACROS.get(words[0], words[0]).split()
    if len(words) != 5:
        raise InvalidConfig(
            f"{text!r} is no schedule: it has five fields (minute, hour, day of month, month, day "
            f"of week), or is @every with a duration, or one of {', '.join(_MACROS)}"
        )
    minute, hour, day, month, weekday = words
    days, months = _field("day of month", day, 1, 31), _field("month", month, 1, 12, _MONTHS)
    cron = Cron(
        tuple(sorted(_field("minute", minute, 0, 59))),
        _field("hour", hour, 0, 23),
        days,
        months,
        frozenset(each % 7 for each in _field("day of week", weekday, 0, 7, _DAYS)),
        not day.startswith("*") and not weekday.startswith("*"),
        hour.startswith("*"),
    )
    if not cron.either_day and min(days) > max(_DAYS_IN_MONTH[each - 1] for each in months):
        raise InvalidConfig(f"{text!r} names a date that never comes")
    return cron


def _interval(words: list[str]) -> Every:
    if len(words) != 1:
        raise InvalidConfig("@every is followed by one duration, such as 90s or 1h30m")
    interval_ms = parse_duration(words[0])
    if interval_ms < INTERVAL_MS_MIN:
        raise InvalidConfig(f"a schedule's interval is at least {INTERVAL_MS_MIN} ms")
    return Every(interval_ms * 1000)


def _field(
    what: str, text: str, low: int, high: int, names: tuple[str, ...] = ()
) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(what, first, low, high, names)
            end = _number(what, last, low, high, names) if dash else high if slash else begin
        by = _number(what, step, 1, high, ()) if slash else 1
        if end < begin:
            raise InvalidConfig(f"{what}: the range {span!r} ends before it begins")
        found.update(range(begin, end + 1, by))
    return frozenset(found)


def _number(what: str, text: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if not (text.isascii() and text.isdigit() and len(text) <= 2) or not low <= int(text) <= high:
        raise InvalidConfig(f"{what}: {text!r} is not within {low} to {high}")
    return int(text)


# ----- clocks


def _wall(time_us: int, zone: tzinfo) -> datetime | None:
    """What the clocks show; None: beyond what a date can say."""
    try:
        utc = (_EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=UTC)
        return utc.astimezone(zone).replace(tzinfo=None, fold=0)
    except OverflowError:
        return None


def _instant(wall: datetime, zone: tzinfo, fold: int) -> int:
    """The time in microseconds at which the clocks show `wall`, the first or the second time."""
    offset = wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()
    return (wall - offset - _EPOCH) // timedelta(microseconds=1)


def _is_steady(hour: datetime, zone: tzinfo) -> bool:
    """Whether the clocks run through this hour, once."""
    last = hour.replace(minute=59, second=59)
    offsets = {
        wall.replace(tzinfo=zone, fold=fold).utcoffset() for wall in (hour, last) for fold in (0, 1)
    }
    return len(offsets) == 1


def _end_of_gap(before_us: int, after_us: int, zone: tzinfo) -> int:
    """The moment between two at which the clocks leap, to the second."""
    low, high = before_us // 1_000_000, -(-after_us // 1_000_000)
    early = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == early:
            low = middle
        else:
            high = middle
    return high * 1_000_000


def _offset(second: int, zone: tzinfo) -> timedelta | None:
    return (_EPOCH + second * _SECOND).replace(tzinfo=UTC).astimezone(zone).utcoffset()
