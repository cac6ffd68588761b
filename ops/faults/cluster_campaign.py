"""Episodes of load and faults on a cluster of real processes, for as long as there is time.

In an episode programs publish to and read from a new topic while brokers are killed, stopped, wiped
and made to fail; then the whole topic is read back, and the history of all that was said is held
against the rules of `ops.history`, which know nothing of brokers. The histories stay in the folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.faults.broker import BrokerProcess, wait_until
from ops.faults.cluster import ClusterProcesses
from ops.faults.cluster_groups import GroupLoad
from ops.faults.cluster_load import ClusterLoad
from ops.faults.network import Network
from ops.history.check import check
from ops.history.form import Writer, read
from penstock import sync
from penstock.errors import PenstockError
from penstock_broker.failpoints import LOG, PLAN, points

SIZE: Final = 3
BACK_SECONDS_MAX: Final = 60.0
"""Within so much all brokers are there again after faults."""
HISTORIES_KEPT: Final = 3
POINTS_PER_PLAN: Final = 8
"""Not every step is taken in the life of every broker."""


@dataclass
class ClusterReport:
    """What happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    failpoints: Counter[str] = field(default_factory=Counter)
    episodes: int = 0
    acknowledged: int = 0
    checked: int = 0
    leases: int = 0
    """Records of a shared group that somebody was told of."""
    commits: int = 0
    """Of an ordered group."""
    operations: int = 0
    """Lines of the histories."""
    breaches: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int]]:
        """The result as a table."""
        rows = [(f"fault: {kind}", count) for kind, count in sorted(self.faults.items())]
        rows += [
            ("failpoints that acted", self.failpoints.total()),
            ("failpoints that acted, different", len(self.failpoints)),
            ("episodes", self.episodes),
            ("records acknowledged", self.acknowledged),
            ("records checked", self.checked),
            ("records leased in a shared group", self.leases),
            ("commits of an ordered group", self.commits),
            ("operations in the histories", self.operations),
        ]
        return rows


