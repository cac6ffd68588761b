"""`penstock group`: list, describe, lag, seek, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.output import Column, print_fields, print_object, print_rows, print_table
from penstock.cli.params import (
    NUMBER,
    PARTITION_POSITION,
    POSITION,
    complete_topics,
    dry_run_option,
    group_argument,
    yes_option,
)
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import Position, count_of

if TYPE_CHECKING:
    from penstock.protocol.messages import DescribeGroupReply, PartitionLag

_LIST = (
    Column("group", "GROUP"),
    Column("mode", "MODE"),
    Column("members", "MEMBERS", "number"),
    Column("lag", "LAG", "number"),
    Column("topics", "TOPICS"),
    Column("generation", "GENERATION", "number", wide=True),
)
_MEMBERS = (
    Column("member", "MEMBER"),
    Column("host", "HOST"),
    Column("partitions", "PARTITIONS", "number"),
    Column("last_seen_seconds", "LAST SEEN", "seconds"),
    Column("owned", "OWNS", wide=True),
    Column("generation", "GENERATION", "number", wide=True),
)
_LAG = (
    Column("topic", "TOPIC"),
    Column("partition", "PARTITION", "number"),
    Column("committed", "COMMITTED", "number"),
    Column("high_watermark", "END", "number"),
    Column("lag", "LAG", "number"),
    Column("member", "MEMBER"),
    Column("log_start_offset", "START", "number", wide=True),
)
_PLAN = (
    Column("partition", "PARTITION", "number"),
    Column("from", "FROM", "number"),
    Column("to", "TO", "number"),
    Column("again", "READ AGAIN", "number"),
    Column("skipped", "SKIPPED", "number"),
)


@click.group("group", cls=Noun)
def group() -> None:
    """List, describe, lag, seek, delete."""


@group.command("list", examples="penstock group list")
@click.pass_obj
def list_groups(settings: Settings) -> None:
    """List the consumer groups."""
    with settings.connect() as client:
        groups = client.admin.list_groups().groups
    rows = [
        {
            "group": g.group,
            "mode": g.mode,
            "members": g.members,
            "lag": g.lag,
            "topics": g.topics,
            "generation": g.generation,
        }
        for g in groups
    ]
    print_rows(rows, _LIST, settings.output, name="group")
    if not rows:
        settings.say("There is no group yet. Make one: penstock consume TOPIC --group NAME")


def _lag_rows(partitions: Sequence[PartitionLag]) -> list[dict[str, Any]]:
    return [
        {
            "topic": p.topic,
            "partition": p.partition,
            "committed": p.committed if p.committed >= 0 else None,
            "log_start_offset": p.log_start_offset,
            "high_watermark": p.high_watermark,
            "lag": p.lag,
            "member": p.member,
        }
        for p in partitions
    ]


@group.command("describe", examples="penstock group describe billing -o wide")
@group_argument
@click.pass_obj
def describe(settings: Settings, group: str) -> None:
    """Show a group's members and how far it is on each partition."""
    with settings.connect() as client:
        reply = client.admin.describe_group(group)
    value = _group_value(reply)
    wide = settings.output == "wide"

    def show() -> None:
        print_fields(
            [
                ("Group", value["group"]),
                ("Mode", value["mode"]),
                ("Generation", value["generation"]),
                ("Lag", f"{value['lag']:,}"),
            ]
        )
        click.echo()
        if value["members"]:
            print_table(value["members"], _MEMBERS, wide=wide)
            click.echo()
        print_table(value["partitions"], _LAG, wide=wide)
        if not value["members"]:
            settings.say("No member is connected.")

    print_object(value, settings.output, name="group", show=show)


def _group_value(reply: DescribeGroupReply) -> dict[str, Any]:
    members = [
        {
            "member": m.member,
            "host": m.host,
            "owned": [f"{topic}/{p}" for topic, owned in m.owned.items() for p in owned],
            "partitions": sum(map(len, m.owned.values())),
            "generation": m.generation,
            "last_seen_seconds": m.last_seen_ms / 1000,
        }
        for m in reply.members
    ]
    return {
        "group": reply.group,
        "mode": reply.mode,
        "generation": reply.generation,
        "lag": sum(p.lag for p in reply.partitions),
        "members": members,
        "partitions": _lag_rows(reply.partitions),
    }


