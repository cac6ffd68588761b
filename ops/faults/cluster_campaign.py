"""Episodes of load and faults on a cluster of real processes, for as long as there is time.

In an episode programs publish to, read from and consume new topics while brokers are hurt: by what
`cluster_faults` has, or by a `walk` along the failpoints. Then the topics are read back, and the
history of all that was said is held against the rules of `ops.history`, which know nothing of
brokers. A cluster lives for some minutes, then another begins on empty disks. What a broken promise
left behind is kept; a step of the campaign itself that fails is told, and ends that cluster alone.
"""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from ops.faults.armed import ArmedBroker
from ops.faults.broker import wait_until
from ops.faults.cluster import ClusterProcesses
from ops.faults.cluster_faults import BACK_SECONDS_MAX, ClusterFaults
from ops.faults.cluster_report import ClusterReport
from ops.faults.cluster_work import Work
from ops.faults.network import Network
from ops.faults.stirring import Stirring
from ops.faults.walk import Walk
from penstock.errors import PenstockError

SIZE: Final = 3
CLUSTER_SECONDS: Final = 480.0
"""So long a cluster lives."""
WALK_SECONDS: Final = 90.0
EPISODES_TO_A_WALK: Final = 3
"""Each third episode is one."""
WALK_REST: Final = 0.1
"""So that a walk spends the time on its way, not on what must be read back."""
BROKEN_MAX: Final = 5
"""Clusters with breaches, after which the campaign ends."""
FAILED_MAX: Final = 10
DATA_KEPT_BYTES_MAX: Final = 400 << 20
"""Of a cluster that broke a promise; beyond it logs and histories are kept, not the disks."""


