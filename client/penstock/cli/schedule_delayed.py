"""The verbs of `penstock schedule` about records that wait for their time: delayed, cancel."""

from __future__ import annotations

from collections.abc import Sequence

import click

from penstock.cli.commands import Verb
from penstock.cli.exits import Exit
from penstock.cli.output import print_rows
from penstock.cli.params import COUNT, NUMBER, PLACE, dry_run_option, topic_argument
from penstock.cli.scheduled import DELAYED, delayed_rows
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.units import count_of

LIST_MAX = 10_000
"""So many a broker tells of one partition."""


@click.command(
    "delayed",
    cls=Verb,
    examples="penstock schedule delayed orders\npenstock schedule delayed orders -n 1000 -o ndjson",
)
@topic_argument
@click.option("-p", "--partition", type=NUMBER, metavar="N", help="Only this partition.")
@click.option(
    "-n", "--limit", type=COUNT, metavar="N", default=20, show_default=True, help="At most so many."
)
@click.pass_obj
def delayed(settings: Settings, topic: str, partition: int | None, limit: int) -> None:
    """List the records that wait for their time, soonest first.

    They were published with a delay or a time (`penstock publish --delay`).
    """
    with settings.connect() as client:
        found = client.admin.list_scheduled(topic, partition=partition, limit=limit)
    rows = delayed_rows(found.scheduled, topic, wall_us())
    print_rows(rows, DELAYED, settings.output, name="id")
    if not found.total:
        settings.say(f"no record of {topic} waits for its time")
    elif len(rows) < found.total:
        settings.say(f"{len(rows):,} of {found.total:,}; -n shows more")


@click.command(
    "cancel",
    cls=Verb,
    outputs=(),
    examples="penstock schedule cancel orders 0:17 0:18\n"
    "penstock schedule delayed orders -n 100 -o name |\n"
    "    xargs penstock schedule cancel orders",
)
@topic_argument
@click.argument("places", type=PLACE, nargs=-1, required=True, metavar="PARTITION:ID...")
@dry_run_option
@click.pass_obj
def cancel(
    settings: Settings, topic: str, places: Sequence[tuple[int, int]], dry_run: bool
) -> None:
    """Cancel records that wait for their time.

    They are never delivered. The ids are those that `schedule delayed` shows.
    """
    by_partition: dict[int, list[int]] = {}
    for partition, number in places:
        by_partition.setdefault(partition, []).append(number)
    cancelled: set[tuple[int, int]] = set()
    with settings.connect() as client:
        for partition, ids in by_partition.items():
            if dry_run:
                page = client.admin.list_scheduled(topic, partition, limit=LIST_MAX)
                cancelled |= {(partition, each.id) for _, each in page.scheduled if each.id in ids}
                if page.total > LIST_MAX:
                    settings.warn(f"of partition {partition} only the next {LIST_MAX:,} are known")
                continue
            reply = client.admin.cancel_scheduled(topic, partition, ids)
            cancelled |= {(partition, number) for number in reply.cancelled}
    missed = [f"{p}:{number}" for p, number in places if (p, number) not in cancelled]
    prefix = "dry run, nothing changed: " if dry_run else ""
    settings.say(f"{prefix}{count_of(len(cancelled), 'delayed record')} of {topic} cancelled")
    if missed:
        raise Failure(
            f"not waiting any more, or never was: {', '.join(missed)}",
            code=Exit.PARTIAL if cancelled else Exit.NOT_FOUND,
        )
