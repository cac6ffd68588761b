"""Dead letters: which of them a command is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from penstock.cli.params import COUNT, MOMENT, NUMBER, PAIR
from penstock.cli.records import scope_of
from penstock.cli.units import show_time, time_us
from penstock.cli.where import NAMES, WhereError, glob, parse

if TYPE_CHECKING:
    from penstock import DeadLetter
    from penstock.sync import Client

_F = TypeVar("_F", bound=Callable[..., object])

LAST_ATTEMPT: Final = frozenset({"attempts", "never_retry", "rejected"})
"""Reasons that tell how a record was given up; its last attempt tells why."""
PAGE: Final = 1000
"""Dead letters that are asked for at once."""
WHERE_NAMES: Final = NAMES | {"reason", "cause", "error", "failed", "timed_out", "redrives", "died"}

_OPTIONS: Final = (
    click.option("--reason", metavar="TEXT", help="Died of this cause or reason; * is any text."),
    click.option("--error", metavar="TEXT", help="The error of an attempt contains this."),
    click.option("-k", "--key", help="With this key."),
    click.option(
        "-H", "--header", "headers", type=PAIR, multiple=True, metavar="NAME=VALUE",
        help="With this header (repeatable).",
    ),
    click.option("--since", type=MOMENT, metavar="TIME", help="Died at or after: -1h, or a time."),
    click.option("--until", type=MOMENT, metavar="TIME", help="Died before this."),
    click.option(
        "-w", "--where", "expression", metavar="EXPRESSION",
        help="Of which this is true; see below.",
    ),
    click.option(
        "-p", "--partition", type=NUMBER, metavar="N", help="In this partition."
    ),
    click.option("-n", "--limit", type=COUNT, metavar="N", help="At most so many."),
)  # fmt: skip
FILTER_NOTE: Final = (
    "Filters",
    """\
All filters given must fit. --where is the expression of `penstock consume`,
with cause, reason, error, failed, timed_out, redrives and died besides:
  failed >= 5 and cause like "ValueError*" and value.country == "de"
The cause is what the last attempt died of; the reason is attempts,
never_retry, rejected, max_age or overtaken.
A place is PARTITION:OFFSET in the dead-letter topic.""",
)


def filter_options(command: _F) -> _F:
    """Add the options that choose dead letters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Filter:
    """Which dead letters: all that fit everything that is set."""

    reason: str | None = None
    error: str | None = None
    key: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    since: datetime | None = None
    until: datetime | None = None
    expression: str | None = None
    partition: int | None = None
    limit: int | None = None
    _true: Callable[[Any], bool] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Compile the expression.

        Raises:
            click.UsageError: it is wrong.
        """
        if self.expression is None:
            return
        try:
            object.__setattr__(self, "_true", parse(self.expression, WHERE_NAMES))
        except WhereError as error:
            raise click.UsageError(f"--where: {error}") from None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is one of them."""
        record = letter.record
        why = (letter.reason, cause_of(letter))
        if self.reason is not None and not any(glob(it, self.reason) for it in why):
            return False
        if self.error is not None and not any(self.error in a.error for a in letter.attempts):
            return False
        if self.key is not None and record.key != os.fsencode(self.key):
            return False
        if self.since is not None and letter.died_us < time_us(self.since):
            return False
        if self.until is not None and letter.died_us >= time_us(self.until):
            return False
        has = record.headers or {}
        if any(has.get(name) != os.fsencode(text) for name, text in self.headers):
            return False
        return self._true is None or self._true(letter_scope(letter))


def letter_scope(letter: DeadLetter) -> Mapping[str, Callable[[], object]]:
    """What the names of a `--where` expression mean for a dead letter."""
    return {
        **scope_of(letter.record),
        "topic": lambda: letter.origin_topic,
        "reason": lambda: letter.reason,
        "cause": lambda: cause_of(letter),
        "error": lambda: last_error(letter),
        "failed": lambda: letter.failed,
        "timed_out": lambda: letter.timed_out,
        "redrives": lambda: letter.redrives,
        "died": lambda: show_time(letter.died_us),
    }


def cause_of(letter: DeadLetter) -> str:
    """What the last attempt died of, where the reason only says that the attempts are used up."""
    if letter.reason not in LAST_ATTEMPT or not letter.attempts:
        return letter.reason
    last = letter.attempts[-1]
    return last.reason or last.kind.replace("_", " ")


def last_error(letter: DeadLetter) -> str:
    """The error of the last attempt that has one."""
    return next((a.error for a in reversed(letter.attempts) if a.error), "")


def select(client: Client, topic: str, group: str, wanted: Filter) -> Iterator[list[DeadLetter]]:
    """The dead letters that fit, page by page, each partition in its order.

    An empty page is a moment to look at the clock: nothing on it fitted.
    """
    after: Mapping[int, int] | None = None
    left = wanted.limit
    while left is None or left > 0:
        page = client.admin.dead_letters(
            topic, group, partition=wanted.partition, after=after, limit=PAGE
        )
        chosen = [letter for letter in page.letters if wanted.fits(letter)][:left]
        if left is not None:
            left -= len(chosen)
        yield chosen
        if page.after is None:
            return
        after = page.after


def no_letters(topic: str, group: str, wanted: Filter) -> str:
    """What to say when nothing was found."""
    which = "dead letter" if replace(wanted, limit=None) == Filter() else "such dead letter"
    return f"group {group} has no {which} on {topic}"
