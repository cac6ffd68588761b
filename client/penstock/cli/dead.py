"""Dead letters: which of them a command is about, and how they are shown."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from penstock.cli.explained import attempt_lines, attempt_row, count_words, error_line
from penstock.cli.output import Column, field_lines
from penstock.cli.params import COUNT, MOMENT, NUMBER, PAIR
from penstock.cli.printing import show_bytes
from penstock.cli.records import record_row, scope_of
from penstock.cli.units import SECOND_US, show_moment, show_time, time_us
from penstock.cli.where import NAMES, WhereError, glob, parse

if TYPE_CHECKING:
    from penstock import DeadLetter
    from penstock.sync import Client

_F = TypeVar("_F", bound=Callable[..., object])

PAGE: Final = 1000
"""Dead letters that are asked for at once."""
WHERE_NAMES: Final = NAMES | {"reason", "error", "failed", "timed_out", "redrives", "died"}

_OPTIONS: Final = (
    click.option("--reason", metavar="TEXT", help="Died for this reason; * stands for any text."),
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
with the names reason, error, failed, timed_out, redrives and died besides:
  failed >= 5 and reason like "ValueError*" and value.country == "de"
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
        if self.reason is not None and not glob(letter.reason, self.reason):
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
        "error": lambda: last_error(letter),
        "failed": lambda: letter.failed,
        "timed_out": lambda: letter.timed_out,
        "redrives": lambda: letter.redrives,
        "died": lambda: show_time(letter.died_us),
    }


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


# ----- showing

LETTERS: Final = (
    Column("place", "PLACE"),
    Column("age", "DIED", "ago"),
    Column("reason", "REASON", spare=True),
    Column("failures", "TRIES", "number"),
    Column("key_shown", "KEY"),
    Column("value_shown", "VALUE"),
    Column("error_shown", "ERROR", wide=True),
    Column("origin", "ORIGIN", wide=True),
    Column("redrives", "REDRIVEN", "number", wide=True),
)
REASONS: Final = (
    Column("reason", "REASON"),
    Column("letters", "DEAD LETTERS", "number"),
    Column("first_age", "FIRST DIED", "ago"),
    Column("last_age", "LAST DIED", "ago"),
    Column("error", "LAST ERROR"),
)
CELL: Final = 60
"""Characters of a value or an error in a table."""


def place_of(letter: DeadLetter) -> str:
    """`PARTITION:OFFSET` in the dead-letter topic."""
    return f"{letter.record.partition}:{letter.record.offset}"


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    """The dead letter as a JSON object: the record as `consume` writes it, and its history."""
    return {
        **record_row(letter.record),
        "place": place_of(letter),
        "died": show_time(letter.died_us),
        "reason": letter.reason,
        "group": letter.group,
        "origin": f"{letter.origin_topic}/{letter.origin_partition}/{letter.origin_offset}",
        "delivered": letter.delivered,
        "failed": letter.failed,
        "timed_out": letter.timed_out,
        "redrives": letter.redrives,
        "attempts": [attempt_row(attempt) for attempt in letter.attempts],
        "attempts_left_out": letter.attempts_left_out,
        "unreadable": letter.unreadable,
        "edited_from": letter.edited_from,
    }


def table_row(letter: DeadLetter, now_us: int) -> dict[str, Any]:
    """The dead letter as one line of a table."""
    return {
        "place": place_of(letter),
        "age": _age(letter.died_us, now_us),
        "reason": letter.reason,
        "failures": letter.failed + letter.timed_out,
        "key_shown": show_bytes(letter.record.key),
        "value_shown": _cut(show_bytes(letter.record.value)),
        "error_shown": _cut(error_line(last_error(letter))),
        "origin": f"{letter.origin_partition}:{letter.origin_offset}",
        "redrives": letter.redrives,
    }


def _age(since_us: int, now_us: int) -> float:
    return max(0.0, (now_us - since_us) / SECOND_US)


def _cut(text: str) -> str:
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


class Reasons:
    """Dead letters counted by reason."""

    def __init__(self) -> None:
        self.total = 0
        self._letters: Counter[str] = Counter()
        self._span: dict[str, tuple[int, int]] = {}
        self._error: dict[str, str] = {}

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Count some more."""
        for letter in letters:
            reason, died = letter.reason, letter.died_us
            first, last = self._span.get(reason, (died, died))
            if died >= last:
                self._error[reason] = error_line(last_error(letter))
            self._span[reason] = (min(first, died), max(last, died))
            self._letters[reason] += 1
        self.total += len(letters)

    def rows(self, now_us: int) -> list[dict[str, Any]]:
        """One row for each reason, the most frequent first."""
        return [
            {
                "reason": reason,
                "letters": count,
                "first": show_time(self._span[reason][0]),
                "last": show_time(self._span[reason][1]),
                "first_age": _age(self._span[reason][0], now_us),
                "last_age": _age(self._span[reason][1], now_us),
                "error": self._error[reason],
            }
            for reason, count in self._letters.most_common()
        ]


def letter_lines(letter: DeadLetter, *, now_us: int, width: int | None, whole: bool) -> list[str]:
    """The dead letter in full, for people."""
    record = letter.record
    facts: list[tuple[str, object]] = [
        ("Dead letter", f"{record.topic} {place_of(letter)}"),
        ("Origin", f"{letter.origin_topic} {letter.origin_partition}:{letter.origin_offset}"),
        ("Group", letter.group),
        ("Died", show_moment(letter.died_us, now_us)),
        ("Reason", letter.reason),
        (
            "Deliveries",
            count_words(letter.delivered, letter.failed, letter.timed_out, letter.redrives),
        ),
    ]
    if record.key is not None:
        facts.append(("Key", show_bytes(record.key)))
    for name, data in sorted((record.headers or {}).items()):
        facts.append((f"  {name}", show_bytes(data)))
    facts.append(("Value", show_bytes(record.value)))
    if letter.unreadable:
        facts.append(("Unreadable", letter.unreadable))
    if letter.edited_from:
        facts.append(("Edited from", letter.edited_from))
    lines = field_lines(facts, width=width)
    attempts = attempt_lines(letter.attempts, width=width, whole=whole)
    return [*lines, *(["", *attempts] if attempts else [])]
