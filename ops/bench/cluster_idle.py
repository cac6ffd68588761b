"""`python -m ops.bench cluster-idle`: three broker processes with many partitions and no work.

Every partition has a copy on each of the three. Measured are the CPU and the memory of each broker
while nothing happens, and how long it takes, after all three were killed, until every partition
has a leader again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ops.bench.machine import cpu_seconds
from ops.bench.rows import print_rows
from ops.faults.broker import wait_until
from ops.faults.cluster import ClusterProcesses
from penstock import sync
from penstock.errors import PenstockError

TOPIC: Final = "idle"
LED_SECONDS_MAX: Final = 60.0
LOOK_SECONDS: Final = 0.02

Row = tuple[str, float, str]


def _rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _pids(cluster: ClusterProcesses) -> list[int]:
    return [member.pid for member in cluster.members]


def _all_led(cluster: ClusterProcesses, partitions: int) -> bool:
    """Whether each broker says that every partition has a leader."""
    for member in cluster.members:
        with (
            suppress(PenstockError),
            sync.connect(member.address, request_timeout=LED_SECONDS_MAX) as client,
        ):
            (topic,) = client.admin.metadata([TOPIC]).topics
            if len(topic.partitions) == partitions and all(p.leader for p in topic.partitions):
                continue
        return False
    return True


def _wait_until_led(cluster: ClusterProcesses, partitions: int) -> float:
    began = time.monotonic()
    if not wait_until(lambda: _all_led(cluster, partitions), LED_SECONDS_MAX):
        raise RuntimeError("some partitions found no leader")
    return time.monotonic() - began


def _idle(cluster: ClusterProcesses, seconds: float, when: str) -> Iterator[Row]:
    before = [cpu_seconds(pid) for pid in _pids(cluster)]
    time.sleep(seconds)
    for number, pid in enumerate(_pids(cluster)):
        cpu = (cpu_seconds(pid) - before[number]) / seconds * 100
        yield f"broker {number}, {when}: idle CPU", cpu, "% of a core"
        yield f"broker {number}, {when}: memory", _rss_mib(pid), "MiB"


def measure(partitions: int, seconds: float) -> Iterator[Row]:
    """Rows of (what, value, unit)."""
    with tempfile.TemporaryDirectory() as folder, ClusterProcesses(Path(folder)) as cluster:
        cluster.start()
        began = time.monotonic()
        with sync.connect(cluster.address, request_timeout=LED_SECONDS_MAX) as client:
            client.admin.create_topic(TOPIC, partitions=partitions, replication=3)
        _wait_until_led(cluster, partitions)
        yield f"{partitions} partitions x 3: made and led", time.monotonic() - began, "s"
        time.sleep(seconds)
        yield from _idle(cluster, seconds, "new")
        for member in cluster.members:
            member.kill()
        began = time.monotonic()
        for member in cluster.members:
            member.spawn()
        wait_until(lambda: all(member.listens for member in cluster.members), LED_SECONDS_MAX)
        yield "started again: all listen", time.monotonic() - began, "s"
        _wait_until_led(cluster, partitions)
        yield "started again: every partition led", time.monotonic() - began, "s"
        cpu = max(map(cpu_seconds, _pids(cluster)))
        yield "started again: CPU of the busiest broker until then", cpu, "s"
        time.sleep(seconds)
        yield from _idle(cluster, seconds, "restarted")


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench cluster-idle", description=__doc__)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    print_rows(measure(options.partitions, options.seconds), as_json=options.json)
