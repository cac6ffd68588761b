"""Several pure nodes over memory files that talk as brokers do: connections, hellos, frames.

Time is virtual and stands still unless a test moves it; jobs run at once; bytes between two nodes
arrive in order, as long as nothing is cut. Everything follows from the seed. `Cluster(3)` forms a
cluster as an operator does; members are known by number, which is their node id too.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from penstock.errors import ProtocolError, RetriableError
from penstock.protocol.batch import iterate, next_offset
from penstock.protocol.cluster import InitCluster
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import CreateTopic
from penstock.protocol.records import RecordBatch
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.group import Group
from penstock_broker.node.link import Dial
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store
from penstock_broker.storage.reads import Memory
from tests.node.harness import START_US, Client

STEP = 0.05
ROUNDS_MAX = 20_000


class End:
    """One end of a connection between two members."""

    def __init__(self, member: Member, session: Session) -> None:
        self.member = member
        self.session = session
        self.inbox = bytearray()
        self.other: End


class Member:
    """One broker: its disk stays, its process comes and goes. A harness in the eyes of `Client`."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.address = f"n{number}:7400"
        self.files = MemoryFiles()
        self.sessions = 0
        self.starts = 0
        self.running: Node | None = None
        self.ahead_us = 0
        """How far its clock is ahead of all others."""
        self.ends: dict[int, End] = {}
        """Connections to other members, by our session's id."""

    @property
    def node(self) -> Node:
        """The process, which must run."""
        assert self.running is not None, f"member {self.number} does not run"
        return self.running

    @property
    def clock(self) -> float:
        return self.cluster.clock

    def group(self, gid: int) -> Group:
        """A group on it."""
        group = self.node.groups.get(gid)
        assert group is not None, f"group {gid} is not on member {self.number}"
        return group

    def start(self) -> None:
        """Start the process on what is on the disk."""
        cluster = self.cluster
        self.starts += 1
        uuid = Random(f"{cluster.seed} {self.number} {self.starts}").randbytes(16)
        store = Store.open(self.files, cluster.storage, fresh_uuid=uuid)
        others = [member.address for member in cluster.members.values()]
        config = NodeConfig(
            self.address, "test", host=f"host{self.number}", join=others if len(others) > 1 else ()
        )
        self.running = Node(store, config, Random(f"{cluster.seed} {self.number} {self.starts}"))
        self.running.now(cluster.wall_us + self.ahead_us, cluster.clock)
        self.running.start("cluster")

    def session(self, peer: str) -> Session:
        """A new connection, seen from here."""
        self.sessions += 1
        session = Session(self.sessions, self.sessions, peer, self.clock)
        self.node.connected(session)
        return session

    def client(self) -> Client:
        """A connection that has said hello."""
        return Client(self)  # type: ignore[arg-type]  # it has all that a client asks of a harness

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        self.cluster.pump()

    def work(self) -> bool:
        """One round; returns whether anything was done."""
        node = self.node
        node.end_round()
        dials = node.dials()
        for dial in dials:
            self.cluster.dial(self, dial)
        busy = bool(dials)
        self.send()
        jobs: list[Any] = [node.store.take_flush() or node.store.take_job(), *node.take_reads()]
        for job in filter(None, jobs):
            job.run()
            node.job_done(job, None)
            busy = True
        node.end_round()
        return self.send() or busy or bool(node.groups.making)

    def send(self) -> bool:
        """Put what was queued for other members on its way."""
        sent = False
        for session in self.node.take_output():
            end = self.ends.get(session.id)
            if end is None:
                continue  # a client takes its replies itself
            data, session.out = b"".join(session.out), []
            self.node.sent(session, 0)
            end.other.inbox += data
            sent = True
            if session.closing:
                self.cluster.disconnect(end)
        return sent

    def receive(self, end: End) -> bool:
        """Take what arrived; returns whether anything was taken."""
        if not end.inbox or end.session.closing:
            return False
        data = bytes(end.inbox)
        try:
            used, _ = self.node.receive(end.session, memoryview(data), len(data), False)
        except ProtocolError as error:
            self.cluster.errors.append(error)
            self.node.refuse(end.session, error)
            return True
        del end.inbox[:used]
        return used > 0


