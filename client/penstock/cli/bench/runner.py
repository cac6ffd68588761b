"""Runs client processes side by side, and takes the broker's CPU time meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from penstock.cli.bench.histogram import merge, percentile
from penstock.cli.bench.spec import Load, Outcome, Report
from penstock.cli.settings import Failure

PERCENTILES: Final = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999}


class ClientProcess:
    """One `penstock.cli.bench.child`."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.bench.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The same code in a source tree as in an installation.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._write(msgspec.json.encode(load))

    def wait_ready(self) -> None:
        """Block until it is connected and warm."""
        self._read()

    def go(self) -> None:
        """Let it work."""
        self._write(b"{}")

    def outcome(self) -> Outcome:
        """Block until it is done.

        Raises:
            Failure: it could not do its work.
        """
        found = self._read().outcome
        assert found is not None
        self._process.wait()
        return found

    def end(self) -> None:
        """Make sure that the process is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _write(self, line: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(line + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise Failure("a client process of the measurement ended early") from None

    def _read(self) -> Report:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            raise Failure("a client process of the measurement ended early")
        report = msgspec.json.decode(line, type=Report)
        if report.error:
            raise Failure(report.error, hint=report.hint)
        return report


@dataclass(frozen=True)
class Sample:
    """One run: what the counted clients did, and what all clients and the broker spent."""

    records: int
    seconds: float
    client_cpu: float
    broker_cpu: float | None
    latency: Counter[int] = field(default_factory=Counter)


def run_once(loads: Sequence[Load], *, counted: int | None = None, pid: int | None) -> Sample:
    """Run client processes until all are done.

    Args:
        loads: one per process; each is ready before the next one starts.
        counted: index of the process whose records and latencies count; None: all.
        pid: the broker's process, if it runs on this host.

    Raises:
        Failure: a process failed.
    """
    clients: list[ClientProcess] = []
    try:
        for load in loads:
            clients.append(ClientProcess(load))
            clients[-1].wait_ready()
        before = cpu_seconds(pid)
        for client in clients:
            client.go()
        outcomes = [client.outcome() for client in clients]
        after = cpu_seconds(pid)
    finally:
        for client in clients:
            client.end()
    chosen = outcomes if counted is None else [outcomes[counted]]
    return Sample(
        records=sum(outcome.records for outcome in chosen),
        seconds=max(outcome.seconds for outcome in chosen),
        client_cpu=sum(outcome.cpu_seconds for outcome in outcomes),
        broker_cpu=after - before if before is not None and after is not None else None,
        latency=merge(outcome.latency for outcome in chosen),
    )


def cpu_seconds(pid: int | None) -> float | None:
    """User and system time of a process with all its threads; None where it can't be known."""
    if pid is None:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summarise(samples: Sequence[Sample], size: int) -> dict[str, Any]:
    """Medians over the runs; the spread of the rate beside its median."""
    rates = [sample.records / sample.seconds for sample in samples if sample.seconds > 0]
    row: dict[str, Any] = {
        "runs": len(samples),
        "records": sum(sample.records for sample in samples),
        "records_per_second": round(median(rates)) if rates else 0,
        "records_per_second_min": round(min(rates, default=0)),
        "records_per_second_max": round(max(rates, default=0)),
    }
    row["bytes_per_second"] = row["records_per_second"] * size
    for name, share in PERCENTILES.items():
        found = [percentile(sample.latency, share) for sample in samples]
        known = [value for value in found if value is not None]
        row[name] = round(median(known)) if known else None
    row["client_cpu_us_per_record"] = _per_record([(s.client_cpu, s.records) for s in samples])
    row["broker_cpu_us_per_record"] = _per_record([(s.broker_cpu, s.records) for s in samples])
    return row


def _per_record(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    known = [cpu * 1e6 / records for cpu, records in pairs if cpu is not None and records]
    return round(median(known), 2) if known else None


def wait_for_file(path: Path, seconds: float) -> str:
    """The text of a file once it has some.

    Raises:
        Failure: it has none in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text().strip()):
            return text
        time.sleep(0.02)
    raise Failure("the broker did not start in time")
