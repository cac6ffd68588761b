"""Episodes of load and faults on one broker and its data, for as long as there is time.

In an episode programs work on a new topic while faults happen; then everything that they were told
is held against what the broker stores, and an older topic is looked at once more.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.faults import damage
from ops.faults.broker import BrokerProcess, wait_until
from ops.faults.ledger import Ledger, audit
from ops.faults.load import Load, Style, check_commits
from ops.faults.power import Disk, Unavailable
from penstock import sync

FATAL: Final = 70
TOPICS_KEPT: Final = 3
FLIPS_PER_EPISODE: Final = 5
ERRORS_SHOWN: Final = 10


@dataclass
class Report:
    """What happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    episodes: int = 0
    acknowledged: int = 0
    duplicates: int = 0
    checked: int = 0
    commits: int = 0
    slowest_start: float = 0.0
    breaches: list[str] = field(default_factory=list)


class Sabotaged(BrokerProcess):
    """A broker whose operating system fails on demand; see `ops.faults.saboteur`."""

    def __init__(
        self,
        folder: Path,
        data: Path | None = None,
        *,
        address: str = "127.0.0.1:0",
        options: Sequence[str] = (),
    ) -> None:
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        program = ("-m", "ops.faults.saboteur", str(self.control))
        super().__init__(folder, program=program, data=data, address=address, options=options)

    def begin(self, fault: str, text: str = "") -> None:
        """From now on it happens."""
        new = self.control / f".{fault}"
        new.write_text(text)
        new.rename(self.control / fault)

    def end(self, fault: str) -> None:
        """It happens no more."""
        (self.control / fault).unlink()

    def toggle(self, fault: str) -> None:
        """Begin it, or end it."""
        (self.end if (self.control / fault).exists() else self.begin)(fault)


