"""`penstock dlq redrive` and `penstock dlq purge`: first the plan, then page by page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from penstock.cli.commands import Verb
from penstock.cli.dead import FILTER_NOTE, PAGE, Filter, filter_options, no_letters, select
from penstock.cli.dead_view import REASONS, Reasons, place_of
from penstock.cli.dlq_edit import Editor, Unchanged, WithCommand, read_edits
from penstock.cli.exits import Exit
from penstock.cli.output import print_object, print_table
from penstock.cli.params import (
    PER_SECOND,
    dry_run_option,
    shared_argument,
    topic_argument,
    yes_option,
)
from penstock.cli.progress import Pace, Progress
from penstock.cli.reading import InputError, Source
from penstock.cli.settings import Failure, Settings, wall_us
from penstock.cli.units import count_of

if TYPE_CHECKING:
    from penstock import DeadLetter
    from penstock.sync import Client

SAID_MAX = 5
_RATE = click.option(
    "--rate", type=PER_SECOND, metavar="N", help="At most so many a second: 100, or 100/s."
)


@dataclass
class Plan:
    """The dead letters that a command is about, as they lay when it began."""

    client: Client
    topic: str
    group: str
    wanted: Filter
    editor: Editor
    reasons: Reasons = field(default_factory=Reasons)
    last: dict[int, int] = field(default_factory=dict)
    """Partition -> the last offset of the plan: what dies later is not part of it."""

    def make(self) -> None:
        """Look at all of them, without changing any."""
        for page in self._pages():
            self.reasons.add(page)
            for letter in page:
                self.last[letter.record.partition] = letter.record.offset

    def portions(self, pace: Pace) -> Iterator[list[DeadLetter]]:
        """What is still there of them, in portions of at most a page."""
        size = pace.portion(PAGE)
        for page in self._pages():
            mine = [it for it in page if it.record.offset <= self.last.get(it.record.partition, -1)]
            for at in range(0, len(mine), size):
                yield mine[at : at + size]

    def _pages(self) -> Iterator[list[DeadLetter]]:
        for page in select(self.client, self.topic, self.group, self.wanted):
            yield [letter for letter in page if self.editor.wants(letter)]

    def announce(self, settings: Settings) -> None:
        """Show it by cause."""
        if settings.output in ("table", "wide"):
            print_table(self.reasons.rows(wall_us()), REASONS, wide=settings.output == "wide")
            sys.stdout.flush()


@dataclass
class Outcome:
    """What has been done so far; places are `PARTITION:OFFSET` in the dead-letter topic."""

    matched: int = 0
    redriven: int = 0
    edited: int = 0
    purged: int = 0
    looping: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


@click.command(
    "redrive",
    cls=Verb,
    examples="penstock dlq redrive orders billing                  (shows the plan, asks)\n"
    "penstock dlq redrive orders billing --reason Timeout --rate 100/s --yes\n"
    "penstock dlq redrive orders billing --edit-with 'jq .total=0'\n"
    "penstock dlq export orders billing > dead.ndjson; vi dead.ndjson\n"
    "penstock dlq redrive orders billing --edit dead.ndjson",
    notes=FILTER_NOTE,
)
@topic_argument
@shared_argument
@filter_options
@_RATE
@click.option(
    "--edit", "file", type=click.File("rb"), metavar="FILE",
    help="Redrive those in this file (dlq export), with its values.",
)  # fmt: skip
@click.option(
    "--edit-with", "command", metavar="COMMAND",
    help="Send each value through a shell command.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Also those redriven redrives_max times already.")
@yes_option
@dry_run_option
@click.pass_obj
def redrive(
    settings: Settings,
    /,
    topic: str,
    group: str,
    rate: float | None,
    file: BinaryIO | None,
    command: str | None,
    force: bool,
    yes: bool,
    dry_run: bool,
    **filters: Any,  # noqa: ANN401 - as Filter has them
) -> None:
    """Give dead letters back to their group, on their topic; no other group sees them.

    Shows by cause what it is about, then asks. Each is delivered again with its
    history; if it fails again, it is a dead letter again. Ctrl-C stops in between:
    what is left stays a dead letter, and the same command goes on. A dead letter
    for which the --edit-with command fails is left alone.
    """
    if file is not None and command is not None:
        raise click.UsageError("give either --edit or --edit-with")
    editor = _editor(file, command)
    with settings.connect() as client:
        plan = Plan(client, topic, group, Filter(**filters), editor)
        outcome = _prepare(
            settings, plan, f"redrive {{}} to group {group} on {topic}", yes, dry_run
        )
        if outcome.matched and not dry_run:
            _redrive(settings, plan, outcome, Pace(rate), force=force)
    if isinstance(editor, WithCommand):
        outcome.left_alone = [place_of(letter) for letter, _ in editor.failed]
        for letter, why in editor.failed[:SAID_MAX]:
            settings.warn(f"{place_of(letter)}: {why}")
    _print_outcome(settings, outcome)
    if outcome.matched and not dry_run:
        _tell_redriven(settings, outcome, f"group {group} on {topic}")


def _editor(file: BinaryIO | None, command: str | None) -> Editor:
    if command is not None:
        return WithCommand(command)
    if file is None:
        return Unchanged()
    try:
        return read_edits(cast("Source", file))
    except InputError as error:
        raise click.UsageError(f"--edit: {error}") from None


def _prepare(settings: Settings, plan: Plan, action: str, yes: bool, dry_run: bool) -> Outcome:
    """Make the plan, show it, and ask."""
    plan.make()
    total = plan.reasons.total
    plan.announce(settings)
    if not total:
        settings.say(no_letters(plan.topic, plan.group, plan.wanted))
        return Outcome()
    words = action.format(count_of(total, "dead letter"))
    if dry_run:
        settings.say(f"dry run, nothing changed: {words}")
    else:
        settings.confirm(words, yes=yes)
    return Outcome(matched=total)


def _redrive(settings: Settings, plan: Plan, outcome: Outcome, pace: Pace, *, force: bool) -> None:
    progress = Progress(settings, outcome.matched, "redriven")
    with _interruptible(settings, progress):
        for portion in plan.portions(pace):
            letters, values = plan.editor.values(portion)
            if letters:
                report = plan.client.admin.redrive_letters(letters, values=values, force=force)
                outcome.redriven += report.redriven
                outcome.edited += report.edited
                outcome.looping += [f"{p}:{offset}" for p, offset in report.looping]
                outcome.absent += [f"{p}:{offset}" for p, offset in report.absent]
            progress.add(len(portion))
            pace.wait(len(portion))


@contextmanager
def _interruptible(settings: Settings, progress: Progress) -> Iterator[None]:
    """Ctrl-C ends the work between two portions' answers, and says how far it came."""
    try:
        yield
    except KeyboardInterrupt:
        progress.end()
        settings.say(
            f"interrupted at {progress.done:,} of {count_of(progress.total, 'dead letter')}; "
            "the rest is as it was, and the same command goes on"
        )
        raise
    progress.end()


