"""What was acknowledged, and the audit that compares it with what the broker holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from penstock import sync

Place = tuple[int, int]
"""Partition and offset."""


def value_of(producer: str, number: int, size: int = 0) -> bytes:
    """The record that a producer sends as its `number`-th, filled up to a size."""
    head = b"%s/%d/" % (producer.encode(), number)
    return head + (head * (size // len(head) + 1))[: max(size - len(head), 0)]


def parse(value: bytes) -> tuple[str, int]:
    """The producer and number of a record.

    Raises:
        ValueError: nobody sent this.
    """
    producer, number, _ = value.split(b"/", 2)
    if value != value_of(producer.decode(), int(number), len(value)):
        raise ValueError(f"nobody sent {value[:60]!r}")
    return producer.decode(), int(number)


@dataclass
class Ledger:
    """The acknowledgements of one topic. Each producer writes its own book, so nothing is locked.

    A producer numbers its records 0, 1, 2, ... and sends those of one partition in that order.
    """

    topic: str
    acked: dict[str, dict[int, Place]] = field(default_factory=dict)
    """Producer -> number -> place; offset -1 where the broker could not tell it any more."""
    sent: dict[str, int] = field(default_factory=dict)
    """Producer -> how many records it has handed over."""
    trimmed: dict[int, int] = field(default_factory=dict)
    """Partition -> offset below which records were deleted on purpose."""
    duplicates: int = 0
    """Acknowledgements of records that were stored already."""

    def book(self, producer: str) -> dict[int, Place]:
        """The book of one producer."""
        self.sent.setdefault(producer, 0)
        return self.acked.setdefault(producer, {})

    @property
    def count(self) -> int:
        """Records acknowledged so far."""
        return sum(len(book) for book in self.acked.values())


@dataclass
class Audit:
    """What is stored, held against a ledger."""

    ledger: Ledger
    exactly_once: bool = True
    """Whether a record may be there once only: idempotent producers."""
    breaches: list[str] = field(default_factory=list)
    stored: int = 0
    _places: dict[str, dict[int, Place]] = field(default_factory=dict)
    _last: dict[tuple[str, int], int] = field(default_factory=dict)

    def breach(self, words: str) -> None:
        """Note a broken promise."""
        if len(self.breaches) < 20:
            self.breaches.append(f"{self.ledger.topic}: {words}")

    def take(self, partition: int, records: Iterable[tuple[int, bytes]]) -> None:
        """Look at all records of a partition, in order."""
        expected = self.ledger.trimmed.get(partition, 0)
        for offset, value in records:
            if offset != expected:
                self.breach(f"partition {partition}: offset {offset} came when {expected} was due")
            expected = offset + 1
            self.stored += 1
            try:
                producer, number = parse(value)
            except ValueError as error:
                self.breach(f"partition {partition}, offset {offset}: {error}")
            else:
                self._record(producer, number, (partition, offset))

    def _record(self, producer: str, number: int, place: Place) -> None:
        places = self._places.setdefault(producer, {})
        if number >= self.ledger.sent.get(producer, 0):
            self.breach(f"{producer}/{number} at {place} was never sent")
        if number in places:
            if self.exactly_once:
                self.breach(f"{producer}/{number} is at {places[number]} and again at {place}")
            return
        places[number] = place
        key = producer, place[0]
        if number <= self._last.get(key, -1) and self.exactly_once:
            self.breach(f"{producer}/{number} at {place} is behind {self._last[key]}")
        self._last[key] = number

    def close(self) -> list[str]:
        """Look for what was acknowledged and is not there; returns all breaches."""
        for producer, book in self.ledger.acked.items():
            places = self._places.get(producer, {})
            for number, (partition, offset) in book.items():
                found = places.get(number)
                if found is None and offset < self.ledger.trimmed.get(partition, 0):
                    continue
                if found is None:
                    self.breach(f"{producer}/{number} was acknowledged and is LOST")
                elif found[0] != partition or offset not in (found[1], -1):
                    said = (partition, offset)
                    self.breach(f"{producer}/{number} was said to be at {said}, is at {found}")
        return self.breaches


def read_partition(client: sync.Client, topic: str, partition: int) -> Iterator[tuple[int, bytes]]:
    """All records of a partition: offset and value.

    Raises:
        TimeoutError: nothing more comes though the log goes on.
    """
    end = client.admin.list_offsets(topic, {partition: "latest"})[partition]
    at = client.admin.list_offsets(topic, {partition: "earliest"})[partition]
    if at == end:
        return
    with client.subscribe(topic, partitions=[partition], start=at) as records:
        while at < end:
            found = records.fetch(max_records=5000, wait=10.0)
            if not found:
                raise TimeoutError(f"{topic}:{partition} gives nothing at {at}, ends at {end}")
            for record in found:
                at = record.offset + 1
                yield record.offset, bytes(record.value or b"")


def audit(
    address: str,
    ledger: Ledger,
    *,
    exactly_once: bool = True,
    connect: Callable[..., sync.Client] = sync.connect,
) -> Audit:
    """Read the whole topic and compare it with the ledger."""
    found = Audit(ledger, exactly_once)
    with connect(address, name="auditor") as client:
        partitions = client.admin.describe_topic(ledger.topic).partitions
        for figures in partitions:
            partition = figures.partition
            found.take(partition, read_partition(client, ledger.topic, partition))
            if figures.damaged:
                found.breach(f"partition {partition}: damaged ranges {figures.damaged}")
    found.close()
    return found
