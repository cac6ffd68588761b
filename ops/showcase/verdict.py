"""Judges what the programs wrote down against the file itself, and prints the table."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from ops.showcase.flights import Flight, expected_totals
from ops.showcase.ledgers import Acknowledgements, Book, Reading


@dataclass(frozen=True)
class Check:
    """One promise, the figures behind it, and whether it was kept."""

    promise: str
    figures: str
    kept: bool


def expected_digests(flights: list[Flight], acknowledged: Acknowledgements) -> dict[int, str]:
    """Partition -> digest of its values by offset, from the file and the receipts alone."""
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, (partition, offset) in acknowledged.places.items():
        rows[partition].append((offset, row))
    return {
        partition: hashlib.sha256(
            b"".join(flights[row].value for _, row in sorted(places))
        ).hexdigest()
        for partition, places in rows.items()
    }


def positions_are_dense(acknowledged: Acknowledgements) -> bool:
    """True if the receipts name each offset of each partition from 0 on, and each one once."""
    offsets: dict[int, list[int]] = defaultdict(list)
    for partition, offset in acknowledged.places.values():
        offsets[partition].append(offset)
    return all(sorted(found) == list(range(len(found))) for found in offsets.values())


def keys_are_in_order(flights: list[Flight], acknowledged: Acknowledgements) -> bool:
    """True if the rows of each key lie in one partition, in the order of the file."""
    last: dict[bytes, tuple[int, int]] = {}
    for flight in flights:
        place = acknowledged.places.get(flight.row)
        if flight.key is None or place is None:
            continue
        before = last.get(flight.key)
        if before is not None and (before[0] != place[0] or before[1] >= place[1]):
            return False
        last[flight.key] = place
    return True


def digests(reading: Reading) -> dict[int, str]:
    """Partition -> digest of what was read."""
    return {number: seen.digest.hexdigest() for number, seen in reading.partitions.items()}


def judge(flights: list[Flight], book: Book, stored: int) -> list[Check]:
    """Compare everything with the file; `stored` is how many records the brokers hold."""
    total, acks, done = len(flights), book.acknowledged, len(book.acknowledged.places)
    expected = expected_digests(flights, acks)
    breaches = book.reader.breaches + book.group.breaches
    agreed = book.totals == expected_totals(total)
    worked = " + ".join(f"{count:,} by {name}" for name, count in sorted(book.members.items()))
    return [
        Check("every row acknowledged", f"{done:,} of {total:,}", done == total),
        Check("each at a place of its own", "offsets dense, from 0", positions_are_dense(acks)),
        Check("nothing doubled in the log", f"{stored:,} records stored", stored == total),
        Check(
            "reader: each record once, same bytes",
            f"{book.reader.count:,} read, {len(expected)} digests",
            book.reader.count == total and digests(book.reader) == expected,
        ),
        Check(
            "group: each record once, same bytes",
            worked,
            book.group.count == total and digests(book.group) == expected,
        ),
        Check("group: totals as in the file", f"{len(book.totals)} airlines", agreed),
        Check("order kept for each key", "as published", keys_are_in_order(flights, acks)),
        Check("order kept for each reader", f"{len(breaches)} breaches", not breaches),
    ]


def render(checks: list[Check], book: Book, starts: list[float]) -> str:
    """The table, as text."""
    width = max(len(check.promise) for check in checks)
    lines = [
        f"  {'kept  ' if check.kept else 'BROKEN'}  {check.promise:<{width}}  {check.figures}"
        for check in checks
    ]
    lines += [f"  breach: {words}" for words in (book.reader.breaches + book.group.breaches)[:5]]
    lines.append("")
    for number, (gap, start) in enumerate(zip(book.gaps(), starts[1:], strict=False), 1):
        words = f"{gap:.2f} s without an ack," if gap else "in the redrive,"
        lines.append(f"  kill {number}: {words} {start:.2f} s to restart")
    lines.append(f"  {book.acknowledged.repeated:,} acks lost with the broker and given again")
    lines.append(
        f"  {book.group.again:,} records handed to the group again, {book.fenced} commits fenced"
    )
    lines.append(f"  {book.shop.again:,} records handed to the shared group again")
    late = sorted(book.totals.items(), key=lambda item: -item[1].delay_minutes)[:3]
    for carrier, sums in late:
        lines.append(
            f"  {carrier}: {sums.flights:,} flights, {sums.cancelled:,} cancelled, "
            f"{sums.delay_minutes:,} minutes late in sum"
        )
    return "\n".join(lines)
