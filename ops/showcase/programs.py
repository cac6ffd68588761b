"""The programs of the demo: one publishes, two share a group, one reads everything.

They know nothing of the kills: the client waits through them by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

import penstock
from ops.showcase.flights import Flight, Total
from ops.showcase.ledgers import Book
from penstock import errors

TOPIC = "flights"
PARTITIONS = 4
GROUP = "airline-totals"
CHUNK = 250
PATIENCE_SECONDS = 60.0


def connect(address: str, name: str) -> penstock.Client:
    """A client that is patient enough for a broker that comes back."""
    return penstock.connect(
        address, name=name, delivery_timeout=PATIENCE_SECONDS, request_timeout=PATIENCE_SECONDS
    )


async def create_topic(address: str, replication: int) -> None:
    """Make the topic that everything happens on."""
    async with connect(address, "setup") as client:
        await client.admin.create_topic(TOPIC, PARTITIONS, replication)


async def publish(
    address: str, flights: list[Flight], rate: float, book: Book, before: Callable[[int], None]
) -> None:
    """Publish the flights in their order, keyed by aircraft, at most `rate` a second."""
    async with connect(address, "publisher") as client:
        due = trio.current_time()
        for start in range(0, len(flights), CHUNK):
            chunk = flights[start : start + CHUNK]
            before(start)
            receipts = await client.publish_many(
                TOPIC, [flight.value for flight in chunk], keys=[flight.key for flight in chunk]
            )
            book.acknowledged.add(chunk, list(receipts))
            due = max(due + len(chunk) / rate, trio.current_time() - 0.1) if rate else 0
            await trio.sleep_until(due)


async def read(address: str, total: int, book: Book) -> None:
    """Read every partition from its start, outside of any group."""
    async with (
        connect(address, "reader") as client,
        client.subscribe(TOPIC, start="earliest") as records,
    ):
        while book.reader.count < total:
            for record in await records.fetch(max_records=1000, wait=0.5):
                book.reader.take(record)


async def work(address: str, member: str, total: int, book: Book) -> None:
    """As a member of the group, add up flights per airline; commit what is added up."""
    async with (
        connect(address, member) as client,
        client.subscribe(TOPIC, group=GROUP, commit="manual") as records,
    ):
        while book.group.count < total:
            batch = await records.fetch(max_records=500, wait=0.5)
            for record in batch:
                row = book.group.take(record)
                if row is not None:
                    book.totals.setdefault(row["carrier"], Total()).add(row)
                    book.members[member] += 1
            if batch:
                await commit(records, book)


async def commit(records: penstock.Subscription, book: Book) -> None:
    """Commit, and accept that a crash may have given the partitions to someone else."""
    try:
        await records.commit()
    except (errors.Fenced, errors.RebalanceInProgress, errors.MemberUnknown):
        book.fenced += 1
