"""`penstock doctor`: checks of a broker, a data directory and this host, each with its cure."""

from __future__ import annotations

from collections.abc import Callable

import click

from penstock.cli.checks import Check, Grade, broker, data, host
from penstock.cli.commands import Verb
from penstock.cli.exits import Exit
from penstock.cli.output import Column, print_rows, styled
from penstock.cli.settings import Settings
from penstock.cli.units import count_of

_COLUMNS = (
    Column("check", "CHECK"),
    Column("grade", "RESULT"),
    Column("found", "FOUND"),
    Column("cure", "WHAT TO DO"),
)
_COLOUR = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red"}


@click.command(
    "doctor",
    cls=Verb,
    examples="penstock doctor\npenstock doctor --data /var/lib/penstock\n"
    "penstock doctor --no-broker -o json",
)
@click.option(
    "--data",
    "directory",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Check this data directory too (writes and removes one small file).",
)
@click.option("--no-broker", is_flag=True, help="Leave the broker alone.")
@click.pass_context
def doctor(ctx: click.Context, directory: str | None, no_broker: bool) -> None:
    """Check a broker, a data directory, this host.

    Warnings are advice; a failed check ends the program with code 10.
    """
    settings = ctx.ensure_object(Settings)
    suites: list[Callable[[], list[Check]]] = [host.checks]
    if directory is not None:
        suites.append(lambda: data.checks(directory))
    if not no_broker:
        suites.append(lambda: broker.checks(settings))
    found = [check for suite in suites for check in suite()]
    if settings.output in ("table", "wide"):
        for check in found:
            _show(check)
    else:
        print_rows([check.row() for check in found], _COLUMNS, settings.output, name="check")
    failed = sum(check.grade is Grade.FAIL for check in found)
    warned = sum(check.grade is Grade.WARN for check in found)
    settings.say(f"\n{count_of(len(found), 'check')}: {failed} failed, {warned} with advice")
    ctx.exit(Exit.UNHEALTHY if failed else Exit.OK)


def _show(check: Check) -> None:
    mark = styled(f"{check.grade.value:<4}", fg=_COLOUR[check.grade])
    click.echo(f"{mark}  {check.name:<16}{check.found}")
    if check.cure and check.grade is not Grade.OK:
        click.echo(f"      -> {check.cure}")
