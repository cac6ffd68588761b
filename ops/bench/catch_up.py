"""`python -m ops.bench catch-up`: a broker that lost its disk comes back, and copies all it had.

Three broker processes, every partition with a copy on each. Beside it a publisher and a reader
work, as programs do that are not at their limit. One broker is killed and its directory removed;
started again it joins as a new node. Measured are the time until it is a member of every partition,
the bytes that it got in it, and what that cost the others: the latency of the foreground before and
during.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.bench import machine
from ops.bench.cases import Row, batch_file
from ops.bench.rows import print_rows
from ops.faults.broker import BrokerProcess
from ops.faults.cluster import ClusterProcesses
from penstock import sync
from penstock.errors import PenstockError

TOPIC: Final = "bulk"
FOREGROUND: Final = "foreground"
HEADERS_BYTES: Final = 300
"""Of a batch, and around its one record, at most."""
SMALL_BYTES: Final = 500_000
"""A partition with less is one record."""
REQUEST_SECONDS: Final = 60.0
CAUGHT_UP_SECONDS_MAX: Final = 170.0
LOOK_SECONDS: Final = 0.1
OPTIONS: Final = ("--log-level", "warning")


@dataclass
class Foreground:
    """A program that publishes at a steady pace, and one that reads what it publishes.

    Attributes:
        acks: when a record was acknowledged, and how long that took.
        reads: when a record arrived, and how long after it was to be published.
    """

    address: str
    pause: float
    acks: list[tuple[float, float]] = field(default_factory=list)
    reads: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Foreground:
        acts = (self._publish, self._read) if self.pause > 0 else ()
        self._threads = [threading.Thread(target=act) for act in acts]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _publish(self) -> None:
        with sync.connect(self.address, delivery_timeout=REQUEST_SECONDS) as client:
            due = time.monotonic()
            while not self._end.is_set():
                due = max(due + self.pause, time.monotonic() - 1.0)  # later ones do not wait for it
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    client.publish(FOREGROUND, b"%.6f" % due + bytes(90), partition=0)
                except PenstockError as error:
                    self.errors.append(repr(error))
                    return
                self.acks.append((due, time.monotonic() - due))

    def _read(self) -> None:
        with sync.connect(self.address) as client, client.subscribe(FOREGROUND) as records:
            while not self._end.is_set():
                for record in records.fetch(max_records=1000, wait=0.2):
                    due = float((record.value or b"").rstrip(b"\0"))
                    self.reads.append((due, time.monotonic() - due))

    def p99(self, what: str, since: float, until: float) -> float:
        """The 99th percentile of `acks` or `reads` between two moments, in seconds."""
        found = sorted(took for at, took in getattr(self, what) if since <= at <= until)
        return found[int(len(found) * 0.99)] if found else float("nan")


@dataclass
class Work:
    """What is measured."""

    partitions: int
    megabytes: int
    batch_bytes: int
    pause: float
    seconds: float
    topic: str = TOPIC


def _fill(cluster: ClusterProcesses, work: Work) -> None:
    """Publish about so much to every partition."""
    batch = batch_file([b"x" * max(4, work.batch_bytes - HEADERS_BYTES)])
    each = work.megabytes * 1_000_000 // work.partitions
    with sync.connect(cluster.address, request_timeout=REQUEST_SECONDS) as client:
        made = client.admin.create_topic(TOPIC, partitions=work.partitions, replication=3).topic
        if each < SMALL_BYTES:
            for number in range(work.partitions):
                client.publish(TOPIC, random.randbytes(each), partition=number)
            return
    for partition in made.partitions:
        leader = cluster.leader(TOPIC, partition.partition)
        there = 0
        seconds = 1.0
        while there < each:
            args = ("127.0.0.1", leader.port, partition.group, 2, 4, batch, round(seconds, 2))
            done = machine.load("publish", *args)
            wrote = done["megabytes_per_second"] * seconds * 1_000_000
            there += int(wrote)
            seconds = max(0.1, min(5.0, (each - there) / max(wrote / seconds, 1.0)))


def _is_whole(cluster: ClusterProcesses, work: Work) -> bool:
    """Whether every partition has three members that are alive and nothing moves."""
    with (
        suppress(PenstockError),
        sync.connect(cluster.members[0].address, request_timeout=REQUEST_SECONDS) as client,
    ):
        status = client.admin.cluster_status()
        return not status.leaderless + status.under_replicated + status.moving
    return False


def _size(member: BrokerProcess) -> int:
    """Bytes of segments on a member's disk."""
    folder = member.data / "partitions"
    return sum(file.stat().st_size for file in folder.glob("*/*") if file.is_file())


