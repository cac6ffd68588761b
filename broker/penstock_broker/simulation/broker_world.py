"""One whole broker in virtual time: the pure node, a faulty disk, clients that lose connections.

One seed decides everything: how long jobs take, when the process dies (also inside a disk call),
what the power cut leaves, which connections break, what clients do. The world's truth is what
clients were told. It is compared after each event where that is cheap, and completely after each
start and at the end; after the faults stop everything must drain.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from random import Random
from struct import Struct
from zlib import crc32

from penstock.errors import StorageFailure
from penstock.protocol import frames
from penstock.protocol.messages import CreateTopic, CreateTopicReply
from penstock.protocol.records import RecordBatch
from penstock_broker.node.config import NodeConfig
from penstock_broker.node.fetches import ColdRead
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.simulation.broker_clients import Client, Link, Member, Producer, Reader
from penstock_broker.simulation.broker_truth import Truth
from penstock_broker.simulation.disk import Crash, DiskFaults, SimDisk
from penstock_broker.storage import Flush, Job, StorageConfig, Store

START_US = 1_700_000_000_000_000
TICK = 0.02
PARTITIONS = 2
EVENTS_MAX = 200_000
_TIME = Struct("<d")


@dataclass(slots=True)
class Counts:
    """What happened, over all seeds."""

    events: int = 0
    starts: int = 0
    crashes: int = 0
    power_cuts: int = 0
    disk_errors: int = 0
    disconnects: int = 0
    acked_batches: int = 0
    duplicates: int = 0
    records_checked: int = 0
    commits: int = 0
    digest: int = 0
    """Of all that was sent, and when: the same for a seed wherever it is run."""

    def add(self, other: Counts) -> None:
        """Sum up."""
        for field in fields(other):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class World:
    """A broker and its clients for one seed."""

    drain_seconds = 60.0
    """Within so much virtual time everything must be drained once the faults have stopped."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.counts = Counts()
        self.now = 0.0
        self.truth = Truth(self.counts)
        self.disk = SimDisk(seed)
        self.node: Node | None = None
        self.links: list[Link] = []
        self.groups: list[int] = []
        self.faulty = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._sessions = 0
        self._arrivals: dict[int, float] = {}
        self._flushing = self._working = False
        pick = self.random.choice
        self._disk_delay = pick((0.0002, 0.002, 0.03))
        self._crash_every = pick((0.3, 1.0, 4.0))
        self._config = StorageConfig(
            wal_file_bytes=pick((32 << 10, 128 << 10)),
            segment_bytes=pick((8 << 10, 64 << 10)),
            tail_bytes_max=pick((4 << 10, 1 << 20)),
            write_bytes=pick((1 << 10, 64 << 10)),
            index_interval_bytes=1024,
            checkpoint_rewrite_bytes=16 << 10,
            reserve_bytes=0,
        )
        self._clients = [Producer(self, number) for number in range(pick((1, 3)))]
        self._readers = [Reader(self, number) for number in range(2)]
        self._members = [Member(self, number) for number in range(pick((0, 1, 3)))]

    # ----- time

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._at(self.now + delay, action)

    def _at(self, time: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, action))

    @property
    def wall_us(self) -> int:
        """The wall clock that the broker sees."""
        return START_US + int(self.now * 1e6)

    def run(self, seconds: float = 8.0) -> None:
        """Run with faults, then without until all is drained; check everything."""
        self._start()
        self._create_topic()
        self.faulty = True
        for client in self._all_clients():
            client.begin()
        self.after(TICK, self._tick)
        self.after(self.random.expovariate(1 / self._crash_every), self._crash)
        self._advance(lambda: self.now > seconds)
        self.faulty = False
        self.disk.faults = DiskFaults()
        for stopping in self._all_clients():
            stopping.stop()
        end = self.now + self.drain_seconds
        self._advance(lambda: self._drained() or self.now > end)
        assert self._drained(), f"not drained: {[str(client) for client in self._all_clients()]}"
        self._read_all()

    def _all_clients(self) -> list[Client]:
        return [*self._clients, *self._readers, *self._members]

    def _advance(self, done: Callable[[], bool]) -> None:
        while not done():
            self.now, _, action = heapq.heappop(self._events)
            self.counts.events += 1
            assert self.counts.events < EVENTS_MAX, "the world never comes to rest"
            self._act(action)

    def _act(self, action: Callable[[], None]) -> None:
        """Run one event as one round of the broker, which may die in it."""
        try:
            if self.node is not None:
                self.node.now(self.wall_us, self.now)
            action()
            if self.node is not None:
                self._close_round(self.node)
        except (Crash, StorageFailure) as death:
            self._died(power=self.random.random() < 0.5, error=isinstance(death, StorageFailure))

    # ----- the broker's shell

    def _start(self) -> None:
        while self.node is None:
            self.counts.starts += 1
            try:
                uuid = self.random.randbytes(16)
                store = Store.open(self.disk, self._config, fresh_uuid=uuid)
                node = Node(store, NodeConfig("sim", "sim"), Random(self.random.random()))
                node.now(self.wall_us, self.now)
                node.start("simulated")
                self.node = node
                self._flushing = self._working = False
                self._settle(node)
            except (Crash, StorageFailure) as death:
                self.node = None
                self._count_death(power=True, error=isinstance(death, StorageFailure))
        if self.groups:
            self._read_all()

    def _settle(self, node: Node) -> None:
        """Run flushes at once until the broker has its leaders."""
        while not node.ready:
            node.end_round()
            flush = node.store.take_flush()
            assert flush is not None or node.ready, "the broker starts"
            if flush is not None:
                flush.run()
                node.job_done(flush, None)

    def _create_topic(self) -> None:
        link = Link(self, lambda: None)
        link.ask(CreateTopic(name="t", partitions=PARTITIONS), lambda reply: self._created(reply))
        self._advance(lambda: bool(self.groups))

    def _created(self, reply: CreateTopicReply) -> None:
        self.groups = [partition.group for partition in reply.topic.partitions]

    def _close_round(self, node: Node) -> None:
        node.end_round()
        if not self._flushing:
            flush = node.store.take_flush()
            if flush is not None:
                self._flushing = True
                self.after(self._delay(), lambda: self._run(node, flush))
        if not self._working:
            job = node.store.take_job()
            if job is not None:
                self._working = True
                self.after(self._delay() * 3, lambda: self._run(node, job))
        for read in node.take_reads():
            self.after(self._delay(), partial(self._run, node, read))
        for session in node.take_output():
            self._deliver(session)

    def _delay(self) -> float:
        return self.random.expovariate(1 / self._disk_delay)

    def _run(self, node: Node, job: Job | ColdRead | SharedRead) -> None:
        if node is not self.node:
            return
        if self.faulty and self.random.random() < 0.01:
            self.disk.crash_at = self.disk.steps + self.random.randint(1, 4)
        job.run()
        if isinstance(job, Flush):
            self._flushing = False
        elif isinstance(job, Job):
            self._working = False
        node.job_done(job, None)

    def _deliver(self, session: Session) -> None:
        data, session.out = b"".join(session.out), []
        if self.node is not None:
            self.node.sent(session, 0)
        link = next((link for link in self.links if link.session is session), None)
        self._note(data)
        if link is not None:
            self._at(self._arrival(-session.id), lambda: link.arrived(session, data))

    def _tick(self) -> None:
        self.after(TICK, self._tick)
        if self.node is not None:
            self.node.tick(self.wall_us, self.now)

    # ----- faults

    def _crash(self) -> None:
        if not self.faulty:
            return
        self.after(self.random.expovariate(1 / self._crash_every), self._crash)
        if self.random.random() < 0.2:
            self.disk.faults = DiskFaults(sync_error=0.1, write_error=0.05)
            return  # the next failing sync or write ends the process
        self._died(power=self.random.random() < 0.6, error=False)

    def _died(self, *, power: bool, error: bool) -> None:
        self.node = None
        self._count_death(power=power, error=error)
        for link in list(self.links):
            link.broke()
        self.after(self.random.random() * 0.2, self._start)

    def _count_death(self, *, power: bool, error: bool) -> None:
        self.disk.crash(power=power)
        self.disk.faults = DiskFaults()
        self.counts.crashes += 1
        self.counts.power_cuts += power
        self.counts.disk_errors += error

    # ----- connections

    def connect(self, link: Link) -> Session | None:
        """Open a connection; None while the broker is down."""
        if self.node is None:
            return None
        self._sessions += 1
        session = Session(self._sessions, self._sessions, "sim", self.now)
        self.node.connected(session)
        self.links.append(link)
        return session

    def disconnect(self, link: Link) -> None:
        """Forget a connection."""
        if link in self.links:
            self.links.remove(link)
            if self.node is not None and link.session is not None:
                self.node.disconnected(link.session)

    def transmit(self, session: Session, data: bytes) -> None:
        """Bytes reach the broker after a while, in order, unless the connection is gone by then."""
        self._note(data)
        self._at(self._arrival(session.id), lambda: self._received(session, data))

    def _note(self, data: bytes) -> None:
        sent = crc32(_TIME.pack(self.now), self.counts.digest)
        self.counts.digest = crc32(data, sent)

    def _arrival(self, way: int) -> float:
        """When bytes arrive on one way of a connection; they don't overtake each other."""
        arrival = max(self._arrivals.get(way, 0.0), self.now + self.random.expovariate(2000))
        self._arrivals[way] = arrival
        return arrival

    def _received(self, session: Session, data: bytes) -> None:
        if self.node is None or session.id not in self.node.sessions or session.closing:
            return
        used, _ = self.node.receive(session, memoryview(data), len(data), False)
        assert used == len(data), "whole frames are sent"

    # ----- checks

    def _drained(self) -> bool:
        return (
            self.node is not None
            and all(client.idle for client in self._clients)
            and all(reader.caught_up for reader in self._readers)
        )

    def slots_of(self, values: list[bytes]) -> list[int] | None:
        """The key slots that producers write beside their values; None: none."""
        return None

    def end_offset(self, partition: int) -> int:
        """The end of a partition's log."""
        assert self.node is not None
        return self.node.partitions[self.groups[partition]].log.end_offset

    def _read_all(self) -> None:
        """Read every partition from its start: all that was acknowledged is there, once."""
        assert self.node is not None
        for partition, group in enumerate(self.groups):
            values = read_partition(self.node, group)
            self.truth.check_partition(partition, values)


