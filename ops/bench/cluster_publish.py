"""What replication costs a publisher: three brokers and three copies beside a broker alone.

The same load in the same run, in turns, so that the ratio holds on a busy machine too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ops.bench import machine
from ops.bench.cases import Row, batch_file, topic
from ops.faults.cluster import ClusterProcesses
from penstock import sync

TURNS: Final = 3
SECONDS: Final = 2.0
LOADS: Final = (
    ("64 loaders x 1, 132 B", [b"x" * 4], 64, 1),
    ("64 loaders x 16, 132 B", [b"x" * 4], 64, 16),
    ("8 loaders x 4, 64 KiB", [b"x" * 65_000], 8, 4),
)
PYTHON_RECORDS: Final = 400_000


def cluster_publish() -> Iterator[Row]:
    """Three copies on three processes against one broker: acks, latency, bytes."""
    folder = tempfile.TemporaryDirectory(prefix="penstock-bench-")
    with folder as name, ClusterProcesses(Path(name), 3) as cluster, machine.broker() as alone:
        cluster.start()
        (lone,) = topic(alone.address, "bench")
        with sync.connect(cluster.address) as client:
            made = client.admin.create_topic("bench", replication=3).topic
        group = made.partitions[0].group
        for what, values, connections, depth in LOADS:
            args = (connections, depth, batch_file(values), SECONDS)
            single: list[dict[str, float]] = []
            triple: list[dict[str, float]] = []
            for _ in range(TURNS):
                single.append(machine.load("publish", "127.0.0.1", alone.port, lone, *args))
                port = cluster.leader("bench").port
                triple.append(machine.load("publish", "127.0.0.1", port, group, *args))
            yield from _rows(what, single, triple)
        yield from _through(cluster)


def _rows(
    what: str, single: list[dict[str, float]], triple: list[dict[str, float]]
) -> Iterator[Row]:
    def median(of: list[dict[str, float]], key: str) -> float:
        return statistics.median(result[key] for result in of)

    for name, results in (("alone", single), ("three copies", triple)):
        yield f"{what}, {name}: acks", median(results, "requests_per_second"), "/s"
        yield f"{what}, {name}: throughput", median(results, "megabytes_per_second"), "MB/s"
        yield f"{what}, {name}: p50", median(results, "p50_us") / 1000, "ms"
        yield f"{what}, {name}: p99", median(results, "p99_us") / 1000, "ms"
    ratio = median(triple, "requests_per_second") / median(single, "requests_per_second")
    yield f"{what}: three copies to one", ratio, ""


def _through(cluster: ClusterProcesses) -> Iterator[Row]:
    """100 B records from a Python publisher to a consumer, batches of a thousand."""
    values = [b"%099d" % number for number in range(PYTHON_RECORDS)]
    with sync.connect(cluster.address) as client:
        client.admin.create_topic("through", replication=3)
        began = time.monotonic()
        client.publish_many("through", values)
        seen = 0
        with client.subscribe("through") as records:
            while seen < PYTHON_RECORDS:
                seen += len(records.fetch(10_000, wait=10.0))
    rate = PYTHON_RECORDS / (time.monotonic() - began)
    yield "100 B records published, then read, by one Python program", rate, "/s"
