"""Dead letters as rows, as counts by cause, and in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.dead import cause_of, last_error
from penstock.cli.explained import attempt_lines, attempt_row, count_words, error_line
from penstock.cli.output import Column, field_lines
from penstock.cli.printing import show_bytes
from penstock.cli.records import record_row
from penstock.cli.units import SECOND_US, show_moment, show_time

if TYPE_CHECKING:
    from penstock import DeadLetter

LETTERS: Final = (
    Column("place", "PLACE"),
    Column("age", "DIED", "ago"),
    Column("cause", "CAUSE", spare=True),
    Column("failures", "FAILURES", "number"),
    Column("key_shown", "KEY"),
    Column("value_shown", "VALUE"),
    Column("error_shown", "ERROR", wide=True),
    Column("origin", "ORIGIN", wide=True),
    Column("redrives", "REDRIVEN", "number", wide=True),
)
REASONS: Final = (
    Column("cause", "CAUSE"),
    Column("reason", "REASON", wide=True),
    Column("letters", "DEAD LETTERS", "number"),
    Column("first_age", "FIRST DIED", "ago"),
    Column("last_age", "LAST DIED", "ago"),
    Column("error", "LAST ERROR"),
)
REASONS_SAID: Final[Mapping[str, str]] = {
    "attempts": "attempts: as many as the group allows",
    "never_retry": "never_retry: the group does not try this again",
    "rejected": "rejected by its member",
    "max_age": "max_age: older than the group allows",
    "overtaken": "overtaken: retention deleted it undelivered",
}
_Why = tuple[str, str]
"""Cause and reason."""
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
        "cause": cause_of(letter),
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
        "cause": cause_of(letter),
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
    """Dead letters counted by what they died of."""

    def __init__(self) -> None:
        self.total = 0
        self._letters: Counter[_Why] = Counter()
        self._span: dict[_Why, tuple[int, int]] = {}
        self._error: dict[_Why, str] = {}

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Count some more."""
        for letter in letters:
            why, died = (cause_of(letter), letter.reason), letter.died_us
            first, last = self._span.get(why, (died, died))
            if died >= last:
                self._error[why] = error_line(last_error(letter))
            self._span[why] = (min(first, died), max(last, died))
            self._letters[why] += 1
        self.total += len(letters)

    def rows(self, now_us: int) -> list[dict[str, Any]]:
        """One row for each reason, the most frequent first."""
        return [
            {
                "cause": why[0],
                "reason": why[1],
                "letters": count,
                "first": show_time(self._span[why][0]),
                "last": show_time(self._span[why][1]),
                "first_age": _age(self._span[why][0], now_us),
                "last_age": _age(self._span[why][1], now_us),
                "error": self._error[why],
            }
            for why, count in self._letters.most_common()
        ]


def letter_lines(letter: DeadLetter, *, now_us: int, width: int | None, whole: bool) -> list[str]:
    """The dead letter in full, for people."""
    record = letter.record
    facts: list[tuple[str, object]] = [
        ("Dead letter", f"{record.topic} {place_of(letter)}"),
        ("Origin", f"{letter.origin_topic} {letter.origin_partition}:{letter.origin_offset}"),
        ("Group", letter.group),
        ("Died", show_moment(letter.died_us, now_us)),
        ("Reason", REASONS_SAID.get(letter.reason, letter.reason)),
        ("Cause", cause_of(letter)),
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
