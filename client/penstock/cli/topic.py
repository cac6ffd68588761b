"""`penstock topic`: list, create, describe, alter, delete, trim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.commands import Noun
from penstock.cli.output import Column, print_fields, print_object, print_rows, print_table
from penstock.cli.params import (
    COUNT,
    NUMBER,
    POSITION,
    dry_run_option,
    topic_argument,
    yes_option,
)
from penstock.cli.positions import partitions_of, resolve, unheard
from penstock.cli.settings import Settings
from penstock.cli.topic_config import (
    CONFIG_NOTE,
    config_options,
    gather_config,
    show_retention,
    show_setting,
)
from penstock.cli.units import Position, count_of, show_size

if TYPE_CHECKING:
    from penstock.protocol.messages import PartitionFigures, TopicInfo

_LIST = (
    Column("topic", "TOPIC"),
    Column("partitions", "PARTITIONS", "number"),
    Column("replication", "REPLICAS", "number"),
    Column("cleanup", "CLEANUP"),
    Column("retention", "RETENTION"),
    Column("records", "RECORDS", "number", wide=True),
    Column("size_bytes", "SIZE", "size", wide=True),
)
_PARTITIONS = (
    Column("partition", "PARTITION", "number"),
    Column("leader", "LEADER", "number"),
    Column("log_start_offset", "START", "number"),
    Column("high_watermark", "END", "number"),
    Column("records", "RECORDS", "number"),
    Column("size_bytes", "SIZE", "size"),
    Column("segments", "SEGMENTS", "number"),
    Column("damaged", "DAMAGED"),
    Column("replicas", "REPLICAS", wide=True),
    Column("term", "TERM", "number", wide=True),
    Column("group", "RAFT GROUP", "number", wide=True),
    Column("producers", "PRODUCERS", "number", wide=True),
)


@click.group("topic", cls=Noun)
def topic() -> None:
    """List, create, describe, alter, delete, trim."""


@topic.command("list", examples="penstock topic list\npenstock topic list -o wide")
@click.pass_obj
def list_topics(settings: Settings) -> None:
    """List the topics; `-o wide` adds records and sizes."""
    with settings.connect() as client:
        topics = sorted(client.admin.metadata().topics, key=lambda info: info.name)
        rows = [_row(info) for info in topics]
        if settings.output == "wide":
            for row in rows:
                row.update(_sums(client.admin.describe_topic(row["topic"]).partitions))
    print_rows(rows, _LIST, settings.output, name="topic")
    if not rows:
        settings.say("There is no topic yet. Make one: penstock topic create NAME")


def _row(info: TopicInfo) -> dict[str, Any]:
    return {
        "topic": info.name,
        "partitions": len(info.partitions),
        "replication": info.replication,
        "cleanup": info.config.get("cleanup", "delete"),
        "retention": show_retention(info.config),
        "id": info.id,
        "config": info.config,
    }


def _sums(partitions: Sequence[PartitionFigures]) -> dict[str, int]:
    return {
        "records": sum(p.high_watermark - p.log_start_offset for p in partitions),
        "size_bytes": sum(p.size_bytes for p in partitions),
    }


@topic.command(
    "create",
    examples="penstock topic create orders --partitions 4 --retention 30d\n"
    "penstock topic create prices --cleanup compact --if-not-exists",
    notes=CONFIG_NOTE,
)
@click.argument("name")
@click.option(
    "-p",
    "--partitions",
    type=COUNT,
    metavar="N",
    default=1,
    show_default=True,
    help="How many partitions.",
)
@click.option(
    "-r",
    "--replication",
    type=COUNT,
    metavar="N",
    default=1,
    show_default=True,
    help="Copies of each record.",
)
@config_options
@click.option("--if-not-exists", is_flag=True, help="It is well if the topic exists already.")
@dry_run_option
@click.pass_obj
def create(
    settings: Settings,
    /,
    name: str,
    partitions: int,
    replication: int,
    pairs: tuple[tuple[str, str], ...],
    if_not_exists: bool,
    dry_run: bool,
    **named: object,
) -> None:
    """Create a topic."""
    with settings.connect() as client:
        reply = client.admin.create_topic(
            name,
            partitions=partitions,
            replication=replication,
            config=gather_config(pairs, **named),
            if_not_exists=if_not_exists,
            dry_run=dry_run,
        )
    _say_done(
        settings, dry_run, f"topic {name} created" if reply.created else f"topic {name} exists"
    )
    _warn_of_even(settings, replication)
    _print_outcome(settings, _row(reply.topic))


def _warn_of_even(settings: Settings, copies: int | None) -> None:
    """A majority of two is both, of four is three: the last copy outlives nothing more."""
    if copies and not copies % 2:
        lost = count_of(copies // 2 - 1, "broker") if copies > 2 else "no broker"
        more = count_of(copies // 2, "broker")
        settings.warn(
            f"with {copies} copies {lost} may be away or lost, with {copies + 1} copies {more} may"
        )


def _say_done(settings: Settings, dry_run: bool, words: str) -> None:
    settings.say(f"dry run, nothing changed: {words}" if dry_run else words)


def _print_outcome(settings: Settings, row: dict[str, Any]) -> None:
    if settings.output not in ("table", "wide"):
        print_object(row, settings.output, name="topic", show=lambda: None)


@topic.command("describe", examples="penstock topic describe orders -o wide")
@topic_argument
@click.pass_obj
def describe(settings: Settings, topic: str) -> None:
    """Show a topic's configuration and what its partitions hold."""
    with settings.connect() as client:
        reply = client.admin.describe_topic(topic)
    rows = [_figures(partition) for partition in reply.partitions]
    value = {**_row(reply.topic), **_sums(reply.partitions), "partitions": rows}

    def show() -> None:
        _show_head(value, len(reply.topic.partitions))
        click.echo()
        print_table(rows, _PARTITIONS, wide=settings.output == "wide")

    print_object(value, settings.output, name="topic", show=show)
    if silent := unheard(reply):
        named = ", ".join(map(str, silent))
        settings.warn(f"no leader of partition {named} at the moment: what it holds is not counted")