class ClusterCampaign:
    """Three brokers, one seed."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.report = ClusterReport()
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self._log = folder / "failpoints"
        self._kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "kill the leader": self._kill_leader,
            "kill all": self._kill_all,
            "stop": self._stop,
            "pause": self._pause,
            "pause the leader": self._pause_leader,
            "failpoint": self._failpoint,
            "clock": self._jump_clock,
            "full disk": self._fill_disk,
            "wipe": self._wipe,
        }
        self._half = 0.0
        """Until then no clock jumps: afterwards nobody can tell when a lease runs out."""
        self._network = Network(SIZE) if Network.possible() else None
        if self._network is not None:
            self._kinds |= {
                "cut two": self._cut_two,
                "cut one way": self._cut_one_way,
                "isolate the leader": self._isolate_leader,
                "slow network": self._slow_network,
            }

    def run(self, seconds: float) -> ClusterReport:
        """Run episodes until the time is over or a promise is broken."""
        until = time.monotonic() + seconds
        self._half = time.monotonic() + seconds / 2
        folder = self._folder / "cluster"
        with ExitStack() as stack:
            if self._network is not None:
                stack.enter_context(self._network)
            cluster = stack.enter_context(ClusterProcesses(folder, SIZE, network=self._network))
            self._cluster = cluster
            for member in cluster.members:
                control = member.folder / "control"
                control.mkdir(parents=True)
                member.program = ["-m", "ops.faults.saboteur", str(control)]
            cluster.start()
            while time.monotonic() < until and not self.report.breaches:
                self._episode()
        return self.report

    # ----- one episode

    def _episode(self) -> None:
        report, chance = self.report, self._chance
        report.episodes += 1
        topic, partitions = f"work-{report.episodes}", chance.randint(1, 4)
        path = self._folder / f"history-{report.episodes}.jsonl"
        self._topic = topic
        with sync.connect(self._cluster.address, request_timeout=30.0) as client:
            client.admin.create_topic(topic, partitions, SIZE)
        with Writer(path) as history:
            load = ClusterLoad(self._cluster.address, topic, partitions, history)
            groups = GroupLoad(self._cluster.address, topic, history, load.stopping)
            groups.clocks_differ = time.monotonic() >= self._half
            with groups.watching():
                load.start(chance.randint(1, 3), chance.choice([0, 100, 5000]))
                groups.begin(load.run)
                for _ in range(chance.randint(1, 4)):
                    time.sleep(chance.uniform(0.2, 1.5))
                    self._happen(groups)
                time.sleep(0.5)
                self._audit(load, groups)
        report.acknowledged += load.acknowledged
        self._judge(path)
        self._count_failpoints()
        self._say(self.line())

    def _audit(self, load: ClusterLoad, groups: GroupLoad) -> None:
        """Have everything end, and note what is there then."""
        report = self.report
        load.stop()
        ends = load.read_back()
        left = groups.drain(ends)
        load.join()
        groups.end()
        with sync.connect(self._cluster.address, name="positions") as client:
            groups.ask_positions(client)
        report.breaches += load.errors[:10] + ([left] if left else [])
        report.checked += sum(ends.values())
        report.leases += groups.delivered
        report.commits += groups.committed

    def _judge(self, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            verdict = check(read(lines))
        self.report.operations += verdict.operations.total()
        self.report.breaches += [f"{path}: {words}" for words in verdict.words]
        old = self._folder / f"history-{self.report.episodes - HISTORIES_KEPT}.jsonl"
        old.unlink(missing_ok=True)

    def _happen(self, groups: GroupLoad) -> None:
        clocks = groups.clocks_differ
        kind = self._chance.choice([k for k in sorted(self._kinds) if k != "clock" or clocks])
        self.report.faults[kind] += 1
        self._kinds[kind]()
        time.sleep(self._chance.choice([0.0, 0.3, 2.0]))
        for member in self._cluster.members:
            if not member.running:
                member.start()
        if not wait_until(self._complete, BACK_SECONDS_MAX):
            self.report.breaches.append(f"after {kind} the brokers do not come together again")

    def _complete(self) -> bool:
        """Everybody runs, whatever failpoint may have ended it meanwhile, and knows all."""
        for member in self._cluster.members:
            if not member.running:
                member.start()
        with suppress(PenstockError):
            return all(len(self._cluster.nodes(m)) >= SIZE for m in self._cluster.members)
        return False

    def _count_failpoints(self) -> None:
        if self._log.exists():
            words = self._log.read_text().splitlines()
            self.report.failpoints = Counter(line.split()[0] for line in words)

    # ----- faults

    def _any(self) -> BrokerProcess:
        return self._chance.choice(self._cluster.members)

    def _leader(self) -> BrokerProcess:
        with suppress(PenstockError, LookupError):
            return self._cluster.leader(self._topic)
        return self._any()

    def _kill(self) -> None:
        self._any().kill()

    def _kill_leader(self) -> None:
        self._leader().kill()

    def _kill_all(self) -> None:
        self._cluster.kill()

    def _stop(self) -> None:
        code = self._any().stop()
        if code:
            self.report.breaches.append(f"a broker that was told to stop ended with {code}")

    def _pause(self, member: BrokerProcess | None = None) -> None:
        member = member or self._any()
        member.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.choice([0.1, 1.0, 4.0]))
        member.send_signal(signal.SIGCONT)

    def _pause_leader(self) -> None:
        self._pause(self._leader())

    def _failpoint(self) -> None:
        """Start a broker anew with a plan: it dies, or rests, at the first of some steps."""
        member = self._any()
        member.kill()
        action = self._chance.choice(["crash", "crash", "pause(0.3)"])
        when = self._chance.choice(["@1", "@1", "@3", "@20"])
        chosen = self._chance.sample(points(), POINTS_PER_PLAN)
        os.environ[PLAN] = ";".join(f"{point}={action}{when}" for point in chosen)
        os.environ[LOG] = str(self._log)
        member.spawn()
        del os.environ[PLAN], os.environ[LOG]
        wait_until(lambda: not member.running, self._chance.uniform(2.0, 5.0))
        member.kill()

    def _control(self, member: BrokerProcess, fault: str) -> Path:
        return member.folder / "control" / fault

    def _jump_clock(self) -> None:
        seconds = self._chance.randint(-7200, 7200)
        self._control(self._any(), "clock").write_text(str(seconds))

    def _fill_disk(self) -> None:
        full = self._control(self._any(), "full")
        full.write_text("")
        time.sleep(self._chance.uniform(0.2, 1.5))
        full.unlink()

    def _lasts(self) -> None:
        """Longer or shorter than an election."""
        assert self._network is not None
        time.sleep(self._chance.choice([0.3, 1.5, 4.0]))
        self._network.heal()

    def _cut_two(self) -> None:
        assert self._network is not None
        one, other = self._chance.sample(range(SIZE), 2)
        self._network.cut([(one, other), (other, one)])
        self._lasts()

    def _cut_one_way(self) -> None:
        assert self._network is not None
        one, other = self._chance.sample(range(SIZE), 2)
        self._network.cut([(one, other)])
        self._lasts()

    def _isolate_leader(self) -> None:
        """The other brokers and it don't hear each other; programs reach all of them."""
        assert self._network is not None
        lone = self._cluster.members.index(self._leader())
        ways = [(lone, other) for other in range(SIZE) if other != lone]
        self._network.cut(ways + [(other, one) for one, other in ways])
        self._lasts()

    def _slow_network(self) -> None:
        assert self._network is not None
        self._network.slow(self._chance.randrange(SIZE))
        self._lasts()

    def _wipe(self) -> None:
        """A broker loses its disk, and comes back as another node."""
        if not wait_until(self._whole, BACK_SECONDS_MAX):
            return
        member = self._any()
        member.kill()
        shutil.rmtree(member.data)
        member.start()
        if not wait_until(self._whole, BACK_SECONDS_MAX):
            self.report.breaches.append("what a wiped broker held was not made anew")

    def _whole(self) -> bool:
        """Whether every partition has all its replicas on brokers that live."""
        with (
            suppress(PenstockError),
            sync.connect(self._cluster.address, request_timeout=3.0) as client,
        ):
            status = client.admin.cluster_status()
            return not (status.under_replicated or status.leaderless or status.moving)
        return False

    # ----- words

    def line(self) -> str:
        """Where the campaign stands."""
        report = self.report
        return (
            f"episode {report.episodes}: {sum(report.faults.values())} faults, "
            f"{report.failpoints.total()} failpoints, "
            f"{report.acknowledged:,} records acknowledged, {report.checked:,} checked, "
            f"{len(report.breaches)} breaches"
        )
