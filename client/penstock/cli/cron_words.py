"""Cron expressions in words. Pure.

Only for people: the broker decides what an expression means (and whether it is one). What these
words can't say is answered with "", and then the expression stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

_MACROS: Final = {
    "@hourly": "every hour, on the hour",
    "@daily": "at 00:00 every day",
    "@midnight": "at 00:00 every day",
    "@weekly": "at 00:00 on Sunday",
    "@monthly": "at 00:00 on day 1 of the month",
    "@yearly": "at 00:00 on day 1 of the month in January",
    "@annually": "at 00:00 on day 1 of the month in January",
}
_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_ITEM: Final = re.compile(r"(\*|[a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?(?:/(\d{1,2}))?")
_TIMES_MAX: Final = 6


def cron_words(expression: str) -> str:
    """`0 9 * * 1-5` -> "at 09:00 on Monday to Friday"; "" where there are no words for it."""
    fields = expression.lower().split()
    if len(fields) == 2 and fields[0] == "@every":
        return f"every {fields[1]}"
    if len(fields) == 1:
        return _MACROS.get(fields[0], "")
    if len(fields) != 5:
        return ""
    try:
        minute, hour, day, month, weekday = fields
        return " ".join(filter(None, [_time(minute, hour), *_date(day, month, weekday, hour)]))
    except ValueError:
        return ""


def _time(minute: str, hour: str) -> str:
    minutes, hours = _plain(minute), _plain(hour)
    if len(minutes) == 1 and hours and len(hours) <= _TIMES_MAX:
        return "at " + _and([f"{each:02}:{minutes[0]:02}" for each in hours])
    if hour == "*":
        return _each_hour(minute, minutes)
    step = hour.removeprefix("*/")
    if hour.startswith("*/") and step.isdecimal() and len(minutes) == 1:
        late = f", {minutes[0]} minutes past" if minutes[0] else ""
        return _every(int(step), "hour", 24, "midnight") + late
    return f"{_minutes(minute)}, {_spans(hour, 'hour', str)}"


def _each_hour(minute: str, minutes: Sequence[int]) -> str:
    if minutes == [0]:
        return "every hour, on the hour"
    if minutes:
        return f"every hour at {_minute_list(minutes)}"
    return _minutes(minute)


def _minutes(minute: str) -> str:
    minutes = _plain(minute)
    if minutes:
        return f"at {_minute_list(minutes)}"
    if minute == "*":
        return "every minute"
    step = minute.removeprefix("*/")
    if minute.startswith("*/") and step.isdecimal():
        return _every(int(step), "minute", 60, "each full hour")
    return f"at {_spans(minute, 'minute', str)}"


def _every(step: int, noun: str, whole: int, begin: str) -> str:
    if step <= 1:
        return f"every {noun}"
    # Steps that do not divide the whole begin anew with it.
    return f"every {step} {noun}s" + (f" from {begin}" if whole % step else "")


def _minute_list(minutes: Sequence[int]) -> str:
    noun = "minute" if len(minutes) == 1 else "minutes"
    return f"{noun} {_and([str(each) for each in minutes])}"


def _date(day: str, month: str, weekday: str, hour: str) -> list[str]:
    days = "" if day == "*" else f"on {_spans(day, 'day', str)} of the month"
    weekdays = "" if weekday == "*" else "on " + _spans(weekday, "", _weekday)
    if days and weekdays:
        either = not day.startswith("*") and not weekday.startswith("*")
        dates = f"{days} {'or' if either else 'if it falls'} {weekdays}"
    else:
        dates = days or weekdays
    if not dates and _plain(hour):
        dates = "every day"
    months = "" if month == "*" else "in " + _spans(month, "", _month)
    return [dates, months]


def _plain(field: str) -> list[int]:
    """The numbers of a field that is a list of numbers; otherwise none."""
    parts = field.split(",")
    return sorted({int(p) for p in parts}) if all(p.isdecimal() for p in parts) else []


def _spans(field: str, noun: str, name: Callable[[str], str]) -> str:
    """`1,3-5` -> "1 and 3 to 5", with the noun in front."""
    parts, several = [], "," in field
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(item)
        first, last, step = match.groups()
        span = "" if first == "*" else f"{name(first)}"
        if last:
            span += f" to {name(last)}"
        if step and step != "1":
            every = f"every {_nth(int(step))} {noun or 'one'}".strip()
            end = "" if last or not span else " on"
            span = f"{every} from {span}{end}" if span else every
        several = several or bool(last)
        parts.append(span or f"every {noun}")
    text = _and(parts)
    if not noun or text.startswith("every"):
        return text
    return f"{noun}{'s' if several else ''} {text}"


def _nth(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if 10 <= number % 100 <= 20 else endings.get(number % 10, "th")
    return f"{number}{ending}"


def _weekday(text: str) -> str:
    if text.isdecimal() and int(text) <= 7:
        return _DAYS[int(text) % 7]
    return _named(text, _DAYS)


def _month(text: str) -> str:
    if text.isdecimal() and 1 <= int(text) <= 12:
        return _MONTHS[int(text) - 1]
    return _named(text, _MONTHS)


def _named(text: str, names: Sequence[str]) -> str:
    for name in names:
        if name.lower().startswith(text) and not text.isdecimal():
            return name
    raise ValueError(text)


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