def _show_head(value: dict[str, Any], partitions: int) -> None:
    print_fields(
        [
            ("Topic", value["topic"]),
            ("Id", value["id"]),
            ("Partitions", partitions),
            ("Replicas", value["replication"]),
            ("Records", f"{value['records']:,}"),
            ("Size", show_size(value["size_bytes"])),
            ("Retention", value["retention"]),
            *((f"  {key}", show_setting(key, it)) for key, it in sorted(value["config"].items())),
        ]
    )


def _figures(partition: PartitionFigures) -> dict[str, Any]:
    return {
        "partition": partition.partition,
        "leader": partition.leader,
        "replicas": partition.replicas,
        "log_start_offset": partition.log_start_offset,
        "high_watermark": partition.high_watermark,
        "records": partition.high_watermark - partition.log_start_offset,
        "size_bytes": partition.size_bytes,
        "segments": partition.segments,
        "term": partition.term,
        "group": partition.group,
        "producers": partition.producers,
        "damaged": [f"{first}-{end - 1}" for first, end in partition.damaged],
    }


@topic.command(
    "alter",
    examples="penstock topic alter orders --retention 14d\n"
    "penstock topic alter orders -c retention_ms=default --dry-run",
    notes=CONFIG_NOTE,
)
@topic_argument
@click.option("-p", "--partitions", type=COUNT, metavar="N", help="Grow to so many partitions.")
@click.option("--replication", type=COUNT, metavar="N", help="Have so many replicas from now on.")
@config_options
@dry_run_option
@click.pass_obj
def alter(
    settings: Settings,
    /,
    topic: str,
    partitions: int | None,
    replication: int | None,
    pairs: tuple[tuple[str, str], ...],
    dry_run: bool,
    **named: object,
) -> None:
    """Change a topic's configuration, add partitions, or change its replication.

    Replicas come and go in the background: see `penstock partition list`.
    """
    config = gather_config(pairs, **named)
    if not config and partitions is None and replication is None:
        raise click.UsageError("nothing to change: give an option", click.get_current_context())
    with settings.connect() as client:
        reply = client.admin.alter_topic(
            topic, config=config, partitions=partitions, replication=replication, dry_run=dry_run
        )
    _say_done(settings, dry_run, f"topic {topic} altered")
    _warn_of_even(settings, replication)
    _print_outcome(settings, _row(reply.topic))


@topic.command("delete", outputs=(), examples="penstock topic delete orders --dry-run")
@topic_argument
@yes_option
@dry_run_option
@click.pass_obj
def delete(settings: Settings, topic: str, yes: bool, dry_run: bool) -> None:
    """Delete a topic and all its records."""
    with settings.connect() as client:
        sums = _sums(client.admin.describe_topic(topic).partitions)
        held = f"{count_of(sums['records'], 'record')}, {show_size(sums['size_bytes'])}"
        if not dry_run:
            settings.confirm(f"delete topic {topic} ({held})", yes=yes)
        reply = client.admin.delete_topic(topic, dry_run=dry_run)
    _say_done(
        settings,
        dry_run,
        f"topic {topic} deleted: {count_of(reply.partitions, 'partition')}, {held}",
    )


@topic.command(
    "trim",
    outputs=(),
    examples="penstock topic trim orders --before -30d\n"
    "penstock topic trim orders --partition 0 --before 500 --dry-run",
)
@topic_argument
@click.option(
    "--before",
    type=POSITION,
    required=True,
    metavar="POSITION",
    help="An offset, an age (-30d), a time, or latest for all records.",
)
@click.option("--partition", type=NUMBER, metavar="N", help="One partition [default all].")
@yes_option
@dry_run_option
@click.pass_obj
def trim(
    settings: Settings,
    topic: str,
    before: Position,
    partition: int | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Delete the oldest records: all before a position."""
    with settings.connect() as client:
        figures = partitions_of(client, topic, partition)
        targets = resolve(client, topic, [p.partition for p in figures], before)
        if partition is None:
            targets = {p.partition: min(targets[p.partition], p.high_watermark) for p in figures}
        plan = {p.partition: max(0, targets[p.partition] - p.log_start_offset) for p in figures}
        total = sum(plan.values())
        where = f"topic {topic}" if partition is None else f"partition {partition} of topic {topic}"
        if total and not dry_run:
            settings.confirm(f"delete {count_of(total, 'record')} of {where}", yes=yes)
        for number, records in plan.items():
            if records and not dry_run:
                client.admin.trim(topic, number, targets[number])
    _say_done(settings, dry_run, f"{where} trimmed: {count_of(total, 'record')} deleted")
