"""`penstock publish`: lines, NDJSON or one whole file become records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from penstock.cli.commands import Verb
from penstock.cli.exits import Exit, exit_for, hint_for
from penstock.cli.output import to_json
from penstock.cli.params import FUTURE, NUMBER, PAIR, SECONDS, dry_run_option, topic_argument
from penstock.cli.reading import InputError, Source, read_records
from penstock.cli.records import Outgoing
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import count_of
from penstock.errors import PenstockError, TopicNotFound

if TYPE_CHECKING:
    from penstock import Receipt, Receipts
    from penstock.sync import Client

BUNCH_RECORDS = 10_000
BATCH_SPAN = timedelta(days=40)
"""Times further apart than this do not go into one batch: its format reaches 49 days."""


@dataclass
class _Manner:
    """What holds for every record of the command."""

    headers: dict[str, bytes]
    partition: int | None
    delay: float | None = None
    at: datetime | None = None


@dataclass
class _Tally:
    """What was stored: partition -> [first offset, last offset, records]."""

    topic: str
    delayed: bool = False
    """Then the numbers are ids: offsets come when the records are due."""
    records: int = 0
    ranges: dict[int, list[int]] = field(default_factory=dict)

    def add(self, partition: int, offset: int, count: int) -> None:
        self.records += count
        seen = self.ranges.setdefault(partition, [offset, offset, 0])
        seen[1] = offset + count - 1
        seen[2] += count

    def words(self) -> str:
        noun = "id" if self.delayed else "offset"
        places = [
            f"partition {partition} {noun} {first}"
            if count == 1
            else f"partition {partition} {noun}s {first}-{last}"
            for partition, (first, last, count) in sorted(self.ranges.items())
        ]
        shown = ", ".join(places[:8]) + (", ..." if len(places) > 8 else "")
        later = ", delayed" if self.delayed else ""
        return f"{count_of(self.records, 'record')} to {self.topic}{later}" + (
            f": {shown}" if shown else ""
        )


@click.command(
    "publish",
    cls=Verb,
    outputs=("table", "json", "ndjson", "name"),
    examples="printf 'one\\ntwo\\n' | penstock publish orders\n"
    "penstock publish orders lines.txt --key-separator :\n"
    "penstock consume orders -o ndjson | penstock publish copy --format ndjson\n"
    "penstock publish photos cat.jpg --format raw --key cat -H type=image/jpeg\n"
    "echo reminder | penstock publish mails --delay 3d",
)
@topic_argument
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "ndjson", "raw"]),
    default="lines",
    help="A record per line, per JSON object, or the whole file as one.  [default: lines]",
)
@click.option("-k", "--key", help="The key of every record that has none.")
@click.option("--key-separator", metavar="TEXT", help="Cut each line into key and value here.")
@click.option(
    "-H", "--header", "headers", type=PAIR, multiple=True, metavar="NAME=VALUE",
    help="A header for every record (repeatable).",
)  # fmt: skip
@click.option("-p", "--partition", type=NUMBER, metavar="N", help="Into this partition.")
@click.option(
    "--delay",
    type=SECONDS,
    metavar="DURATION",
    help="Deliver the records so much later: 10m, 3d.",
)
@click.option(
    "--at", type=FUTURE, metavar="TIME", help="Deliver them at this time: 2026-01-31T09:30Z."
)  # fmt: skip
@dry_run_option
@click.pass_obj
def publish(
    settings: Settings,
    /,
    topic: str,
    file: BinaryIO,
    form: str,
    key: str | None,
    key_separator: str | None,
    headers: tuple[tuple[str, str], ...],
    partition: int | None,
    delay: float | None,
    at: datetime | None,
    dry_run: bool,
) -> None:
    """Publish lines, NDJSON or a file to a topic.

    Reads FILE, or standard input. What arrives through a pipe is published as it
    comes. With --format ndjson each line is an object as `consume -o ndjson` writes it:
    value, key, headers and timestamp are published, and fields that end in
    _base64 carry bytes that are no text.

    With -o json, ndjson or name the place of each record is printed; it is
    printed once the record is durable. A record with --delay or --at is durable
    at once and gets its place when it is due; until then its id is printed, for
    `penstock schedule cancel`.
    """
    if delay is not None and at is not None:
        raise click.UsageError("give either --delay or --at")
    if key_separator is not None and form != "lines":
        raise click.UsageError("--key-separator goes with --format lines")
    if file.isatty():
        settings.say("reading lines from the terminal; Ctrl-D ends")
    source = cast("Source", file)
    bunches = read_records(
        source,
        form,
        key=os.fsencode(key) if key is not None else None,
        separator=os.fsencode(key_separator) if key_separator else None,
    )
    common = {name: os.fsencode(value) for name, value in headers}
    tally = _Tally(topic, delayed=delay is not None or at is not None)
    try:
        if dry_run:
            tally.records = sum(map(len, bunches))
        else:
            _send(settings, tally, bunches, _Manner(common, partition, delay, at))
    except (PenstockError, InputError) as error:
        raise _failure(error, tally) from error
    except KeyboardInterrupt:
        settings.say(f"interrupted; published {tally.words()}")
        raise
    settings.say(("dry run, nothing sent: " if dry_run else "published ") + tally.words())


def _failure(error: Exception, tally: _Tally) -> Failure:
    """What ended the publishing; a part that is durable already is said, and is code 3."""
    code = Exit.ERROR if isinstance(error, InputError) else exit_for(error)
    if not tally.records:
        return Failure(str(error), code=code, hint=hint_for(error))
    return Failure(f"{error} (published {tally.words()})", code=Exit.PARTIAL, hint=hint_for(error))


def _send(
    settings: Settings,
    tally: _Tally,
    bunches: Iterator[list[Outgoing]],
    manner: _Manner,
) -> None:
    printer = _Printer(settings.output, delayed=tally.delayed)
    try:
        with settings.connect() as client:
            if not client.admin.metadata([tally.topic]).topics:
                # Before anything is read: somebody may be about to type it.
                raise TopicNotFound(f"there is no topic {tally.topic!r}")
            for bunch in bunches:
                for at in range(0, len(bunch), BUNCH_RECORDS):
                    part = bunch[at : at + BUNCH_RECORDS]
                    for records in cut_by_time(part):
                        _send_some(client, tally, records, manner, printer)
    finally:
        printer.end()


def cut_by_time(records: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Runs that may share a batch: with a time for each or for none, and near each other."""
    run: list[Outgoing] = []
    earliest = latest = None
    for record in records:
        time = record.timestamp
        low = min(time, earliest) if time and earliest else time
        high = max(time, latest) if time and latest else time
        apart = (time is None) != (earliest is None) or (low and high and high - low > BATCH_SPAN)
        if run and apart:
            yield run
            run, low, high = [], time, time
        run.append(record)
        earliest, latest = low, high
    if run:
        yield run


