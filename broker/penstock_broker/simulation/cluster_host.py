"""One broker of a simulated cluster: the pure node, its disk and clock, and a shell around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from penstock.errors import RemoteProtocolError, StorageFailure
from penstock_broker.node.fetches import ColdRead
from penstock_broker.node.group import Group
from penstock_broker.node.link import Dial
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.simulation.cluster_checks import Watched
from penstock_broker.simulation.cluster_network import DIAL_SECONDS_MAX, End
from penstock_broker.simulation.disk import Crash, DiskFaults, SimDisk
from penstock_broker.storage import Flush, Job, StorageConfig, Store

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

TICK: Final = 0.05
START_US: Final = 1_700_000_000_000_000
READ_AGAIN: Final = 0.02
"""When bytes are looked at again that the node did not take yet."""


@dataclass(eq=False)
class Host:
    """A machine: what is on its disk stays, its process comes and goes."""

    world: ClusterWorld
    number: int
    label: str
    config: StorageConfig
    disk: SimDisk

    def __post_init__(self) -> None:
        self.address = f"host{self.number}:7400"
        self.node: Watched | None = None
        self.paused_until = 0.0
        self.stops_for = 0.0
        """How long its process will stand still inside its next round, before that ends."""
        self.clock_off_us = 0
        self.disk_delay = 0.0005
        self.starts = 0
        self.sessions: dict[int, tuple[Session, End]] = {}
        self._of: dict[End, Session] = {}
        self._flushing = self._working = False

    def __repr__(self) -> str:
        return f"host {self.number}"

    def group(self, gid: int) -> Group | None:
        """A group on it, while it runs."""
        return self.node.groups.get(gid) if self.node is not None else None

    # ----- life

    @property
    def wall_us(self) -> int:
        """What its clock shows."""
        return START_US + int(self.world.now * 1e6) + self.clock_off_us

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self.node is not None:
            return
        self.starts += 1
        self._flushing = self._working = False
        world = self.world
        before, world.acting = world.acting, True
        try:
            uuid = world.random.randbytes(16)
            store = Store.open(self.disk, self.config, fresh_uuid=uuid)
            config = world.node_config(self)
            node = Watched(store, config, Random(world.random.getrandbits(32)))
            node.host = self
            self.node = node
            node.now(self.wall_us, world.now)
            world.prepare(self, node)
            node.start(f"simulated-{world.seed}")
            self._close_round(node)
        except (Crash, StorageFailure) as death:
            self.died(power=True, error=isinstance(death, StorageFailure))
            return
        finally:
            world.acting = before
        world.after(world.random.random() * TICK, partial(self._tick, node))

    def died(self, *, power: bool, error: bool = False, down: float = 0.0) -> None:
        """The process ended; with `power` the machine too. It starts again after a while."""
        world = self.world
        self.node = None
        world.checks.forget(self)
        self.disk.crash(power=power)
        self.disk.faults = DiskFaults()
        counts = world.counts
        counts.crashes += 1
        world.died_at = world.now
        counts.power_cuts += power
        counts.disk_errors += error
        for end in world.network.ends_at(self.number):
            # Without power nobody says goodbye: the other side finds out when we are back.
            if power:
                world.network.drop(end)
                world.after(world.random.random() * 3.0, partial(world.network.send, end, None))
            else:
                world.network.close(end)
        self.sessions.clear()
        self._of.clear()
        world.after(down or world.random.expovariate(2.0), self.start)

    def wipe(self, disk: SimDisk) -> None:
        """Its disk is another one from now on; it must not run."""
        assert self.node is None
        self.disk = disk
        self.world.checks.wiped(self)

    # ----- what happens

    def act(self, node: Node, action: Callable[[], None]) -> None:
        """Run one event as one round of the process, if it is still that one.

        A stopped process does nothing; what came meanwhile is done when it goes on.
        """
        world = self.world
        if node is not self.node:
            return
        if world.now < self.paused_until:
            world.after(self.paused_until - world.now, partial(self.act, node, action))
            return
        before, world.acting = world.acting, True
        try:
            self.node.now(self.wall_us, world.now)
            action()
            if self.stops_for:
                self._stop_inside(node)
            elif self.node is node:
                self._close_round(self.node)
        except (Crash, StorageFailure) as death:
            self.died(power=world.random.random() < 0.5, error=isinstance(death, StorageFailure))
        finally:
            world.acting = before

    def _stop_inside(self, node: Node) -> None:
        """Stand still in the midst of a round; what it has begun is the first to go on."""
        self.paused_until = self.world.now + self.stops_for
        self.world.after(self.stops_for, partial(self.act, node, lambda: None))
        self.stops_for = 0.0

    def _tick(self, node: Watched) -> None:
        if node is self.node:
            self.world.after(TICK, partial(self._tick, node))
            if self.world.now >= self.paused_until:
                self.act(node, lambda: node.tick(self.wall_us, self.world.now))

    def _close_round(self, node: Watched) -> None:
        world = self.world
        node.end_round()
        world.checks.look(self, node)
        store = node.store
        if not self._flushing:
            flush = store.take_flush()
            if flush is not None:
                self._flushing = True
                world.after(self._delay(), partial(self._do, node, flush))
        if not self._working:
            job = store.take_job()
            if job is not None:
                self._working = True
                world.after(self._delay() * 2, partial(self._do, node, job))
        for read in node.take_reads():
            world.after(self._delay(), partial(self._do, node, read))
        for dial in node.dials():
            world.after(0.0, partial(self._dial, node, dial))
        for session in node.take_output():
            self._send(node, session)

    def _delay(self) -> float:
        return self.world.random.expovariate(1 / self.disk_delay)

    def _do(self, node: Watched, job: Job | Flush | ColdRead | SharedRead) -> None:
        self.act(node, partial(self._run, node, job))

    def _run(self, node: Watched, job: Job | Flush | ColdRead | SharedRead) -> None:
        world = self.world
        if world.faulty and world.random.random() < world.swarm.disk_crash:
            self.disk.crash_at = self.disk.steps + world.random.randint(1, 4)
        job.run()
        if isinstance(job, Flush):
            self._flushing = False
        elif isinstance(job, Job):
            self._working = False
        node.job_done(job, None)

    # ----- connections

    def _dial(self, node: Watched, dial: Dial) -> None:
        """Open a connection to another broker, if it is there and can be reached."""
        world = self.world
        if node is not self.node:
            return
        target = world.host_at(dial.address)
        if target is None or world.network.is_cut(self.number, target.number):
            failed = partial(dial.dialer.dial_failed, dial)
            world.after(DIAL_SECONDS_MAX, partial(self.act, node, failed))
        elif target.node is None:
            failed = partial(dial.dialer.dial_failed, dial)
            world.after(0.001, partial(self.act, node, failed))
        else:
            end = world.network.connect(self.number, self, target.number, target)
            target.accept(end.other)
            self.act(node, partial(self._dialed, node, dial, end))

    def _dialed(self, node: Watched, dial: Dial, end: End) -> None:
        if end.closed:
            dial.dialer.dial_failed(dial)
        else:
            dial.dialer.dialed(dial, self._open(node, end))

    def accept(self, end: End) -> None:
        """Somebody connects: the kernel answers, the process hears of it when it runs."""
        node = self.node
        assert node is not None, "nobody listens"

        def accepted() -> None:
            if not end.closed:
                self._open(node, end)
                self.arrived(end)

        self.act(node, accepted)

    def _open(self, node: Watched, end: End) -> Session:
        session = Session(self.world.next_session(), 1, f"place {end.other.place}", self.world.now)
        node.connected(session)
        self.sessions[session.id] = (session, end)
        self._of[end] = session
        return session

    def arrived(self, end: End) -> None:
        """Bytes came."""
        node = self.node
        if node is not None and end in self._of:
            self.act(node, partial(self._receive, node, end))

    def _receive(self, node: Watched, end: End) -> None:
        session = self._of.get(end)
        if session is None or session.closing or not end.inbox:
            return
        if session.readable:
            try:
                data = bytes(end.inbox)
                used, _ = node.receive(session, memoryview(data), len(data), False)
            except RemoteProtocolError:
                self.world.counts.protocol_errors += 1
                self._drop(node, session, end)
                return
            del end.inbox[:used]
        if end.inbox and not session.closing:
            self.world.after(READ_AGAIN, partial(self.arrived, end))

    def _send(self, node: Watched, session: Session) -> None:
        data, session.out = b"".join(session.out), []
        node.sent(session, 0)
        found = self.sessions.get(session.id)
        if found is None:
            return
        if data:
            self.world.network.send(found[1], data)
        if session.closing:
            self._drop(node, session, found[1])

    def _drop(self, node: Watched, session: Session, end: End) -> None:
        """Close a connection from this side."""
        self._forget(session, end)
        node.disconnected(session)
        self.world.network.close(end)

    def _forget(self, session: Session, end: End) -> None:
        self.sessions.pop(session.id, None)
        self._of.pop(end, None)

    def hung_up(self, end: End) -> None:
        """The other side closed."""
        node = self.node
        if node is not None:
            self.act(node, partial(self._hung_up, node, end))

    def _hung_up(self, node: Watched, end: End) -> None:
        session = self._of.get(end)
        if session is not None:
            self._forget(session, end)
            node.disconnected(session)
