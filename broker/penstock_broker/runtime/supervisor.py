"""`penstock serve --processes N`: one broker process per core of a machine, kept running.

Each member is an ordinary broker with a port and a data directory of its own, and the host label
of the machine, so that replicas of a partition lie on other machines where there are any. A member
that dies is started again, after a pause that grows while it keeps dying. After SIGTERM or SIGINT
the members end in order, one after the other, so that each hands its leads to those that stay
longest; a second signal ends all at once. The supervisor ends when they have ended. SIGHUP restarts
the members one by one (`rolling`), with whatever version is installed by then.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

from penstock.errors import BadRequest
from penstock_broker.runtime.logs import configure
from penstock_broker.runtime.places import place_of, text_of
from penstock_broker.runtime.rolling import Rolling

PROCESSES_MAX: Final = 256
PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 30.0
WELL_SECONDS: Final = 30.0
"""A member that has run for so long starts at once when it dies."""
LOOK_SECONDS: Final = 0.1
DRAIN_MEMBER_SECONDS_MAX: Final = 15.0
"""A member that takes longer to end is not waited for: the next one begins to end too."""
DRAIN_ALL_SECONDS_MAX: Final = 60.0
"""After this all that are left end side by side."""
EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_STALE: Final = 71
EXIT_DIVERGED: Final = 72

log = logging.getLogger("penstock.supervisor")


def members_of(options: Mapping[str, object]) -> list[dict[str, object]]:
    """The options of each member, from those of all.

    Raises:
        BadRequest: they can't be told apart by port, or a place is malformed.
    """
    count = int(str(options["processes"]))
    if not 1 <= count <= PROCESSES_MAX:
        raise BadRequest(f"--processes is 1 to {PROCESSES_MAX}")
    host, port = place_of(str(options.get("listen") or "127.0.0.1:7400"))
    if not port or port + count > 65_536:
        raise BadRequest("--processes needs a port in --listen with so many free ones behind it")
    reached, first = place_of(str(options.get("advertise") or text_of(host or "0.0.0.0", port)))
    if reached in ("0.0.0.0", "::", ""):
        reached = socket.gethostname()
    own = [text_of(reached, first + number) for number in range(count)]
    join = [part.strip() for part in str(options.get("join") or "").split(",") if part.strip()]
    shared = {key: value for key, value in options.items() if key not in ("processes", "port_file")}
    made = []
    for number in range(count):
        member = {
            **shared,
            "listen": text_of(host, port + number),
            "advertise": own[number],
            "join": ",".join(dict.fromkeys([*join, *own])),
            "host_label": options.get("host_label") or socket.gethostname(),
        }
        if options.get("data"):
            member["data"] = os.path.join(str(options["data"]), str(number))
        if options.get("port_file") and not number:
            member["port_file"] = options["port_file"]
        made.append(member)
    return made


class Member:
    """One broker process and its restarts."""

    def __init__(self, number: int, options: Mapping[str, object]) -> None:
        self.number = number
        self.starts = 0
        self.code: int | None = None
        """How it ended; None while it runs."""
        self._address = str(options.get("advertise") or "")
        self._options = json.dumps(options)
        self._pause = 0.0
        self._started_at = self._start_at = time.monotonic()
        self._process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Where it answers."""
        return self._address

    def start(self) -> None:
        """Start it. It is in a session of its own: a Ctrl-C at a terminal reaches it through us."""
        command = [sys.executable, "-m", "penstock_broker.runtime", self._options]
        self._process = subprocess.Popen(command, start_new_session=True)
        self._started_at = time.monotonic()
        self.starts += 1
        self.code = None

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        if self.code is None:
            self._process.send_signal(number)

    def look(self) -> bool:
        """Whether it has ended since the last look."""
        if self.code is not None:
            return False
        self.code = self._process.poll()
        return self.code is not None

    def rest(self) -> float:
        """It died: how many seconds to wait before the next start."""
        now = time.monotonic()
        if now - self._started_at > WELL_SECONDS:
            self._pause = 0.0
        pause = self._pause
        self._pause = min(max(self._pause * 2, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX)
        self._start_at = now + pause
        return pause

    @property
    def due(self) -> bool:
        """Whether it is to be started now: not on a directory that must not go on."""
        return (
            self.code not in (None, EXIT_STALE, EXIT_DIVERGED)
            and time.monotonic() >= self._start_at
        )

    @property
    def never_ran(self) -> bool:
        """Whether its very first start failed for a reason that it has told."""
        ran = time.monotonic() - self._started_at
        return self.starts == 1 and self.code == EXIT_ERROR and ran < WELL_SECONDS


class Drain:
    """Which members are told to end, and when: one after the other, within bounds."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._waiting = deque(members)
        self._turn: Member | None = None
        self._turn_ends = self._all_end = 0.0

    def step(self, now: float) -> list[Member]:
        """Those that are told now."""
        self._all_end = self._all_end or now + DRAIN_ALL_SECONDS_MAX
        if now >= self._all_end:
            told, self._waiting = list(self._waiting), deque()
            return told
        if self._turn is not None and self._turn.code is None and now < self._turn_ends:
            return []
        while self._waiting:
            self._turn = self._waiting.popleft()
            if self._turn.code is None:
                self._turn_ends = now + DRAIN_MEMBER_SECONDS_MAX
                return [self._turn]
        return []


class Supervisor:
    """Keeps members running until a signal says otherwise."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.stopping = False
        self._drain = Drain(members)
        self._rolling: Rolling | None = None

    def run(self) -> int:
        """Run them; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        signal.signal(signal.SIGHUP, self._told_to_restart)
        for member in self.members:
            member.start()
        while not (self.stopping and all(m.code is not None for m in self.members)):
            for member in self.members:
                self._look_after(member)
            if self.stopping:
                for member in self._drain.step(time.monotonic()):
                    member.signal(signal.SIGTERM)
            elif self._rolling is not None:
                turn = self._rolling.step(time.monotonic())
                if turn is not None:
                    self.members[turn].signal(signal.SIGTERM)
            time.sleep(LOOK_SECONDS)
        return EXIT_OK if all(m.code == EXIT_OK for m in self.members) else EXIT_ERROR

    def _look_after(self, member: Member) -> None:
        if member.look() and not self.stopping:
            if member.never_ran:
                self.stopping = True
                return
            pause = member.rest()
            figures = {"member": member.number, "code": member.code, "pause": round(pause, 1)}
            meant = self._rolling is not None and member.code == EXIT_OK
            log.log(
                logging.INFO if meant else logging.WARNING,
                "a member ended and is started again",
                extra=figures,
            )
        if member.due and not self.stopping:
            member.start()

    def _told_to_restart(self, number: int, _: FrameType | None) -> None:
        if self._rolling is None or self._rolling.over:
            self._rolling = Rolling(self.members, time.monotonic())
            log.info("a rolling restart begins")
        else:
            log.info("a rolling restart is under way already")

    def _told(self, number: int, _: FrameType | None) -> None:
        if self.stopping:
            for member in self.members:
                member.signal(signal.SIGKILL)
        self.stopping = True


def supervise(options: Mapping[str, object]) -> int:
    """Run several brokers until told to stop; returns the exit code.

    Raises:
        BadRequest: the options make no sense.
    """
    configure(str(options.get("log_level", "info")))
    return Supervisor([Member(*pair) for pair in enumerate(members_of(options))]).run()
