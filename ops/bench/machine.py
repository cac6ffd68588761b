"""Starting a broker and the C loader, and reading what processes cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = Path(tempfile.gettempdir()) / "penstock-bench"
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 60.0


@dataclass
class BrokerProcess:
    """A broker process under measurement."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    ready_seconds: float

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.process.pid)

    def rss_mib(self, kind: str = "VmRSS") -> float:
        """Resident memory; `VmHWM` for its peak."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(kind):
                return int(line.split()[1]) / 1024
        return 0.0

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> float:
        """SIGTERM; returns the seconds it took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        return time.monotonic() - began


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def start(data: Path, port: int = 0, arguments: tuple[str, ...] = ()) -> BrokerProcess:
    """Start a broker on a data directory and wait until it listens."""
    port_file = data.parent / f"{data.name}.port"
    port_file.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "serve", "--data", str(data),
         "--listen", f"127.0.0.1:{port}", "--port-file", str(port_file),
         "--log-level", "warning", *arguments],
    )  # fmt: skip
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() - began > START_SECONDS_MAX:
            raise RuntimeError("the broker did not start")
        time.sleep(0.002)
    ready = time.monotonic() - began
    return BrokerProcess(process, data, int(port_file.read_text()), ready)


@contextmanager
def broker(data: Path | None = None, arguments: tuple[str, ...] = ()) -> Iterator[BrokerProcess]:
    """A broker for one measurement, killed and wiped afterwards."""
    own = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    running = start(data or own / "data", arguments=arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
        shutil.rmtree(own, ignore_errors=True)


def compiled(name: str) -> str:
    """The path of a C program of this folder, compiled when it is older than its source."""
    BUILD.mkdir(exist_ok=True)
    source, program = HERE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return str(program)


def load(*arguments: object) -> dict[str, float]:
    """Run the loader and return what it printed."""
    command = [compiled("loader"), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


@contextmanager
def echo_server() -> Iterator[int]:
    """The C echo server; gives its port."""
    port_file = BUILD / "echo.port"
    program = compiled("echo")
    port_file.unlink(missing_ok=True)
    process = subprocess.Popen([program, str(port_file)])
    try:
        while not port_file.exists() or not port_file.read_text():
            time.sleep(0.002)
        yield int(port_file.read_text())
    finally:
        process.kill()
        process.wait()
