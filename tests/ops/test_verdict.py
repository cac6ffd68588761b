"""The demo's judge: it finds what is lost, doubled, changed or out of order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from ops.showcase.flights import Flight, Total, expected_totals, load
from ops.showcase.ledgers import Book
from ops.showcase.verdict import Check, judge

PARTITIONS = 2


@dataclass(frozen=True)
class Stored:
    """A record as the demo's programs see it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True)
class Stamp:
    """A receipt as the demo's publisher sees it."""

    partition: int
    offset: int
    duplicate: bool = False


ROWS = 2_000
FLIGHTS = load(ROWS)


def partition_of(flight: Flight) -> int:
    return sum(flight.key or b"") % PARTITIONS


def store(flights: list[Flight], book: Book) -> list[Stored]:
    """Put each flight where a broker would, and note the receipts."""
    ends = [0] * PARTITIONS
    log = []
    for flight in flights:
        partition = partition_of(flight)
        log.append(Stored(partition, ends[partition], flight.key, flight.value))
        ends[partition] += 1
    book.acknowledged.add(flights, [Stamp(record.partition, record.offset) for record in log])
    return log


def consume(log: list[Stored], book: Book) -> None:
    """Read the log as the reader and as the group."""
    for record in log:
        book.reader.take(record)
        row = book.group.take(record)
        if row is not None:
            book.totals.setdefault(row["carrier"], Total()).add(row)


def broken(checks: list[Check]) -> set[str]:
    return {check.promise.partition(":")[0] for check in checks if not check.kept}


@pytest.fixture
def book() -> Book:
    return Book()


def test_whole_run_keeps_every_promise(book: Book) -> None:
    log = store(FLIGHTS, book)
    consume(log, book)
    assert not broken(judge(FLIGHTS, book, len(log)))
    assert book.totals == expected_totals(ROWS)


def test_redelivery_to_the_group_is_no_breach(book: Book) -> None:
    log = store(FLIGHTS, book)
    consume(log[:500] + log[400:], book)
    assert not broken(judge(FLIGHTS, book, len(log)))
    assert book.group.again == 100


def test_lost_record_is_found(book: Book) -> None:
    log = store(FLIGHTS, book)
    consume(log[:1000] + log[1001:], book)
    assert broken(judge(FLIGHTS, book, len(log) - 1)) >= {
        "nothing doubled in the log",
        "reader",
        "group",
        "order kept for each reader",
    }


def test_doubled_record_is_found(book: Book) -> None:
    log = store(FLIGHTS, book)
    consume(log, book)
    assert broken(judge(FLIGHTS, book, len(log) + 1)) == {"nothing doubled in the log"}


def test_changed_record_is_found(book: Book) -> None:
    log = store(FLIGHTS, book)
    log[7] = replace(log[7], value=log[7].value.replace(b"2013", b"2014", 1))
    consume(log, book)
    assert broken(judge(FLIGHTS, book, len(log))) == {"reader", "group"}


def test_swapped_records_of_a_key_are_found(book: Book) -> None:
    [(key, _)] = Counter(flight.key for flight in FLIGHTS if flight.key).most_common(1)
    first, second, *_ = [flight.row for flight in FLIGHTS if flight.key == key]
    swapped = list(FLIGHTS)
    swapped[first], swapped[second] = FLIGHTS[second], FLIGHTS[first]
    log = store(swapped, book)
    consume(log, book)
    assert broken(judge(FLIGHTS, book, len(log))) == {
        "order kept for each key",
        "order kept for each reader",
    }


def test_unacknowledged_row_is_found(book: Book) -> None:
    log = store(FLIGHTS, book)
    consume(log, book)
    del book.acknowledged.places[3]
    assert "every row acknowledged" in broken(judge(FLIGHTS, book, len(log)))
