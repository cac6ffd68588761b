"""Which brokers to be connected to, and keeping it so.

A `Peer` is a place worth a connection: the seed peer tries the given servers and every node that
the metadata named, in turn; a node peer keeps one node's address. Each runs one process: open,
greet, use until lost, pause with full jitter, again. Invariants: at most one live wire per peer; a
node that the seed peer reached is not connected to twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from penstock._core.events import EventLog
from penstock._core.options import Options
from penstock._core.scheduler import Bell, Operation, Process, Scheduler, Ticket
from penstock._core.wire import Wire, WireState
from penstock._version import __version__
from penstock.errors import (
    ClusterUnformed,
    ConnectionLost,
    PenstockError,
    RemoteProtocolError,
    RetriableError,
    TimedOut,
    UnsupportedVersion,
)
from penstock.protocol.batch import BATCH_BYTES_MAX, Buffer
from penstock.protocol.codec import decode_reply, encode_message
from penstock.protocol.frames import FRAME_HEADER_BYTES, Frame
from penstock.protocol.messages import (
    PROTOCOL_MAGIC,
    VERSION_MAX,
    VERSION_MIN,
    Hello,
    HelloReply,
    Message,
)

Address = tuple[str, int]

UNFORMED_SECONDS: Final = 3.0
"""How long requests go on while all that is reached belongs to no cluster: a person must end it."""
CREDIT_BYTES_MIN: Final = 64 * 1024
PEERS_MAX: Final = 1024


class Reply:
    """A call whose reply is a message."""

    __slots__ = ("deadline", "scheduler", "ticket")

    def __init__(self, scheduler: Scheduler, deadline: float) -> None:
        self.scheduler = scheduler
        self.deadline = deadline
        self.ticket: Ticket[object] = Ticket()

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """Decode the reply."""
        body = memoryview(buffer)[frame.start + FRAME_HEADER_BYTES : frame.end]
        self.scheduler.complete(self.ticket, decode_reply(frame.type, body))

    def refused(self, error: PenstockError) -> None:
        """Pass the error on."""
        self.scheduler.fail(self.ticket, error)

    lost = refused

    def expired(self) -> None:
        """Say that the outcome is unknown."""
        self.refused(TimedOut("the broker did not answer in time; the outcome is unknown"))


class Peer:
    """One place to be connected to, and its present wire."""

    __slots__ = ("bell", "candidates", "failures", "process", "turn", "wire")

    def __init__(self, candidates: Callable[[], Sequence[Address]], bell: Bell, turn: int) -> None:
        self.candidates = candidates
        self.bell = bell
        self.wire: Wire | None = None
        self.process: Process[None] | None = None
        self.failures = 0
        self.turn = turn
        """Which of the candidates is tried next, modulo their number."""


class Pool:
    """All connections of a client."""

    def __init__(self, scheduler: Scheduler, options: Options, events: EventLog) -> None:
        self._scheduler = scheduler
        self._options = options
        self._events = events
        self._peers: dict[int, Peer] = {}
        """Node id -> its peer; 0 is the seed peer."""
        self._addresses: dict[int, Address] = {}
        self.wires: list[Wire] = []
        self.opening: list[Wire] = []
        self.closing: list[Wire] = []
        self.sending: list[Wire] = []
        self.bell = Bell(scheduler)
        """Rings whenever a connection becomes ready or is lost."""
        self.on_change: list[Callable[[Wire], None]] = []
        self.last_error: PenstockError | None = None
        self.cluster = ""
        self._stopped = False
        scheduler.add_sweeper(self._expire)

    def start(self) -> None:
        """Begin with the given servers, at a random one so that clients spread."""
        turn = self._scheduler.rng.randrange(len(self._options.servers))
        self._add_peer(0, self._everywhere, turn)

    def stop(self) -> None:
        """Give up every connection for ever; calls in flight are told."""
        self._stopped = True
        for peer in self._peers.values():
            if peer.process is not None:
                peer.process.cancel()
        for wire in list(self.wires):
            wire.lost(ConnectionLost("the client was closed"))

    def set_addresses(self, addresses: dict[int, Address]) -> None:
        """Take the nodes that the metadata names; connections to vanished ones end."""
        self._addresses = dict(list(addresses.items())[:PEERS_MAX])
        for node in [node for node in self._peers if node and node not in self._addresses]:
            peer = self._peers.pop(node)
            if peer.process is not None:
                peer.process.cancel()
            if peer.wire is not None:
                peer.wire.lost(ConnectionLost("the node left the cluster"))

    def take_sending(self) -> list[Wire]:
        """Connections with output."""
        sending = self.sending.copy()
        self.sending.clear()
        return sending

    def any_wire(self) -> Wire | None:
        """Some ready connection whose broker answers, the seed's first."""
        for peer in self._peers.values():
            wire = peer.wire
            if wire is not None and wire.ready and not wire.doubtful:
                return wire
        return None

    @property
    def several(self) -> bool:
        """Whether more than one broker is known."""
        return len(self._addresses) > 1

    def reach_out(self) -> None:
        """Be connected to all brokers that are known: one of them may have to tell the way."""
        for node in self._addresses:
            self.wire_to(node)

    def wire_to(self, node: int) -> Wire | None:
        """The ready connection to a node; None: one is being made, wait for `bell`."""
        for peer in self._peers.values():
            wire = peer.wire
            if wire is not None and wire.node == node and wire.ready:
                return wire
        if node in self._addresses and node not in self._peers and not self._stopped:
            self._add_peer(node, lambda: (self._addresses[node],))
        return None

    def wire_to_nearest(self, nodes: Sequence[int]) -> Wire | None:
        """The ready connection to the first of the given servers that is one of these nodes."""
        for server in self._options.servers:
            for node in nodes:
                if self._addresses.get(node) == server:
                    wire = self.wire_to(node)
                    if wire is not None and not wire.doubtful:
                        return wire
        return None

    def knows(self, node: int) -> bool:
        """Whether it is known where a node is."""
        return node in self._addresses or self.wire_to(node) is not None

    def shun(self, wire: Wire, error: PenstockError) -> None:
        """A broker can't help: go on to the next one, if there is another."""
        for peer in self._peers.values():
            if peer.wire is wire and len(peer.candidates()) > 1:
                wire.lost(error)

    def no_connection(self) -> RetriableError:
        """The error for a request that found no broker, or none that belongs to a cluster."""
        if isinstance(self.last_error, ClusterUnformed):
            return ClusterUnformed(self.last_error.message)
        servers = ",".join(f"{host}:{port}" for host, port in self._options.servers)
        reason = f" ({self.last_error})" if self.last_error is not None else ""
        error = ConnectionLost(f"no broker could be reached at {servers}{reason}")
        error.__cause__ = self.last_error
        return error

    def backoff(self, attempt: int) -> float:
        """A pause with full jitter; attempts count from 1."""
        ceiling = self._options.backoff_min * 2.0 ** min(attempt - 1, 16)
        return self._scheduler.rng.uniform(0.0, min(self._options.backoff_max, ceiling))

    # ----- one peer

    def _everywhere(self) -> Sequence[Address]:
        known = [each for each in self._addresses.values() if each not in self._options.servers]
        return (*self._options.servers, *known)

    def _add_peer(
        self, node: int, candidates: Callable[[], Sequence[Address]], turn: int = 0
    ) -> None:
        peer = Peer(candidates, Bell(self._scheduler), turn)
        self._peers[node] = peer
        peer.process = self._scheduler.spawn(self._keep(peer), essential=True)

    def _keep(self, peer: Peer) -> Operation[None]:
        while True:
            wire = self._open(peer)
            try:
                yield from self._greet(peer, wire)
            except PenstockError as error:
                wire.lost(error)
            else:
                peer.failures = 0
                while wire.ready:
                    yield peer.bell.wait()
            peer.failures += 1
            self.last_error = wire.error
            # Every address gets its try before the first pause grows.
            attempt = 1 + (peer.failures - 1) // max(1, len(peer.candidates()))
            yield self._scheduler.sleep(self.backoff(attempt))

    def _open(self, peer: Peer) -> Wire:
        candidates = peer.candidates()
        host, port = candidates[peer.turn % len(candidates)]
        peer.turn += 1
        wire = Wire(host, port, self.sending.append, lambda _: self._changed(peer, wire))
        peer.wire = wire
        self.wires.append(wire)
        self.opening.append(wire)
        self._scheduler.request_turn()
        return wire

    def _greet(self, peer: Peer, wire: Wire) -> Operation[None]:
        limit = self._scheduler.now + self._options.connect_timeout
        while wire.state is WireState.OPENING:
            yield peer.bell.wait(limit)
            if wire.state is WireState.OPENING and self._scheduler.now >= limit:
                raise ConnectionLost(f"no connection to {wire.address} in time")
        if wire.error is not None:
            raise wire.error
        hello = Hello(
            magic=PROTOCOL_MAGIC,
            version_min=VERSION_MIN,
            version_max=VERSION_MAX,
            client=self._options.name or f"penstock-python/{__version__}",
        )
        reply = yield self.request(wire, hello, limit)
        if wire.error is not None:
            # It was greeted and lost in one breath: it must not come back to life.
            raise wire.error
        if not isinstance(reply, HelloReply):
            raise RemoteProtocolError("a hello was answered by something else")
        if not VERSION_MIN <= reply.version <= VERSION_MAX:
            raise UnsupportedVersion(f"the broker at {wire.address} speaks {reply.version}")
        if self.cluster and reply.cluster != self.cluster:
            raise RemoteProtocolError(f"the broker at {wire.address} is of another cluster")
        self.cluster = reply.cluster
        self._made_ready(wire, reply)

    def _made_ready(self, wire: Wire, reply: HelloReply) -> None:
        wire.node = reply.node
        wire.credit = max(reply.credit_bytes, CREDIT_BYTES_MIN)
        wire.batch_bytes_max = min(reply.batch_bytes_max, BATCH_BYTES_MAX)
        wire.state = WireState.READY
        self._events.add("connected", address=wire.address, node=wire.node)
        self._tell(wire)

    def _changed(self, peer: Peer, wire: Wire) -> None:
        if wire.state is WireState.LOST:
            if wire.node:
                self._events.add("disconnected", address=wire.address, error=str(wire.error))
            self.wires.remove(wire)
            self.closing.append(wire)
            self._scheduler.request_turn()
            self._tell(wire)
        peer.bell.ring()

    def _tell(self, wire: Wire) -> None:
        for listener in self.on_change:
            listener(wire)
        self.bell.ring()

    # ----- calls

    def request(self, wire: Wire, message: Message, deadline: float) -> Ticket[object]:
        """Send one message; the ticket ends with the reply or with how it failed."""
        call = Reply(self._scheduler, deadline)
        if wire.state is WireState.LOST:
            call.lost(wire.error or self.no_connection())
            return call.ticket
        correlation = wire.expect(call)
        self._scheduler.watch(deadline)
        self.send(wire, encode_message(message, correlation))
        return call.ticket

    def send(self, wire: Wire, *buffers: Buffer) -> None:
        """Queue bytes on a wire and ask for a turn."""
        wire.send(*buffers)
        self._scheduler.request_turn()

    def _expire(self, now: float) -> float:
        silence = self._options.request_timeout
        return min((wire.expire(now, silence) for wire in list(self.wires)), default=float("inf"))