def measure(work: Work, folder: Path) -> Iterator[Row]:
    """Rows of (what, value, unit)."""
    with ExitStack() as stack:
        cluster = stack.enter_context(ClusterProcesses(folder, options=OPTIONS))
        cluster.start()
        with sync.connect(cluster.address) as client:
            client.admin.create_topic(FOREGROUND, replication=3)
        began = time.monotonic()
        _fill(cluster, work)
        yield "published, one copy", _size(cluster.members[0]) / 1e6, "MB"
        yield "published in", time.monotonic() - began, "s"
        leader = cluster.leader(FOREGROUND)
        away = next(member for member in cluster.members if member is not leader)
        rest = ",".join(member.address for member in cluster.members if member is not away)
        cluster.members.remove(away)
        stack.callback(away.kill)
        foreground = stack.enter_context(Foreground(rest, work.pause))
        time.sleep(work.seconds + 1.0)
        before = time.monotonic()
        yield from _latency(foreground, "before", before - work.seconds, before)
        away.kill()
        shutil.rmtree(away.data)
        time.sleep(1.0)
        yield from _replaced(cluster, away, work, foreground, before)


def _replaced(
    cluster: ClusterProcesses,
    away: BrokerProcess,
    work: Work,
    foreground: Foreground,
    before: float,
) -> Iterator[Row]:
    used = [(member, machine.cpu_seconds(member.pid)) for member in cluster.members]
    began = time.monotonic()
    away.start()
    started = time.monotonic()
    give_up = began + CAUGHT_UP_SECONDS_MAX
    while not (_is_whole(cluster, work) and len(cluster.nodes(away)) > 2):
        if time.monotonic() > give_up:
            raise SystemExit("the replaced broker does not catch up")
        time.sleep(LOOK_SECONDS)
    ended = time.monotonic()
    copied = _size(away) / 1e6
    yield "replaced broker: listens after", started - began, "s"
    yield "replaced broker: has everything after", ended - began, "s"
    yield "replaced broker: copied", copied, "MB"
    yield "replaced broker: pace since it listens", copied / (ended - started), "MB/s"
    yield "replaced broker: CPU", machine.cpu_seconds(away.pid), "s"
    for number, (member, cpu) in enumerate(used):
        yield f"source {number}: CPU", machine.cpu_seconds(member.pid) - cpu, "s"
    yield from _latency(foreground, "during", started, ended)
    for what in ("acks", "reads"):
        first = foreground.p99(what, before - work.seconds, before)
        then = foreground.p99(what, started, ended)
        yield f"foreground, {what}: p99 during to before", then / first, ""
    if foreground.errors:
        raise SystemExit(f"the publisher saw an error: {foreground.errors[0]}")


def _latency(foreground: Foreground, when: str, since: float, until: float) -> Iterator[Row]:
    for what in ("acks", "reads"):
        found = [took for at, took in getattr(foreground, what) if since <= at <= until]
        yield f"foreground, {what}, {when}: number", len(found), ""
        yield f"foreground, {what}, {when}: p50", statistics.median(found or [0.0]) * 1000, "ms"
        yield f"foreground, {what}, {when}: p99", foreground.p99(what, since, until) * 1000, "ms"


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench catch-up", description=__doc__)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--megabytes", type=int, default=2000, help="of one copy, in all")
    parser.add_argument("--batch-bytes", type=int, default=65_536)
    parser.add_argument("--pause", type=float, default=0.02, help="between publishes, s; 0: none")
    parser.add_argument("--seconds", type=float, default=5.0, help="of measuring before")
    parser.add_argument("--folder", help="where the data goes; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    work = Work(options.partitions, options.megabytes, options.batch_bytes, options.pause,
                options.seconds)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.folder) as folder:
        print_rows(measure(work, Path(folder)), as_json=options.json)
