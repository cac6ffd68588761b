"""`penstock schedule`: recurring schedules, and records that wait for their time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import click

from penstock.cli.commands import Noun
from penstock.cli.due import DUE, TIMES_MAX, check_cron, due_rows, next_times
from penstock.cli.exits import Exit
from penstock.cli.output import print_rows
from penstock.cli.params import (
    NUMBER,
    PAIR,
    complete_schedules,
    complete_topics,
    dry_run_option,
    topic_argument,
    whole_number,
    yes_option,
)
from penstock.cli.reading import Source, read_all
from penstock.cli.schedule_delayed import cancel, delayed
from penstock.cli.scheduled import (
    INFO_LIST,
    schedule_name,
    schedule_row,
    show_schedule,
)
from penstock.cli.settings import Failure, Settings, wall_us

if TYPE_CHECKING:
    from penstock.protocol.sharing import ScheduleInfo
    from penstock.sync import Client

NEXT_SHOWN = 5
CRON = (
    "Schedules",
    """\
Five fields: minute, hour, day of month, month, day of week; with lists
(1,15), ranges (mon-fri) and steps (*/15). Or @hourly, @daily, @weekly,
@monthly, @yearly, or a fixed interval: '@every 90s'.
Fixed hours follow the clocks of the time zone: a time that a clock change
leaves out fires right after it, a repeated one fires once.
--catch-up says what follows when the broker was down, or the schedule paused,
at due times: skip them, fire one for all of them, or fire each.""",
)

_name_argument = click.argument("name", shell_complete=complete_schedules)


@click.group("schedule", cls=Noun)
def schedule() -> None:
    """Publish records again and again, or later."""


@schedule.command(
    "create",
    examples="penstock schedule create reports nightly '0 2 * * *' \\\n"
    '    --time-zone Europe/Berlin --value \'{"kind": "full"}\'\n'
    "penstock schedule create beats tick '@every 30s' --catch-up skip\n"
    "penstock schedule create reports weekly '0 6 * * mon' --dry-run",
    notes=CRON,
)
@topic_argument
@click.argument("name")
@click.argument("cron")
@click.option("-v", "--value", help="The value of each record.  [default: empty]")
@click.option("--file", type=click.File("rb"), help="Take the value from this file (-: input).")
@click.option("-k", "--key", help="The key of each record.")
@click.option(
    "-H", "--header", "headers", type=PAIR, multiple=True, metavar="NAME=VALUE",
    help="A header of each record (repeatable).",
)  # fmt: skip
@click.option(
    "-z", "--time-zone", default="UTC", show_default=True, metavar="ZONE",
    help="In whose clocks, such as Europe/Berlin.",
)  # fmt: skip
@click.option(
    "--catch-up", type=click.Choice(["skip", "one", "all"]), default="one", show_default=True,
    help="What to do about due times that were missed.",
)  # fmt: skip
@click.option("-p", "--partition", type=NUMBER, metavar="N", help="Into this partition.")
@click.option("--replace", is_flag=True, help="Change the schedule if it exists.")
@dry_run_option
@click.pass_obj
def create(
    settings: Settings,
    /,
    topic: str,
    name: str,
    cron: str,
    value: str | None,
    file: BinaryIO | None,
    key: str | None,
    headers: tuple[tuple[str, str], ...],
    time_zone: str,
    catch_up: str,
    partition: int | None,
    replace: bool,
    dry_run: bool,
) -> None:
    """Have a record published at the times of a cron expression.

    The broker does it, with no other process; each time once, through restarts.
    """
    if value is not None and file is not None:
        raise click.UsageError("give either --value or --file")
    body = read_all(cast("Source", file)) if file is not None else os.fsencode(value or "")
    if dry_run:
        check_cron(cron, time_zone)
        settings.say(f"dry run, nothing created: schedule {name} on {topic}")
        _show_times(settings, cron, time_zone, NEXT_SHOWN)
        return
    with settings.connect() as client:
        reply = client.admin.create_schedule(
            topic,
            name,
            cron,
            time_zone=time_zone,
            catch_up=catch_up,
            value=body,
            key=os.fsencode(key) if key is not None else None,
            headers={title: os.fsencode(text) for title, text in headers},
            partition=partition,
            replace=replace,
        )
    settings.say(f"schedule {name} on {topic} is set")
    show_schedule(settings, reply.schedule, count=NEXT_SHOWN)


@schedule.command("list", examples="penstock schedule list\npenstock schedule list reports -o wide")
@click.argument("topic", required=False, shell_complete=complete_topics)
@click.pass_obj
def list_schedules(settings: Settings, topic: str | None) -> None:
    """List the recurring schedules, of a topic or of all."""
    with settings.connect() as client:
        found = client.admin.list_schedules(topic)
    now = wall_us()
    rows = [schedule_row(info, now) for info in found]
    print_rows(rows, INFO_LIST, settings.output, name=schedule_name)
    if not rows:
        where = f"Topic {topic} has no schedule" if topic else "There is no schedule"
        settings.say(f"{where} yet. Make one: penstock schedule create TOPIC NAME CRON")


@schedule.command("describe", examples="penstock schedule describe reports nightly")
@topic_argument
@_name_argument
@click.pass_obj
def describe(settings: Settings, topic: str, name: str) -> None:
    """Show a schedule, what it publishes and its next times."""
    with settings.connect() as client:
        info = _find(client, topic, name)
    show_schedule(settings, info, count=NEXT_SHOWN)


@schedule.command(
    "next",
    examples="penstock schedule next reports nightly -n 10\n"
    "penstock schedule next --cron '0 9 * * mon-fri' --time-zone America/New_York",
    notes=CRON,
)
@click.argument("topic", required=False, shell_complete=complete_topics)
@click.argument("name", required=False, shell_complete=complete_schedules)
@click.option("--cron", metavar="CRON", help="Of this expression, without asking a broker.")
@click.option("-z", "--time-zone", metavar="ZONE", help="With --cron.  [default: UTC]")
@click.option(
    "-n", "--limit", type=whole_number(1, TIMES_MAX), metavar="N", default=NEXT_SHOWN,
    show_default=True, help="How many times.",
)  # fmt: skip
@click.pass_obj
def next_(
    settings: Settings,
    topic: str | None,
    name: str | None,
    cron: str | None,
    time_zone: str | None,
    limit: int,
) -> None:
    """Show the next times of a schedule, or of an expression to try."""
    if (cron is None) == (name is None or topic is None):
        raise click.UsageError("give either TOPIC and NAME or --cron", click.get_current_context())
    if cron is not None:
        zone = time_zone or "UTC"
        check_cron(cron, zone)
        _show_times(settings, cron, zone, limit)
        return
    assert topic is not None
    assert name is not None
    with settings.connect() as client:
        info = _find(client, topic, name)
    if info.paused:
        settings.say(f"schedule {name} is paused: none of these times fires until it is resumed")
    _show_times(settings, info.cron, info.time_zone, limit)


def _show_times(settings: Settings, cron: str, zone: str, count: int) -> None:
    now = wall_us()
    rows = due_rows(next_times(cron, zone, now, count), zone, now)
    print_rows(rows, DUE, settings.output, name="time")


_DRY: Final = "dry run, nothing changed: "


def _find(client: Client, topic: str, name: str) -> ScheduleInfo:
    for info in client.admin.list_schedules(topic):
        if info.name == name:
            return info
    raise Failure(
        f"topic {topic} has no schedule {name}",
        code=Exit.NOT_FOUND,
        hint=f"`penstock schedule list {topic}` shows those that it has.",
    )


@schedule.command("pause", outputs=(), examples="penstock schedule pause reports nightly")
@topic_argument
@_name_argument
@dry_run_option
@click.pass_obj
def pause(settings: Settings, topic: str, name: str, dry_run: bool) -> None:
    """Stop a schedule for a while."""
    _pause(settings, topic, name, paused=True, dry_run=dry_run)
    settings.say(f"{_DRY * dry_run}schedule {name} on {topic} is paused")


@schedule.command("resume", outputs=(), examples="penstock schedule resume reports nightly")
@topic_argument
@_name_argument
@dry_run_option
@click.pass_obj
def resume(settings: Settings, topic: str, name: str, dry_run: bool) -> None:
    """Let a paused schedule go on.

    What was due meanwhile follows its catch-up policy.
    """
    info = _pause(settings, topic, name, paused=False, dry_run=dry_run)
    words = f"schedule {name} on {topic} goes on ({info.catch_up} of the missed times)"
    settings.say(f"{_DRY * dry_run}{words}")


def _pause(
    settings: Settings, topic: str, name: str, *, paused: bool, dry_run: bool
) -> ScheduleInfo:
    with settings.connect() as client:
        if dry_run:
            return _find(client, topic, name)
        return client.admin.pause_schedule(topic, name, paused=paused).schedule


@schedule.command("delete", outputs=(), examples="penstock schedule delete reports nightly --yes")
@topic_argument
@_name_argument
@yes_option
@dry_run_option
@click.pass_obj
def delete(settings: Settings, topic: str, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a schedule; the records that it has published stay."""
    with settings.connect() as client:
        info = _find(client, topic, name)
        words = f"schedule {name} on {topic} ({info.cron}, fired {info.fired:,} times)"
        if dry_run:
            settings.say(f"dry run, nothing changed: {words} deleted")
            return
        settings.confirm(f"delete {words}", yes=yes)
        client.admin.delete_schedule(topic, name)
    settings.say(f"schedule {name} on {topic} deleted")


schedule.add_command(delayed)
schedule.add_command(cancel)
