"""One Raft group in a hostile world, from one seed: the same seed gives the same run, anywhere.

    network   messages are lost, delayed, reordered, duplicated; links are cut, one way or both
    disks     writes take their time, stall, and are lost or torn by a crash
    nodes     crash, restart from their disks, pause; leaders are handed over, members change
    clients   propose and read all the time

After every event the promises are checked (`raft_checks`). Then faults stop, and the group must
come to rest: one leader, everything applied everywhere.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVarTuple
from zlib import crc32

from penstock_broker.raft import (
    Configuration,
    InstallSnapshot,
    Message,
    NotLeader,
    Raft,
    Ready,
    Refused,
    Trace,
)
from penstock_broker.simulation import raft_faults
from penstock_broker.simulation.raft_checks import Checker, InvariantBroken, after
from penstock_broker.simulation.raft_disk import Disk, Write
from penstock_broker.simulation.raft_swarm import TICK, Mix, Swarm, any_mix

Arguments = TypeVarTuple("Arguments")
_RECORD = 1
_STALL_MAX = 60 * TICK


class Beat(NamedTuple):
    """A heartbeat carried outside of the core."""

    sender: int
    to: int
    term: int
    commit: int
    number: int


class BeatAck(NamedTuple):
    """Its answer."""

    sender: int
    to: int
    term: int
    number: int


@dataclass(slots=True)
class Host:
    """One node: its core (None while it is down), its disk, its machine."""

    id: int
    disk: Disk
    raft: Raft | None = None
    machine: int = 0
    incarnation: int = 0
    paused_until: int = 0
    beats: int = 0
    ticks: int = 0


@dataclass(slots=True)
class Counts:
    """What happened in a run."""

    events: int = 0
    messages: int = 0
    dropped: int = 0
    duplicated: int = 0
    faults: int = 0
    crashes: int = 0
    elections: int = 0
    commits: int = 0
    reads: int = 0
    snapshots: int = 0
    changes: int = 0
    transfers: int = 0
    digest: int = 0
    """Of the states that nodes went through: the same for a seed wherever it is run."""

    def add(self, other: "Counts") -> None:
        """Sum up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class World:
    """The run of one seed."""

    seed: int
    make: Callable[..., Raft] = Raft
    mix: Mix = any_mix
    trace_to: Trace | None = None
    now: int = 0
    calm: bool = False
    marker: tuple[int, int] = (0, 0)  # term and index of a proposal of the calm phase
    counts: Counts = field(default_factory=Counts)
    cuts: dict[tuple[int, int], None] = field(default_factory=dict)
    hosts: dict[int, Host] = field(default_factory=dict)
    rng: random.Random = field(init=False)
    swarm: Swarm = field(init=False)
    checker: Checker = field(init=False)
    _heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _sequence: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.swarm = self.mix(self.rng)
        first = Configuration.of(range(1, self.swarm.voters + 1))
        for node in range(1, self.swarm.voters + self.swarm.spares + 1):
            known = first if node <= self.swarm.voters else Configuration()
            self.hosts[node] = Host(node, Disk(known))
        self.checker = Checker(self.hosts)

    # time

    def later(self, delay: int, act: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Do something after a while; things due at one time happen in the order of the calls."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, act, arguments))

    def run(self) -> Counts:
        """Live through the faults, then through the calm after; raise if a promise is broken."""
        for host in self.hosts.values():
            self.start(host)
        self.later(1, self._propose)
        if self.swarm.read_interval:
            self.later(1, self._read)
        if self.swarm.change_interval:
            self.later(self.swarm.change_interval, self._change_members)
        self.later(self.swarm.fault_interval, raft_faults.strike, self)
        self._run_until(self.swarm.duration)
        raft_faults.stop_all(self)
        self.calm = True
        patience = self.now + 80 * TICK * self.swarm.options.election_ticks
        while not self._is_settled():
            if self.now >= patience:
                raise InvariantBroken(f"the group does not come to rest: {self._describe()}")
            self._run_until(self.now + 5 * TICK)
        self.counts.elections = self.checker.elections
        self.counts.commits = len(self.checker.committed)
        return self.counts

    def _run_until(self, end: int) -> None:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, act, arguments = heapq.heappop(self._heap)
            self.counts.events += 1
            act(*arguments)
        self.now = end

    def _is_settled(self) -> bool:
        for host in self.hosts.values():
            raft = host.raft
            if raft is not None and raft.is_leader and raft.term == self.marker[0]:
                last, configuration = raft.log.last_index, raft.configuration
                if not configuration.is_joint and raft.log.handed == last:
                    return self.checker.check_settled(configuration, last)
        return False

    def _describe(self) -> str:
        return "; ".join(
            f"{host.id}: {host.raft.status() if host.raft else 'down'}"
            for host in self.hosts.values()
        )

    # nodes

    def start(self, host: Host) -> None:
        """Start a node from its disk."""
        if host.raft is not None:
            return
        disk = host.disk
        host.machine = disk.machine
        host.raft = self.make(
            host.id,
            randomness=self.rng,
            configuration=disk.configuration,
            options=self.swarm.options,
            hard_state=disk.hard_state,
            base=disk.base,
            entries=list(disk.entries),
            applied=disk.base[0],
            trace_to=self.trace_to,
        )
        self.later(self.rng.randrange(TICK), self._tick, host, host.incarnation)

    def crash(self, host: Host) -> None:
        """Stop a node at once; it starts again after a while."""
        if host.raft is None:
            return
        self.counts.crashes += 1
        host.raft = None
        host.incarnation += 1
        host.disk.crash(self.rng)
        self.checker.forget(host.id)
        self.later(1 + self.rng.randrange(self.swarm.restart_delay_max), self.start, host)

    def _tick(self, host: Host, incarnation: int) -> None:
        raft = host.raft
        if raft is None or host.incarnation != incarnation:
            return
        self.later(TICK - 1 + self.rng.randrange(3), self._tick, host, incarnation)
        if self.now < host.paused_until:
            return
        raft.tick()
        host.ticks += 1
        options = self.swarm.options
        is_time = host.ticks % options.heartbeat_ticks == 0 or raft.heartbeat_due
        if options.external_heartbeats and is_time:
            host.beats += 1
            for node, commit in raft.heartbeats(host.beats):
                self.send(Beat(host.id, node, raft.term, commit, host.beats))
        self.touch(host)

    def touch(self, host: Host) -> None:
        """Do what a node wants done, and check it."""
        raft = host.raft
        assert raft is not None
        while True:
            deciding, elections = raft.configuration, self.checker.elections
            commit = raft.log.commit
            ready = raft.ready()
            self.checker.check(host.id, raft, deciding)
            if ready is None:
                break
            if self.checker.elections > elections:
                self._meet_new_leader(host)
            if raft.is_leader and raft.log.commit > commit and self._chance(self.swarm.ambush):
                self.crash(host)  # decided, and nobody was told
                return
            self._do(host, raft, ready)
        self._flush(host)
        state = (self.now, host.id, raft.term, raft.role, raft.log.commit, raft.log.last_index)
        self.counts.digest = crc32(b"%d %d %d %d %d %d" % state, self.counts.digest)

    def _chance(self, probability: float) -> bool:
        """Let something bad happen?"""
        return not self.calm and self.rng.random() < probability

    def _meet_new_leader(self, host: Host) -> None:
        if self._chance(self.swarm.strand):
            for node in self.hosts:
                self.cuts[host.id, node] = self.cuts[node, host.id] = None
        if self._chance(self.swarm.assassinate):
            self.later(self.rng.randrange(4 * self.swarm.delay_max + 2 * TICK), self.crash, host)

    def _do(self, host: Host, raft: Raft, ready: Ready) -> None:
        """Keep the driver's rules; see `penstock_broker.raft.ready`."""
        if ready.entries:
            self.checker.check_entries(host.id, raft, list(ready.entries))
        for message in ready.messages:
            self.send(message)
        write = Write(ready.hard_state, ready.snapshot, ready.entries, ready.messages_after_persist)
        if write.last or write.hard_state or write.after:
            host.disk.pending.append(write)
        if ready.snapshot:
            assert isinstance(ready.snapshot.data, int)
            host.machine = ready.snapshot.data
            self.counts.snapshots += 1
            self.checker.check_applied(host.id, ready.snapshot.index, host.machine)
        for entry in ready.committed:
            host.machine = after(host.machine, entry)
            self.checker.check_applied(host.id, entry.index, host.machine)
        for read in ready.read_states:
            assert isinstance(read.context, int)
            self.counts.reads += 1
            self.checker.check_read(read.index, read.context)
        for node in ready.snapshot_requests:
            delay = self.rng.randrange(5 * TICK)
            self.later(delay, self._supply, host, host.incarnation, node)

    def _supply(self, host: Host, incarnation: int, node: int) -> None:
        raft = host.raft
        if raft is None or host.incarnation != incarnation:
            return
        if self.rng.random() < 0.2:
            raft.snapshot_failed(node)
        elif raft.is_leader:
            raft.send_snapshot(node, raft.log.handed, host.machine)
        self.touch(host)

    # disk

    def _flush(self, host: Host) -> None:
        """Begin to write all that is pending, unless a write is on its way."""
        disk = host.disk
        if disk.pending and not disk.flushing:
            disk.flushing = len(disk.pending)
            slowest = min(self.swarm.disk_delay_max * disk.slowness, _STALL_MAX)
            delay = 0 if self.calm else self.rng.randrange(slowest)
            self.later(delay, self._flushed, host, host.incarnation)

    def _flushed(self, host: Host, incarnation: int) -> None:
        raft, disk = host.raft, host.disk
        if raft is None or host.incarnation != incarnation:
            return
        done = [disk.pending.popleft() for _ in range(disk.flushing)]
        disk.flushing = 0
        for write in done:
            disk.complete(write)
        lasts = [write.last for write in done if write.last]
        for index, term in lasts[-1:] if self.rng.random() < 0.5 else lasts:
            raft.persisted(index, term)
        for write in done:
            for message in write.after:
                if message.to == host.id:
                    raft.step(message)
                else:
                    self.send(message)
        self.touch(host)

    # network

    def send(self, message: Message | Beat | BeatAck) -> None:
        """Put a message on the wire."""
        self.counts.messages += 1
        if not isinstance(message, (Beat, BeatAck)):
            self.checker.check_departure(message)
        swarm, rng = self.swarm, self.rng
        if (message.sender, message.to) in self.cuts:
            self.counts.dropped += 1
            return
        if self._chance(swarm.drop):
            self.counts.dropped += 1
            return
        size = 3 if isinstance(message, InstallSnapshot) else 1
        slowest = 2 if self.calm else size * swarm.delay_max
        self.later(1 + rng.randrange(slowest), self._deliver, message)
        if self._chance(swarm.duplicate):
            self.counts.duplicated += 1
            self.later(1 + rng.randrange(4 * slowest), self._deliver, message)

    def _deliver(self, message: Message | Beat | BeatAck) -> None:
        host = self.hosts[message.to]
        raft = host.raft
        if raft is None or (message.sender, message.to) in self.cuts:
            self.counts.dropped += 1
            return
        if self.now < host.paused_until:
            self.later(host.paused_until - self.now, self._deliver, message)
            return
        if isinstance(message, Beat):
            term = raft.on_heartbeat(message.sender, message.term, message.commit)
            self.send(BeatAck(host.id, message.sender, term, message.number))
        elif isinstance(message, BeatAck):
            raft.on_heartbeat_ack(message.sender, message.term, message.number)
        else:
            raft.step(message)
        if not self._chance(self.swarm.batch):
            self.touch(host)

    # clients

    def _propose(self) -> None:
        """Propose to whoever takes it; when calm, once to every leader."""
        self.later(1 + self.rng.randrange(2 * self.swarm.propose_interval), self._propose)
        leaders = [
            (host, host.raft)
            for host in self.hosts.values()
            if host.raft is not None and host.raft.is_leader
        ]
        if not leaders:
            return
        host, raft = self.rng.choice(leaders)
        if self.calm and raft.term <= self.marker[0]:
            return
        burst = 1 + self.rng.randrange(self.swarm.burst_max)
        payloads = [(_RECORD, b"%d" % self.rng.randrange(1000)) for _ in range(burst)]
        try:
            index = raft.propose(payloads)
        except (NotLeader, Refused):
            return
        if self.calm:
            self.marker = raft.term, index
        self.touch(host)

    def _read(self) -> None:
        """Read from everyone who thinks that it leads: all of them must be right, or silent."""
        self.later(1 + self.rng.randrange(2 * self.swarm.read_interval), self._read)
        for host in self.hosts.values():
            raft = host.raft
            if raft is not None and raft.is_leader:
                try:
                    raft.read_index(len(self.checker.committed))
                except Refused:
                    continue
                self.touch(host)

    def _change_members(self) -> None:
        """Ask everyone who thinks that it leads for other members."""
        if self.calm:
            return
        self.later(1 + self.rng.randrange(2 * self.swarm.change_interval), self._change_members)
        nodes = list(self.hosts)
        self.rng.shuffle(nodes)
        voters = nodes[: self.rng.choice((1, 2, 3, 3, 4, 5))]
        learners = nodes[len(voters) :][: self.rng.choice((0, 1, 1))]
        for host in self.hosts.values():
            if host.raft is not None and host.raft.is_leader:
                if self.swarm.change_by_one:
                    voters = sorted({*host.raft.configuration.voters} ^ {nodes[0]}) or nodes
                    learners = []
                self._ask_for_members(host, host.raft, voters, learners)

    def _ask_for_members(
        self, host: Host, raft: Raft, voters: list[int], learners: list[int]
    ) -> None:
        try:
            raft.propose_configuration(voters, learners)
        except Refused:
            return
        self.counts.changes += 1
        self.touch(host)
