"""The broker as one state machine: what the runtime and the simulation drive."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import tzinfo
from random import Random
from typing import Final

from penstock.errors import PenstockError
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import encode_error, encode_message
from penstock.protocol.messages import Message
from penstock_broker.machine.commands import Command
from penstock_broker.node import fetches, hello, link, receiving, requests
from penstock_broker.node.agreement import Agreement
from penstock_broker.node.asking import Asking
from penstock_broker.node.catchup.catchup import CatchUp
from penstock_broker.node.catchup.waits import Waits
from penstock_broker.node.checkpoints import Checkpoints
from penstock_broker.node.config import CATCHING_UP, NodeConfig
from penstock_broker.node.deliveries import Abroad
from penstock_broker.node.fetches import ColdRead
from penstock_broker.node.gathering import Gathering
from penstock_broker.node.group import Group
from penstock_broker.node.groups import Groups
from penstock_broker.node.handover import HandOver
from penstock_broker.node.link import Dial
from penstock_broker.node.membership import Membership
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.peers.peers import Peers
from penstock_broker.node.pending import PendingRequests
from penstock_broker.node.refusing import Refusing
from penstock_broker.node.relay import Relay
from penstock_broker.node.session import (
    OUTPUT_BYTES_PER_ROUND,
    OUTPUT_BYTES_TOTAL_MAX,
    Session,
)
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.node.sharing.schedules import only_utc
from penstock_broker.node.sharing.shared import SharedPartition
from penstock_broker.raft import InstallSnapshot
from penstock_broker.raft import Message as RaftMessage
from penstock_broker.storage import Flush, Job, Store

HOUSEKEEPING_SECONDS: Final = 0.25
REST_US: Final = 150_000
"""Nobody rests who has something to do so soon: the runtime's rests last 100 ms."""

log = logging.getLogger("penstock.broker.node")


