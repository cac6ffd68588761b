"""A whole cluster in virtual time: pure nodes, faulty disks, a network with cuts, clients.

One seed decides everything, so a run can be played again on any machine. While faults strike, what
consensus hands out and what clients are told is held against the promises at every event
(`cluster_checks`, `cluster_truth`). Then the faults stop: all clients must get what they wait for,
all replicas become equal; one broker alone may be lost without anybody waiting for it; and after a
power cut of everything it is all still there.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, Final

from penstock.errors import PenstockError, TopicExists
from penstock.protocol import frames
from penstock.protocol.cluster import InitCluster, InitClusterReply
from penstock.protocol.messages import (
    CreateTopic,
    CreateTopicReply,
    Message,
    Metadata,
    MetadataReply,
)
from penstock_broker.failpoints import Failpoints, Rule, installed
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.group import Group
from penstock_broker.node.node import Node
from penstock_broker.simulation import cluster_faults, cluster_pairs
from penstock_broker.simulation.broker_world import Counts, records_of
from penstock_broker.simulation.cluster_admin import Operator
from penstock_broker.simulation.cluster_checks import Checks
from penstock_broker.simulation.cluster_clients import (
    ANY_REPLICA,
    Link,
    Member,
    Producer,
    Reader,
    StrictReader,
)
from penstock_broker.simulation.cluster_delays import ClusterDelays, Delayer
from penstock_broker.simulation.cluster_host import Host
from penstock_broker.simulation.cluster_loss import lose_one
from penstock_broker.simulation.cluster_network import Network
from penstock_broker.simulation.cluster_pairs import Pair
from penstock_broker.simulation.cluster_shared import Seat, SharedGroup
from penstock_broker.simulation.cluster_swarm import Swarm, draw
from penstock_broker.simulation.cluster_topics import TopicMaker
from penstock_broker.simulation.cluster_truth import ClusterTruth
from penstock_broker.simulation.disk import Crash, SimDisk
from penstock_broker.simulation.shared_world import SharedCounts
from penstock_broker.storage.reads import Memory

FORM_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 60.0
"""Within so much virtual time everything must be well once the faults have stopped."""
EVENTS_MAX: Final = 5_000_000

KEPT_BYTES = (600, 8 << 10, 512 << 10)
"""With little in memory, replicas that fall behind need snapshots."""


@dataclass(slots=True)
class ClusterCounts(SharedCounts):
    """What happened, over all seeds."""

    simulated_seconds: float = 0.0
    elections: int = 0
    entries: int = 0
    """Committed entries that were compared."""
    machines: int = 0
    """Machines that were compared."""
    strict_reads: int = 0
    operations: int = 0
    """Of the operator."""
    removed: int = 0
    """Brokers that were removed by force."""
    topics: int = 0
    """That came and went."""
    recovered: int = 0
    """Partitions that went on with one copy of two."""
    protocol_errors: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failpoints: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Sum up."""
        for one in fields(other):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class ClusterWorld:
    """Some brokers and their clients, for one seed."""

    def __init__(self, seed: int, nodes: int = 3, swarm: Swarm | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.kept_bytes = KEPT_BYTES[seed % len(KEPT_BYTES)]
        self.swarm = swarm or draw(self.random, nodes)
        self.counts = ClusterCounts()
        self.truth = ClusterTruth(self.counts)
        self.now = 0.0
        self.faulty = False
        self.acting = False
        """Whether a process of a host is at work now."""
        self.failpoints: Failpoints | None = None
        self.checks = Checks(self)
        self.network = Network(self, self.random)
        self.gids: list[int] = []
        """Groups of the topic's partitions."""
        self.gone: set[int] = set()
        """Groups of topics that were deleted, or are about to be."""
        self.pairs: set[int] = set()
        """Groups that have two replicas."""
        self.places: dict[int, int] = {}
        """Node id -> number of the host, also while it is down."""
        self.shared = SharedGroup(self) if self.swarm.shared else None
        self.delays = ClusterDelays(self) if self.swarm.delays else None
        self.clocks_moved = False
        """Whether the clock of any host has ever jumped."""
        self.died_at = 0.0
        """When a process ended last."""
        self.hosts = [self._make_host(number) for number in range(1, self.swarm.nodes + 1)]
        self.clients: list[
            Producer | Reader | StrictReader | Member | Operator | Seat | TopicMaker | Pair
        ] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._sessions = 0

    def _make_host(self, number: int) -> Host:
        disk = SimDisk(self.random.getrandbits(32))
        host = Host(self, number, self.swarm.hosts_of[number - 1], self.swarm.storage, disk)
        host.disk_delay = self.swarm.disk_delay
        return host

    # ----- time

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later; things due at one time happen in the order of the calls."""
        self._order += 1
        heapq.heappush(self._events, (self.now + delay, self._order, action))

    def advance(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until something holds, at most so many seconds; returns whether it does."""
        end = self.now + seconds
        while not done():
            if self._events[0][0] > end:
                self.now = end
                return False
            self.now, _, action = heapq.heappop(self._events)
            self.counts.events += 1
            assert self.counts.events < EVENTS_MAX, "the world never comes to rest"
            action()
        return True

    def run(self, seconds: float = 20.0) -> None:
        """Form a cluster, run with faults, then without until all is well; check everything."""
        with ExitStack() as stack:
            stack.enter_context(self.checks.watching())
            if "failpoint" in self.swarm.faults:
                self.failpoints = stack.enter_context(installed({}, self._at_failpoint))
            try:
                self._run(seconds)
            finally:
                self.counts.simulated_seconds = self.now
                self.counts.digest = self.network.digest

    def _at_failpoint(self, name: str, rule: Rule) -> None:
        """A step that was chosen is reached: the process dies there, once."""
        assert self.failpoints is not None
        del self.failpoints.rules[name]
        if self.acting and self.faulty:
            self.counts.failpoints[name] += 1
            raise Crash

    def _run(self, seconds: float) -> None:
        self.form()
        self.begin_clients()
        self.faulty = True
        self.after(0.0, lambda: cluster_faults.strike(self))
        self.advance(lambda: False, seconds)
        self.settle()
        lose_one(self)
        self.settle()
        self._cut_power()
        self.settle()

    # ----- setting up

    def form(self) -> None:
        """Start everybody, form the cluster, create the topic."""
        for host in self.hosts:
            host.start()
        if len(self.hosts) > 1:
            self.until_told(InitCluster(), lambda reply: isinstance(reply, InitClusterReply), 1)
            self._gather()
        create = CreateTopic(
            name="t",
            partitions=self.swarm.partitions,
            replication=min(3, len(self.hosts)),
            config={"key_slots": "key"} if self.swarm.by_key and self.swarm.shared else {},
        )
        self.until_told(create, self._created)
        self.until_told(Metadata(topics=["t"]), self._described)
        if self.swarm.pairs:
            pair = CreateTopic(name=cluster_pairs.TOPIC, partitions=1, replication=2)
            self.until_told(pair, self._created)
            self.until_told(Metadata(topics=[cluster_pairs.TOPIC]), self._described_pair)
        if self.shared is not None:
            self.shared.create()
        if self.delays is not None:
            self.delays.create()

    def _gather(self) -> None:
        """Wait until all have joined and know the metadata."""

        def informed() -> bool:
            return all(host.node is not None and host.node.groups.informed for host in self.hosts)

        if not self.advance(informed, 5.0):
            host = self.leader_of(0)
            assert host is not None
            assert host.node is not None
            metadata = host.node.groups.metadata
            ids = sorted(other.node.node_id for other in self.hosts if other.node is not None)
            host.act(host.node, lambda: metadata.change_members(ids))
        assert self.advance(informed, FORM_SECONDS), "somebody does not learn of the cluster"

    def until_told(self, message: Message, accepts: Callable[[Any], bool], place: int = 0) -> None:
        """Ask until the answer is accepted."""
        answered: list[bool] = []

        def ask() -> None:
            link.ask(message, take)

        def take(reply: object) -> None:
            if accepts(reply):
                answered.append(True)
            elif isinstance(reply, PenstockError):
                retriable = reply.retriable or len(self.hosts) > 1
                assert retriable, f"{message}: {reply!r}"
                self.after(0.1, lambda: link.go(place))

        link = Link(self, ask)
        link.go(place)
        what = type(message).__name__
        assert self.advance(lambda: bool(answered), FORM_SECONDS), f"no answer to {what}"
        link.end()

    @staticmethod
    def _created(reply: CreateTopicReply | PenstockError) -> bool:
        return isinstance(reply, (CreateTopicReply, TopicExists))

    def _described(self, reply: MetadataReply | PenstockError) -> bool:
        if isinstance(reply, PenstockError) or not reply.topics:
            return False
        self.gids = [partition.group for partition in reply.topics[0].partitions]
        return True

    def _described_pair(self, reply: MetadataReply | PenstockError) -> bool:
        if isinstance(reply, PenstockError) or not reply.topics:
            return False
        self.pairs.add(reply.topics[0].partitions[0].group)
        return True

    def begin_clients(self) -> None:
        """Start producers, readers and members."""
        swarm = self.swarm
        self.clients += [Producer(self, number) for number in range(swarm.producers)]
        for partition in range(swarm.partitions):
            self.clients += [Reader(self, partition), Reader(self, partition, ANY_REPLICA)]
            self.clients.append(StrictReader(self, partition))
        self.clients += [Member(self, number) for number in range(swarm.members)]
        if swarm.operate_every:
            self.clients.append(Operator(self))
        if swarm.topics:
            self.clients.append(TopicMaker(self))
        if swarm.pairs:
            self.clients.append(Pair(self))
        if self.shared is not None:
            self.clients += self.shared.members()
        if self.delays is not None:
            self.clients.append(Delayer(self, 0))

    def node_config(self, host: Host) -> NodeConfig:
        """What a node is told about itself."""
        join = [other.address for other in self.hosts] if len(self.hosts) > 1 else []
        return NodeConfig(
            host.address,
            "sim",
            host.label,
            join=tuple(join),
            node_dead_after_ms=self.swarm.dead_after_ms,
            kept_bytes=self.kept_bytes,
            gather_us=30_000,
        )

    def prepare(self, host: Host, node: Node) -> None:
        """Before a node starts."""

    # ----- for hosts and clients

    def slots_of(self, values: list[bytes]) -> list[int] | None:
        """With order by key, a record's slot follows from its value."""
        return self.shared.slots_of(values) if self.shared is not None else None

    @property
    def alive(self) -> list[Host]:
        """Hosts whose process runs."""
        return [host for host in self.hosts if host.node is not None]

    def next_session(self) -> int:
        """A number for a session that nobody has had."""
        self._sessions += 1
        return self._sessions

    def host_at(self, address: str) -> Host | None:
        """Who is at an address."""
        return next((host for host in self.hosts if host.address == address), None)

    def place_of(self, detail: Mapping[str, object]) -> int:
        """The host that a refusal points to; 0: to none."""
        host = self.host_at(str(detail.get("address", "")))
        if host is not None:
            return host.number
        leader = detail.get("leader")
        return self.places.get(leader, 0) if isinstance(leader, int) else 0

    def leader_of(self, gid: int) -> Host | None:
        """The host that leads a group in the highest term."""
        found: tuple[int, Host] | None = None
        for host in self.alive:
            group = host.group(gid)
            leads = group is not None and group.raft.is_leader
            if group is not None and leads and (found is None or group.raft.term > found[0]):
                found = (group.raft.term, host)
        return found[1] if found is not None else None

    # ----- the end

    def settle(self) -> None:
        """Stop the faults: everybody must get what it waits for, and replicas become equal."""
        self.faulty = False
        cluster_faults.stop_all(self)
        for client in self.clients:
            client.stop()
        end = self.now + DRAIN_SECONDS
        while waiting := self.waits_for():
            assert self.now < end, f"not well after {DRAIN_SECONDS} s: {'; '.join(waiting)}"
            self.advance(lambda: False, 0.1)
        for partition, gid in enumerate(self.gids):
            self._read_everywhere(partition, gid)
        for pair in self.clients:
            if isinstance(pair, Pair):
                for host in self.replicas_of(pair.gid):
                    pair.check_end(read_replica(host, pair.gid))
        if self.shared is not None:
            self.shared.check_end()
        if self.delays is not None:
            self.delays.check_end()

    def waits_for(self) -> list[str]:
        """What is not yet as it must be."""
        if len(self.alive) < len(self.hosts):
            return ["hosts that are down"]
        found = [str(client) for client in self.clients if not client.idle]
        if not found and self.shared is not None:
            found = self.shared.waits_for()
        if not found and self.delays is not None:
            found = self.delays.waits_for()
        return found or self.waits_for_replicas()

    def waits_for_replicas(self) -> list[str]:
        """Groups without a leader, or whose replicas are not all there and equal."""
        found = []
        if len(self.alive) < len(self.hosts):
            found.append("hosts that are down")
        for gid in self.checks.histories:
            if gid in self.gone:
                found += [f"{host} keeps {gid}" for host in self.alive if host.group(gid)]
                continue
            leader = self.leader_of(gid)
            group = leader.group(gid) if leader is not None else None
            if group is None or not group.leading:
                found.append(f"group {gid} has no leader")
            elif not self._equal(gid):
                found.append(f"replicas of group {gid} differ: {self._describe(gid)}")
            elif _deciders(group) < self._voters_of(gid):
                found.append(f"group {gid} has few voters: {self._describe(gid)}")
        return found

    def may_lose_a_disk(self) -> bool:
        """Whether nothing acknowledged goes with any one disk: every group has its voters.

        All that was committed is on a majority of them, as soon as it is decided that they are it.
        """
        there = {host.node.node_id for host in self.alive if host.node is not None}
        if len(self.alive) < len(self.hosts):
            return False
        for gid in self.checks.histories.keys() - self.gone:
            leader = self.leader_of(gid)
            group = leader.group(gid) if leader is not None else None
            if group is None or not group.leading:
                return False
            if group.raft.change_open and gid not in self.pairs:
                return False
            configuration = group.raft.configuration
            if not there.issuperset(configuration.members):
                return False
            if _deciders(group) < self._voters_of(gid):
                return False
        return True

    def _voters_of(self, gid: int) -> int:
        if len(self.hosts) <= 2:
            return 1
        return 2 if gid in self.pairs else 3

    def _equal(self, gid: int) -> bool:
        """Whether all members of a group stand where its leader stands."""
        leader = self.leader_of(gid)
        group = leader.group(gid) if leader is not None else None
        if group is None:
            return False
        members = group.raft.configuration.members
        replicas = [
            replica
            for host in self.alive
            if (replica := host.group(gid)) is not None and replica.raft.id in members
        ]
        ends = {(replica.applied_index, replica.raft.log.last_index) for replica in replicas}
        return len(replicas) == len(members) and len(ends) == 1 and self.checks.compare(gid) > 0

    def _describe(self, gid: int) -> str:
        words = []
        for host in self.alive:
            group = host.group(gid)
            if group is not None:
                raft = group.raft
                words.append(
                    f"{host} as {raft.id}: {raft.role.name} of {raft.term}, {raft.configuration}, "
                    f"applied {group.applied_index}, ends at {raft.log.last_index}"
                )
        return "; ".join(words)

    def _read_everywhere(self, partition: int, gid: int) -> None:
        """All that was acknowledged is there, once, in order, on every replica."""
        hosts = self.replicas_of(gid)
        for host in hosts:
            values = read_replica(host, gid)
            self.truth.check_partition(partition, values)
            self.truth.check_order(partition, values)
        count = len(hosts)
        assert count >= min(3, len(self.hosts)), f"partition {partition} has {count} replicas"

    def replicas_of(self, gid: int) -> list[Host]:
        """Where the members of a group are, as its leader knows them; it must have one."""
        leader = self.leader_of(gid)
        group = leader.group(gid) if leader is not None else None
        assert group is not None, f"group {gid} has no leader"
        members = group.raft.configuration.members
        return [h for h in self.alive if h.node is not None and h.node.node_id in members]

    def _cut_power(self) -> None:
        """Everything loses its power at once."""
        for host in self.hosts:
            host.died(power=True)


def _deciders(group: Group) -> int:
    """How many voters there are in each half of the configuration, at the least."""
    configuration = group.raft.configuration
    return min(len(half) for half in (configuration.voters, configuration.outgoing) if half)


def read_replica(host: Host, gid: int) -> list[tuple[int, bytes]]:
    """Every record of a replica, from its own log."""
    assert host.node is not None
    log = host.node.partitions[gid].log
    found: list[tuple[int, bytes]] = []
    offset = log.start_offset
    while offset < log.end_offset:
        place = log.read(offset, 1 << 20)
        if isinstance(place, Memory):
            buffers = place.buffers
        else:
            data = place.file.pread(place.length, place.position)
            buffers = log.finish_read(place, data, offset, 1 << 20)
        found += records_of(bytes(frames.REPLY_BYTES) + b"".join(buffers), offset)
        offset = found[-1][0] + 1
    return found