def read_partition(node: Node, group: int) -> list[tuple[int, bytes]]:
    """Every record of a partition, through fetches."""
    session = Session(-1, -1, "check", 0.0)
    session.ready = True
    found: list[tuple[int, bytes]] = []
    offset = 0
    while True:
        data = frames.fetch_request(1, group, offset, 1 << 20, 0, 0)
        node.receive(session, memoryview(data), len(data), False)
        for read in node.take_reads():
            read.run()
            node.job_done(read, None)
        reply, session.out, session.queued = b"".join(session.out), [], False
        node.sent(session, 0)
        assert not reply[5] & frames.FLAG_ERROR, f"reading back: {reply[16:]!r}"
        records = records_of(reply, offset)
        if not records:
            return found
        found += records
        offset = records[-1][0] + 1


def records_of(reply: bytes, offset: int) -> list[tuple[int, bytes]]:
    """The records of a fetch reply from an offset on."""
    found: list[tuple[int, bytes]] = []
    at = frames.REPLY_BYTES
    while at < len(reply):
        length = int.from_bytes(reply[at + 4 : at + 8], "little")
        batch = RecordBatch(bytearray(reply[at : at + length]))
        for number, value in enumerate(batch.values, batch.base_offset):
            if number >= offset:
                assert value is not None
                found.append((number, value))
        at += length
    return found
