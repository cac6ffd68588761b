"""A rolling restart of the brokers of one machine: one after the other, none while copies lack.

Each member is told to end, is started again by the supervisor, and must be well, with the whole
cluster, before the next one is told. Invariant: at most one member is away because of it; what
keeps it longer than `MEMBER_SECONDS_MAX` ends it, with the rest as they are.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from penstock.errors import PenstockError
from penstock.protocol.cluster import ClusterStatus, ClusterStatusReply
from penstock.protocol.connection import Connection, Role
from penstock.protocol.events import Event, Failed, Reply, Request
from penstock_broker.runtime.places import place_of

ANSWER_SECONDS_MAX: Final = 1.0
"""A broker that takes longer to answer is not well."""
LOOK_SECONDS: Final = 0.5
WELL_LOOKS: Final = 3
"""So many looks in a row must find all well."""
MEMBER_SECONDS_MAX: Final = 600.0
"""For one member, from when it is its turn until all is well again."""

log = logging.getLogger("penstock.supervisor")


class Restartable(Protocol):
    """A member, as far as this is concerned."""

    number: int
    starts: int
    code: int | None

    @property
    def address(self) -> str:
        """Where it answers."""


class Rolling:
    """One rolling restart.

    Attributes:
        over: whether it is done, or was given up.
    """

    def __init__(
        self, members: Sequence[Restartable], now: float, ask: Callable[[str], str] | None = None
    ) -> None:
        self.over = False
        self._waiting = deque(members)
        self._turn = members[0]
        self._starts = -1
        """How often the member was started when it was told to end."""
        self._ask = ask or complaint
        self._until = now + MEMBER_SECONDS_MAX
        self._look_at = now
        self._well = 0
        self._said = ""

    def step(self, now: float) -> int | None:
        """Number of the member that is to be told now to end; it is started again when it has."""
        if self.over or now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        reason = self._reason()
        self._well = 0 if reason else self._well + 1
        if reason and now >= self._until:
            self.over = True
            log.error("the rolling restart is given up", extra={"reason": reason})
        if reason and reason != self._said and not self.over:
            log.info("the rolling restart waits", extra={"reason": reason})
        self._said = reason
        if self._well < WELL_LOOKS:
            return None
        if not self._waiting:
            self.over = True
            log.info("the rolling restart is done")
            return None
        self._turn, self._well = self._waiting.popleft(), 0
        self._starts, self._until = self._turn.starts, now + MEMBER_SECONDS_MAX
        log.info("a member is restarted", extra={"member": self._turn.number})
        return self._turn.number

    def _reason(self) -> str:
        """Why the next member can't be told yet."""
        if self._turn.code is not None or self._turn.starts <= self._starts:
            return f"member {self._turn.number} is not back"
        return self._ask(self._turn.address)


def complaint(address: str) -> str:
    """What a broker says is wrong with its cluster; empty: nothing, or it belongs to none yet."""
    try:
        status = _status(address)
    except (OSError, PenstockError) as error:
        return f"{address}: {error}"
    return trouble(status)


def trouble(status: ClusterStatusReply) -> str:
    """Why a cluster should lose no broker now; empty: nothing speaks against it."""
    if not status.cluster:
        return ""
    away = [n.id for n in status.nodes if n.state in ("active", "draining") and not n.alive]
    if away:
        return f"node {away[0]} is not heard of"
    if not status.metadata.leader:
        return "the metadata has no leader"
    missing = set(status.metadata.voters) - {n.id for n in status.nodes if n.alive}
    if missing:
        return f"the metadata counts on node {min(missing)}, which is gone"
    if status.leaderless:
        return f"{status.leaderless} partitions have no leader"
    if status.under_replicated:
        return f"{status.under_replicated} partitions lack a copy"
    return ""


def _status(address: str) -> ClusterStatusReply:
    """Ask a broker how its cluster is.

    Raises:
        OSError, PenstockError: it does not say.
    """
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    with socket.create_connection(place_of(address), ANSWER_SECONDS_MAX) as sock:
        connection = Connection(Role.CLIENT)
        sock.sendall(connection.send(Request(1, connection.hello("supervisor"))))
        _reply(sock, connection, deadline)
        sock.sendall(connection.send(Request(2, ClusterStatus())))
        reply = _reply(sock, connection, deadline)
    if isinstance(reply, Reply) and isinstance(reply.message, ClusterStatusReply):
        return reply.message
    raise reply.error if isinstance(reply, Failed) else ConnectionError("no answer")


def _reply(sock: socket.socket, connection: Connection, deadline: float) -> Event:
    while True:
        event = connection.next_event()
        if isinstance(event, Event):
            return event
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        connection.receive_data(sock.recv(65_536))
