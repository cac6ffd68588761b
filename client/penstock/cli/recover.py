"""`penstock cluster recover`: go on with one broker's directory when the others are lost."""

from __future__ import annotations

from typing import Any, Final

import click

from penstock.cli import plugins
from penstock.cli.commands import Verb
from penstock.cli.output import Column, print_rows
from penstock.cli.params import dry_run_option, yes_option
from penstock.cli.settings import Settings
from penstock.cli.units import count_of

ROWS: Final = (
    Column("topic", "TOPIC", spare=True),
    Column("partition", "PARTITION", "number"),
    Column("outcome", "OUTCOME"),
    Column("entries", "ENTRIES", "number"),
    Column("unproven", "UNPROVEN", "number"),
    Column("others", "ALSO ON"),
    Column("group", "GROUP", "number", wide=True),
)


@click.command(
    "recover",
    cls=Verb,
    local=True,
    examples="penstock cluster recover /var/lib/penstock --dry-run\n"
    "penstock cluster recover /var/lib/penstock",
)
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@yes_option
@dry_run_option
@click.pass_obj
def recover(settings: Settings, directory: str, yes: bool, dry_run: bool) -> None:
    """Go on with one broker when most others are lost for ever: data may be lost.

    Offline, on the data directory of the broker that is left. It becomes the only
    voter of the metadata and of every partition that it has a copy of. What only
    the lost brokers had is gone, and none of them may ever start again on its old
    directory: it would go on with the old cluster by itself.

    ENTRIES is what is here, UNPROVEN how many of them were not known to be
    committed, ALSO ON the nodes whose copies are given up.
    """
    run = plugins.load("recover")
    found = run(directory, dry_run=True)
    rows = [_row(fate) for fate in found.fates]
    print_rows(rows, ROWS, settings.output, name="topic")
    for line in _warnings(rows, found.node):
        settings.warn(line)
    if dry_run:
        settings.say("nothing was changed")
        return
    settings.confirm(f"go on with node {found.node} alone, and give up all others", yes=yes)
    run(directory, dry_run=False)
    settings.say(f"node {found.node} is on its own now: start it; the others are removed")


def _row(fate: Any) -> dict[str, Any]:  # noqa: ANN401 - an object of the broker's, by name only
    row = {column.key: getattr(fate, column.key) for column in ROWS}
    row["topic"] = fate.topic or "(metadata)"
    row["others"] = sorted(fate.others)
    return row


def _warnings(rows: list[dict[str, Any]], node: int) -> list[str]:
    kept = [row for row in rows if row["outcome"] == "kept"]
    empty = sum(row["outcome"] == "empty" for row in rows)
    lost = sum(row["outcome"] == "lost" for row in rows)
    shared = sum(bool(row["others"]) for row in kept)
    unproven = sum(row["unproven"] for row in kept)
    lines = []
    if shared:
        lines.append(
            f"{count_of(shared, 'partition')} will go on with what node {node} has: "
            "acknowledged records that only the others had are LOST"
        )
    if unproven:
        entries = count_of(unproven, "entry", "entries")
        lines.append(f"{entries} that may never have been acknowledged will count")
    if empty:
        lines.append(f"{count_of(empty, 'partition')} will begin EMPTY: nothing is here")
    if lost:
        lines.append(
            f"{count_of(lost, 'partition')} have NO COPY here and stay without a leader: "
            "delete their topics"
        )
    lines.append("no other broker may ever start again on its old directory: wipe them")
    return lines
