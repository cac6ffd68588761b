"""The broker under measurement: the one of `--server`, or one started for it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock.cli.bench.runner import wait_for_file
from penstock.cli.settings import Settings

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Target:
    """A broker to measure."""

    settings: Settings
    pid: int | None

    @contextmanager
    def topic(self, partitions: int) -> Iterator[str]:
        """A topic of this measurement, deleted at its end."""
        name = f"bench-{secrets.token_hex(4)}"
        with self.settings.connect() as client:
            client.admin.create_topic(name, partitions=partitions)
        try:
            yield name
        finally:
            with self.settings.connect() as client:
                client.admin.delete_topic(name)


@contextmanager
def target(settings: Settings, *, spawn: str | None, pid: int | None) -> Iterator[Target]:
    """The broker of `--server`, or with `spawn` a new one with its data below that directory."""
    if spawn is None:
        yield Target(settings, pid if pid is not None else broker_pid(settings))
        return
    with tempfile.TemporaryDirectory(dir=spawn, prefix="penstock-bench-") as place:
        port_file = Path(place, "port")
        arguments = ["--data", f"{place}/data", "--listen", "127.0.0.1:0"]
        arguments += ["--port-file", str(port_file), "--log-level", "warning"]
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", "serve", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            port = wait_for_file(port_file, START_SECONDS).rpartition(":")[2]
            settings.server = f"127.0.0.1:{port}"
            yield Target(settings, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def broker_pid(settings: Settings) -> int | None:
    """The broker's process id, if it tells and runs on this host."""
    with settings.connect() as client:
        found = client.admin.status().figures.get("pid")
    if isinstance(found, int) and b"penstock" in _command_line(found):
        return found
    return None


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
