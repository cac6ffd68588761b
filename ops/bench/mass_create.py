"""`python -m ops.bench mass-create`: a topic with thousands of partitions, beside one that is used.

Three broker processes; a publisher and a reader work at a steady pace. Measured are the time until
the request is answered, which is when every partition has a leader, and the same for its deletion;
the longest round of each broker's loop; how long the foreground waits; and whether any partition
that was there before changed its leader.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ops.bench.cases import Row
from ops.bench.catch_up import FOREGROUND, Foreground
from ops.bench.rows import print_rows
from ops.faults.cluster import ClusterProcesses
from penstock import sync

TOPIC: Final = "mass"
BEFORE: Final = 20
"""Partitions that are there before."""
REQUEST_SECONDS: Final = 60.0
REST_SECONDS: Final = 3.0


def _terms(cluster: ClusterProcesses) -> list[tuple[int, int]]:
    """Leader and term of each partition that was there before."""
    with sync.connect(cluster.address) as client:
        (topic,) = client.admin.metadata([FOREGROUND]).topics
        return [(partition.leader, partition.term) for partition in topic.partitions]


def _longest_rounds(cluster: ClusterProcesses) -> list[float]:
    rounds = []
    for member in cluster.members:
        with sync.connect(member.address) as client:
            rounds.append(float(str(client.admin.status().figures["longest_round_ms"])))
    return rounds


def _timed(act: Callable[[], object], foreground: Foreground, what: str) -> Iterator[Row]:
    began = time.monotonic()
    act()
    ended = time.monotonic()
    yield f"{what}: answered after", ended - began, "s"
    time.sleep(REST_SECONDS)
    p99 = foreground.p99("acks", began, ended + 1.0) * 1000
    longest = max((took for at, took in foreground.acks if began <= at), default=0.0)
    yield f"{what}: foreground, acks, p99", p99, "ms"
    yield f"{what}: foreground, acks, longest", longest * 1000, "ms"


def measure(partitions: int, pause: float) -> Iterator[Row]:
    """Rows of (what, value, unit)."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        cluster = stack.enter_context(ClusterProcesses(folder, options=("--log-level", "warning")))
        cluster.start()
        client = stack.enter_context(
            sync.connect(cluster.members[0].address, request_timeout=REQUEST_SECONDS)
        )
        client.admin.create_topic(FOREGROUND, partitions=BEFORE, replication=3)
        time.sleep(REST_SECONDS)
        foreground = stack.enter_context(Foreground(cluster.address, pause))
        time.sleep(REST_SECONDS)
        now = time.monotonic()
        p99 = foreground.p99("acks", now - REST_SECONDS, now) * 1000
        yield "before: foreground, acks, p99", p99, "ms"
        before, rounds = _terms(cluster), _longest_rounds(cluster)
        for number, longest in enumerate(rounds):
            yield f"broker {number}, before: longest round", longest, "ms"

        def create() -> None:
            client.admin.create_topic(TOPIC, partitions=partitions, replication=3)

        yield from _timed(create, foreground, f"{partitions} partitions x 3 made")
        yield from _timed(lambda: client.admin.delete_topic(TOPIC), foreground, "deleted")
        for number, longest in enumerate(_longest_rounds(cluster)):
            yield f"broker {number}, after: longest round", longest, "ms"
        changed = sum(a != b for a, b in zip(before, _terms(cluster), strict=True))
        yield f"of {BEFORE} partitions before: elections", changed, ""
        if foreground.errors:
            raise SystemExit(f"the publisher saw an error: {foreground.errors[0]}")


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench mass-create", description=__doc__)
    parser.add_argument("--partitions", type=int, default=3000)
    parser.add_argument("--pause", type=float, default=0.02, help="between publishes, s; 0: none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    print_rows(measure(options.partitions, options.pause), as_json=options.json)
