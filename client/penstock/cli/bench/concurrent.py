"""The loads on the async client, under trio or asyncio: one task per call in flight.

The loads are written once; a `Loop` names the few things that the two libraries do differently.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final

import penstock
from penstock.cli.bench.meter import Meter
from penstock.cli.bench.payload import make_values, slice_of, stamp, stamped_at

Work = Callable[[], Awaitable[None]]


class Loop(ABC):
    """What the loads need of an async library."""

    @abstractmethod
    async def together(self, works: list[Work]) -> None:
        """Run all at once, until all are done."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Pause."""


class TrioLoop(Loop):
    """trio."""

    async def together(self, works: list[Work]) -> None:
        """Run in a nursery."""
        import trio

        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    async def sleep(self, seconds: float) -> None:
        """Pause; even no time at all lets others run."""
        import trio

        await trio.sleep(seconds)


class AsyncioLoop(Loop):
    """asyncio."""

    async def together(self, works: list[Work]) -> None:
        """Run in a task group."""
        import asyncio

        async def run(work: Work) -> None:
            await work()

        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(run(work))

    async def sleep(self, seconds: float) -> None:
        """Pause; even no time at all lets others run."""
        import asyncio

        await asyncio.sleep(seconds)


def run(meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Connect, warm up, wait for the others, measure."""
    if meter.load.driver == "trio":
        import trio

        trio.run(_measure, TrioLoop(), meter, wait_for_go)
    else:
        import asyncio

        asyncio.run(_measure(AsyncioLoop(), meter, wait_for_go))


async def _measure(loop: Loop, meter: Meter, wait_for_go: Callable[[], None]) -> None:
    load = meter.load
    async with penstock.connect(
        load.server, acks=load.acks, compression=load.compression
    ) as client:
        if load.kind in WRITERS:
            values = make_values(load.size, load.seed)
            writer, tasks = WRITERS[load.kind], 1 if load.kind == "paced" else load.tasks

            def work(number: int) -> Work:
                return lambda: writer(loop, client, meter, values, number)

            works = [work(number) for number in range(tasks)]
            meter.start(load.warmup)
            await loop.together(works)
            wait_for_go()
            meter.start(load.seconds)
            await loop.together(works)
        else:
            await READERS[load.kind](client, meter, wait_for_go)


async def publish_many(
    _loop: Loop, client: penstock.Client, meter: Meter, values: list[bytes], number: int
) -> None:
    """Publish batch after batch."""
    load, at = meter.load, number * meter.load.batch
    while not meter.over():
        start = time.perf_counter()
        await client.publish_many(load.topic, slice_of(values, at, load.batch))
        meter.took(time.perf_counter() - start)
        meter.add(load.batch)
        at += load.batch


async def publish(
    _loop: Loop, client: penstock.Client, meter: Meter, values: list[bytes], number: int
) -> None:
    """Publish record after record, each awaited."""
    at, topic = number, meter.load.topic
    while not meter.over():
        start = time.perf_counter()
        await client.publish(topic, values[at % len(values)])
        meter.took(time.perf_counter() - start)
        meter.add(1)
        at += 1


async def paced(
    loop: Loop, client: penstock.Client, meter: Meter, values: list[bytes], _number: int
) -> None:
    """Publish at a steady rate, each record stamped with the time at which it was due."""
    load, due = meter.load, time.monotonic()
    while not meter.over():
        due += 1 / load.rate
        await loop.sleep(max(0.0, due - time.monotonic()))
        client.publish_nowait(load.topic, stamp(values[meter.records % len(values)], due))
        meter.add(1)
    await client.flush()


async def read_batches(
    client: penstock.Client, meter: Meter, wait_for_go: Callable[[], None]
) -> None:
    """Read a backlog batch by batch."""
    async with client.subscribe(meter.load.topic, start="earliest") as subscription:
        wait_for_go()
        meter.start(meter.load.seconds)
        async for batch in subscription.batches():
            meter.add(len(batch.values))
            if meter.over():
                return


async def follow(client: penstock.Client, meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Read batch by batch what others are publishing."""
    async with client.subscribe(meter.load.topic, start="latest") as subscription:
        await subscription.fetch(max_records=1, wait=0.05)
        wait_for_go()
        meter.start(meter.load.seconds)
        async for batch in subscription.batches():
            meter.add(len(batch.values))
            if meter.over():
                return


async def read_records(
    client: penstock.Client, meter: Meter, wait_for_go: Callable[[], None]
) -> None:
    """Read a backlog record by record."""
    async with client.subscribe(meter.load.topic, start="earliest") as subscription:
        wait_for_go()
        meter.start(meter.load.seconds)
        wanted, seen = meter.load.records, 0
        async for _record in subscription:
            seen += 1
            if seen == wanted:
                break
        meter.add(seen)


async def deliver(client: penstock.Client, meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Read what `paced` writes, and take the time from due to read."""
    async with client.subscribe(meter.load.topic, start="latest") as subscription:
        await subscription.fetch(max_records=1, wait=0.05)
        wait_for_go()
        meter.start(meter.load.seconds)
        while not meter.over():
            for record in await subscription.fetch(max_records=1000, wait=0.2):
                meter.took(time.monotonic() - stamped_at(record.value))
                meter.add(1)


WRITERS: Final = {"publish-many": publish_many, "publish": publish, "paced": paced}
READERS: Final = {
    "read-batches": read_batches,
    "read-records": read_records,
    "follow": follow,
    "deliver": deliver,
}
