"""Pure nodes that are told to join each other, and the connections that they ask for."""

from __future__ import annotations

from random import Random
from typing import Any

from penstock_broker.node.config import NodeConfig
from penstock_broker.node.link import Dial
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig, Store
from tests.node.harness import START_US, Client


class Joiner:
    """One node, as `Client` sees a harness."""

    def __init__(self, world: World, name: str, join: list[str]) -> None:
        self.world = world
        self.name = name
        self.join = join
        self.files = MemoryFiles()
        self.sessions = 0
        self.jobs_left = 1_000_000
        """Pieces of disk work until the disk stands still."""
        self.feature_max = 1
        self.open()

    def open(self) -> None:
        """Start the node on what it left."""
        uuid = self.name.encode().ljust(16, b".")
        store = Store.open(self.files, StorageConfig(wal_file_bytes=1 << 20), fresh_uuid=uuid)
        config = NodeConfig(
            self.name,
            "test",
            host=f"host-{self.name}",
            join=self.join,
            feature_max=self.feature_max,
        )
        self.node = Node(store, config, Random(self.name))
        self.node.now(self.world.wall_us, self.world.clock)
        self.node.start(f"cluster-of-{self.name}")

    @property
    def clock(self) -> float:
        return self.world.clock

    def pump(self) -> None:
        self.world.pump()

    def client(self) -> Client:
        return Client(self)  # type: ignore[arg-type]  # it has what a client needs

    def work(self) -> bool:
        """One round: whether there was anything to do."""
        node = self.node
        node.end_round()
        job: Any = None
        if self.jobs_left:
            job = node.store.take_flush() or node.store.take_job()
        if job is not None:
            self.jobs_left -= 1
            job.run()
            node.job_done(job, None)
        node.end_round()
        return job is not None


class World:
    """Joiners by name; a name is an address."""

    def __init__(self, *names: str, join: list[str] | None = None) -> None:
        self.clock, self.wall_us = 10.0, START_US
        self.wires: list[tuple[Joiner, Session, Joiner, Session]] = []
        self.nodes: dict[str, Joiner] = {}
        self.join = list(names) if join is None else join
        for name in names:
            self.start(name)

    def start(self, name: str) -> Joiner:
        """Start a new node."""
        self.nodes[name] = Joiner(self, name, self.join)
        return self.nodes[name]

    def kill(self, name: str) -> None:
        """Its process ends."""
        gone = self.nodes.pop(name)
        gone.node.store.close()
        for wire in [wire for wire in self.wires if gone in (wire[0], wire[2])]:
            self._hang_up(wire)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.05)):
            self.clock += 0.05
            self.wall_us += 50_000
            for joiner in list(self.nodes.values()):
                joiner.node.tick(self.wall_us, self.clock)
            self.pump()

    def pump(self) -> None:
        """Carry everything to where it goes, until nothing is left."""
        for _ in range(1000):
            busy = [joiner.work() for joiner in self.nodes.values()]
            for joiner in list(self.nodes.values()):
                for dial in joiner.node.dials():
                    self._connect(joiner, dial)
                    busy.append(True)
            busy += [self._carry(wire) for wire in list(self.wires)]
            if not any(busy):
                return
        raise AssertionError("the nodes never come to rest")

    def _connect(self, joiner: Joiner, dial: Dial) -> None:
        other = self.nodes.get(dial.address)
        if other is None:
            dial.dialer.dial_failed(dial)
            return
        ends = []
        for end in (joiner, other):
            end.sessions += 1
            session = Session(1000 + end.sessions, 1000 + end.sessions, "peer", self.clock)
            end.node.connected(session)
            ends.append(session)
        self.wires.append((joiner, ends[0], other, ends[1]))
        dial.dialer.dialed(dial, ends[0])

    def _carry(self, wire: tuple[Joiner, Session, Joiner, Session]) -> bool:
        one, here, other, there = wire
        moved = False
        for sender, source, receiver, target in (
            (one, here, other, there),
            (other, there, one, here),
        ):
            data, source.out = b"".join(source.out), []
            sender.node.sent(source, 0)
            if data and not target.closing:
                receiver.node.receive(target, memoryview(data), len(data), False)
                moved = True
        if (here.closing or there.closing) and wire in self.wires:
            self._hang_up(wire)
        for joiner in (one, other):
            joiner.node.take_output()
        return moved

    def _hang_up(self, wire: tuple[Joiner, Session, Joiner, Session]) -> None:
        self.wires.remove(wire)
        one, here, other, there = wire
        one.node.disconnected(here)
        other.node.disconnected(there)