@group.command(
    "lag",
    examples="penstock group lag billing\npenstock group lag billing --max 10000 || alert",
)
@group_argument
@click.option(
    "--max",
    "limit",
    type=NUMBER,
    metavar="N",
    help="Exit with code 10 when the lag of all partitions is above this.",
)
@click.pass_obj
def lag(settings: Settings, group: str, limit: int | None) -> None:
    """Show how many records a group has still to read, by partition."""
    with settings.connect() as client:
        rows = _lag_rows(client.admin.describe_group(group).partitions)
    print_rows(rows, _LAG, settings.output, name=lambda row: f"{row['topic']}/{row['partition']}")
    total = sum(row["lag"] for row in rows)
    if limit is not None and total > limit:
        raise Failure(f"group {group} lags by {total:,}, more than {limit:,}", code=Exit.UNHEALTHY)
    settings.say(f"{count_of(total, 'record')} behind")


@group.command(
    "seek",
    examples="penstock group seek billing orders --to -1h        (shows the plan)\n"
    "penstock group seek billing orders --to -1h --yes  (carries it out)\n"
    "penstock group seek billing orders --partition 0=500 --partition 1=latest",
)
@group_argument
@click.argument("topic", shell_complete=complete_topics)
@click.option(
    "--to",
    type=POSITION,
    metavar="POSITION",
    help="Every partition: earliest, latest, an offset, an age (-1h) or a time.",
)
@click.option(
    "--partition",
    "positions",
    type=PARTITION_POSITION,
    multiple=True,
    metavar="P=POSITION",
    help="One partition (repeatable).",
)
@click.option("--create", is_flag=True, help="Make the group if there is none of that name.")
@click.option("--yes", "-y", is_flag=True, help="Carry the plan out.")
@click.pass_obj
def seek(
    settings: Settings,
    group: str,
    topic: str,
    to: Position | None,
    positions: tuple[tuple[int, Position], ...],
    create: bool,
    yes: bool,
) -> None:
    """Move a group to another position; works while its members run.

    Shows the plan; only --yes carries it out. The members go on from there.
    """
    if (to is None) == (not positions):
        raise click.UsageError("give either --to or --partition", click.get_current_context())
    with settings.connect() as client:
        plan = client.admin.seek_group(
            group,
            topic,
            to=to,
            positions=dict(positions) or None,
            dry_run=not yes,
            create=create,
        ).plan
    rows = [_plan_row(number, *move) for number, move in sorted(plan.items())]
    print_rows(rows, _PLAN, settings.output, name=lambda row: f"{topic}/{row['partition']}")
    if yes:
        settings.say(f"group {group} moved on {count_of(len(rows), 'partition')} of {topic}")
    else:
        settings.say("This is the plan; nothing has moved. Carry it out with --yes.")


def _plan_row(partition: int, start: int, end: int) -> dict[str, Any]:
    known = start >= 0
    return {
        "partition": partition,
        "from": start if known else None,
        "to": end,
        "again": max(0, start - end) if known else None,
        "skipped": max(0, end - start) if known else None,
    }


@group.command("delete", outputs=(), examples="penstock group delete billing --dry-run")
@group_argument
@yes_option
@dry_run_option
@click.pass_obj
def delete(settings: Settings, group: str, yes: bool, dry_run: bool) -> None:
    """Delete a group without members, and its committed offsets."""
    with settings.connect() as client:
        if not dry_run:
            behind = sum(p.lag for p in client.admin.describe_group(group).partitions)
            settings.confirm(f"delete group {group} ({count_of(behind, 'record')} behind)", yes=yes)
        client.admin.delete_group(group, dry_run=dry_run)
    prefix = "dry run, nothing changed: " if dry_run else ""
    settings.say(f"{prefix}group {group} deleted")