class Cluster:
    """Some members, the connections between them, and the time.

    Attributes:
        cuts: pairs of members between which nothing passes.
        errors: what members refused of each other's bytes.
    """

    def __init__(self, count: int = 3, *, seed: int = 1, form: bool = True, **storage: int) -> None:
        self.seed = seed
        self.storage = StorageConfig(**{"wal_file_bytes": 1 << 20, **storage})
        self.clock, self.wall_us = 10.0, START_US
        self.cuts: set[frozenset[int]] = set()
        self.errors: list[ProtocolError] = []
        self.members: dict[int, Member] = {}
        for number in range(1, count + 1):
            self.members[number] = Member(self, number)
        for member in self.members.values():
            member.start()
        self.pump()
        if form:
            self.form()

    # ----- forming it

    def form(self) -> None:
        """Make one cluster of all members, and wait until all know it and group 0 is on them."""
        if len(self.members) > 1:
            self.advance(0.5)
            client = self.members[1].client()
            self.ask(client, InitCluster())
        self.run_until(lambda: all(member.node.node_id for member in self.members.values()))
        found = [member.node.node_id for member in self.members.values()]
        assert sorted(found) == list(self.members), found
        self.members = {member.node.node_id: member for member in self.members.values()}
        self._enlarge_metadata()
        self.run_until(lambda: all(member.node.groups.informed for member in self.alive))
        self.run_until(self.connected)

    def connected(self) -> bool:
        """Whether every member that runs is connected to every other one, on all channels."""
        return all(
            sum(all(line.up for line in peer.lines) for peer in member.node.peers.all().values())
            == len(self.alive) - 1
            for member in self.alive
        )

    def _enlarge_metadata(self) -> None:
        """Every member votes on the metadata, at once."""
        metadata = self.leader(0).node.groups.metadata
        if set(metadata.raft.configuration.voters) != set(self.members):
            metadata.change_members(sorted(self.members))
        wanted = tuple(sorted(self.members))

        def settled() -> bool:
            configuration = self.leader(0).group(0).raft.configuration
            return configuration.voters == wanted and not configuration.is_joint

        self.run_until(settled)

    # ----- members

    @property
    def alive(self) -> list[Member]:
        """Those that run."""
        return [member for member in self.members.values() if member.running is not None]

    def kill(self, number: int) -> None:
        """The process ends without a word; the others see its connections close."""
        member = self.members[number]
        for end in list(member.ends.values()):
            self.disconnect(end)
        member.node.store.close()
        member.running = None

    def restart(self, number: int) -> None:
        """Start a member on what is on its disk; one that runs is killed before."""
        if self.members[number].running is not None:
            self.kill(number)
        self.members[number].start()
        self.pump()

    def wipe(self, number: int) -> None:
        """A member's disk is replaced by an empty one; it must not run."""
        assert self.members[number].running is None
        self.members[number].files = MemoryFiles()

    # ----- connections

    def dial(self, member: Member, dial: Dial) -> None:
        """Carry out what a node asks for."""
        there = next((other for other in self.alive if other.address == dial.address), None)
        if there is None or not self.reach(member, there):
            dial.dialer.dial_failed(dial)
            return
        near = End(member, member.session(dial.address))
        far = End(there, there.session(member.address))
        near.other, far.other = far, near
        member.ends[near.session.id] = near
        there.ends[far.session.id] = far
        dial.dialer.dialed(dial, near.session)

    def disconnect(self, end: End) -> None:
        """Close a connection for both ends; what was sent before arrives before."""
        far = end.other
        end.member.ends.pop(end.session.id, None)
        if end.member.running is not None:
            end.member.node.disconnected(end.session)
        if far.member.ends.pop(far.session.id, None) is None or far.member.running is None:
            return
        if self.reach(end.member, far.member):
            far.member.receive(far)
        far.member.node.disconnected(far.session)

    def reach(self, one: Member, other: Member) -> bool:
        """Whether bytes pass between two members."""
        return frozenset((one.number, other.number)) not in self.cuts

    def cut(self, one: int, other: int) -> None:
        """Nothing passes between two members; their connections stay open, and nobody is told."""
        self.cuts.add(frozenset((self.members[one].number, self.members[other].number)))

    def isolate(self, number: int) -> None:
        """Cut one member off from all others."""
        for other in self.members:
            if other != number:
                self.cut(number, other)

    def heal(self) -> None:
        """Everything passes again, also what was sent meanwhile."""
        self.cuts.clear()
        self.pump()

    # ----- time

    def pump(self) -> None:
        """Let happen what needs no time, until nothing does."""
        for _ in range(ROUNDS_MAX):
            busy = [member.work() for member in self.alive]
            for member in self.alive:
                ends = [end for end in member.ends.values() if self.reach(member, end.other.member)]
                busy += [member.receive(end) for end in ends]
            if not any(busy):
                return
        raise AssertionError("the cluster never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass in steps, as the runtime's ticks do."""
        for _ in range(max(1, round(seconds / STEP))):
            self.clock += STEP
            self.wall_us += int(STEP * 1e6)
            for member in self.alive:
                member.node.tick(self.wall_us + member.ahead_us, self.clock)
            self.pump()

    def run_until(self, done: Callable[[], object], seconds: float = 20.0) -> None:
        """Let time pass until something holds.

        Raises:
            AssertionError: it does not hold in that time.
        """
        end = self.clock + seconds
        self.pump()
        while not done():
            assert self.clock < end, f"not within {seconds} s"
            self.advance(STEP)

    # ----- what is there, and requests

    def leader(self, gid: int) -> Member:
        """Who leads a group, after as much time as an election takes."""
        found: list[Member] = []

        def led() -> bool:
            groups = [(member, member.node.groups.get(gid)) for member in self.alive
                      if member.node.node_id]  # fmt: skip
            found[:] = [member for member, group in groups if group is not None and group.leading]
            return len(found) == 1

        self.run_until(led)
        return found[0]

    def ask(self, client: Client, message: Any, seconds: float = 20.0) -> Any:
        """Ask, wait for the reply, and ask again while the error is one that passes."""
        end = self.clock + seconds
        while True:
            client.correlation += 1
            client.send(encode_message(message, client.correlation))
            self.run_until(lambda: client.session.out, seconds)
            ((frame, data),) = client.take()
            try:
                return client.decode(frame, data)
            except RetriableError:
                assert self.clock < end
                self.advance(0.1)

    def topic(
        self, name: str = "orders", partitions: int = 1, replication: int = 0, **config: object
    ) -> list[int]:
        """Create a topic, on all members unless told otherwise; returns its groups."""
        asked = CreateTopic(
            name=name,
            partitions=partitions,
            replication=replication or len(self.members),
            config=config,
        )
        reply = self.ask(self.leader(0).client(), asked)
        return [partition.group for partition in reply.topic.partitions]

    def contents(self, number: int, gid: int) -> list[bytes | None]:
        """All records of a partition that a member has applied."""
        log = self.members[number].node.partitions[gid].log
        values: list[bytes | None] = []
        at = log.start_offset
        while at < log.end_offset:
            read = log.read(at, 1 << 20)
            if isinstance(read, Memory):
                buffers = read.buffers
            else:
                data = read.file.pread(read.length, read.position)
                buffers = log.finish_read(read, data, at, 1 << 20)
            run = bytearray(b"".join(buffers))
            for place, header in iterate(run):
                batch = RecordBatch(run[place : place + header.length])
                values += list(batch.values)[max(0, at - batch.base_offset) :]
                at = next_offset(run[place : place + header.length], header)
        return values
