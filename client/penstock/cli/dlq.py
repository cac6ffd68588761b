"""`penstock dlq`: dead letters of shared groups: look at them, redrive or purge them."""

from __future__ import annotations

import sys
from typing import Any

import click

from penstock.cli.commands import Noun
from penstock.cli.dead import FILTER_NOTE, Filter, filter_options, no_letters, select
from penstock.cli.dead_view import (
    LETTERS,
    REASONS,
    Reasons,
    letter_lines,
    letter_row,
    place_of,
    table_row,
)
from penstock.cli.dlq_list import GROUPS, group_rows
from penstock.cli.dlq_redrive import purge, redrive
from penstock.cli.exits import Exit
from penstock.cli.group_shared import warn_missing
from penstock.cli.output import (
    print_object,
    print_rows,
    print_table,
    terminal_width,
    to_json,
)
from penstock.cli.params import PLACE, complete_topics, shared_argument, topic_argument
from penstock.cli.printing import reader_is_gone
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.units import count_of

PEEKED = 10


@click.group("dlq", cls=Noun)
def dlq() -> None:
    """Look at dead letters, redrive or purge them."""


@dlq.command("list", examples="penstock dlq list\npenstock dlq list orders")
@click.argument("topic", required=False, shell_complete=complete_topics)
@click.pass_obj
def list_groups(settings: Settings, topic: str | None) -> None:
    """List the groups that have a dead-letter topic, and what lies in it.

    REDRIVEN counts those that were given back and are not settled yet. The
    letters themselves are shown by `dlq peek` and `dlq reasons`.
    """
    with settings.connect() as client:
        rows = list(group_rows(client, topic))
    print_rows(rows, GROUPS, settings.output, name="dead_topic")
    for row in rows:
        warn_missing(settings, row["dead_topic"], row["missing"])
    if any(row["deleted"] for row in rows):
        settings.say("Of deleted ones the letters can be read: penstock tail dead.TOPIC.GROUP")
    if not rows:
        where = f"on {topic}" if topic else "yet"
        settings.say(f"There is no shared group with a dead-letter topic {where}.")


@dlq.command(
    "reasons",
    examples="penstock dlq reasons orders billing\n"
    "penstock dlq reasons orders billing --since -1d -o json",
    notes=FILTER_NOTE,
)
@topic_argument
@shared_argument
@filter_options
@click.pass_obj
def reasons(settings: Settings, /, topic: str, group: str, **filters: Any) -> None:  # noqa: ANN401 - as Filter has them
    """Count a group's dead letters by what they died of."""
    wanted, counted = Filter(**filters), Reasons()
    with settings.connect() as client:
        for page in select(client, topic, group, wanted):
            counted.add(page)
    print_rows(counted.rows(wall_us()), REASONS, settings.output, name="cause")
    if not counted.total:
        settings.say(no_letters(topic, group, wanted))


@dlq.command(
    "peek",
    examples="penstock dlq peek orders billing\n"
    "penstock dlq peek orders billing --error Timeout --since -1h -n 50 -o wide\n"
    "penstock dlq peek orders billing --where 'value.total > 100' -o ndjson | jq .",
    notes=FILTER_NOTE,
)
@topic_argument
@shared_argument
@filter_options
@click.pass_obj
def peek(settings: Settings, /, topic: str, group: str, **filters: Any) -> None:  # noqa: ANN401 - as above
    """Show a group's dead letters, oldest first; changes nothing.

    The first 10 of them, unless --limit says how many.
    """
    filters["limit"] = filters["limit"] or PEEKED
    wanted = Filter(**filters)
    with settings.connect() as client:
        letters = [letter for page in select(client, topic, group, wanted) for letter in page]
    if settings.output in ("table", "wide"):
        print_table(
            [table_row(it, wall_us()) for it in letters], LETTERS, wide=settings.output == "wide"
        )
    else:
        print_rows([letter_row(it) for it in letters], (), settings.output, name="place")
    if not letters:
        settings.say(no_letters(topic, group, wanted))
    elif settings.output == "table":
        settings.say(f"One in full: penstock dlq show {topic} {group} {place_of(letters[0])}")


@dlq.command(
    "show",
    examples="penstock dlq show orders billing 0:17\npenstock dlq show orders billing 0:17 -o wide",
)
@topic_argument
@shared_argument
@click.argument("place", type=PLACE, metavar="PARTITION:OFFSET")
@click.pass_obj
def show(settings: Settings, topic: str, group: str, place: tuple[int, int]) -> None:
    """Show one dead letter in full: the record, its origin and every attempt.

    Its place in the dead-letter topic is what `dlq peek` shows. -o wide shows
    the errors from their first line to their last.
    """
    partition, offset = place
    with settings.connect() as client:
        page = client.admin.dead_letters(
            topic, group, partition=partition, after={partition: offset}, limit=1
        )
    letter = page.letters[0] if page.letters else None
    if letter is None or letter.record.offset != offset:
        raise Failure(
            f"there is no dead letter {partition}:{offset} of group {group} on {topic}",
            code=Exit.NOT_FOUND,
            hint=f"It may be redriven or purged; see penstock dlq peek {topic} {group}",
        )
    found = letter

    def tell() -> None:
        whole = settings.output == "wide"
        for line in letter_lines(found, now_us=wall_us(), width=terminal_width(), whole=whole):
            click.echo(line)

    print_object(letter_row(letter), settings.output, name="place", show=tell)


@dlq.command(
    "export",
    outputs=(),
    examples="penstock dlq export orders billing > dead.ndjson\n"
    "penstock dlq export orders billing --reason 'ValueError*' | jq .value",
    notes=FILTER_NOTE,
)
@topic_argument
@shared_argument
@filter_options
@click.pass_obj
def export(settings: Settings, /, topic: str, group: str, **filters: Any) -> None:  # noqa: ANN401 - as above
    """Write dead letters with their whole history as NDJSON; changes nothing.

    `dlq redrive --edit FILE` takes the file with other values, and
    `publish --format ndjson` publishes it as new records.
    """
    wanted, total = Filter(**filters), 0
    stream = sys.stdout.buffer
    with settings.connect() as client:
        for page in select(client, topic, group, wanted):
            if not page and reader_is_gone(stream):
                raise BrokenPipeError
            stream.write(b"".join(f"{to_json(letter_row(it))}\n".encode() for it in page))
            stream.flush()
            total += len(page)
    settings.say(f"{count_of(total, 'dead letter')} written")


dlq.add_command(redrive)
dlq.add_command(purge)