class ClusterCampaign:
    """Clusters of three brokers, one seed."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.report = ClusterReport()
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self._began = self._until = time.monotonic()
        self._half = 0.0
        """Until then no clock jumps: afterwards nobody can tell when a lease runs out."""

    def run(self, seconds: float) -> ClusterReport:
        """Faults and walks in turn, until the time is over."""
        return self._run(seconds, self._live)

    def walk(self, seconds: float, hits: int = 1) -> ClusterReport:
        """Walks alone: until each failpoint was hit so often as each kind, or the time is over."""
        self.report.tally.wanted = hits
        return self._run(seconds, self._live_walking)

    def _run(self, seconds: float, live: Callable[[], None]) -> ClusterReport:
        report = self.report
        self._began = time.monotonic()
        self._until, broken = self._began + seconds, 0
        self._live_as = live
        while self._goes_on() and broken < BROKEN_MAX and len(report.failed_steps) < FAILED_MAX:
            self._known = known = len(report.breaches)
            report.clusters += 1
            folder = self._folder / f"cluster-{report.clusters}"
            try:
                self._one_cluster(folder)
            except PenstockError as error:
                words = "".join(traceback.format_exception(error))
                report.breaches.append(f"a cluster that should be well again fails: {words}")
            except Exception as error:
                words = "".join(traceback.format_exception(error))
                report.failed_steps.append(words)
                self._say(f"a step of the campaign failed: {words}")
            if len(report.breaches) > known:
                broken += 1
                self._say("\n".join(report.breaches[known:]))
                self._keep(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            report.seconds = time.monotonic() - self._began
        if len(report.failed_steps) >= FAILED_MAX:
            report.breaches.append("the campaign could not go on: too many of its steps failed")
        return report

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until

    @staticmethod
    def _keep(folder: Path) -> None:
        """Keep what shows how a promise was broken, within bounds."""
        for data in folder.glob("*/data"):
            size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
            if size > DATA_KEPT_BYTES_MAX // SIZE:
                shutil.rmtree(data, ignore_errors=True)

    # ----- one cluster

    def _one_cluster(self, folder: Path) -> None:
        with ExitStack() as stack:
            network = stack.enter_context(Network(SIZE)) if Network.possible() else None
            cluster = ClusterProcesses(folder, SIZE, kind=ArmedBroker, network=network)
            stack.enter_context(cluster)
            small = self._live_as == self._live_walking or self.report.clusters % 2 == 1
            for member in cluster.members:
                assert isinstance(member, ArmedBroker)
                if small:
                    member.sabotage("small").write_text("")
            self._cluster, self._here = cluster, folder
            self._faults = ClusterFaults(cluster, network, self.report, self._chance)
            stack.callback(self._mend)
            cluster.start()
            began = time.monotonic()
            self._ends = min(self._until, began + CLUSTER_SECONDS)
            self._half = began + (self._ends - began) / 2
            self._live_as()

    def _mend(self) -> None:
        with suppress(OSError):
            self._faults.mend()

    def _live(self) -> None:
        """Episodes of faults, and a walk now and then."""
        count = 0
        while time.monotonic() < self._ends and not self._broken():
            count += 1
            if count % EPISODES_TO_A_WALK:
                self._hurt()
            else:
                self._walk(min(self._ends, time.monotonic() + WALK_SECONDS))

    def _live_walking(self) -> None:
        while time.monotonic() < self._ends and not self._broken():
            self._walk(min(self._ends, time.monotonic() + WALK_SECONDS))
            if self.report.tally.complete:
                self._until = time.monotonic()
                return

    def _broken(self) -> bool:
        return len(self.report.breaches) > self._known

    # ----- episodes

    def _hurt(self) -> None:
        """One topic, some faults one after the other."""
        report, chance = self.report, self._chance
        planned = report.episodes % 5 == 4
        with ExitStack() as stack:
            clocks = time.monotonic() >= self._half
            work = self._work(stack, "work", chance.randint(1, 4))
            work.create(SIZE)
            work.start(chance.randint(1, 3), chance.choice([0, 100, 5000]), 0.005)
            self._faults.topic = work.topic
            for _ in range(chance.randint(2, 8)):
                time.sleep(chance.uniform(0.2, 1.5))
                self._faults.happen(clocks=clocks, planned=planned)
            time.sleep(0.5)
            self._audit(work)
            report.longest_pause = max(report.longest_pause, work.load.longest_pause)
            if planned:
                report.redelivered += work.groups.again

    def _walk(self, until: float) -> None:
        """Two topics, one of them moving; points are hit one after the other."""
        with ExitStack() as stack:
            still, moving = self._work(stack, "still", 2), self._work(stack, "moving", 2)
            still.create(SIZE)
            moving.create(SIZE - 1)
            still.start(1, 100, WALK_REST)
            moving.start(1, 1000, WALK_REST)
            address, names = self._cluster.address, [still.topic, moving.topic]
            with Stirring(address, moving.topic, names, self._chance) as stirring:
                walk = Walk(self._cluster, still, stirring, self.report, self._chance)
                walk.run(until)
            self.report.failed_steps += stirring.errors
            if not wait_until(self._faults.complete, BACK_SECONDS_MAX):
                self.report.breaches.append("the brokers do not come together again")
            self._audit(still, moving)

    def _work(self, stack: ExitStack, name: str, partitions: int) -> Work:
        address, topic = self._cluster.address, f"{name}-{self.report.episodes + 1}"
        clocks = time.monotonic() >= self._half
        work = Work(address, topic, partitions, self._here, clocks_differ=clocks)
        stack.callback(work.close)
        return work

    def _audit(self, *works: Work) -> None:
        report = self.report
        known = len(report.breaches)
        report.episodes += 1
        for work in works:
            work.finish(report)
        if not wait_until(self._cluster.whole, BACK_SECONDS_MAX):
            report.breaches.append("replicas are missing though all brokers are there")
        for work in reversed(works):  # they watch the client one over the other
            work.close()
        for work in works:
            report.acknowledged += work.load.acknowledged
            work.judge(report)
            if len(report.breaches) == known:
                work.delete()
                work.path.unlink()
        report.seconds = time.monotonic() - self._began
        self._say(report.line())
