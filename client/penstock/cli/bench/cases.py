"""What is measured: each case turns a basic `Load` into the client processes of one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from penstock.cli.bench.broker import Target
from penstock.cli.bench.goals import NO_GOAL, Goal
from penstock.cli.bench.runner import Sample, run_once
from penstock.cli.bench.spec import Kind, Load

FILL_BATCH: Final = 5000
BACKLOG_SECONDS: Final = 300.0
READ_GRACE: Final = 2.0
WRITE_GRACE: Final = 1.0
"""How long publishing goes on after the reader has enough: it must never wait for the last."""


def publish_many(target: Target, load: Load, processes: int, partitions: int) -> Sample:
    """Bulk publishing: batches, one after the other in each task."""
    return _write(target, replace(load, kind="publish-many"), processes, partitions)


def publish(target: Target, load: Load, processes: int, partitions: int) -> Sample:
    """Single publishes, each awaited by its task."""
    return _write(target, replace(load, kind="publish"), processes, partitions)


def _write(target: Target, load: Load, processes: int, partitions: int) -> Sample:
    with target.topic(partitions) as topic:
        loads = [replace(load, topic=topic, seed=seed) for seed in range(1, processes + 1)]
        return run_once(loads, pid=target.pid)


def read_batches(target: Target, load: Load, processes: int, partitions: int) -> Sample:
    """A backlog, read in batches."""
    return _read(target, load, processes, partitions, "read-batches")


def read_records(target: Target, load: Load, processes: int, partitions: int) -> Sample:
    """A backlog, read record by record."""
    return _read(target, load, processes, partitions, "read-records")


def _read(target: Target, load: Load, processes: int, partitions: int, kind: Kind) -> Sample:
    load = replace(load, seconds=BACKLOG_SECONDS)
    with target.topic(partitions) as topic:
        batch = min(FILL_BATCH, load.records)
        fill = replace(load, topic=topic, kind="publish-many", batch=batch, warmup=0.0)
        run_once([fill], pid=None)
        readers = [replace(load, topic=topic, kind=kind)] * processes
        return run_once(readers, pid=target.pid)


def through(target: Target, load: Load, _processes: int, partitions: int) -> Sample:
    """Published in batches by one process while another one reads them; what is read counts."""
    with target.topic(partitions) as topic:
        seconds = load.seconds + WRITE_GRACE
        writer = replace(load, topic=topic, kind="publish-many", seconds=seconds)
        reader = replace(load, topic=topic, kind="follow")
        return run_once([writer, reader], counted=1, pid=target.pid)


def roundtrip(target: Target, load: Load, _processes: int, partitions: int) -> Sample:
    """From the moment a record is due to be published to its delivery in another process."""
    expected = round(load.rate * load.seconds)
    with target.topic(partitions) as topic:
        writer = replace(load, topic=topic, kind="paced")
        reader = replace(
            load,
            topic=topic,
            kind="deliver",
            records=expected,
            seconds=load.seconds + READ_GRACE,
        )
        return run_once([replace(writer, records=expected), reader], counted=1, pid=target.pid)


Case = Callable[[Target, Load, int, int], Sample]


@dataclass(frozen=True)
class SuiteCase:
    """One line of `penstock bench suite`."""

    name: str
    run: Case
    size: int
    tasks: int = 1
    batch: int = 1000
    records: int = 0
    goal: Goal = NO_GOAL


SUITE: Final = (
    SuiteCase("publish_many 100 B", publish_many, 100),
    SuiteCase(
        "publish_many 100 B, bulk", publish_many, 100, batch=200_000, goal=Goal(rate=4_000_000)
    ),
    SuiteCase("publish_many 1 KiB", publish_many, 1024),
    SuiteCase(
        "publish_many 1 KiB, bulk", publish_many, 1024, batch=50_000, goal=Goal(rate=700_000)
    ),
    SuiteCase("publish 1 task 100 B", publish, 100, goal=Goal(p50_us=300, p99_us=600)),
    SuiteCase(
        "publish 64 tasks 100 B",
        publish,
        100,
        tasks=64,
        goal=Goal(rate=100_000, asyncio_rate=60_000, p99_us=1500),
    ),
    SuiteCase("publish 64 tasks 1 KiB", publish, 1024, tasks=64),
    SuiteCase(
        "read batches 100 B", read_batches, 100, records=1_000_000, goal=Goal(rate=5_000_000)
    ),
    SuiteCase("read batches 1 KiB", read_batches, 1024, records=300_000),
    SuiteCase("read singly 100 B", read_records, 100, records=500_000, goal=Goal(rate=1_000_000)),
    SuiteCase("through 100 B", through, 100, tasks=8, goal=Goal(rate=3_000_000)),
    SuiteCase("to delivery 1,000/s", roundtrip, 1024, goal=Goal(p50_us=500, p99_us=1000)),
)
