"""Schedules and delayed records as rows and as blocks for people."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.cron_words import cron_words
from penstock.cli.due import DUE, due_rows, next_times
from penstock.cli.output import Column, Row, print_fields, print_object, print_table
from penstock.cli.printing import show_bytes
from penstock.cli.records import text_of
from penstock.cli.settings import wall_us
from penstock.cli.units import SECOND_US, show_moment, show_time
from penstock.errors import InvalidConfig

if TYPE_CHECKING:
    from penstock.cli.settings import Settings
    from penstock.protocol.sharing import ScheduledRecord, ScheduleInfo

INFO_LIST: Final = (
    Column("topic", "TOPIC"),
    Column("name", "NAME"),
    Column("cron", "CRON"),
    Column("words", "MEANS"),
    Column("next_in", "NEXT IN", "seconds"),
    Column("fired", "FIRED", "number"),
    Column("time_zone", "TIME ZONE", wide=True),
    Column("catch_up", "CATCH-UP", wide=True),
    Column("partition", "PARTITION", "number", wide=True),
    Column("last", "LAST", wide=True),
)
DELAYED: Final = (
    Column("id", "ID"),
    Column("count", "RECORDS", "number"),
    Column("deliver_at", "DUE"),
    Column("in_seconds", "IN", "seconds"),
)


def schedule_name(row: Row) -> str:
    """`TOPIC/NAME`."""
    return f"{row['topic']}/{row['name']}"


def schedule_row(info: ScheduleInfo, now_us: int) -> dict[str, Any]:
    """A schedule as a JSON object; a paused one has no next time."""
    due = info.next_us if info.next_us and not info.paused else 0
    row: dict[str, Any] = {
        "topic": info.topic,
        "name": info.name,
        "partition": info.partition,
        "cron": info.cron,
        "words": cron_words(info.cron),
        "time_zone": info.time_zone,
        "catch_up": info.catch_up,
        "paused": info.paused,
        "fired": info.fired,
        "last": show_time(info.last_us) if info.last_us else None,
        "next": show_time(due) if due else None,
        "next_in": max(0.0, (due - now_us) / SECOND_US) if due else None,
        "headers": {name: text_of(data) for name, data in info.headers.items()},
    }
    for name, data in (("key", info.key), ("value", info.value)):
        text = text_of(data)
        row[name] = text
        if text is None and data is not None:
            row[f"{name}_base64"] = base64.b64encode(data).decode()
    return row


def show_schedule(settings: Settings, info: ScheduleInfo, *, count: int) -> None:
    """Print a schedule with its next times."""
    now = wall_us()
    rows = _upcoming(info, now, count)
    value = {
        **schedule_row(info, now),
        "next_times": [row["time"] for row in rows],
    }

    def show() -> None:
        print_fields(_fields(info, now))
        if rows:
            click.echo()
            print_table(rows, DUE, wide=settings.output == "wide")
        elif info.paused:
            settings.say(
                f"It is paused. Let it go on: penstock schedule resume {info.topic} {info.name}"
            )

    print_object(value, settings.output, name="name", show=show)


def _upcoming(info: ScheduleInfo, now_us: int, count: int) -> list[dict[str, Any]]:
    """The next times; none while it is paused, or where this host can't reckon in its time zone."""
    if info.paused:
        return []
    try:
        times = next_times(info.cron, info.time_zone, now_us, count)
        return due_rows(times, info.time_zone, now_us)
    except (click.ClickException, InvalidConfig):
        return []


def _fields(info: ScheduleInfo, now_us: int) -> Iterator[tuple[str, object]]:
    yield "Schedule", info.name + (" (paused)" if info.paused else "")
    yield "Topic", f"{info.topic}, partition {info.partition}"
    words = cron_words(info.cron)
    yield "Cron", f"{info.cron}  ({words})" if words else info.cron
    yield "Time zone", info.time_zone
    yield (
        "Missed times",
        {"skip": "are skipped", "one": "fire once", "all": "fire each"}.get(
            info.catch_up, info.catch_up
        ),
    )
    yield "Fired", f"{info.fired:,} times" if info.fired != 1 else "once"
    if info.last_us:
        yield "Last", show_moment(info.last_us, now_us)
    if info.next_us and not info.paused:
        yield "Next", show_moment(info.next_us, now_us)
    if info.key is not None:
        yield "Key", show_bytes(info.key)
    yield "Value", show_bytes(info.value)
    for name, data in sorted(info.headers.items()):
        yield f"  {name}", show_bytes(data)


def delayed_rows(
    scheduled: Sequence[tuple[int, ScheduledRecord]], topic: str, now_us: int
) -> list[dict[str, Any]]:
    """Delayed records, by partition, as JSON objects."""
    return [
        {
            "topic": topic,
            "partition": partition,
            "id": f"{partition}:{record.id}",
            "count": record.count,
            "deliver_at": show_time(record.deliver_at_us),
            "in_seconds": max(0.0, (record.deliver_at_us - now_us) / SECOND_US),
        }
        for partition, record in scheduled
    ]
