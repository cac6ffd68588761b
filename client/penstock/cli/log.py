"""`penstock log`: what lies in a data directory, read without a broker and without changing it."""

from __future__ import annotations

from typing import Any

import click

from penstock.cli import plugins
from penstock.cli.commands import Noun
from penstock.cli.exits import Exit
from penstock.cli.output import Column, print_rows
from penstock.cli.settings import Failure, Settings
from penstock.cli.units import count_of, show_size

_FILES = (
    Column("file", "FILE"),
    Column("kind", "KIND"),
    Column("bytes", "SIZE", "size"),
    Column("batches", "BATCHES", "number"),
    Column("records", "RECORDS", "number"),
    Column("first_offset", "FIRST", "number"),
    Column("end_offset", "END", "number"),
    Column("damaged", "DAMAGED", "number"),
    Column("entries", "ENTRIES", "number", wide=True),
    Column("first_sequence", "FIRST FLUSH", "number", wide=True),
    Column("last_sequence", "LAST FLUSH", "number", wide=True),
)
_DAMAGE = (Column("place", "PLACE"), Column("bytes", "BYTES", "number"), Column("what", "WHAT"))
_DIRECTORY = click.argument("directory", type=click.Path(exists=True, file_okay=False))


@click.group("log", cls=Noun)
def log() -> None:
    """Inspect and verify the files of a data directory."""


@log.command(
    "inspect",
    local=True,
    examples="penstock log inspect /var/lib/penstock\n"
    "penstock log inspect /var/lib/penstock -o ndjson",
)
@_DIRECTORY
@click.pass_obj
def inspect(settings: Settings, directory: str) -> None:
    """List the files of a data directory and what they hold.

    Nothing is changed, and a broker may run on it meanwhile; headers are checked,
    bodies are not.
    """
    rows = _look(directory, bodies=False)
    print_rows(rows, _FILES, settings.output, name="file")


@log.command(
    "verify",
    local=True,
    examples="penstock log verify /var/lib/penstock\n"
    "penstock log verify /var/lib/penstock -o json || page-someone",
)
@_DIRECTORY
@click.pass_obj
def verify(settings: Settings, directory: str) -> None:
    """Check every byte of a data directory against its checksums.

    Prints each damaged place as FILE:POSITION, and ends with code 10 if there is
    one. Nothing is changed: a damaged range is repaired from a replica, or cut by
    a person who knows what it held.
    """
    rows = _look(directory, bodies=True)
    damage = [
        {**place, "place": f"{row['file']}:{place['position']}", "file": row["file"]}
        for row in rows
        for place in row["damage"]
    ]
    print_rows(damage, _DAMAGE, settings.output, name="place")
    # A WAL file's records lie in segments too, or will: they count once.
    held = sum(row["records"] for row in rows if row["kind"] == "segment")
    size = show_size(sum(row["bytes"] for row in rows))
    if damage:
        raise Failure(
            f"{count_of(len(damage), 'damaged place')} in {directory}",
            code=Exit.UNHEALTHY,
            hint="Keep a copy of the directory before you do anything about it.",
        )
    files = count_of(len(rows), "file")
    settings.say(f"whole: {files}, {size}, {count_of(held, 'record')} in segments")


def _look(directory: str, *, bodies: bool) -> list[dict[str, Any]]:
    found = plugins.load("inspect")(directory, bodies=bodies)
    rows = [_row(file) for file in found]
    if not rows:
        raise Failure(f"{directory} holds no data of a broker", code=Exit.USAGE)
    return rows


def _row(file: Any) -> dict[str, Any]:  # noqa: ANN401 - an object of the broker's, by name only
    row = {column.key: getattr(file, column.key) for column in _FILES if column.key != "damaged"}
    damage = [_damage(*place) for place in file.damage]
    return {**row, "damaged": len(damage), "damage": damage}


def _damage(position: int, end: int, what: str) -> dict[str, Any]:
    return {"position": position, "end": end, "bytes": end - position, "what": what}
