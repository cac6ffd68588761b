"""The verbs of `penstock group` that only shared groups have: create, alter, stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.commands import Verb
from penstock.cli.explained import blocked_words, state_lines, state_row
from penstock.cli.output import (
    Column,
    print_fields,
    print_object,
    print_rows,
    print_table,
    styled,
    terminal_width,
)
from penstock.cli.params import (
    POSITION,
    complete_shared,
    dry_run_option,
    shared_argument,
    topic_argument,
    whole_number,
)
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.shared_settings import SETTINGS_NOTE, settings_options, show_settings
from penstock.cli.shared_view import (
    MEMBERS,
    missing_words,
    partition_columns,
    shared_fields,
    shared_value,
    unsettled,
)
from penstock.cli.topic_config import gather_config
from penstock.cli.units import Position, count_of
from penstock.errors import GroupNotFound, TopicNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.protocol.sharing import DescribeSharedReply, RecordState, SharedGroupInfo
    from penstock.sync import Client

STUCK_MAX = 1000
GLANCE_SECONDS = 0.1


@click.command(
    "create",
    cls=Verb,
    examples="penstock group create orders billing\n"
    "penstock group create orders billing --lease 5m --attempts 8 --start latest\n"
    "penstock group create orders mails -c limit_by=tenant -c concurrency=4",
    notes=SETTINGS_NOTE,
)
@topic_argument
@click.argument("group")
@click.option(
    "--start", type=POSITION, default="earliest", show_default=True, metavar="POSITION",
    help="Where it begins: earliest, latest, an age (-1h) or a time.",
)  # fmt: skip
@settings_options
@click.option("--if-not-exists", is_flag=True, help="It is well if the group exists already.")
@dry_run_option
@click.pass_obj
def create(
    settings: Settings,
    /,
    topic: str,
    group: str,
    start: Position,
    pairs: tuple[tuple[str, str], ...],
    if_not_exists: bool,
    dry_run: bool,
    **named: object,
) -> None:
    """Create a shared group, and its dead-letter topic.

    Its members share the records of the topic one by one, each under a lease:
    `penstock consume TOPIC --group GROUP --mode shared`. An ordered group needs
    no creation.
    """
    if isinstance(start, int):
        raise click.UsageError("--start is earliest, latest, an age or a time; not an offset")
    with settings.connect() as client:
        reply = client.admin.create_group(
            topic,
            group,
            gather_config(pairs, **named),
            start=start,
            if_not_exists=if_not_exists,
            dry_run=dry_run,
        )
    done = "created" if reply.created else "exists"
    _say_done(settings, dry_run, f"shared group {group} on {topic} {done}")
    print_definition(settings, reply.group)


@click.command(
    "alter",
    cls=Verb,
    examples="penstock group alter orders billing --attempts 10\n"
    "penstock group alter orders billing -c rate_per_second=50 -c jitter=default",
    notes=SETTINGS_NOTE,
)
@topic_argument
@shared_argument
@settings_options
@dry_run_option
@click.pass_obj
def alter(
    settings: Settings,
    /,
    topic: str,
    group: str,
    pairs: tuple[tuple[str, str], ...],
    dry_run: bool,
    **named: object,
) -> None:
    """Change the settings of a shared group.

    Its members need no restart.
    """
    changes = gather_config(pairs, **named)
    if not changes:
        raise click.UsageError("nothing to change: give an option", click.get_current_context())
    with settings.connect() as client:
        reply = client.admin.alter_group(topic, group, changes, dry_run=dry_run)
    _say_done(settings, dry_run, f"shared group {group} on {topic} altered")
    print_definition(settings, reply.group)


def _say_done(settings: Settings, dry_run: bool, words: str) -> None:
    settings.say(f"dry run, nothing changed: {words}" if dry_run else words)


def print_definition(settings: Settings, group: SharedGroupInfo) -> None:
    """Print a group as it is defined."""
    value = {
        "group": group.group,
        "mode": "shared",
        "topic": group.topic,
        "dead_topic": group.dead_topic,
        "revision": group.revision,
        "settings": group.settings,
    }

    def show() -> None:
        print_fields(
            [
                ("Group", f"{group.group} on {group.topic}"),
                ("Dead letters", group.dead_topic or "dropped and counted"),
                ("Settings", show_settings(group.settings) or "the defaults"),
            ]
        )

    print_object(value, settings.output, name="group", show=show)


def describe_shared(settings: Settings, client: Client, topic: str, group: str) -> None:
    """Print a shared group: its state, figures, members and partitions."""
    reply = client.admin.describe_shared(topic, group)
    value = shared_value(reply, _dead_side(client, reply), wall_us())
    wide = settings.output == "wide"

    def show() -> None:
        print_fields(shared_fields(value))
        if value["members"]:
            click.echo()
            print_table(value["members"], MEMBERS, wide=wide)
        click.echo()
        print_table(value["partitions"], partition_columns(value["partitions"]), wide=wide)
        for cause in value["blocked_by"]:
            settings.say(f"blocked: {blocked_words(cause)}")
        if value["blocked_by"]:
            settings.say(f"Which records are it: penstock group stuck {topic} {group}")
        if not value["members"]:
            settings.say("No member is attached.")

    print_object(value, settings.output, name="group", show=show)
    warn_missing(settings, topic, value["missing"])
    warn_missing(settings, value["dead_topic"], value["dead_missing"])


def warn_missing(settings: Settings, topic: str, partitions: Sequence[int]) -> None:
    """Say of which partitions nothing is known."""
    if partitions:
        settings.warn(missing_words(topic, partitions))


def _dead_side(client: Client, reply: DescribeSharedReply) -> DescribeSharedReply | None:
    """The group on its dead-letter topic; None where there is none (any more)."""
    if not reply.group.dead_topic:
        return None
    try:
        return client.admin.describe_shared(reply.group.dead_topic, reply.group.group)
    except (TopicNotFound, GroupNotFound):
        return None


_STUCK = (
    Column("place", "RECORD"),
    Column("state", "STATE"),
    Column("deliveries", "DELIVERED", "number"),
    Column("failed", "FAILED", "number"),
    Column("member", "MEMBER", spare=True),
    Column("text", "WHY"),
)


@click.command(
    "stuck",
    cls=Verb,
    examples="penstock group stuck orders billing\n"
    "penstock group stuck orders billing -n 100 -o ndjson",
)
@topic_argument
@click.argument("group", shell_complete=complete_shared)
@click.option(
    "-n", "--limit", type=whole_number(1, STUCK_MAX), metavar="N", default=10, show_default=True,
    help="At most so many.",
)  # fmt: skip
@click.pass_obj
def stuck(settings: Settings, topic: str, group: str, limit: int) -> None:
    """Show the records that hold a shared group back, oldest first.

    Those that no member has settled yet, with what each waits for. -o wide tells
    each in full, as `penstock why` does.
    """
    with settings.connect() as client:
        reply = client.admin.describe_shared(topic, group)
        told = [each.partition for each in reply.partitions]
        found = client.admin.stuck(topic, group, limit=limit, partitions=told)
        dead = None if found else _dead_side(client, reply)
    rows = [_stuck_row(state, topic, partition) for partition, state in found]
    if settings.output == "wide":
        _tell(topic, found)
    else:
        print_rows(rows, _STUCK, settings.output, name=lambda row: f"{topic}/{row['place']}")
    warn_missing(settings, topic, reply.missing)
    if not rows:
        where = " in the other partitions" if reply.missing else ""
        settings.say(f"nothing holds {group} back on {topic}{where}: every record is settled")
        again = 0 if dead is None else sum(unsettled(p) - p.held for p in dead.partitions)
        if dead is not None and again:
            settings.say(
                f"{count_of(again, 'redriven record')} not settled yet: "
                f"penstock group stuck {dead.group.topic} {group}"
            )
    elif settings.output == "table":
        settings.say(f"One in full: penstock why {topic} {rows[0]['place']}")


def _stuck_row(state: RecordState, topic: str, partition: int) -> dict[str, Any]:
    return {
        **state_row(state, topic, partition),
        "place": f"{partition}:{state.offset}",
        "deliveries": state.delivered,
    }


def _tell(topic: str, found: list[tuple[int, RecordState]]) -> None:
    now_us, width = wall_us(), terminal_width()
    for number, (partition, state) in enumerate(found):
        if number:
            click.echo()
        click.echo(styled(f"{topic} {partition}:{state.offset}", bold=True))
        for line in state_lines(state, topic, partition, now_us=now_us, width=width, whole=True):
            click.echo(line)


def choose_shared(client: Client, group: str) -> str | None:
    """The topic of the only shared group of that name; None when an ordered one has it too.

    Raises:
        Failure: several topics have a shared group of that name.
    """
    # Whoever asks for the group then waits for its coordinator: no need to wait for all of them.
    groups = client.admin.list_groups(patience=GLANCE_SECONDS).groups
    named = [g for g in groups if g.group == group]
    shared = sorted(topic for g in named if g.mode == "shared" for topic in g.topics)
    if not shared or len(shared) < len(named):
        return None
    if len(shared) > 1:
        raise Failure(
            f"{count_of(len(shared), 'topic')} have a shared group {group}: {', '.join(shared)}",
            hint=f"Name the topic too: {click.get_current_context().command_path} "
            f"{shared[0]} {group}",
        )
    return shared[0]
