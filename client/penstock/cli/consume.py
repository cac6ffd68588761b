"""`penstock consume` and `penstock tail`: reading a topic, as oneself or as a member of a group."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from penstock.cli import spans
from penstock.cli.commands import Verb
from penstock.cli.consume_shared import OnError, Work, consume_shared
from penstock.cli.exits import Exit
from penstock.cli.params import (
    COUNT,
    NUMBER,
    POSITION,
    complete_groups,
    topic_argument,
    whole_number,
)
from penstock.cli.printing import RECORD_OUTPUTS, Printer
from penstock.cli.records import scope_of
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import Position
from penstock.cli.where import WhereError, parse

if TYPE_CHECKING:
    from penstock import Record
    from penstock.sync import Client, Subscription

_F = TypeVar("_F", bound=Callable[..., object])

IN_FLIGHT = 100
TAIL_MAX = 100_000
END_SECONDS = 0.25
"""Silence after which a member looks whether it is at the end."""
GROUP_IDLE_SECONDS = 6.0
"""How long a member waits for partitions before it gives up."""

_FILTERS = (
    click.option("-p", "--partition", type=NUMBER, metavar="N", help="Only this partition."),
    click.option("-k", "--key", help="Only records with this key."),
    click.option(
        "-w",
        "--where",
        "expression",
        metavar="EXPRESSION",
        help="Only records of which this is true; see below.",
    ),
)
_FOLLOW = click.option(
    "-f/-e",
    "--follow/--exit-at-end",
    help="Wait for new records, or stop where the topic ends (default).",
)
_WHERE = (
    "Filters",
    """\
--where compares value, key, headers, topic, partition, offset, timestamp and
size (in bytes):
  value.total > 100 and key == "a"
  not (headers.source in ["web", "app"]) or value.items[0].sku like "A-*"
  timestamp >= "2026-01-31T09:00" and exists(value.error)
