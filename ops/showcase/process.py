"""A broker as a process of its own, to be started, killed and started again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0


class BrokerProcess:
    """`penstock serve` on one data directory and, after the first start, one port."""

    replication: Final = 1

    def __init__(
        self, folder: Path, address: str = "127.0.0.1:0", options: Sequence[str] = ()
    ) -> None:
        self.address = address
        self._options = options
        self.starts: list[float] = []
        """How many seconds each start took until it listened."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._listens = False

    @property
    def pid(self) -> int:
        """The process id; 0 while it is down or starting."""
        return self._process.pid if self._process and self._listens else 0

    @property
    def state(self) -> str:
        """Whether it is up, in words."""
        return f"broker {self.pid}" if self.pid else "broker DOWN"

    async def aim(self) -> str:
        """Choose whom to kill: there is one only; returns who that is, in words."""
        return f"broker {self.pid}"

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            SystemExit: it ended, or did not listen in time; the message holds the end of its log.
        """
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        began = time.monotonic()
        self._process = self._spawn(port_file)
        process = self._process
        await wait_until(
            lambda: port_file.exists() or process.poll() is not None, START_SECONDS_MAX
        )
        if not port_file.exists():
            raise SystemExit(f"the broker does not listen; its log ends so:\n{self.log_end()}")
        self._listens = True
        self.starts.append(time.monotonic() - began)
        self.address = f"127.0.0.1:{port_file.read_text().strip()}"

    def _spawn(self, port_file: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "penstock.cli", "serve"]
        command += ["--data", str(self._folder / "data"), "--listen", self.address]
        command += ["--port-file", str(port_file), *self._options]
        with (self._folder / "log").open("ab") as log:
            # A group of its own: Ctrl-C is for the demo, which then ends the broker.
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """End it by SIGKILL: nothing is flushed, closed or said good-bye to."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self._listens = None, False

    end = kill

    async def stop(self) -> None:
        """End it in order by SIGTERM, and by force if that takes too long."""
        if self._process is None:
            return
        process = self._process
        process.terminate()
        await wait_until(lambda: process.poll() is not None, STOP_SECONDS_MAX)
        self.kill()

    def log_end(self) -> str:
        """The last lines that the broker wrote."""
        log = self._folder / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


async def wait_until(condition: Callable[[], bool], seconds_max: float) -> None:
    """Return when the condition holds, or after some seconds."""
    with trio.move_on_after(seconds_max):
        while not condition():  # noqa: ASYNC110 - a file and a process id give no event
            await trio.sleep(0.005)
