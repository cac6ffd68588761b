"""`penstock group`: ordered groups and shared ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.group_seek import seek
from penstock.cli.group_shared import (
    alter,
    choose_shared,
    create,
    describe_shared,
    stuck,
    warn_missing,
)
from penstock.cli.output import Column, print_fields, print_object, print_rows, print_table
from penstock.cli.params import (
    NUMBER,
    dry_run_option,
    named_group_argument,
    yes_option,
)
from penstock.cli.settings import Failure, Settings
from penstock.cli.shared_view import LOOK_SECONDS, lag_words, unsettled
from penstock.cli.units import count_of

if TYPE_CHECKING:
    from penstock.protocol.messages import DescribeGroupReply, PartitionLag
    from penstock.protocol.sharing import DescribeSharedReply
    from penstock.sync import Client

_LIST = (
    Column("group", "GROUP"),
    Column("mode", "MODE"),
    Column("members", "MEMBERS", "number"),
    Column("lag", "LAG", "number"),
    Column("topics", "TOPICS"),
    Column("missing", "UNTOLD", "number", wide=True),
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


@click.group("group", cls=Noun)
def group() -> None:
    """List, create, describe, alter, lag, seek, stuck, delete."""


@group.command("list", examples="penstock group list")
@click.pass_obj
def list_groups(settings: Settings) -> None:
    """List the groups.

    The lag of a shared one counts what is not settled. Partitions without a leader
    are left out, which is told.
    """
    with settings.connect() as client:
        reply = client.admin.list_groups(patience=LOOK_SECONDS)
    rows = [
        {
            "group": g.group,
            "mode": g.mode,
            "members": g.members,
            "lag": g.lag,
            "topics": g.topics,
            "missing": g.missing,
            "generation": g.generation,
        }
        for g in reply.groups
    ]
    print_rows(rows, _LIST, settings.output, name="group")
    partial = [g for g in reply.groups if g.missing]
    if partial:
        settings.warn(lag_words(partial))
    if reply.missing:
        counted = count_of(reply.missing, "coordinator")
        settings.warn(f"ordered groups are left out: {counted} without a leader")
    elif not rows:
        settings.say(
            "There is no group yet. Make one: penstock consume TOPIC --group NAME\n"
            "A shared one: penstock group create TOPIC NAME"
        )


group.add_command(create)


def _lag_rows(reply: DescribeGroupReply) -> list[dict[str, Any]]:
    return [_lag_row(p, told=p.partition not in reply.missing.get(p.topic, ()))
            for p in reply.partitions]  # fmt: skip


def _lag_row(p: PartitionLag, *, told: bool) -> dict[str, Any]:
    return {
        "topic": p.topic,
        "partition": p.partition,
        "committed": p.committed if p.committed >= 0 else None,
        "log_start_offset": p.log_start_offset if told else None,
        "high_watermark": p.high_watermark if told else None,
        "lag": p.lag if told else None,
        "member": p.member,
    }


@group.command(
    "describe",
    examples="penstock group describe billing -o wide\n"
    "penstock group describe orders billing      (a shared group, by its topic)",
)
@named_group_argument
@click.pass_obj
def describe(settings: Settings, names: tuple[str | None, str]) -> None:
    """Show a group: its members and how far it is on each partition.

    Of a shared group also what is ready, leased, delayed and dead, the oldest
    record that is not settled, and what keeps the group from going on. START is
    the first offset that is not settled, END the first that was never delivered.
    """
    topic, name = names
    with settings.connect() as client:
        topic = topic or choose_shared(client, name)
        if topic is not None:
            describe_shared(settings, client, topic, name)
            return
        reply = client.admin.describe_group(name, patience=LOOK_SECONDS)
    _print_ordered(settings, reply)


def _print_ordered(settings: Settings, reply: DescribeGroupReply) -> None:
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
    _warn_missing(settings, reply)


def _warn_missing(settings: Settings, reply: DescribeGroupReply) -> None:
    for topic, partitions in reply.missing.items():
        warn_missing(settings, topic, partitions)


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
    rows = _lag_rows(reply)
    return {
        "group": reply.group,
        "mode": reply.mode,
        "generation": reply.generation,
        "lag": sum(row["lag"] or 0 for row in rows),
        "members": members,
        "partitions": rows,
        "missing": reply.missing,
    }


group.add_command(alter)


@group.command(
    "lag",
    examples="penstock group lag billing\npenstock group lag billing --max 10000 || alert",
)
@named_group_argument
@click.option(
    "--max",
    "limit",
    type=NUMBER,
    metavar="N",
    help="Exit with code 10 when the lag of all partitions is above this.",
)
@click.pass_obj
def lag(settings: Settings, names: tuple[str | None, str], limit: int | None) -> None:
    """Show how many records a group has still to read, by partition.

    For a shared group: how many are not settled, in members' hands included.
    With --max the exit code is 10 too when a partition has no leader.
    """
    topic, name = names
    with settings.connect() as client:
        topic = topic or choose_shared(client, name)
        if topic is not None:
            shared = client.admin.describe_shared(topic, name)
            rows, missing = _shared_lag_rows(shared), {topic: shared.missing}
        else:
            reply = client.admin.describe_group(name, patience=LOOK_SECONDS)
            rows, missing = _lag_rows(reply), reply.missing
    print_rows(rows, _LAG, settings.output, name=lambda row: f"{row['topic']}/{row['partition']}")
    for lost, partitions in missing.items():
        warn_missing(settings, lost, partitions)
    total = sum(row["lag"] or 0 for row in rows)
    if limit is not None and total > limit:
        raise Failure(f"group {name} lags by {total:,}, more than {limit:,}", code=Exit.UNHEALTHY)
    if limit is not None and any(missing.values()):
        raise Failure(f"the lag of group {name} is not known", code=Exit.UNHEALTHY)
    known = " where that is known" if any(missing.values()) else ""
    settings.say(f"{count_of(total, 'record')} behind{known}")


def _shared_lag_rows(reply: DescribeSharedReply) -> list[dict[str, Any]]:
    return [
        {
            "topic": reply.group.topic,
            "partition": p.partition,
            "committed": p.start,
            "log_start_offset": None,
            "high_watermark": p.high_watermark,
            "lag": unsettled(p),
            "member": ",".join(m.member for m in p.members),
        }
        for p in reply.partitions
    ]


group.add_command(seek)
group.add_command(stuck)


@group.command(
    "delete",
    outputs=(),
    examples="penstock group delete billing --dry-run\npenstock group delete orders billing --yes",
)
@named_group_argument
@yes_option
@dry_run_option
@click.pass_obj
def delete(settings: Settings, names: tuple[str | None, str], yes: bool, dry_run: bool) -> None:
    """Delete a group without members, and its committed offsets.

    Of a shared group, what it knows of each record goes too; its dead-letter
    topic stays.
    """
    topic, name = names
    with settings.connect() as client:
        topic = topic or choose_shared(client, name)
        what = f"group {name}" if topic is None else f"shared group {name} on {topic}"
        if not dry_run:
            settings.confirm(f"delete {what} ({_left(client, topic, name)})", yes=yes)
        where = {} if topic is None else {"topic": topic}
        client.admin.delete_group(name, **where, dry_run=dry_run)
    prefix = "dry run, nothing changed: " if dry_run else ""
    settings.say(f"{prefix}{what} deleted")


def _left(client: Client, topic: str | None, group: str) -> str:
    """What a group has still to do, in words."""
    if topic is not None:
        figures = client.admin.describe_shared(topic, group).partitions
        return f"{count_of(sum(map(unsettled, figures)), 'record')} not settled"
    behind = sum(p.lag for p in client.admin.describe_group(group).partitions)
    return f"{count_of(behind, 'record')} behind"
