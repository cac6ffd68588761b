"""A campaign of faults on shared groups: their members are hurt, and the broker as well.

In an episode members work on a new topic, with delays and a schedule beside, while faults happen.
Then the faults end, everything must come to rest, and what all members wrote down is held against
what the broker stores.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.faults.campaign import Sabotaged
from ops.faults.shared_ledger import SharedLedger
from ops.faults.shared_members import Member, now_us
from ops.faults.shared_work import SharedWork

MEMBERS_MAX: Final = 4
CLOCK_SECONDS_MAX: Final = 5.0
"""How far the clock jumps: a schedule of every second fires for each second of it."""
FATAL: Final = 70


@dataclass
class SharedReport:
    """What happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    episodes: int = 0
    breaches: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int]]:
        """For the table of the command line."""
        faults = [(f"shared fault: {kind}", count) for kind, count in sorted(self.faults.items())]
        counts = [(f"shared: {kind}", count) for kind, count in sorted(self.counts.items())]
        return [*faults, ("shared episodes", self.episodes), *counts]


class SharedCampaign:
    """One broker, one seed."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.report = SharedReport()
        self._folder = folder / "shared"
        self._chance = random.Random(f"{seed} shared")
        self._say = say
        self._work: SharedWork
        self._jumped = False
        self._kinds: dict[str, Callable[[], None]] = {
            "member killed": self._kill_member,
            "member paused": self._pause_member,
            "member paused for a moment": self._pause_member_shortly,
            "member interrupted": self._interrupt_member,
            "member doubled": self._double_member,
            "handler hung": self._hang,
            "broker killed": self._kill_broker,
            "broker stopped": self._stop_broker,
            "broker paused": self._pause_broker,
            "failed sync": self._fail_sync,
            "full disk": self._fill_disk,
            "clock": self._jump_clock,
        }

    def run(self, seconds: float) -> SharedReport:
        """Run episodes until the time is over or a promise is broken."""
        until = time.monotonic() + seconds
        self._broker = Sabotaged(self._folder / "broker")
        self._broker.begin("small")
        with self._broker.start():
            while time.monotonic() < until and not self.report.breaches:
                self._episode()
            if self.report.breaches:
                self._say(self._broker.log()[-3000:])
        return self.report

    # ----- one episode

    def _episode(self) -> None:
        report, chance = self.report, self._chance
        report.episodes += 1
        if self._jumped:
            self._jumped = False
            self._broker.kill()
            self._broker.end("clock")
            self._broker.start()
        topic = f"shared-{report.episodes}"
        settings = {"strict": chance.choice(["no", "yes"])}
        work = self._work = SharedWork(
            self._folder / topic,
            self._broker.address,
            topic,
            partitions=chance.randint(1, 3),
            **settings,
        )
        for _ in range(chance.randint(1, MEMBERS_MAX)):
            self._start_member()
        work.produce(pause=chance.choice([0.01, 0.05]), many=chance.choice([1, 10, 40]))
        for _ in range(chance.randint(3, 6)):
            time.sleep(chance.uniform(0.05, 1.0))
            self._happen()
        work.stop()
        self._heal()
        work.settle(redrive=chance.random() < 0.5)
        if chance.random() < 0.3:
            self._kill_broker()
        self._close(work.check())
        work.remove()

    def _happen(self) -> None:
        kind = self._chance.choice(sorted(self._kinds))
        self.report.faults[kind] += 1
        self._kinds[kind]()
        if not self._work.members.running:
            self._start_member()

    def _heal(self) -> None:
        """No more faults: all members go on, and there is one that works."""
        for member in self._work.members.running:
            member.resume()
        self._start_member("--in-flight", "100")

    def _close(self, ledger: SharedLedger) -> None:
        report = self.report
        report.breaches += ledger.breaches
        report.counts.update(ledger.counts)
        report.counts["redriven"] += self._work.redriven
        self._say(
            f"shared episode {report.episodes}: {sum(report.faults.values())} faults, "
            f"{report.counts['granted']:,} granted, {report.counts['records checked']:,} records "
            f"checked, {report.counts['dead letters']:,} dead, {len(report.breaches)} breaches"
        )

    # ----- members

    def _start_member(self, *options: str) -> None:
        chance = self._chance
        options = options or (
            "--in-flight", str(chance.choice([1, 5, 50])),
            "--busy", str(chance.choice([0.0, 0.001, 0.02])),
            "--hang", "5",
        )  # fmt: skip
        self._work.members.start(*options, ready=False)

    def _pick(self) -> Member | None:
        found = [member for member in self._work.members.running if not member.paused]
        return self._chance.choice(found) if found else None

    def _kill_member(self) -> None:
        member = self._pick()
        if member is not None:
            member.kill()
            self._start_member()

    def _pause_member(self) -> None:
        """It stands still until the faults end: longer than its lease."""
        member = self._pick()
        if member is not None:
            self._work.ledger.awake = False
            member.pause()
            self._start_member()

    def _pause_member_shortly(self) -> None:
        member = self._pick()
        if member is not None:
            self._work.ledger.awake = False
            member.pause()
            time.sleep(self._chance.uniform(0.5, 2.5))
            member.resume()

    def _interrupt_member(self) -> None:
        member = self._pick()
        if member is not None:
            member.interrupt()
            self._start_member()

    def _double_member(self) -> None:
        """Two processes that take each other's place again and again."""
        for _ in range(2):
            self._start_member("--member", "twin", "--in-flight", "10")

    def _hang(self) -> None:
        self._work.hang()

    # ----- the broker

    def _kill_broker(self) -> None:
        self._work.ledger.crashes.append(now_us())
        self._broker.kill()
        self._broker.start()

    def _stop_broker(self) -> None:
        self._work.ledger.crashes.append(now_us())
        code = self._broker.stop()
        if code:
            self.report.breaches.append(f"the broker ended with {code}, not 0")
        self._broker.start()

    def _pause_broker(self) -> None:
        self._broker.freeze()
        time.sleep(self._chance.uniform(0.1, 2.0))
        self._broker.send_signal(signal.SIGCONT)

    def _fail_sync(self) -> None:
        self._work.ledger.crashes.append(now_us())
        self._broker.begin("sync")
        code = self._broker.wait()
        if code != FATAL:
            self.report.breaches.append(f"the broker ended with {code}, not {FATAL}")
        self._broker.end("sync")
        self._broker.start()

    def _fill_disk(self) -> None:
        kind = self._chance.choice(["full", "low"])
        self._broker.begin(kind, "1000000")
        time.sleep(self._chance.uniform(0.2, 1.5))
        self._broker.end(kind)

    def _jump_clock(self) -> None:
        self._work.ledger.steady, self._jumped = False, True
        jump = self._chance.uniform(-CLOCK_SECONDS_MAX, CLOCK_SECONDS_MAX)
        self._broker.begin("clock", str(jump))
