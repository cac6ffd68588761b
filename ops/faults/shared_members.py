"""Member processes of a shared group: started, killed, paused, and what they wrote down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ops.faults.broker import ROOT, wait_until

READY_SECONDS_MAX: Final = 60.0

Line = dict[str, Any]
"""A line of a journal."""


class Member:
    """One process."""

    def __init__(self, process: subprocess.Popen[bytes], journal: Path) -> None:
        self._process = process
        self._journal = journal
        self.paused = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it by SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)
        self.paused = False

    def interrupt(self) -> None:
        """Ctrl-C: it hands back what it has; one that has not begun is killed."""
        if self.lines("ready"):
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20.0)
        else:
            self.kill()

    def lines(self, kind: str) -> list[Line]:
        """What it has written down of a kind."""
        return [line for line in read_journal(self._journal) if line["kind"] == kind]

    def offsets(self, kind: str) -> list[int]:
        """The offsets of such lines."""
        return [line["offset"] for line in self.lines(kind)]

    def wait_for(self, kind: str, count: int = 1, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until it has written so many lines of a kind.

        Raises:
            TimeoutError: it does not.
        """
        self.wait(lambda: len(self.lines(kind)) >= count, f"{count} x {kind}", seconds_max)

    def wait(self, met: Callable[[], bool], what: str, seconds_max: float) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: it never is.
        """
        if not wait_until(met, seconds_max):
            written = list(read_journal(self._journal))[-5:]
            raise TimeoutError(f"member {self.pid} has not {what}; it wrote last {written}")


class Members:
    """The members of one group; use it in a `with`, which kills them."""

    def __init__(self, folder: Path, address: str, topic: str, group: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.topic = topic
        self.group = group
        self.all: list[Member] = []
        self._address = address

    def start(self, *options: str, ready: bool = True) -> Member:
        """Start a member; options as the worker takes them."""
        number = len(self.all)
        journal = self.folder / f"journal-{number}"
        command = [sys.executable, "-m", "ops.faults.shared_worker", self._address, self.topic]
        command += [self.group, str(journal), "--seed", str(number), *options]
        paths = [str(ROOT / "client"), str(ROOT / "broker"), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        with (self.folder / f"log-{number}").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        member = Member(process, journal)
        self.all.append(member)
        if ready:
            member.wait_for("ready")
        return member

    @property
    def running(self) -> list[Member]:
        """Those that have not ended."""
        return [member for member in self.all if member.running]

    def lines(self) -> list[Line]:
        """What all of them wrote down, by time."""
        found = [
            line
            for number in range(len(self.all))
            for line in read_journal(self.folder / f"journal-{number}")
        ]
        return sorted(found, key=_time)

    def log(self) -> str:
        """What they said on standard error."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("log-*")))

    def end(self) -> None:
        """Kill all of them."""
        for member in self.running:
            member.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def read_journal(path: Path) -> Iterator[Line]:
    """Its whole lines."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def now_us() -> int:
    """The time as the lines have it."""
    return time.time_ns() // 1000


def _time(line: Line) -> int:
    return int(line["t"])
