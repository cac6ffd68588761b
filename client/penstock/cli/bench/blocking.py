"""The loads on the blocking client: one thread per task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import penstock.sync
from penstock.cli.bench.meter import Meter
from penstock.cli.bench.payload import make_values, slice_of, stamp, stamped_at

Worker = Callable[[penstock.sync.Client, Meter, list[bytes], int], None]


def run(meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Connect, warm up, wait for the others, measure."""
    load = meter.load
    values = make_values(load.size, load.seed)
    with penstock.sync.connect(load.server, acks=load.acks, compression=load.compression) as client:
        if load.kind in WRITERS:
            meter.start(load.warmup)
            _together(client, meter, values, WRITERS[load.kind])
            wait_for_go()
            meter.start(load.seconds)
            _together(client, meter, values, WRITERS[load.kind])
        else:
            READERS[load.kind](client, meter, wait_for_go)


def _together(
    client: penstock.sync.Client, meter: Meter, values: list[bytes], worker: Worker
) -> None:
    tasks = meter.load.tasks if meter.load.kind != "paced" else 1
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            worker(client, meter, values, number)
        except Exception as error:  # carried into the main thread below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def publish_many(
    client: penstock.sync.Client, meter: Meter, values: list[bytes], number: int
) -> None:
    """Publish batch after batch."""
    load, at = meter.load, number * meter.load.batch
    while not meter.over():
        start = time.perf_counter()
        client.publish_many(load.topic, slice_of(values, at, load.batch))
        meter.took(time.perf_counter() - start)
        meter.add(load.batch)
        at += load.batch


def publish(client: penstock.sync.Client, meter: Meter, values: list[bytes], number: int) -> None:
    """Publish record after record, each awaited."""
    at, topic = number, meter.load.topic
    while not meter.over():
        start = time.perf_counter()
        client.publish(topic, values[at % len(values)])
        meter.took(time.perf_counter() - start)
        meter.add(1)
        at += 1


def paced(client: penstock.sync.Client, meter: Meter, values: list[bytes], _number: int) -> None:
    """Publish at a steady rate, each record stamped with the time at which it was due."""
    load, due = meter.load, time.monotonic()
    while not meter.over():
        due += 1 / load.rate
        time.sleep(max(0.0, due - time.monotonic()))
        client.publish_nowait(load.topic, stamp(values[meter.records % len(values)], due))
        meter.add(1)
    client.flush()


def read_batches(
    client: penstock.sync.Client, meter: Meter, wait_for_go: Callable[[], None]
) -> None:
    """Read a backlog batch by batch."""
    with client.subscribe(meter.load.topic, start="earliest") as subscription:
        wait_for_go()
        meter.start(meter.load.seconds)
        for batch in subscription.batches():
            meter.add(len(batch.values))
            if meter.over():
                return


def follow(client: penstock.sync.Client, meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Read batch by batch what others are publishing."""
    with client.subscribe(meter.load.topic, start="latest") as subscription:
        subscription.fetch(max_records=1, wait=0.05)
        wait_for_go()
        meter.start(meter.load.seconds)
        for batch in subscription.batches():
            meter.add(len(batch.values))
            if meter.over():
                return


def read_records(
    client: penstock.sync.Client, meter: Meter, wait_for_go: Callable[[], None]
) -> None:
    """Read a backlog record by record."""
    with client.subscribe(meter.load.topic, start="earliest") as subscription:
        wait_for_go()
        meter.start(meter.load.seconds)
        wanted, seen = meter.load.records, 0
        for _record in subscription:
            seen += 1
            if seen == wanted:
                break
        meter.add(seen)


def deliver(client: penstock.sync.Client, meter: Meter, wait_for_go: Callable[[], None]) -> None:
    """Read what `paced` writes, and take the time from due to read."""
    with client.subscribe(meter.load.topic, start="latest") as subscription:
        subscription.fetch(max_records=1, wait=0.05)
        wait_for_go()
        meter.start(meter.load.seconds)
        while not meter.over():
            for record in subscription.fetch(max_records=1000, wait=0.2):
                meter.took(time.monotonic() - stamped_at(record.value))
                meter.add(1)


WRITERS: Final[dict[str, Worker]] = {
    "publish-many": publish_many,
    "publish": publish,
    "paced": paced,
}
READERS: Final = {
    "read-batches": read_batches,
    "read-records": read_records,
    "follow": follow,
    "deliver": deliver,
}
