"""What the demo's programs write down while they work; plain data, checked at the end."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from ops.showcase.flights import Flight, Total
from ops.showcase.shared_ledger import Shop
from penstock import Receipt, Record


@dataclass
class Acknowledgements:
    """Where the broker said that it keeps each row."""

    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Row -> (partition, offset)."""
    repeated: int = 0
    """Rows whose first ack was lost with the broker; the resent batch was recognised."""
    times: list[float] = field(default_factory=list)
    """When acknowledgements arrived."""

    def add(self, flights: list[Flight], receipts: list[Receipt]) -> None:
        """Note the receipts of rows that were published together."""
        for flight, receipt in zip(flights, receipts, strict=True):
            self.places[flight.row] = (receipt.partition, receipt.offset)
            self.repeated += receipt.duplicate
        self.times.append(time.monotonic())


@dataclass
class Partition:
    """What one reader has seen of one partition."""

    next_offset: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    last_row: dict[bytes, int] = field(default_factory=dict)


@dataclass
class Reading:
    """What was read, position by position, and every breach of the promises."""

    partitions: dict[int, Partition] = field(default_factory=lambda: defaultdict(Partition))
    count: int = 0
    again: int = 0
    """Records delivered once more, after a crash, since their commit had not arrived."""
    breaches: list[str] = field(default_factory=list)

    def take(self, record: Record) -> dict[str, str] | None:
        """Note a record; returns its row, or None if its position was read before."""
        seen = self.partitions[record.partition]
        if record.offset < seen.next_offset:
            self.again += 1
            return None
        if record.offset > seen.next_offset:
            self._breach(record, f"came when {seen.next_offset} was due")
        seen.next_offset = record.offset + 1
        value = bytes(record.value or b"")
        seen.digest.update(value)
        row: dict[str, str] = json.loads(value)
        self._check_order(seen, record, int(row["row"]))
        self.count += 1
        return row

    def _check_order(self, seen: Partition, record: Record, row: int) -> None:
        if record.key is None:
            return
        key = bytes(record.key)
        if row <= seen.last_row.get(key, -1):
            self._breach(record, f"of key {key!r} is out of order")
        seen.last_row[key] = row

    def _breach(self, record: Record, words: str) -> None:
        self.breaches.append(f"partition {record.partition}, offset {record.offset} {words}")


@dataclass
class Book:
    """Everything that the demo knows."""

    acknowledged: Acknowledgements = field(default_factory=Acknowledgements)
    reader: Reading = field(default_factory=Reading)
    group: Reading = field(default_factory=Reading)
    shop: Shop = field(default_factory=Shop)
    """What the shared group has done."""
    totals: dict[str, Total] = field(default_factory=dict)
    """Airline -> what the group's members have added up."""
    members: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Member -> records it worked on."""
    fenced: int = 0
    """Commits refused, since the member's partitions had moved on."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """(killed at, listening again at), monotonic."""

    def gaps(self) -> list[float]:
        """For each outage the longest time without an acknowledgement, in seconds."""
        pairs = list(pairwise(self.acknowledged.times))
        return [
            max((b - a for a, b in pairs if b > killed and a < back), default=0.0)
            for killed, back in self.outages
        ]
