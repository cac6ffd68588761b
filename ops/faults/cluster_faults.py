"""What is done to a cluster in the campaign: to brokers, disks, clocks, and the network."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ops.faults.armed import ArmedBroker
from ops.faults.broker import StartError, wait_until
from ops.faults.cluster import ClusterProcesses
from ops.faults.cluster_report import ClusterReport
from ops.faults.network import Network
from penstock import sync
from penstock.errors import PenstockError
from penstock_broker.failpoints import points

BACK_SECONDS_MAX: Final = 60.0
"""Within so much all brokers are there again after faults."""
POINTS_PER_PLAN: Final = 8
"""Not every step is taken in the life of every broker."""
PLANNED: Final = ("drain", "stop", "transfer")
"""What operators do: leases survive it."""
ASK_SECONDS: Final = 5.0


class ClusterFaults:
    """Kinds of faults, for the topic that is worked on."""

    def __init__(
        self,
        cluster: ClusterProcesses,
        network: Network | None,
        report: ClusterReport,
        chance: random.Random,
    ) -> None:
        self._cluster = cluster
        self._members = [m for m in cluster.members if isinstance(m, ArmedBroker)]
        self._network = network
        self._report = report
        self._chance = chance
        self._known = len(report.breaches)
        self.topic = ""
        self._kinds: dict[str, Callable[[], None]] = {
            "kill": lambda: self._any().kill(),
            "kill the leader": lambda: self._leader().kill(),
            "kill all": cluster.kill,
            "stop": self._stop,
            "pause": lambda: self._pause(self._any()),
            "pause the leader": lambda: self._pause(self._leader()),
            "failpoints": self._failpoints,
            "clock": self._jump_clock,
            "full disk": self._fill_disk,
            "wipe": self._wipe,
            "transfer": self._transfer,
            "drain": self._drain,
        }
        if network is not None:
            self._kinds |= {
                "cut two": self._cut_two,
                "cut one way": self._cut_one_way,
                "isolate the leader": self._isolate_leader,
                "slow network": self._slow_network,
            }

    def happen(self, *, clocks: bool, planned: bool) -> None:
        """One fault, and the brokers come together again."""
        names = PLANNED if planned else [k for k in sorted(self._kinds) if k != "clock" or clocks]
        kind = self._chance.choice(names)
        self._report.faults[kind] += 1
        self._kinds[kind]()
        time.sleep(self._chance.choice([0.0, 0.3, 2.0]))
        if not wait_until(lambda: self._broken or self.complete(), BACK_SECONDS_MAX):
            self._report.breaches.append(f"after {kind} the brokers do not come together again")

    @property
    def _broken(self) -> bool:
        return len(self._report.breaches) > self._known

    def complete(self) -> bool:
        """Everybody runs, whatever failpoint may have ended it meanwhile, and knows all."""
        for member in self._members:
            if not member.running:
                failed = member.failure()
                self._report.breaches += [failed] if failed else []
                with suppress(StartError):
                    member.start()
        size = len(self._members)
        return all(len(self._cluster.nodes(member)) >= size for member in self._members)

    def mend(self) -> None:
        """Take back what may be left of a fault."""
        for member in self._members:
            for fault in ("full", "low", "sync", "hang", "clock"):
                member.sabotage(fault).unlink(missing_ok=True)
            if member.running:
                member.send_signal(signal.SIGCONT)
        if self._network is not None:
            self._network.heal()

    def _any(self) -> ArmedBroker:
        return self._chance.choice(self._members)

    def _leader(self) -> ArmedBroker:
        with suppress(PenstockError, LookupError):
            leader = self._cluster.leader(self.topic)
            assert isinstance(leader, ArmedBroker)
            return leader
        return self._any()

    # ----- brokers

    def _stop(self) -> None:
        code = self._any().stop()
        if code:
            self._report.breaches.append(f"a broker that was told to stop ended with {code}")

    def _pause(self, member: ArmedBroker) -> None:
        member.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.choice([0.1, 1.0, 4.0]))
        member.send_signal(signal.SIGCONT)

    def _failpoints(self) -> None:
        """Some points are set on two brokers; from the next start on, or at once."""
        does = self._chance.choice(["crash", "crash", "pause"])
        seconds = "(0.3)" if does == "pause" else ""
        chosen = self._chance.sample(points(), POINTS_PER_PLAN)
        when = self._chance.choice(["@1", "@1", "@3", "@20"])
        rules = dict.fromkeys(chosen, f"{does}{seconds}{when}")
        members = self._chance.sample(self._members, 2)
        if self._chance.random() < 0.5:
            members[0].kill()
        known = {member: len(member.hits()) for member in members}
        for member in members:
            member.arm(rules)
        if not members[0].running:
            members[0].spawn()
        time.sleep(self._chance.uniform(1.0, 3.0))
        for member in members:
            member.disarm(rules)
            self._report.tally.hits.update(member.hits()[known[member] :])

    def _wipe(self) -> None:
        """A broker loses its disk, and comes back as another node."""
        if not wait_until(self._cluster.whole, BACK_SECONDS_MAX):
            self._report.breaches.append("replicas are missing though all brokers are there")
            return
        member = self._any()
        member.kill()
        shutil.rmtree(member.data)
        member.start()
        if not wait_until(self._cluster.whole, BACK_SECONDS_MAX):
            self._report.breaches.append("what a wiped broker held was not made anew")

    # ----- disks and clocks

    def _jump_clock(self) -> None:
        self._any().sabotage("clock").write_text(str(self._chance.randint(-7200, 7200)))

    def _fill_disk(self) -> None:
        full = self._any().sabotage("full")
        full.write_text("")
        time.sleep(self._chance.uniform(0.2, 1.5))
        full.unlink()

    # ----- what operators do

    def _transfer(self) -> None:
        with suppress(PenstockError), self._client() as client:
            for state in client.admin.list_partitions(self.topic):
                others = [node for node in state.replicas if node != state.leader]
                client.admin.transfer_leader(
                    state.topic, state.partition, self._chance.choice(others)
                )
                self._report.handovers += 1

    def _drain(self) -> None:
        with suppress(PenstockError), self._client() as client:
            node = self._chance.choice(client.admin.metadata().nodes).id
            try:
                client.admin.drain_node(node)
                time.sleep(self._chance.choice([0.5, 3.0]))
            finally:
                client.admin.undrain_node(node)

    def _client(self) -> sync.Client:
        return sync.connect(self._cluster.address, request_timeout=ASK_SECONDS)

    # ----- the network

    def _cut(self, ways: list[tuple[int, int]]) -> None:
        """For longer or shorter than an election."""
        assert self._network is not None
        self._network.cut(ways)
        self._lasts()

    def _lasts(self) -> None:
        assert self._network is not None
        time.sleep(self._chance.choice([0.3, 1.5, 4.0]))
        self._network.heal()

    def _cut_two(self) -> None:
        one, other = self._chance.sample(range(len(self._members)), 2)
        self._cut([(one, other), (other, one)])

    def _cut_one_way(self) -> None:
        one, other = self._chance.sample(range(len(self._members)), 2)
        self._cut([(one, other)])

    def _isolate_leader(self) -> None:
        """The other brokers and it don't hear each other; programs reach all of them."""
        lone = self._members.index(self._leader())
        ways = [(lone, other) for other in range(len(self._members)) if other != lone]
        self._cut(ways + [(other, one) for one, other in ways])

    def _slow_network(self) -> None:
        assert self._network is not None
        self._network.slow(self._chance.randrange(len(self._members)))
        self._lasts()
