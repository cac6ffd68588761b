"""A broker process that is started, hurt and started again on the same data and port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 60.0
PATIENCE_SECONDS: Final = 60.0
"""A busy machine may be slow; what holds is not waited for."""
ROOT: Final = Path(__file__).parents[2]


class StartError(Exception):
    """The broker ended, or did not listen in time; the message holds the end of its log."""


class BrokerProcess:
    """`penstock serve` in a folder: data, log and port file lie there.

    Attributes:
        address: where clients connect; the port stays the same over restarts.
        program: what runs the command line; tests put a saboteur before it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        program: Sequence[str] = ("-m", "penstock.cli"),
        prefix: Sequence[str] = (),
        address: str = "127.0.0.1:0",
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = data or folder / "data"
        self.address = address
        self.program = list(program)
        self.prefix = list(prefix)
        self.options = list(options)
        """More options of `penstock serve`."""
        self.environment: dict[str, str] = {}
        """What it finds in its environment besides that of this process."""
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """The host part of the address."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process id of the broker, or of what runs it."""
        assert self._process is not None, "the broker was not started"
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended last: its exit code, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    # ----- life

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        assert not self.running, "the broker runs already"
        self._port_file.unlink(missing_ok=True)
        command = [*self.prefix, sys.executable, *self.program, "serve"]
        command += ["--data", str(self.data), "--listen", self.address]
        command += ["--port-file", str(self._port_file), *self.options]
        paths = [str(ROOT / "client"), str(ROOT / "broker"), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **self.environment}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.starts += 1

    def start(self, seconds_max: float = START_SECONDS_MAX) -> Self:
        """Start the process and wait until it listens.

        Raises:
            StartError: it does not.
        """
        self.spawn()
        wait_until(lambda: self.listens or not self.running, seconds_max)
        if not self.listens:
            self.kill()
            raise StartError(f"the broker does not listen; its log ends so:\n{self.log()[-3000:]}")
        self.address = f"{self.host}:{self._port_file.read_text().strip()}"
        return self

    @property
    def listens(self) -> bool:
        """Whether it has said so since it was started."""
        return self._port_file.exists()

    def send_signal(self, number: int) -> None:
        """Send a signal to the broker and what runs it."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL; harmless when it has ended."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def freeze(self) -> None:
        """Stop it by SIGSTOP and wait until it says nothing more.

        Before a power cut: a sync that is under way when the file system is shut down may still
        report success, which a machine without power could tell nobody.
        """
        self.send_signal(signal.SIGSTOP)
        status = Path(f"/proc/{self.pid}/task/{self.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", 5.0)

    def wait(self, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """Wait for its end; returns the exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        assert self._process is not None, "the broker was not started"
        return self._process.wait(seconds_max)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it in order; returns the exit code."""
        self.send_signal(number)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    # ----- looking at it

    def log(self) -> str:
        """Everything that it and its predecessors wrote."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def open_files(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def _port_file(self) -> Path:
        return self.folder / "port"

    @property
    def _log_file(self) -> Path:
        return self.folder / "log"


def wait_until(condition: Callable[[], bool], seconds_max: float = PATIENCE_SECONDS) -> bool:
    """Return when the condition holds (True), or after some seconds (False)."""
    give_up = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True