A path reads the value as JSON. Operators: or, and, not, == != < <= > >= in,
contains, like (* is any text). What is missing is null: equal only to null.""",
)


def _filtered(command: _F) -> _F:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.command(
    "consume",
    cls=Verb,
    outputs=RECORD_OUTPUTS,
    examples="penstock consume orders\n"
    "penstock consume orders --from -1h --where 'value.total > 100' -o ndjson\n"
    "penstock consume orders --from 2026-01-31T09:00Z --to 2026-01-31T10:00Z\n"
    "penstock consume orders --group billing -f -o value | while read line; do ...\n"
    "penstock consume orders -g mails --mode shared -f --each './send-mail'",
    notes=_WHERE,
)
@topic_argument
@click.option(
    "--from",
    "start",
    type=POSITION,
    metavar="POSITION",
    help="earliest, latest, an offset, an age (-1h) or a time.  [default: earliest]",
)
@click.option("--to", "end", type=POSITION, metavar="POSITION", help="Stop before this position.")
@click.option("-n", "--limit", type=COUNT, metavar="N", help="Stop after so many records.")
@_FOLLOW
@_filtered
@click.option(
    "-g",
    "--group",
    shell_complete=complete_groups,
    help="Read as a member of this group, and commit what was printed.",
)
@click.option(
    "--mode",
    type=click.Choice(["ordered", "shared"]),
    default="ordered",
    help="Of the group: shared ones give out record by record.  [default: ordered]",
)
@click.option(
    "--max-in-flight",
    type=COUNT,
    metavar="N",
    help="Records that a shared group may give this member at once.  [default: 100, with --each 1]",
)
@click.option(
    "--each",
    "command",
    metavar="COMMAND",
    help="Run this for each record of a shared group instead of printing it.",
)
@click.option(
    "--on-error", type=click.Choice(["nack", "reject", "stop"]), default="nack",
    help="When it fails: retry later (default), dead letter, or stop.",
)  # fmt: skip
@click.pass_obj
def consume(
    settings: Settings,
    /,
    topic: str,
    start: Position | None,
    end: Position | None,
    limit: int | None,
    follow: bool,
    partition: int | None,
    key: str | None,
    expression: str | None,
    group: str | None,
    mode: str,
    max_in_flight: int | None,
    command: str | None,
    on_error: OnError,
) -> None:
    """Read a topic, as yourself or as a group.

    From its earliest record to where it ends now, unless told otherwise.

    With --group the members of the group share the partitions, and go on where
    the group stopped; --from says where a new group begins. Offsets are committed
    after their records are printed, so a record may come twice and is never lost.

    With --mode shared each record is leased to one member, and acknowledged once
    it is printed. With --each the value goes to a shell command, one record at a
    time: exit code 0 acknowledges it. What --key and --where leave out is
    acknowledged unseen. To look without taking part, leave --group out.
    """
    choice = chooser(key, expression)
    if group is not None and (end is not None or partition is not None):
        raise click.UsageError("--group goes with neither --to nor --partition")
    if mode == "shared":
        if group is None:
            raise click.UsageError("--mode shared needs --group")
        work = Work(
            topic, group, choice, max_in_flight or (IN_FLIGHT if command is None else 1),
            start if start is not None else "earliest",
            limit=limit, follow=follow, command=command, on_error=on_error,
        )  # fmt: skip
        with settings.connect() as client:
            consume_shared(settings, client, work)
        return
    if command is not None:
        raise click.UsageError("--each goes with --mode shared")
    printer = Printer(settings.output)
    with settings.connect() as client:
        if group is not None:
            begin = start if start is not None else "earliest"
            with client.subscribe(topic, group=group, start=begin, commit="manual") as member:
                _work(client, member, topic, printer, choice, limit=limit, follow=follow)
        else:
            planned = spans.plan(
                client,
                topic,
                partition,
                start=start if start is not None else "earliest",
                end=end,
                follow=follow,
            )
            for bunch in spans.read(client, topic, planned):
                chosen = [record for record in bunch if choice(record)]
                printer.show(chosen if limit is None else chosen[: limit - printer.printed])
                if limit is not None and printer.printed >= limit:
                    break
    printer.end()
    _say_if_nothing(settings, printer, topic)


@click.command(
    "tail",
    cls=Verb,
    outputs=RECORD_OUTPUTS,
    examples="penstock tail orders\n"
    "penstock tail orders -n 100 -f --key customer-7\n"
    "penstock tail orders -f --where 'value.state == \"failed\"' -o ndjson | jq .",
    notes=_WHERE,
)
@topic_argument
@click.option(
    "-n",
    "--lines",
    "count",
    type=whole_number(0, TAIL_MAX),
    metavar="N",
    default=10,
    show_default=True,
    help="How many records.",
)
@_FOLLOW
@_filtered
@click.pass_obj
def tail(
    settings: Settings,
    /,
    topic: str,
    count: int,
    follow: bool,
    partition: int | None,
    key: str | None,
    expression: str | None,
) -> None:
    """Show the last records, and follow with -f.

    All partitions together, in the order of their times.
    """
    choice = chooser(key, expression)
    printer = Printer(settings.output)
    with settings.connect() as client:
        last, ends = spans.read_last(client, topic, partition, count, choice)
        printer.show(last)
        if follow:
            onward = {number: spans.Span(end, None) for number, end in ends.items()}
            for bunch in spans.read(client, topic, onward):
                printer.show([record for record in bunch if choice(record)])
    printer.end()
    _say_if_nothing(settings, printer, topic)


def _say_if_nothing(settings: Settings, printer: Printer, topic: str) -> None:
    if not printer.printed:
        settings.say(f"no record to show in {topic}")


def chooser(key: str | None, expression: str | None) -> spans.Choice:
    """Does a record have the key, and is the expression true of it?

    Raises:
        click.UsageError: the expression is wrong.
    """
    if key is None and expression is None:
        return lambda _record: True
    try:
        predicate = parse(expression) if expression is not None else None
    except WhereError as error:
        raise click.UsageError(f"--where: {error}") from None
    wanted = os.fsencode(key) if key is not None else None

    def choose(record: Record) -> bool:
        if wanted is not None and record.key != wanted:
            return False
        return predicate is None or predicate(scope_of(record))

    return choose


def _work(
    client: Client,
    member: Subscription,
    topic: str,
    printer: Printer,
    choice: spans.Choice,
    *,
    limit: int | None,
    follow: bool,
) -> None:
    """Print and commit as a member of a group, until the end or the limit."""
    idle, wait = 0.0, spans.FETCH_SECONDS if follow else END_SECONDS
    while limit is None or printer.printed < limit:
        most = spans.FETCH_RECORDS if limit is None else limit - printer.printed
        bunch = member.fetch(max_records=min(most, spans.FETCH_RECORDS), wait=wait)
        if bunch:
            printer.show([record for record in bunch if choice(record)])
            member.commit()
            idle = 0.0
            continue
        idle += wait
        if not follow and (_at_end(member, topic) or idle >= GROUP_IDLE_SECONDS):
            unread = _unread(client, member, topic)
            if not unread:
                return
            if idle >= GROUP_IDLE_SECONDS:
                numbers = ", ".join(map(str, unread))
                raise Failure(f"not read to the end: partitions {numbers}", code=Exit.PARTIAL)


def _at_end(member: Subscription, topic: str) -> bool:
    """Has the member partitions, and has it read all of them to their ends?"""
    positions = member.position().get(topic, {})
    ahead = member.lag().get(topic, {})
    return bool(positions) and min(positions.values()) >= 0 and not any(ahead.values())


def _unread(client: Client, member: Subscription, topic: str) -> list[int]:
    """The member's partitions that have more: what it fetched last may be old, or nothing yet.

    Raises:
        LeaderUnknown: nobody can tell of one of them.
    """
    positions = member.position().get(topic, {})
    if not positions:
        return []
    ends = client.admin.list_offsets(topic, dict.fromkeys(positions, "latest"))
    return [number for number, position in positions.items() if position < ends[number]]
