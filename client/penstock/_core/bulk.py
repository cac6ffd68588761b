"""Publishing many records at once: whole columns are handed on, nothing is done per record.

Only keys (each decides a partition) and headers cost Python per record. Chunks are accepted while
there is room, so a long sequence never needs more memory than `buffer_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from penstock._core.outgoing import RECORD_OVERHEAD_BYTES, Outgoing, Receipts, Value
from penstock._core.positions import microseconds_of
from penstock._core.producer import Producer, record_size
from penstock._core.route import Route
from penstock._core.scheduler import Operation
from penstock._core.texts import as_bytes, as_headers, as_key
from penstock.errors import BadRequest, PenstockError

Raw = bytes | str | None
RawHeaders = Mapping[str, bytes | str] | None
Placed = tuple[Outgoing, int | None]
"""A batch and its partition, None: any."""

BULK_RECORDS: Final = 1000
"""Records per batch: more gains nothing."""


class Columns(NamedTuple):
    """Records as columns of one length."""

    values: Sequence[Raw]
    keys: Sequence[Raw] | None
    headers: Sequence[RawHeaders] | None
    timestamps: Sequence[datetime] | None


def publish_many(
    producer: Producer,
    topic: str,
    values: Iterable[Raw],
    keys: Sequence[Raw] | None = None,
    headers: Sequence[RawHeaders] | None = None,
    partition: int | None = None,
    timestamps: Sequence[datetime] | None = None,
    deliver_at_us: int | None = None,
    companion: str = "",
) -> Operation[Receipts]:
    """Publish many records and wait for all of them.

    With `deliver_at_us` they go to the topic's `companion`, to be delivered then.

    Raises:
        BadRequest: the columns differ in length, or something in them has a wrong type.
        PenstockError: the first failure; its `detail["receipts"]` tells which records it met.
    """
    columns = _columns(values, keys, headers, timestamps)
    target, topic = topic, companion or topic
    route = yield from producer.route(topic)
    order: list[tuple[Outgoing, int]] | None = None
    if columns.keys is None or partition is not None or len(route.lanes) == 1:
        chunks = _in_order(topic, columns, partition, producer.options.batch_bytes)
    else:
        order = []
        chunks = _scattered(route, columns, producer.options.batch_bytes, order)
    batches: list[Outgoing] = []
    first: PenstockError | None = None
    try:
        for batch, number in chunks:
            while producer.full:
                yield producer.room.wait()
            route = yield from producer.route(topic)
            batch.deliver_at_us, batch.target = deliver_at_us, target
            producer.accept(batch)
            route.place(batch, None, number)
            batches.append(batch)
    except PenstockError as error:
        first = error
    for batch in batches:
        with suppress(PenstockError):
            yield batch
    return _receipts(target, batches, order, first)


def _columns(
    values: Iterable[Raw],
    keys: Sequence[Raw] | None,
    headers: Sequence[RawHeaders] | None,
    timestamps: Sequence[datetime] | None,
) -> Columns:
    if isinstance(values, str | bytes | bytearray | memoryview):
        raise BadRequest("publish_many takes many values; publish takes one")
    items = values if isinstance(values, list | tuple) else list(values)
    for name, column in (("keys", keys), ("headers", headers), ("timestamps", timestamps)):
        if column is not None and len(column) != len(items):
            raise BadRequest(f"there are {len(column)} {name} for {len(items)} values")
    return Columns(items, keys, headers, timestamps)


def _receipts(
    topic: str,
    batches: list[Outgoing],
    order: list[tuple[Outgoing, int]] | None,
    error: PenstockError | None,
) -> Receipts:
    receipts = Receipts(topic, batches, order)
    failed = error or next((each.error for each in batches if each.error is not None), None)
    if isinstance(failed, PenstockError):
        raise type(failed)(failed.message, **{**failed.detail, "receipts": receipts}) from failed
    return receipts


def _in_order(
    topic: str, columns: Columns, partition: int | None, batch_bytes: int
) -> Iterator[Placed]:
    """Cut the columns into batches."""
    start, count, step = 0, len(columns.values), BULK_RECORDS
    while start < count:
        end = min(start + step, count)
        values, size = _values(columns.values[start:end], batch_bytes)
        if size > batch_bytes and end - start > 1:
            step = max(1, (end - start) // 2)
            continue
        batch = Outgoing(topic, values)
        _fill(batch, columns, start, end)
        batch.size = size + sum(map(len, filter(None, batch.keys or ())))
        yield batch, partition
        start = end
        if size * 2 < batch_bytes:
            step = min(BULK_RECORDS, step * 2)


def _fill(batch: Outgoing, columns: Columns, start: int, end: int) -> None:
    if columns.keys is not None:
        batch.keys = [as_key(each) for each in columns.keys[start:end]]
    if columns.headers is not None:
        batch.headers = [as_headers(each) for each in columns.headers[start:end]]
    if columns.timestamps is not None:
        batch.timestamps = [_ms(each) for each in columns.timestamps[start:end]]


def _values(chunk: Sequence[Raw], batch_bytes: int) -> tuple[list[Value], int]:
    """A chunk as a list of bytes and what it counts towards the limits, by a few C calls."""
    values: Any = chunk if isinstance(chunk, list) else list(chunk)
    try:
        size = sum(map(len, values))
        if size <= batch_bytes:
            # Joining is the cheapest way to see that all of them are bytes.
            b"".join(values)
    except TypeError:
        values = [as_bytes(each) for each in values]
        size = sum(map(len, filter(None, values)))
    return values, size + RECORD_OVERHEAD_BYTES * len(values)


def _ms(moment: datetime) -> int:
    return microseconds_of(moment) // 1000


def _scattered(
    route: Route, columns: Columns, batch_bytes: int, order: list[tuple[Outgoing, int]]
) -> Iterator[Placed]:
    """Sort the records into batches by the partition of their keys, noting where each went."""
    growing: dict[int, Outgoing] = {}
    keys, headers, timestamps = columns.keys, columns.headers, columns.timestamps
    assert keys is not None
    for position, raw in enumerate(columns.values):
        key, value = as_key(keys[position]), as_bytes(raw)
        found = as_headers(headers[position]) if headers is not None else None
        size = record_size(value, key, found)
        lane = route.lane_for(key, None)
        number = lane.partition if lane is not None else position // BULK_RECORDS % len(route.lanes)
        batch = growing.get(number)
        if batch is not None and (
            batch.size + size > batch_bytes or len(batch.values) >= BULK_RECORDS
        ):
            yield growing.pop(number), number
            batch = None
        if batch is None:
            batch = growing[number] = Outgoing(route.topic)
            batch.timestamps = None if timestamps is None else []
        if timestamps is not None and batch.timestamps is not None:
            batch.timestamps.append(_ms(timestamps[position]))
        order.append((batch, len(batch.values)))
        batch.add(value, key, found, size)
    for number, batch in growing.items():
        yield batch, number
