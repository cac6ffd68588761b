"""Brings up topics, groups and members for `penstock bench shared`, and keeps the figures."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock.cli.bench.broker import Target
from penstock.cli.bench.payload import make_values, slice_of, stamp
from penstock.cli.bench.runner import ClientProcess, cpu_seconds, wait_for_file
from penstock.cli.bench.shared_spec import SharedKind, SharedLoad
from penstock.cli.bench.spec import Driver
from penstock.cli.settings import Failure, Settings

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.sync import Client

FILL: Final = 20_000
"""Records of one publish_many while a topic is filled."""
PATIENCE: Final = 120.0
GROUP: Final = "bench"


class Member(ClientProcess):
    """One `penstock.cli.bench.shared_child`."""

    def __init__(self, load: SharedLoad) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.bench.shared_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._write(msgspec.json.encode(load))

    def freeze(self) -> None:
        """Stop the process where it stands; it keeps its connection."""
        self._process.send_signal(signal.SIGSTOP)


@dataclass(frozen=True)
class Bench:
    """One measurement's broker, and how large it is to be."""

    target: Target
    size: int
    records: int
    seconds: float
    partitions: int
    driver: Driver
    spawn: str | None = None
    """Where brokers may be started."""

    @property
    def server(self) -> str:
        """Where the broker is."""
        return self.target.settings.server

    @contextmanager
    def topic(
        self, settings: Mapping[str, object] | None = None, **config: object
    ) -> Iterator[tuple[Client, str]]:
        """A client and a topic with a shared group, both deleted at the end."""
        name = f"bench-{secrets.token_hex(4)}"
        with self.target.settings.connect() as client:
            client.admin.create_topic(name, partitions=self.partitions, config=config)
            dead = client.admin.create_group(name, GROUP, dict(settings or {})).group.dead_topic
            try:
                yield client, name
            finally:
                client.admin.delete_group(GROUP, topic=name)
                for topic in filter(None, (name, dead)):
                    client.admin.delete_topic(topic)

    def fill(
        self,
        client: Client,
        topic: str,
        records: int,
        *,
        keys: int = 0,
        at: datetime | None = None,
        stamped: float | None = None,
    ) -> None:
        """Publish records, in turn on so many keys, for a time that may be put into each."""
        values = _values(self.size)
        for first in range(0, records, FILL):
            count = min(FILL, records - first)
            several = [f"key-{(first + i) % keys}" for i in range(count)] if keys else None
            some = slice_of(values, first, count)
            if stamped is not None:
                some = [stamp(value, stamped) for value in some]
            client.publish_many(topic, some, keys=several, at=at)

    def load(self, topic: str, kind: SharedKind, **changes: Any) -> SharedLoad:  # noqa: ANN401 - fields of it
        """The work of one member."""
        fields: dict[str, Any] = {"driver": self.driver, "seconds": self.seconds, **changes}
        return SharedLoad(kind=kind, server=self.server, topic=topic, group=GROUP, **fields)

    def run(self, loads: Sequence[SharedLoad]) -> dict[str, Any]:
        """Run members side by side: records a second in all, and CPU time on both sides."""
        members: list[Member] = []
        try:
            for load in loads:
                members.append(Member(load))
                members[-1].wait_ready()
            before = cpu_seconds(self.target.pid)
            for member in members:
                member.go()
            outcomes = [member.outcome() for member in members]
            after = cpu_seconds(self.target.pid)
        finally:
            for member in members:
                member.end()
        records = sum(outcome.records for outcome in outcomes)
        if not records:
            raise Failure("no record was delivered")
        broker = after - before if before is not None and after is not None else None
        return {
            "records": records,
            "per_second": round(records / max(outcome.seconds for outcome in outcomes)),
            "client_us": sum(outcome.cpu_seconds for outcome in outcomes) * 1e6 / records,
            "broker_us": None if broker is None else broker * 1e6 / records,
        }


@cache
def _values(size: int) -> list[bytes]:
    return make_values(size)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of seconds, in milliseconds."""
    if not values:
        raise Failure("nothing was measured")
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {
        "count": len(ordered), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99),
        "max_ms": at(1.0), "min_ms": round(1000 * ordered[0], 2),
    }  # fmt: skip


def wait_until(condition: Callable[[], bool], what: str, pause: float = 0.02) -> None:
    """Block until a condition holds.

    Raises:
        Failure: it does not in time.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"{what} did not happen within {PATIENCE:.0f} s")
        time.sleep(pause)


def memory_bytes(pid: int | None) -> int | None:
    """The resident memory of a process; None where it can't be known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def grown_mib(before: int | None, after: int | None) -> float | None:
    """How much memory came in between, in MiB; None where it can't be known."""
    if before is None or after is None:
        return None
    return round((after - before) / (1 << 20), 1)


@contextmanager
def serving(place: str, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A broker on the data in a directory; `settings` then lead to it. Killed at the end."""
    port_file = Path(place, f"port-{secrets.token_hex(4)}")
    arguments = ["--data", f"{place}/data", "--listen", "127.0.0.1:0"]
    arguments += ["--port-file", str(port_file), "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "serve", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        port = wait_for_file(port_file, PATIENCE).rpartition(":")[2]
        settings.server = f"127.0.0.1:{port}"
        yield process
    finally:
        process.kill()
        process.wait()
