"""When a schedule is due: the next times of an expression, by the broker's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final

import click

from penstock.cli.output import Column
from penstock.cli.plugins import load
from penstock.cli.units import SECOND_US, show_time, time_at
from penstock.errors import InvalidConfig

TIMES_MAX: Final = 1000
DUE: Final = (
    Column("local", "TIME"),
    Column("zone", "ZONE"),
    Column("time", "UTC"),
    Column("in_seconds", "IN", "seconds"),
)


def zone_of(name: str) -> tzinfo:
    """The time zone of that name.

    Raises:
        click.UsageError: this host knows none.
    """
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise click.UsageError(
            f"{name!r} is no time zone that this host knows; an example is Europe/Berlin"
        ) from None


def check_cron(cron: str, zone: str) -> None:
    """Raise a usage error unless the expression and the zone are understood."""
    zone_of(zone)
    try:
        load("cron")(cron)
    except InvalidConfig as error:
        raise click.UsageError(str(error)) from None


def next_times(cron: str, zone: str, after_us: int, count: int) -> list[int]:
    """The next due times in microseconds since 1970; fewer if there are no more."""
    recurrence, place = load("cron")(cron), zone_of(zone)
    found: list[int] = []
    while len(found) < count:
        due = recurrence.next_after(found[-1] if found else after_us, place)
        if due is None:
            break
        found.append(due)
    return found


def due_rows(times: Sequence[int], zone: str, now_us: int) -> list[dict[str, Any]]:
    """Due times by the clocks of a zone, and in UTC."""
    place = zone_of(zone)
    return [
        {
            "time": show_time(due),
            "local": f"{time_at(due).astimezone(place):%a %Y-%m-%d %H:%M:%S}",
            "zone": zone,
            "in_seconds": max(0.0, (due - now_us) / SECOND_US),
        }
        for due in times
    ]