class Node:
    """One broker: its groups and sessions, and what is to be sent, read and written next.

    Attributes:
        wall_us: wall-clock time of the round, microseconds since 1970; it never goes back.
        civil_us: what the clock of the machine shows, also after it was put back.
        clock: monotonic time of the round, seconds.
        uncommitted_bytes: published bytes that are not yet applied, over all partitions.
        output_bytes: reply bytes that no peer has taken yet, over all connections.
        outward: whether other nodes may be concerned when the round ends: a broker that is alone
            does not look.
    """

    def __init__(self, store: Store, config: NodeConfig, rng: Random) -> None:
        self.store = store
        self.config = config
        self.rng = rng
        self.wall_us = self.civil_us = 0
        self.clock = 0.0
        self.uncommitted_bytes = 0
        self.output_bytes = 0
        self._round_output_max = OUTPUT_BYTES_PER_ROUND
        self.draining = False
        self.outward = False
        self.sessions: dict[int, Session] = {}
        self.partitions: dict[int, PartitionGroup] = {}
        """Data partitions by group id."""
        self.polling: dict[int, PartitionGroup] = {}
        """Those with fetches that wait."""
        self.sharing: dict[int, SharedPartition] = {}
        """Shared groups of the partitions that this broker leads."""
        self.peers = Peers(self)
        self.refusing = Refusing(self)
        self.agreement = Agreement(self)
        self.relay = Relay(self)
        self.asking = Asking(self)
        self.abroad = Abroad(self)
        self.waits = Waits()
        self.catchup = CatchUp(self)
        self.groups = Groups(self)
        self.membership = Membership(self)
        self.hand_over = HandOver(self)
        self.pending = PendingRequests(self)
        self.checkpoints = Checkpoints(self)
        self.gathering = Gathering(self)
        self.time_zone: Callable[[str], tzinfo] = only_utc
        """Finds a time zone by name, or raises `InvalidConfig`; the shell sets this."""
        self.shell_figures: Callable[[], dict[str, object]] = dict
        """What the shell counts, for the status; the shell sets this."""
        self._dirty: list[Group] = []
        self._output: list[Session] = []
        self._peer_output: list[Session] = []
        self._reads: list[ColdRead | SharedRead] = []
        self.granted: list[tuple[Session, Group]] = []
        """Who is told of a lease this round, and which group's leader granted it."""
        self.housekeeping_at = 0.0
        """When sessions, retention and other slow matters are looked at next."""

    # ----- life

    def start(self, cluster_id: str) -> None:
        """Take up what the store recovered.

        A fresh store becomes a new cluster of one with this id, unless it is to join others.
        """
        self.membership.start(cluster_id)
        self.end_round()

    @property
    def node_id(self) -> int:
        """This node's id in the cluster."""
        return self.groups.node_id

    @property
    def ready(self) -> bool:
        """Whether the metadata is known and every local group has a leader."""
        return self.groups.ready

    def drain(self) -> None:
        """Give the leads away, refuse new work, finish what is under way."""
        if self.membership.started and self.hand_over.possible:
            self.hand_over.begin(then=self._refuse_work)
        else:
            self._refuse_work()

    def _refuse_work(self) -> None:
        self.draining = True
        for group in self.partitions.values():
            group.polls.end()
        for shared in self.sharing.values():
            shared.drain()
        self.checkpoints.request()

    @property
    def drained(self) -> bool:
        """Whether nothing is under way any more and the checkpoint is written."""
        return not self.uncommitted_bytes and not self.pending and self.checkpoints.done

    # ----- events

    def now(self, wall_us: int, clock: float) -> None:
        """Tell the time of the round.

        Wall time never goes back within a process. After the machine's clock was put back it goes
        on more slowly until that has caught up: leases run out, and retries come due, meanwhile.
        """
        self.civil_us = wall_us
        if wall_us < self.wall_us:
            wall_us = self.wall_us + int((clock - self.clock) * CATCHING_UP * 1_000_000)
        self.wall_us = wall_us
        self.clock = clock
        most = self.output_bytes + OUTPUT_BYTES_PER_ROUND
        self._round_output_max = min(most, OUTPUT_BYTES_TOTAL_MAX)

    def connected(self, session: Session) -> None:
        """A client connected."""
        self.sessions[session.id] = session

    def dials(self) -> list[Dial]:
        """Connections that the shell opens now; it tells the dialer of each what became of it."""
        return self.membership.dials() + self.peers.dials()

    def hang_up(self, session: Session) -> None:
        """Close a connection when what is queued for it is sent."""
        session.closing = True
        if not session.queued:
            self.queue(session)

    def disconnected(self, session: Session) -> None:
        """A connection is gone, and what waited for it."""
        session.closing = True
        if session.link is not None:
            session.link.disconnected(session)
        for poll in list(session.polls):
            poll.drop()
        for asked in list(session.acquires):
            asked.drop()
        for attachment in list(session.attachments.values()):
            attachment.disconnected()
        self.sessions.pop(session.id, None)
        self.sent(session, 0)

    def receive(
        self, session: Session, buffer: memoryview, end: int, owned: bool
    ) -> tuple[int, int]:
        """Handle the whole frames in `buffer[:end]` of one connection.

        An owned buffer belongs to its single frame and is kept without a copy.

        Returns:
            How many bytes were used, and how long the next, unfinished frame is in all (0: its
            length has not arrived; `PUT_OFF`: it is whole, but others come first, or the peer
            must take its replies first).

        Raises:
            RemoteProtocolError: the connection must be closed.
        """
        at = 0
        if session.link is None and not session.ready:
            at, length = hello.receive(self, session, buffer, end)
            if not at:
                return 0, length
        if session.link is not None:
            return link.receive(session, session.link, buffer, at, end, owned)
        return receiving.receive(self, session, buffer, at, end, owned)

    @property
    def round_full(self) -> bool:
        """Whether the replies of this round, or all that were not taken, are too much for more."""
        return self.output_bytes >= self._round_output_max

    def sent(self, session: Session, unsent: int) -> None:
        """The peer took output; so many bytes of it are left."""
        unsent += session.reading_bytes
        if session.link is None:
            self.output_bytes += unsent - session.unsent_bytes
        session.unsent_bytes = unsent

    def refuse(self, session: Session, error: PenstockError) -> None:
        """Tell a peer that broke the protocol why, then close."""
        if session.link is None:
            self.reply_error(session, 0, 0, error)
        self.hang_up(session)

    def job_done(
        self, job: Job | Flush | ColdRead | SharedRead, error: PenstockError | None
    ) -> None:
        """A job was carried out."""
        if isinstance(job, ColdRead):
            self._count_read(job, -1)
            if not job.fetch.session.closing:
                fetches.finish(job, error)
        elif isinstance(job, SharedRead):
            self._count_read(job, -1)
            job.finish(job, error)
        elif isinstance(job, Flush):
            for gid, index, term in self.store.done(job):
                group = self.groups.get(gid)
                if group is not None:
                    group.persisted(job.sequence, index, term)
        else:
            for gid, index, term in self.store.done(job):
                group = self.groups.get(gid)
                if group is not None:
                    group.installed(index, term)

    def tick(self, wall_us: int, clock: float) -> None:
        """Let time pass: elections, long polls, sessions, retention."""
        self.now(wall_us, clock)
        self.membership.tick()
        self.groups.tick()
        self.hand_over.tick()
        self.catchup.tick()
        self.peers.tick()
        for shared in list(self.sharing.values()):
            shared.tick()
        if clock < self.housekeeping_at:
            return
        self.housekeeping_at = clock + HOUSEKEEPING_SECONDS
        hello.expire(self)
        self.pending.expire()
        self.relay.expire()
        self.store.tick()
        if self.store.found_damage and self.ready:
            for damage in self.store.take_damages():
                log.error("stored bytes are damaged", extra=damage._asdict())
        self.refusing.tick()
        self.agreement.tick()
        self.groups.housekeeping()

    @property
    def at_rest(self) -> bool:
        """Whether nobody waits for anything, so that time may be looked at less often."""
        if self.polling or self.pending or self.draining or self.uncommitted_bytes:
            return False
        if self.hand_over.under_way or self.catchup.busy:
            return False
        soon_us = self.wall_us + REST_US
        return not any(shared.restless(soon_us) for shared in self.sharing.values())

    @property
    def eager(self) -> bool:
        """Whether the next round has work also if nothing arrives."""
        gathers, groups = self.gathering.waiting, self.groups
        return bool(groups.making) or self.catchup.source.eager or self.peers.eager or gathers

    def end_round(self) -> None:
        """Propose what was gathered, apply what was committed; then effects can be taken."""
        self.gathering.release()
        waits = self.waits
        if self.groups.making:
            self.groups.making.step(self.groups.metadata.machine)
        while True:
            while self._dirty:
                dirty, self._dirty = self._dirty, []
                if waits.idle and self.uncommitted_bytes:
                    waits.watch(dirty, self.clock)
                for group in dirty:
                    if not group.gone:
                        group.close_round()
            if not self.outward or not (self.relay.flush() or self.asking.flush()):
                break
        if not waits.idle:
            waits.look(self.clock)
        self.checkpoints.step()
        if self.outward:
            waits.look_at_flushes(self.store.wal, self.clock)
            self.catchup.source.work()
            self.peers.flush()
            self.outward = bool(self.peers.all() or self.relay.busy or self.asking)

    # ----- effects

    def take_output(self) -> list[Session]:
        """Sessions with something in `out`; tell the time before, if anybody was `granted` some."""
        if self.granted:
            self._vouch()
        output, self._output = self.take_peer_output() + self._output, []
        for session in output:
            session.queued = False
        return output

    def _vouch(self) -> None:
        """Tell nobody of a lease if the process stood still since, or the lead was lost.

        A connection that is closed instead names the leases of which its member knows, next time.
        """
        granted, self.granted = self.granted, []
        for session, group in granted:
            if not (group.leading and group.sure) and not session.closing:
                session.out.clear()
                self.hang_up(session)

    def take_peer_output(self) -> list[Session]:
        """Of these, the connections between brokers: what goes there need not wait for our disk."""
        output, self._peer_output = self._peer_output, []
        for session in output:
            session.queued = False
        return output

    def take_reads(self) -> list[ColdRead | SharedRead]:
        """Cold reads to run in a thread."""
        reads, self._reads = self._reads, []
        return reads

    # ----- for the parts of the node

    def mark(self, group: Group) -> None:
        """Have a group looked at when the round ends."""
        if not group.dirty:
            group.dirty = True
            self._dirty.append(group)

    def ask(self, to: int, message: Message, finish: Callable[[object], None]) -> None:
        """Ask a node, or this one; `finish` gets the decoded reply or the `PenstockError`."""
        self.relay.ask(to, message, finish)

    def ask_metadata(self, command: Command, finish: Callable[[object], None]) -> None:
        """Have group 0 apply a command; `finish` gets its reply or the `PenstockError`."""
        self.asking.command(0, command, finish)

    def emit(self, session: Session, data: Buffer) -> None:
        """Queue bytes for a connection, if it is still there."""
        if session.closing:
            return
        session.out.append(data)
        session.unsent_bytes += len(data)
        if session.link is None:
            self.output_bytes += len(data)
        if not session.queued:
            self.queue(session)

    def queue(self, session: Session) -> None:
        """Have a session's output sent when the round ends."""
        session.queued = True
        (self._output if session.link is None else self._peer_output).append(session)

    def send_message(self, group: Group, message: RaftMessage) -> None:
        """Let a Raft message go; one to this node itself is a candidate's own vote."""
        if message.to == group.raft.id:
            group.raft.step(message)
            self.mark(group)
        elif not self.peers.send(group.gid, message) and isinstance(message, InstallSnapshot):
            self.catchup.dropped(group, message.to)

    def start_read(self, read: ColdRead | SharedRead) -> None:
        """Have a cold read done in a thread."""
        self._count_read(read, 1)
        self._reads.append(read)

    def _count_read(self, read: ColdRead | SharedRead, sign: int) -> None:
        session, size = read.session, sign * read.cold.length
        if session is None:
            return
        session.reading_bytes += size
        session.unsent_bytes += size
        self.output_bytes += size

    def reply(self, session: Session, correlation: int, message: Message) -> None:
        """Answer a request."""
        self.emit(session, encode_message(message, correlation))

    def reply_error(
        self, session: Session, correlation: int, type_: int, error: PenstockError
    ) -> None:
        """Answer a request with an error."""
        self.emit(session, encode_error(correlation, type_, requests.with_address(self, error)))