def _print_outcome(settings: Settings, outcome: Outcome) -> None:
    if settings.output in ("json", "ndjson"):
        print_object(asdict(outcome), settings.output, name="", show=lambda: None)


def _tell_redriven(settings: Settings, outcome: Outcome, where: str) -> None:
    edited = f", {outcome.edited:,} of them edited" if outcome.edited else ""
    settings.say(f"{count_of(outcome.redriven, 'dead letter')} redriven to {where}{edited}")
    if outcome.absent:
        settings.say(f"not dead letters any more: {_some(outcome.absent)}")
    if outcome.looping:
        raise Failure(
            f"redriven redrives_max times already, so left alone: {_some(outcome.looping)}",
            code=Exit.PARTIAL if outcome.redriven else Exit.REFUSED,
            hint="See why they fail first; --force redrives them all the same.",
        )
    if outcome.left_alone:
        raise Failure(
            f"the command failed for {_some(outcome.left_alone)}: still dead letters",
            code=Exit.PARTIAL if outcome.redriven else Exit.ERROR,
        )


def _some(places: list[str]) -> str:
    shown = ", ".join(places[:SAID_MAX])
    more = len(places) - SAID_MAX
    return f"{len(places):,} ({shown}{f' and {more:,} more' if more > 0 else ''})"


@click.command(
    "purge",
    cls=Verb,
    examples="penstock dlq purge orders billing --reason 'Schema*' --until -30d --dry-run\n"
    "penstock dlq purge orders billing --key customer-7 --yes",
    notes=FILTER_NOTE,
)
@topic_argument
@shared_argument
@filter_options
@yes_option
@dry_run_option
@click.pass_obj
def purge(
    settings: Settings,
    /,
    topic: str,
    group: str,
    yes: bool,
    dry_run: bool,
    **filters: Any,  # noqa: ANN401 - as Filter has them
) -> None:
    """Settle dead letters without delivering them again.

    Shows by cause what it is about, then asks.
    """
    with settings.connect() as client:
        plan = Plan(client, topic, group, Filter(**filters), Unchanged())
        outcome = _prepare(settings, plan, f"purge {{}} of group {group} on {topic}", yes, dry_run)
        if outcome.matched and not dry_run:
            progress = Progress(settings, outcome.matched, "purged")
            with _interruptible(settings, progress):
                for portion in plan.portions(Pace(None)):
                    outcome.purged += client.admin.purge_letters(portion)
                    progress.add(len(portion))
            purged = count_of(outcome.purged, "dead letter")
            settings.say(f"{purged} of group {group} on {topic} purged")
    _print_outcome(settings, outcome)
