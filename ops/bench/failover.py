"""`python -m ops.bench failover`: how long publishing pauses when a partition's leader goes.

Three broker processes, one partition with three copies, one publisher that sends a record when the
one before it is acknowledged. Time and again its leader is killed (SIGKILL), stopped (SIGSTOP), or
told to hand over the lead; the gap is the time from there to the first acknowledgement of whoever
leads next. At the end every acknowledged record must be there once, in order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.faults.broker import wait_until
from ops.faults.cluster import ClusterProcesses
from penstock import sync
from penstock.errors import PenstockError

TOPIC: Final = "orders"
GAP_SECONDS_MAX: Final = 20.0
READY_SECONDS_MAX: Final = 30.0
REST_SECONDS: Final = 0.7
"""Between the last broker being well again and the next fault."""
STOPPED_SECONDS: Final = 4.0


@dataclass
class Publisher:
    """Publishes numbers from 0 on, one at a time, in a thread."""

    address: str
    acks: list[float] = field(default_factory=list)
    """When each number was acknowledged."""
    errors: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End after the record that is under way."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with sync.connect(self.address, delivery_timeout=60.0) as client:
            while not self._end.is_set():
                try:
                    client.publish(TOPIC, b"%d" % len(self.acks), partition=0)
                except PenstockError as error:
                    self.errors.append(repr(error))
                    return
                self.acks.append(time.monotonic())

    def gap_since(self, fault: float) -> float | None:
        """Seconds from a fault to the end of the longest pause that it caused; None: not over."""
        acks = self.acks
        near = [at for at in acks[-20_000:] if at >= fault - 1.0]
        if not near or near[-1] < fault + REST_SECONDS:
            return None
        pauses = [(b - a, b) for a, b in itertools.pairwise(near) if b >= fault]
        return max(pauses, default=(0.0, fault))[1] - fault


class Faults:
    """What is done to the leader; each returns how to undo it."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self._cluster = cluster

    def kill(self) -> Callable[[], object]:
        """SIGKILL; it is started again afterwards."""
        leader = self._cluster.leader(TOPIC)
        self.at = time.monotonic()
        leader.kill()
        return leader.start

    def stop(self) -> Callable[[], object]:
        """SIGSTOP for longer than an election takes."""
        leader = self._cluster.leader(TOPIC)
        self.at = time.monotonic()
        leader.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            time.sleep(max(0.0, self.at + STOPPED_SECONDS - time.monotonic()))
            leader.send_signal(signal.SIGCONT)

        return go_on

    def transfer(self) -> Callable[[], object]:
        """The lead is handed over."""
        with sync.connect(self._cluster.address) as client:
            (state,) = client.admin.list_partitions(TOPIC)
            to = next(node for node in state.replicas if node != state.leader)
            self.at = time.monotonic()
            client.admin.transfer_leader(TOPIC, 0, to)
        return lambda: None


def is_well(cluster: ClusterProcesses) -> bool:
    """Whether every broker takes part and every copy is there."""
    try:
        with sync.connect(cluster.address, request_timeout=3.0) as client:
            status = client.admin.cluster_status()
            return (
                all(node.answered for node in status.nodes)
                and len(status.nodes) == len(cluster.members)
                and not status.leaderless + status.under_replicated + status.moving
            )
    except PenstockError:
        return False


def verify(cluster: ClusterProcesses, publisher: Publisher) -> None:
    """Every acknowledged number is there once, in order.

    Raises:
        SystemExit: it is not so; says what is wrong.
    """
    if publisher.errors:
        raise SystemExit(f"the publisher saw an error: {publisher.errors[0]}")
    expected = len(publisher.acks)
    seen = 0
    with sync.connect(cluster.address) as client, client.subscribe(TOPIC) as records:
        while seen < expected:
            found = records.fetch(max_records=10_000, wait=10.0)
            if not found:
                break
            for record in found:
                if int(record.value or b"") != seen:
                    raise SystemExit(f"at offset {record.offset} is {record.value!r}, not {seen}")
                seen += 1
        end = client.admin.list_offsets(TOPIC, "latest")[0]
    if seen < expected:
        raise SystemExit(f"{expected - seen} acknowledged records are lost")
    if end > expected:
        raise SystemExit(f"{end - expected} records are there that nobody was told of")


def measure(how: str, count: int, *, told: Callable[[float], object]) -> list[float]:
    """The gaps of so many faults, in seconds."""
    gaps: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ClusterProcesses(Path(folder)) as cluster:
        cluster.start()
        with sync.connect(cluster.address) as client:
            client.admin.create_topic(TOPIC, 1, len(cluster.members))
        publisher = Publisher(cluster.address)
        publisher.start()
        faults = Faults(cluster)
        try:
            for _ in range(count):
                if not wait_until(lambda: is_well(cluster), READY_SECONDS_MAX):
                    raise SystemExit("the brokers do not come together again")
                time.sleep(REST_SECONDS)
                undo = getattr(faults, how)()
                wait_until(lambda: publisher.gap_since(faults.at) is not None, GAP_SECONDS_MAX)
                gap = publisher.gap_since(faults.at)
                if gap is None:
                    raise SystemExit(f"no acknowledgement within {GAP_SECONDS_MAX} s")
                gaps.append(gap)
                told(gap)
                undo()
        finally:
            publisher.stop()
        wait_until(lambda: is_well(cluster), READY_SECONDS_MAX)
        verify(cluster, publisher)
        print(
            f"{len(publisher.acks):,} acknowledged records: all there, once, in order", flush=True
        )
    return gaps


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="how many faults")
    parser.add_argument("--how", choices=["kill", "stop", "transfer"], default="kill")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    gaps = measure(
        options.how, options.kills, told=lambda gap: print(f"{gap * 1000:8,.0f} ms", flush=True)
    )
    ranked = sorted(gaps)
    p99 = ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]
    for what, value in (
        ("p50", statistics.median(gaps)), ("p99", p99), ("longest", ranked[-1])
    ):  # fmt: skip
        title = f"leader {options.how}: pause of publishing, {what} of {len(gaps)}"
        if options.json:
            print(json.dumps({"what": title, "value": value * 1000, "unit": "ms"}))
        else:
            print(f"{title:55} {value * 1000:14,.0f} ms")
