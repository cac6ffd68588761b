"""What the demo's shared group works out: when flights landed, by a parser that is too strict.

The rows are as the airlines reported them. Flights that were cancelled or never arrived have no
times; some landed at "2400", which is no time of a day; some were diverted and have no delay. The
first parser takes none of these, so they become dead letters. The second one takes them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ops.showcase.flights import MISSING, read_rows

Row = dict[str, str]


class NoTime(Exception):
    """The row names no time: trying again can't help."""


class Landing(NamedTuple):
    """What is known of the end of one flight."""

    hour: int | None
    """Hour of the day; None: it did not arrive."""
    delay: int | None
    """Minutes; None: not where, or not at all as planned."""


def parse_strictly(row: Row) -> Landing:
    """Read a row as one may think that it looks.

    Raises:
        NoTime: the flight has no time of arrival.
        ValueError: the time is none, or the delay is no number.
    """
    text = row["arr_time"]
    if text in MISSING:
        raise NoTime(f"flight {row['carrier']} {row['flight']} has no time of arrival")
    return Landing(datetime.strptime(text.zfill(4), "%H%M").hour, int(row["arr_delay"]))


def parse(row: Row) -> Landing:
    """Read a row as it really looks."""
    time, delay = row["arr_time"], row["arr_delay"]
    hour = None if time in MISSING else int(time) // 100 % 24
    return Landing(hour, None if delay in MISSING else int(delay))


@dataclass
class Summary:
    """What became of one airline's flights."""

    hours: Counter[int | None] = field(default_factory=Counter)
    diverted: int = 0
    delay_minutes: int = 0

    def add(self, landing: Landing) -> None:
        """Count one flight."""
        self.hours[landing.hour] += 1
        self.diverted += landing.hour is not None and landing.delay is None
        self.delay_minutes += landing.delay or 0


def expected_summaries(limit: int | None = None) -> dict[str, Summary]:
    """Count per airline, from the file alone."""
    found: dict[str, Summary] = {}
    for row in read_rows(limit):
        found.setdefault(row["carrier"], Summary()).add(parse(row))
    return found


def expected_failures(limit: int | None = None) -> dict[int, str]:
    """Row -> why the strict parser does not take it, from the file alone."""
    found: dict[int, str] = {}
    for number, row in enumerate(read_rows(limit)):
        try:
            parse_strictly(row)
        except (NoTime, ValueError) as error:
            found[number] = type(error).__name__
    return found