def _send_some(
    client: Client,
    tally: _Tally,
    records: Sequence[Outgoing],
    manner: _Manner,
    printer: _Printer,
) -> None:
    keyed = any(record.key is not None for record in records)
    headed = bool(manner.headers) or any(record.headers for record in records)
    times = [record.timestamp for record in records if record.timestamp is not None]
    try:
        receipts = client.publish_many(
            tally.topic,
            [record.value for record in records],
            keys=[record.key for record in records] if keyed else None,
            headers=[{**manner.headers, **record.headers} for record in records]
            if headed
            else None,
            partition=manner.partition,
            timestamps=times or None,
            delay=manner.delay,
            at=manner.at,
        )
    except PenstockError as error:
        stored = error.detail.get("receipts")
        if stored is not None:
            _note(cast("Receipts", stored), tally, printer)
        raise
    _note(receipts, tally, printer)


def _note(receipts: Receipts, tally: _Tally, printer: _Printer) -> None:
    """Count and print what is stored."""
    for place in receipts.ranges:
        tally.add(place.partition, place.base_offset, place.count)
    if printer.active:
        failed = receipts.errors
        for index in range(len(receipts)):
            if index not in failed:
                printer.show(receipts[index])


class _Printer:
    """Prints receipts as they come; a JSON array is closed at the end."""

    def __init__(self, output: str, *, delayed: bool) -> None:
        self.output = output
        self.delayed = delayed
        self.active = output != "table"
        self._rows: list[dict[str, Any]] = []

    def show(self, receipt: Receipt) -> None:
        row = {
            "topic": receipt.topic,
            "partition": receipt.partition,
            "offset": receipt.offset,
            "timestamp": receipt.timestamp.isoformat(),
            "duplicate": receipt.duplicate,
        }
        if self.delayed:
            row["scheduled"] = True
        if self.output == "json":
            self._rows.append(row)
        elif self.output == "ndjson":
            click.echo(to_json(row))
        else:
            scheduled = f"{receipt.partition}:{receipt.offset}"  # as `schedule cancel` takes it
            place = f"{receipt.topic}/{receipt.partition}/{receipt.offset}"
            click.echo(scheduled if self.delayed else place)

    def end(self) -> None:
        if self.output == "json":
            click.echo(to_json(self._rows, indent=2))
