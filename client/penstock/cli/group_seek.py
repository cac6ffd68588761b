"""`penstock group seek`: moves an ordered group, after it has shown the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.commands import Verb
from penstock.cli.exits import Exit
from penstock.cli.output import Column, print_rows
from penstock.cli.params import (
    PARTITION_POSITION,
    POSITION,
    dry_run_option,
    group_argument,
    topic_argument,
)
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import Position, count_of
from penstock.errors import GroupNotFound

if TYPE_CHECKING:
    from penstock.sync import Client

_PLAN = (
    Column("partition", "PARTITION", "number"),
    Column("from", "FROM", "number"),
    Column("to", "TO", "number"),
    Column("again", "READ AGAIN", "number"),
    Column("skipped", "SKIPPED", "number"),
)


@click.command(
    "seek",
    cls=Verb,
    examples="penstock group seek orders billing --to -1h        (shows the plan)\n"
    "penstock group seek orders billing --to -1h --yes  (carries it out)\n"
    "penstock group seek orders billing --partition 0=500 --partition 1=latest",
)
@topic_argument
@group_argument
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
@click.option(
    "--create", "make", is_flag=True, help="Make the group if there is none of that name."
)
@click.option("--yes", "-y", is_flag=True, help="Carry the plan out.")
@dry_run_option
@click.pass_obj
def seek(
    settings: Settings,
    topic: str,
    group: str,
    to: Position | None,
    positions: tuple[tuple[int, Position], ...],
    make: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Move a group to another position; works while its members run.

    Shows the plan; only --yes carries it out. The members go on from there.
    """
    yes = yes and not dry_run
    if (to is None) == (not positions):
        raise click.UsageError("give either --to or --partition", click.get_current_context())
    with settings.connect() as client:
        try:
            plan = client.admin.seek_group(
                group,
                topic,
                to=to,
                positions=dict(positions) or None,
                dry_run=not yes,
                create=make,
            ).plan
        except GroupNotFound:
            _refuse_shared(client, topic, group)
            raise
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


def _refuse_shared(client: Client, topic: str, group: str) -> None:
    for found in client.admin.list_groups().groups:
        if found.group == group and found.mode == "shared" and topic in found.topics:
            raise Failure(
                f"{group} is a shared group of {topic}: it has no position to move",
                code=Exit.REFUSED,
                hint=f"Delete it and create it again: penstock group create {topic} {group} "
                "--start POSITION",
            )
