"""A client core, a fake cluster and virtual time between them: every fault on command."""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from random import Random

from penstock._core.client import ClientCore
from penstock._core.options import Options, parse_servers
from penstock._core.scheduler import Process, Ticket
from penstock._core.sharing.shared_record import SharedBatch, SharedRecord
from penstock._core.sharing.shared_subscription import SharedSubscription
from penstock._core.subscription import Subscription
from penstock._core.wire import Wire
from penstock.errors import ConnectionLost
from tests.client.fake_broker import FakeCluster, FakeConnection

STEPS_MAX = 100_000


class World:
    """One client against a fake cluster.

    Attributes:
        refusing: addresses that refuse connections.
        cut_after: bytes of replies after which the next connection to get there is cut.
        chunk: the largest piece in which bytes arrive.
        stalled: nothing is delivered to the client.
    """

    def __init__(
        self,
        cluster: FakeCluster | None = None,
        *,
        seed: int = 1,
        servers: str = "node1:7400",
        **options: object,
    ) -> None:
        self.cluster = cluster or FakeCluster(t=1)
        self.now = 1000.0
        self.refusing: set[str] = set()
        self.cut_after: int | None = None
        self.chunk = 1 << 20
        self.stalled = False
        self.cuts = 0
        self.signals = 0
        self.links: dict[Wire, FakeConnection] = {}
        made = Options(servers=parse_servers(servers), **options)
        self.core = ClientCore(made, Random(seed), self._signal)
        self.core.set_time(self.now, self.cluster.wall_us)

    def _signal(self) -> None:
        self.signals += 1

    # ----- running

    def connect(self) -> World:
        """Connect, and stay with the world for chaining."""
        self.run(self.core.connect())
        return self

    def start(self, operation: Generator) -> Process:
        """Start an operation and do what can be done without time passing."""
        self.core.set_time(self.now, self.cluster.wall_us)
        process = self.core.start(operation)
        self.settle()
        return process

    def run(self, operation: Generator, limit: float = 120.0) -> object:
        """Carry out an operation, letting as much time pass as it needs."""
        return self.finish(self.start(operation), limit)

    def finish(self, ticket: Ticket, limit: float = 120.0) -> object:
        """Let time pass until a ticket is settled; its result or error."""
        self.settle()
        until = self.now + limit
        while not ticket.done:
            step = min(self.core.next_deadline(), self.cluster.next_deadline())
            assert step < inf, "nothing will ever happen"
            assert step <= until, f"not done after {limit} seconds"
            self.advance(max(0.0, step - self.now))
        return ticket.result()

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that falls due on the way."""
        self.settle()
        until = self.now + seconds
        while True:
            step = min(self.core.next_deadline(), self.cluster.next_deadline(), until)
            passed = max(0.0, step - self.now)
            self.now += passed
            self.cluster.now = self.now
            self.cluster.wall_us += int(passed * 1_000_000)
            self.cluster.wake()
            self.settle()
            if step >= until:
                return

    def settle(self) -> None:
        """Do everything that can be done at this moment."""
        for _ in range(STEPS_MAX):
            self.core.turn(self.now, self.cluster.wall_us)
            if not (self._connections() | self._requests() | self._replies()):
                return
        raise AssertionError("the client never comes to rest")

    def _connections(self) -> bool:
        opening, closing = self.core.take_opening(), self.core.take_closing()
        for wire in opening:
            if wire.address in self.refusing:
                wire.lost(ConnectionLost(f"{wire.address} refuses"))
            else:
                node = int(wire.host.removeprefix("node"))
                self.links[wire] = FakeConnection(self.cluster, node)
                wire.opened()
        for wire in closing:
            self._unlink(wire)
        return bool(opening or closing)

    def _requests(self) -> bool:
        sending = self.core.take_sending()
        for wire in sending:
            output = b"".join(wire.take_output())
            if wire in self.links:
                self.links[wire].receive(output)
        return bool(sending)

    def _replies(self) -> bool:
        if self.stalled:
            return False
        busy = False
        for wire, connection in list(self.links.items()):
            data = connection.take()
            busy |= bool(data)
            self._deliver(wire, data)
        return busy

    def _deliver(self, wire: Wire, data: bytes) -> None:
        cut = self.cut_after is not None and self.cut_after <= len(data)
        if self.cut_after is not None:
            data = data[: self.cut_after] if cut else data
            self.cut_after -= len(data)
        while data and not wire.closing:
            space = wire.space()
            count = min(len(space), len(data), self.chunk)
            space[:count] = data[:count]
            data = data[count:]
            wire.received(count, self.now)
        if cut:
            self.cut_after = None
            self.cut(wire)

    # ----- faults

    def cut(self, wire: Wire) -> None:
        """Break a connection."""
        self.cuts += 1
        self._unlink(wire)
        wire.lost(ConnectionLost("cut"))

    def _unlink(self, wire: Wire) -> None:
        link = self.links.pop(wire, None)
        if link is not None:
            link.closed = True

    def cut_all(self) -> None:
        """Break every connection; what brokers had answered is lost."""
        for wire in list(self.links):
            self.cut(wire)

    def events(self, kind: str) -> list[dict]:
        """The details of the events of a kind so far."""
        return [dict(each.detail) for each in self.core.events.events if each.kind == kind]

    # ----- doing things

    def publish(self, value: bytes, topic: str = "t", **more: object) -> Ticket:
        """Hand over a record; its batch."""
        return self.core.producer.publish(topic, value, **more)

    def subscribe(self, topics: str = "t", **options: object) -> Subscription:
        """Open a subscription."""
        subscription = Subscription(self.core, [topics], **options)
        self.run(subscription.open())
        return subscription

    def share(
        self,
        topics: str = "t",
        kinds: tuple[type[SharedRecord], type[SharedBatch]] = (SharedRecord, SharedBatch),
        **options: object,
    ) -> SharedSubscription:
        """Join a shared group."""
        options.setdefault("group", "g")
        shared = SharedSubscription(self.core, [topics], *kinds, **options)
        self.run(shared.open())
        return shared

    def fetch(self, subscription: Subscription, count: int = 1000, wait: float = 1.0) -> list:
        """The values of the next records."""
        return [record.value for record in self.run(subscription.fetch(count, wait))]

    def take(
        self, shared: SharedSubscription, count: int = 100, wait: float = 1.0
    ) -> list[SharedRecord]:
        """The next records of a shared group."""
        found: list[SharedRecord] = []
        self.run(shared.fetch(count, wait, found))
        return found
