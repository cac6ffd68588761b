"""A broker process whose disk, clock and steps can be made to fail at any moment.

A saboteur stands before its operating system (`ops.faults.saboteur`), and failpoints are set by a
file that it reads again on a signal. What they did stands in a file too, so that it survives the
crash that it tells of.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ops.faults.broker import BrokerProcess
from penstock_broker.failpoints import LOG, PLAN

Hit = tuple[str, str]
"""A failpoint, and what it did: `crash`, `pause` or `error`."""


class ArmedBroker(BrokerProcess):
    """A member of a cluster; any thread may arm it."""

    def __init__(
        self, folder: Path, *, address: str = "127.0.0.1:0", options: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, address=address, options=options)
        self.control = folder / "control"
        self.control.mkdir(exist_ok=True)
        self.program = ["-m", "ops.faults.saboteur", str(self.control)]
        self._plan, self._hits_file = folder / "plan", folder / "hits"
        self.environment = {PLAN: f"@{self._plan}", LOG: str(self._hits_file)}
        self._lock = threading.Lock()
        self._rules: dict[str, str] = {}
        self._hits: list[Hit] = []
        self._read_up_to = 0
        self._write_plan()

    def failure(self, *more: int) -> str:
        """Words if it ended by itself: not killed, not stopped, not with one of these codes."""
        # Python has no handlers yet when it begins, and none any more before it ends.
        if self.code in (None, 0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1, *more):
            return ""
        return f"a broker ended with {self.code}; its log ends so:\n{self.log()[-4000:]}"

    def sabotage(self, fault: str) -> Path:
        """The file that makes the saboteur act while it exists."""
        return self.control / fault

    def arm(self, rules: Mapping[str, str], *, over: bool = True) -> None:
        """Set points, beside those that are set: point -> what it does (`crash@1`).

        Without `over` those that are set stay as they are.
        """
        with self._lock:
            self._rules = {**self._rules, **rules} if over else {**rules, **self._rules}
            self._write_plan()

    def disarm(self, rules: Mapping[str, str]) -> None:
        """Take rules out of the plan; other ones for the same points stay."""
        with self._lock:
            self._rules = {
                point: does for point, does in self._rules.items() if rules.get(point) != does
            }
            self._write_plan()

    def _write_plan(self) -> None:
        draft = self._plan.with_suffix(".new")
        draft.write_text(";".join(f"{point}={does}" for point, does in self._rules.items()))
        draft.replace(self._plan)
        # Before it listens it may not have its handler yet, and would end; it reads the file then.
        if self.running and self.listens:
            with suppress(ProcessLookupError):
                self.send_signal(signal.SIGUSR1)

    def hits(self) -> list[Hit]:
        """Everything that points did here so far, oldest first; a line that is torn comes later."""
        with self._lock:
            with suppress(FileNotFoundError), self._hits_file.open("rb") as file:
                file.seek(self._read_up_to)
                whole = file.read().rpartition(b"\n")[0]
                if whole:
                    self._read_up_to += len(whole) + 1
                    for line in whole.decode().splitlines():
                        point, does = line.split()
                        self._hits.append((point, does))
            return list(self._hits)
