"""The flights that the demo publishes, and what must come out, counted from the file itself."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "demo_data" / "flights.csv.gz"
SHA256 = "598aee316b287ddd3203ac35f2e1da45c283983974e67968266afbbbd951417c"
MISSING = ("", "NA")


class Flight(NamedTuple):
    """One row as a record: the aircraft is the key, the whole row the value."""

    row: int
    key: bytes | None
    value: bytes


@dataclass
class Total:
    """What is known of one airline."""

    flights: int = 0
    cancelled: int = 0
    delay_minutes: int = 0

    def add(self, row: dict[str, str]) -> None:
        """Count one flight."""
        self.flights += 1
        if row["dep_time"] in MISSING:
            self.cancelled += 1
        if row["dep_delay"] not in MISSING:
            self.delay_minutes += int(row["dep_delay"])


def read_rows(limit: int | None = None) -> Iterator[dict[str, str]]:
    """Yield the (first) rows of the committed file, once its digest is seen to be right."""
    data = SOURCE.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{SOURCE} is not the file that was committed")
    yield from islice(csv.DictReader(io.StringIO(gzip.decompress(data).decode())), limit)


def load(limit: int | None = None) -> list[Flight]:
    """Make the records to publish, in the order of the file."""
    return [
        Flight(
            number,
            None if row["tailnum"] in MISSING else row["tailnum"].encode(),
            json.dumps({"row": number, **row}, separators=(",", ":")).encode(),
        )
        for number, row in enumerate(read_rows(limit))
    ]


def expected_totals(limit: int | None = None) -> dict[str, Total]:
    """Count per airline, from the file alone: what the group's work is judged by."""
    totals: dict[str, Total] = {}
    for row in read_rows(limit):
        totals.setdefault(row["carrier"], Total()).add(row)
    return totals
