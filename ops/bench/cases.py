"""The broker-bound figures: what one broker process does when its clients are C programs.

Each case gives rows of (what, value, unit). Beside rates stand the broker's CPU per request and the
ratio to a bare C echo of the same size measured in the same run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ops.bench import machine, sparse
from penstock import sync
from penstock.protocol.batch import CODEC_NONE
from penstock.protocol.records import encode_batch

Row = tuple[str, float, str]
SECONDS = 3.0


def records(count: int, size: int, seed: int = 1) -> list[bytes]:
    """Realistic, compressible JSON records of about `size` bytes."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        row = {
            "order": number,
            "customer": f"customer-{rng.randrange(10_000)}",
            "amount": round(rng.random() * 500, 2),
            "status": rng.choice(("paid", "open", "sent", "returned")),
        }
        text = json.dumps(row)
        filler = " ".join(rng.choice(_WORDS) for _ in range(max(0, size - len(text)) // 6 + 1))
        row["note"] = filler[: max(0, size - len(text) - 12)]
        made.append(json.dumps(row).encode()[:size].ljust(size))
    return made


_WORDS = ("pump", "valve", "river", "stone", "gate", "basin", "turbine", "level", "spill", "head")


def topic(address: str, name: str, partitions: int = 1) -> list[int]:
    """Create a topic; the groups of its partitions."""
    with sync.connect(address) as client:
        made = client.admin.create_topic(name, partitions=partitions).topic
    return [partition.group for partition in made.partitions]


def batch_file(values: list[bytes]) -> str:
    """A file with one sealed batch, for the loader."""
    path = Path(tempfile.gettempdir()) / f"penstock-bench-batch-{len(values)}-{len(values[0])}"
    batch = encode_batch(values, codec=CODEC_NONE, base_ts_us=time.time_ns() // 1000)
    path.write_bytes(batch)
    return str(path)


def _echo(connections: int, size: int) -> float:
    with machine.echo_server() as port:
        return machine.load("echo", "127.0.0.1", port, connections, size, 2.0)[
            "requests_per_second"
        ]


def small_requests() -> Iterator[Row]:
    """64 connections, one request in flight each, 132-byte requests."""
    yield from _publish_case("64 loaders x 1, 132 B", [b"x" * 4], 64, 1, 132)


def one_in_flight() -> Iterator[Row]:
    """A single connection awaiting every acknowledgment."""
    yield from _publish_case("1 loader x 1, 132 B", [b"x" * 4], 1, 1, 132)


def pipelined() -> Iterator[Row]:
    """64 connections, 16 requests in flight each."""
    yield from _publish_case("64 loaders x 16, 132 B", [b"x" * 4], 64, 16, 132)


def large_batches() -> Iterator[Row]:
    """8 connections, 64 KiB batches, 4 in flight each."""
    yield from _publish_case("8 loaders x 4, 64 KiB", [b"x" * 65_000], 8, 4, 65_130)


def _publish_case(
    name: str, values: list[bytes], connections: int, depth: int, size: int
) -> Iterator[Row]:
    path = batch_file(values)
    with machine.broker() as broker:
        (group,) = topic(broker.address, "bench")
        args = ("publish", "127.0.0.1", broker.port, group, connections, depth, path)
        machine.load(*args, 1.0)
        cpu = broker.cpu_seconds()
        result = machine.load(*args, SECONDS)
        cpu = broker.cpu_seconds() - cpu
        peak = broker.rss_mib("VmHWM")
    echo = _echo(connections, size)
    rate = result["requests_per_second"]
    yield f"{name}: acks", rate, "/s"
    yield f"{name}: throughput", result["megabytes_per_second"], "MB/s"
    yield f"{name}: p50", result["p50_us"] / 1000, "ms"
    yield f"{name}: p99", result["p99_us"] / 1000, "ms"
    yield f"{name}: broker CPU per request", cpu / result["requests"] * 1e6, "us"
    yield f"{name}: ratio to C echo", rate / echo, ""
    yield f"{name}: broker peak memory", peak, "MiB"


def tail_reads() -> Iterator[Row]:
    """8 consumers reading 64 KiB at a time from the RAM tail."""
    path = batch_file([b"x" * 65_000])
    with machine.broker() as broker:
        (group,) = topic(broker.address, "bench")
        machine.load("publish", "127.0.0.1", broker.port, group, 1, 4, path, 0.03)
        cpu = broker.cpu_seconds()
        result = machine.load("fetch", "127.0.0.1", broker.port, group, 8, 65_536, SECONDS)
        cpu = broker.cpu_seconds() - cpu
    yield "8 consumers x 64 KiB: throughput", result["megabytes_per_second"] / 1000, "GB/s"
    yield "8 consumers x 64 KiB: broker CPU per reply", cpu / result["requests"] * 1e6, "us"


def idle() -> Iterator[Row]:
    """Memory and CPU of a broker that has nothing to do; memory per idle connection."""
    with machine.broker() as broker:
        time.sleep(1.0)
        yield "idle broker: memory", broker.rss_mib(), "MiB"
        with sync.connect(broker.address) as client:
            client.admin.status()
        before = broker.rss_mib()
        clients = [sync.connect(broker.address).__enter__() for _ in range(1000)]
        for client in clients:
            client.admin.status()
        yield "per idle connection: memory", (broker.rss_mib() - before) * 1024 / 1000, "KiB"
        for client in clients:
            client.close()


def partitions() -> Iterator[Row]:
    """Cost per record and idle CPU against the number of partitions."""
    path = batch_file([b"x" * 100])
    base = 0.0
    for count in (1, 10, 100, 1000):
        with machine.broker() as broker:
            groups = topic(broker.address, "bench", count)
            args = ("publish", "127.0.0.1", broker.port, groups[-1], 64, 1, path)
            machine.load(*args, 1.0)
            cpu = broker.cpu_seconds()
            result = machine.load(*args, SECONDS)
            cost = (broker.cpu_seconds() - cpu) / result["requests"] * 1e6
            base = base or cost
            cpu = broker.cpu_seconds()
            time.sleep(5.0)
            idle_cpu = (broker.cpu_seconds() - cpu) / 5.0 * 100
            yield f"{count} partitions: broker CPU per request", cost, "us"
            yield f"{count} partitions: ratio to 1 partition", cost / base, ""
            yield f"{count} partitions: idle CPU", idle_cpu, "% of a core"
            yield f"{count} partitions: memory", broker.rss_mib(), "MiB"


def log_size() -> Iterator[Row]:
    """Cost of publishing, reading and starting against the length of the log (sparse files)."""
    path = batch_file([b"x" * 4])
    base: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-", dir=os.environ.get("BENCH_DIR")))
    try:
        with machine.broker(folder / "data") as broker:
            (group,) = topic(broker.address, "bench")
            machine.load("publish", "127.0.0.1", broker.port, group, 1, 1, path, 0.1)
            broker.stop()
        for gib in (1, 10, 100):
            sparse.grow(folder / "data", group, gib * 1024**3)
            with machine.broker(folder / "data") as broker:
                ready = broker.ready_seconds
                found = [
                    statistics.median(_costs(broker, group, batch) for _ in range(3))
                    for batch in (path, "")
                ]
                memory = broker.rss_mib()
                broker.stop()
            base = base or found
            yield f"{gib} GiB of log: ready", ready, "s"
            yield f"{gib} GiB of log: broker CPU per publish", found[0], "us"
            yield f"{gib} GiB of log: its ratio to 1 GiB", found[0] / base[0], ""
            yield f"{gib} GiB of log: broker CPU per cold read of 1 MiB", found[1], "us"
            yield f"{gib} GiB of log: its ratio to 1 GiB", found[1] / base[1], ""
            yield f"{gib} GiB of log: memory", memory, "MiB"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _costs(broker: machine.BrokerProcess, group: int, path: str) -> float:
    """The broker's CPU time for one publish of a batch, or without one for a read, in us."""
    cpu = broker.cpu_seconds()
    to = ("127.0.0.1", broker.port, group)
    if path:
        result = machine.load("publish", *to, 64, 1, path, 1.0)
    else:
        result = machine.load("fetch", *to, 1, 1 << 20, 1.0)
    return (broker.cpu_seconds() - cpu) / result["requests"] * 1e6


def restart() -> Iterator[Row]:
    """Time to ready after kill -9, empty and with 4 GiB of log."""
    yield "ready when empty", _median(lambda: _ready_empty()), "s"
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-", dir=os.environ.get("BENCH_DIR")))
    try:
        broker = machine.start(folder / "data")
        (group,) = topic(broker.address, "bench")
        path = batch_file([b"x" * 65_000])
        written = 0.0
        while written < 4 * 1024**3:
            args = ("publish", "127.0.0.1", broker.port, group, 8, 4, path, 2.0)
            written += machine.load(*args)["bytes"]
        broker.kill()
        times = []
        for _ in range(3):
            broker = machine.start(folder / "data")
            times.append(broker.ready_seconds)
            broker.kill()
        yield "log on disk", written / 1024**3, "GiB"
        yield "ready after kill -9 with that log", statistics.median(times), "s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ready_empty() -> float:
    with machine.broker() as broker:
        return broker.ready_seconds


def _median(measure: Callable[[], float], runs: int = 5) -> float:
    return statistics.median(measure() for _ in range(runs))


CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "one-in-flight": one_in_flight,
    "small-requests": small_requests,
    "pipelined": pipelined,
    "large-batches": large_batches,
    "tail-reads": tail_reads,
    "idle": idle,
    "partitions": partitions,
    "log-size": log_size,
    "restart": restart,
}
