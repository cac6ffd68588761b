"""The reactor: every socket in one epoll, served in rounds of plain synchronous calls.

A round reads each ready connection once, hands whole frames to the node, lets the node close the
round (propose, commit, reply), hands one flush to the committer thread, then sends one gathered
write per connection. A small flush is waited for, a moment at most, so that its acknowledgments
leave in the round that brought it. There is no `await` inside a round, so a round is atomic and
cancellation cannot split it. Level-triggered and one read per connection and round: no connection
starves another.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from typing import Final

import trio

from penstock.errors import (
    ProtocolError,
    RemoteProtocolError,
    StorageFailure,
    Throttled,
)
from penstock_broker.node import due
from penstock_broker.node.link import Dial
from penstock_broker.node.node import Node
from penstock_broker.node.session import OUTPUT_BYTES_TOTAL_MAX, Session
from penstock_broker.runtime.clock import Clock
from penstock_broker.runtime.connection import Connection, Intake
from penstock_broker.runtime.dialing import Dialing
from penstock_broker.runtime.disk import Disk, Fatal
from penstock_broker.runtime.watchdog import SLOW_ROUND_SECONDS, Watchdog

SCRATCH_BYTES: Final = 1024 * 1024
EVENTS_PER_ROUND: Final = 256
ROUNDS_IN_A_ROW: Final = 8
"""Rounds, while there is something to do, before trio's other tasks have their turn."""
TICK_SECONDS: Final = 0.02
TICK_SECONDS_MIN: Final = 0.001
IDLE_TICK_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 1.0
UNCOMMITTED_BYTES_MAX: Final = 64 * 1024 * 1024
UNFLUSHED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes for the disk beyond which other brokers are not read: what was acknowledged elsewhere
does not count, or two brokers could wait for each other."""
CONNECTIONS_MAX: Final = 10_000
RESERVED_CONNECTIONS: Final = 64
"""Beyond that limit, for other brokers: clients that take all the rest keep no cluster apart."""
CLOSE_SECONDS_MAX: Final = 5.0

log = logging.getLogger("penstock.broker.reactor")


class Reactor:
    """Feeds one node from sockets, worker threads and the clock."""

    def __init__(self, node: Node, clock: Clock, connections_max: int = CONNECTIONS_MAX) -> None:
        self.node = node
        self.connections_max = connections_max
        self._refused = 0
        self.clock = clock
        self.connections: dict[int, Connection] = {}
        self.ready = trio.Event()
        """Every group here has a leader."""
        self.drained = trio.Event()
        """After `drain`: nothing is under way any more."""
        self.expelled = trio.Event()
        """This broker takes part in its cluster no more (`node.membership.removed`)."""
        self.rounds = 0
        self.round_seconds_max = 0.0
        self.intake = Intake()
        node.shell_figures = self._figures
        self._closing: dict[Connection, float] = {}
        """Connections that end when their output is sent, and since when."""
        self._paused: dict[int, Connection] = {}
        """Not read until what they have sent and not taken is less."""
        self._put_off: dict[int, Connection] = {}
        """With requests that are here and come in the next round."""
        self._check_at = 0.0
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._epoll = select.epoll()
        self._disk = Disk(node, self._epoll)
        self._workers = self._disk.workers
        self._watchdog = Watchdog(node, self._disk.committer)
        self._dialing = Dialing(self._epoll, self._dialed)
        self._next_session = 1
        self._awaited = True
        """Somebody waits for `ready` or `drained`."""

    # ----- life

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            Fatal: the disk failed, or an invariant is broken.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick_for_ever)
            while True:
                if self._put_off or self.node.eager:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._rounds()

    async def _tick_for_ever(self) -> None:
        while True:
            await trio.sleep(self._pause())
            self.tick()

    def _pause(self) -> float:
        """Seconds to the next tick: it comes sooner for what is due before the usual one."""
        node = self.node
        if node.at_rest:
            return IDLE_TICK_SECONDS
        seconds = node.clock + due.seconds_to_shared(node) - self.clock.monotonic()
        return max(TICK_SECONDS_MIN, min(seconds, TICK_SECONDS))

    def tick(self) -> None:
        """Do what has come due.

        Raises:
            Fatal: the disk failed.
        """
        try:
            self.node.tick(self.clock.wall_us(), self.clock.monotonic())
        except StorageFailure as error:
            raise Fatal(str(error)) from error
        if self.clock.monotonic() >= self._check_at:
            self._check_at = self.clock.monotonic() + CHECK_SECONDS
            self._end_the_late()
            self._watchdog.look_for_backlog()
            self._tell_refused()
        if self.node.membership.removed is not None:
            self.expelled.set()
        self._dial()
        self._watchdog.look()
        self._close_round()

    def _dial(self) -> None:
        """Open the connections that the node wants."""
        now = self.node.clock
        for dial in self.node.dials():
            self._dialing.begin(dial, now)
        self._dialing.give_up_late(now)

    def _dialed(self, dial: Dial, sock: socket.socket | None) -> None:
        if sock is None:
            dial.dialer.dial_failed(dial)
        else:
            dial.dialer.dialed(dial, self._serve(sock, dial.address))

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way: what waits now waits for input, or for time to pass."""
        node = self.node
        if self._disk.busy or node.pending or node.uncommitted_bytes:
            return False
        if self._put_off or self.intake.waiting:
            return False
        return not self._epoll.poll(0, 1)

    def _end_the_late(self) -> None:
        now = self.clock.monotonic()
        for connection in self.intake.late(now):
            connection.forget_partial()
            late = RemoteProtocolError("a request took too long to arrive")
            self.node.refuse(connection.session, late)
        for connection, since in list(self._closing.items()):
            if now - since > CLOSE_SECONDS_MAX:
                self._drop(connection)
        for connection in [c for c in self.connections.values() if c.stuck(now)]:
            self._give_up(connection, "it takes nothing of what is sent")

    def _tell_refused(self) -> None:
        """One line a second, however many try."""
        if self._refused:
            figures = {"count": self._refused, "limit": self.connections_max}
            log.warning("connections refused", extra=figures)
            self._refused = 0

    def _give_up(self, connection: Connection, reason: str) -> None:
        peer = connection.session.peer
        log.warning("connection closed", extra={"peer": peer, "reason": reason})
        self._drop(connection)

    def _figures(self) -> dict[str, object]:
        times = os.times()
        return {
            "pid": os.getpid(),
            "cpu_seconds": round(times.user + times.system, 2),
            "rounds": self.rounds,
            "longest_round_ms": round(self.round_seconds_max * 1000, 3),
            "slow_rounds": self._watchdog.slow_rounds,
            "disk_stalls": self._watchdog.disk_stalls,
            "paused_connections": len(self._paused),
            "unfinished_request_bytes": self.intake.promised_bytes,
        }

    def add(self, sock: socket.socket, peer: str) -> None:
        """Serve an accepted connection; one too many is closed, at once or after its hello."""
        beyond = len(self.connections) - self.connections_max
        if beyond >= (RESERVED_CONNECTIONS if self.node.peers.all() else 0):
            self._refused += 1
            sock.close()
            return
        sock.setblocking(False)
        self._serve(sock, peer).reserved = beyond >= 0

    def _serve(self, sock: socket.socket, peer: str) -> Session:
        session = Session(self._next_session, sock.fileno(), peer, self.clock.monotonic())
        self._next_session += 1
        connection = Connection(sock, session, self.node, self.intake)
        connection.watched = select.EPOLLIN
        self.connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.node.connected(session)
        return session

    def close(self) -> bool:
        """Close every socket and end the threads; False: the disk hangs, and a thread with it."""
        for connection in list(self.connections.values()):
            self._drop(connection)
        self._dialing.close()
        ended = self._disk.close()
        self._epoll.close()
        return ended

    # ----- one round

    def _rounds(self) -> None:
        """Go on while there is something to do: a wait for it costs as much as a small round."""
        for _ in range(ROUNDS_IN_A_ROW):
            self.round()
            if not self._more_comes():
                return

    def _more_comes(self) -> bool:
        """Whether another round follows at once, maybe after a moment of waiting for publishes."""
        seconds = self.node.gathering.seconds_left(self.clock.monotonic())
        if seconds:
            select.select([self._epoll], (), (), seconds)
            return True
        return bool(self._epoll.poll(0, 1))

    def round(self) -> None:
        """Serve everything that is ready now."""
        began = self.clock.monotonic()
        self.node.now(self.clock.wall_us(), began)
        if self._put_off:
            self._read_put_off()
        for fd, mask in self._epoll.poll(0, EVENTS_PER_ROUND):
            connection = self.connections.get(fd)
            if connection is None:
                worker = self._workers.get(fd)
                if worker is not None:
                    self._disk.take_finished(worker)
                else:
                    self._dialing.ready(fd, began)
                continue
            if mask & select.EPOLLOUT:
                self._send(connection, [])
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(connection)
        self._close_round()
        self.rounds += 1
        took = self.clock.monotonic() - began
        if took > self.round_seconds_max:
            self.round_seconds_max = took
        if took > SLOW_ROUND_SECONDS:
            self._watchdog.round_took(took)

    def _read_put_off(self) -> None:
        """Serve requests that waited; who gets no turn now is the first in the next round."""
        waiting, self._put_off = list(self._put_off.values()), {}
        for number, connection in enumerate(waiting):
            if self.node.round_full:
                rest = {other.session.id: other for other in waiting[number:]}
                self._put_off = {**rest, **self._put_off}
                return
            self._read(connection)

    def _close_round(self) -> None:
        self.node.end_round()
        self._send_queued(self.node.take_peer_output())  # others write while our disk does
        self._disk.commit()
        self._disk.submit_jobs()
        self._send_output()
        if self._awaited:
            self._tell()

    def _tell(self) -> None:
        node = self.node
        if node.ready:
            self.ready.set()
            self._awaited = False
        if node.draining or node.hand_over.under_way:
            self._awaited = True
        if node.draining and node.drained and not self._disk.writing:
            self.drained.set()

    def drain(self) -> None:
        """Refuse new work; `drained` is set when what is under way is done."""
        self.node.drain()
        self._awaited = True

    def _read(self, connection: Connection) -> None:
        session = connection.session
        try:
            connection.receive(self._scratch)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._drop(connection)
            return
        except (ProtocolError, Throttled) as error:
            log.info("connection closed", extra={"peer": session.peer, "reason": str(error)})
            self.node.refuse(session, error)
            return
        if not session.readable or self._must_wait(session, 1):
            self._paused[session.id] = connection
            self._watch(connection)
        elif connection.put_off:
            self._put_off[session.id] = connection

    # ----- output

    def _send_output(self) -> None:
        if self.node.granted:
            self.node.now(self.clock.wall_us(), self.clock.monotonic())
        self._send_queued(self.node.take_output())
        if self.node.output_bytes > OUTPUT_BYTES_TOTAL_MAX:
            self._give_up_slowest()
        if self._paused:
            self._resume()

    def _send_queued(self, sessions: list[Session]) -> None:
        for session in sessions:
            connection = self._connection_of(session)
            if connection is not None:
                buffers, session.out = session.out, []
                self._send(connection, buffers)

    def _give_up_slowest(self) -> None:
        """Make room for the others' replies."""
        clients = [c for c in self.connections.values() if c.session.link is None]
        slowest = sorted(clients, key=lambda c: c.session.unsent_bytes)
        while slowest and self.node.output_bytes > OUTPUT_BYTES_TOTAL_MAX:
            self._give_up(slowest.pop(), "it takes its replies too slowly")

    def _connection_of(self, session: Session) -> Connection | None:
        connection = self.connections.get(session.fd)
        return connection if connection is not None and connection.session is session else None

    def _send(self, connection: Connection, buffers: list[bytes | bytearray | memoryview]) -> None:
        session = connection.session
        try:
            unsent = connection.send(buffers)
        except OSError:
            self._drop(connection)
            return
        self.node.sent(session, unsent)
        if not unsent and not session.closing and connection.watched == select.EPOLLIN:
            return
        if session.closing and not unsent:
            self._drop(connection)
        elif session.closing:
            self._closing.setdefault(connection, self.clock.monotonic())
            self._watch(connection)
        else:
            self._watch(connection)

    def _must_wait(self, session: Session, part: int) -> bool:
        """Whether it brings more than the disk, or the commit, can take in at the moment.

        Of the limits a part counts: who waits goes on when there is some room again.
        """
        store = self.node.store
        if session.link is not None:
            unflushed = store.wal.pending_bytes > UNFLUSHED_BYTES_MAX // part
            return session.link.bulky and (unflushed or store.behind)
        if not session.publishes:
            return False
        return self.node.uncommitted_bytes > UNCOMMITTED_BYTES_MAX // part or store.behind

    def _resume(self) -> None:
        for session_id, connection in list(self._paused.items()):
            session = connection.session
            if session.readable and not self._must_wait(session, 2):
                del self._paused[session_id]
                self._watch(connection)
                if connection.put_off:
                    self._put_off[session_id] = connection

    def _watch(self, connection: Connection) -> None:
        session = connection.session
        want = 0 if session.closing or session.id in self._paused else select.EPOLLIN
        if connection.has_unsent:
            want |= select.EPOLLOUT
        if want != connection.watched:
            connection.watched = want
            self._epoll.modify(connection.sock.fileno(), want)

    def _drop(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if fd < 0 or self.connections.pop(fd, None) is None:
            return
        self._paused.pop(connection.session.id, None)
        self._put_off.pop(connection.session.id, None)
        self._closing.pop(connection, None)
        connection.forget_partial()
        self._epoll.unregister(fd)
        connection.sock.close()
        self.node.disconnected(connection.session)