class Campaign:
    """One broker, one seed."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.report = Report()
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self._kept: list[Ledger] = []
        self._disk: Disk | None = None
        self._kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "kill while starting": self._kill_while_starting,
            "stop": self._stop,
            "pause": self._pause,
            "failed sync": self._fail_sync,
            "full disk": self._fill_disk,
            "clock": self._jump_clock,
            "trim": self._trim,
        }

    def run(self, seconds: float) -> Report:
        """Run episodes until the time is over or a promise is broken."""
        until = time.monotonic() + seconds
        original = damage.make_original(self._folder / "original", killed=True)
        with self._data_on_a_disk() as data:
            self._broker = Sabotaged(self._folder / "broker", data)
            self._broker.begin("small")
            with self._broker.start():
                while time.monotonic() < until and not self.report.breaches:
                    self._episode()
                    self._flip(original)
                if not self._broker.running:
                    self._say(self._broker.log()[-3000:])
        return self.report

    @contextlib.contextmanager
    def _data_on_a_disk(self) -> Iterator[Path | None]:
        """A disk whose power can be cut, where that is possible."""
        try:
            with Disk(self._folder / "power") as disk:
                self._disk = disk
                self._kinds["power cut"] = self._cut_power
                yield disk.place / "data"
        except Unavailable as reason:
            self._say(f"no power cuts: {reason}")
            yield None

    # ----- one episode

    def _episode(self) -> None:
        report, chance = self.report, self._chance
        report.episodes += 1
        ledger = Ledger(f"work-{report.episodes}")
        self._working = ledger
        partitions = chance.randint(1, 4)
        with sync.connect(self._broker.address) as client:
            client.admin.create_topic(ledger.topic, partitions=partitions)
        group = f"group-{report.episodes}"
        load = Load(self._broker.address, ledger)
        for number in range(chance.randint(1, 4)):
            load.produce(f"p{number}", self._style(partitions))
        load.consume(group)
        for _ in range(chance.randint(2, 5)):
            time.sleep(chance.uniform(0.05, 1.2))
            self._happen()
        time.sleep(0.3)
        load.join()
        report.breaches += load.errors[:ERRORS_SHOWN]
        self._check(ledger)
        report.breaches += check_commits(load, group)
        report.commits += len(load.commits)
        report.acknowledged += ledger.count
        report.duplicates += ledger.duplicates
        self._forget(ledger, group)
        self._say(self.line())

    def _style(self, partitions: int) -> Style:
        chance = self._chance
        return Style(
            driver=chance.choice(["blocking", "trio", "asyncio"]),
            partitions=partitions,
            window=chance.choice([1, 16, 256]),
            value_bytes=chance.choice([0, 100, 5000, 60_000]),
            pause=chance.choice([0.001, 0.01]),
            compression=chance.choice(["zstd", "none"]),
        )

    def _happen(self) -> None:
        kind = self._chance.choice(sorted(self._kinds))
        self.report.faults[kind] += 1
        self._kinds[kind]()
        if not self._broker.running:
            self._start()

    def _start(self) -> None:
        if self._chance.random() < 0.3:
            self._broker.toggle("small")
        began = time.monotonic()
        self._broker.start()
        self.report.slowest_start = max(self.report.slowest_start, time.monotonic() - began)

    def _check(self, ledger: Ledger) -> None:
        if self._chance.random() < 0.3:
            self._broker.kill()
            self._start()
        older = [self._chance.choice(self._kept)] if self._kept else []
        for topic in (ledger, *older):
            found = audit(self._broker.address, topic)
            self.report.breaches += found.breaches
            self.report.checked += found.stored

    def _forget(self, ledger: Ledger, group: str) -> None:
        self._kept.append(ledger)
        with sync.connect(self._broker.address) as client:
            wait_until(lambda: not client.admin.describe_group(group).members, 40.0)
            client.admin.delete_group(group)
            if len(self._kept) > TOPICS_KEPT:
                client.admin.delete_topic(self._kept.pop(0).topic)

    def _flip(self, original: damage.Original) -> None:
        for _ in range(FLIPS_PER_EPISODE):
            copy = self._folder / "copy"
            change, outcome = damage.try_flip(original, copy, self._chance)
            self.report.faults[f"flip: {outcome.kind}"] += 1
            self.report.breaches += [f"{change}: {breach}" for breach in outcome.breaches]

    # ----- faults

    def _kill(self) -> None:
        self._broker.kill()
        time.sleep(self._chance.choice([0.0, 0.0, 0.3]))

    def _kill_while_starting(self) -> None:
        self._broker.kill()
        for _ in range(self._chance.randint(1, 3)):
            self._broker.spawn()
            time.sleep(self._chance.uniform(0.1, 0.7))
            self._broker.kill()

    def _stop(self) -> None:
        number = self._chance.choice([signal.SIGTERM, signal.SIGINT])
        self._expect_end(0, lambda: self._broker.send_signal(number))

    def _pause(self) -> None:
        self._broker.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.05, 2.0))
        self._broker.send_signal(signal.SIGCONT)

    def _fail_sync(self) -> None:
        self._expect_end(FATAL, lambda: self._broker.begin("sync"))
        self._broker.end("sync")

    def _expect_end(self, code: int, cause: Callable[[], None]) -> None:
        cause()
        try:
            found = self._broker.wait()
        except subprocess.TimeoutExpired:
            self.report.breaches.append(f"the broker should have ended with {code}, and runs on")
            self._broker.kill()
            return
        if found != code:
            self.report.breaches.append(f"the broker ended with {found}, not {code}")

    def _fill_disk(self) -> None:
        self._broker.begin("full")
        time.sleep(self._chance.uniform(0.2, 1.5))
        if self._chance.random() < 0.3:
            self._broker.kill()
        self._broker.end("full")

    def _jump_clock(self) -> None:
        self._broker.begin("clock", str(self._chance.randint(-7200, 7200)))

    def _trim(self) -> None:
        """No fault, but a loss that was asked for: nothing above it may go with it."""
        ledger = self._chance.choice([self._working, *self._kept])
        with sync.connect(self._broker.address, request_timeout=60.0) as client:
            for partition, end in client.admin.list_offsets(ledger.topic, "latest").items():
                offset = self._chance.randint(0, end)
                ledger.trimmed[partition] = max(offset, ledger.trimmed.get(partition, 0))
                client.admin.trim(ledger.topic, partition, offset)

    def _cut_power(self) -> None:
        assert self._disk is not None, "only with a disk of its own"
        self._broker.freeze()
        self._disk.cut()
        self._broker.kill()
        self._disk.restore()

    # ----- words

    def line(self) -> str:
        """Where the campaign stands."""
        report = self.report
        return (
            f"episode {report.episodes}: {sum(report.faults.values())} faults, "
            f"{report.acknowledged:,} records acknowledged, {report.checked:,} checked, "
            f"{len(report.breaches)} breaches"
        )
