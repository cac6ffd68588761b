"""A data partition on this broker: publish, commit, fetch.

Publishing touches only the 96-byte header: check, look for a duplicate, stamp, gather. What the
leader appended stays in `flights`, in log order, until it is applied, which is after it is durable
and committed; then the quorum acknowledgment leaves. This is the broker's hot path, so a flight is
a bare tuple and nothing is parsed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    BadRequest,
    LeaderUnknown,
    NotLeader,
    PenstockError,
    StorageFull,
    Throttled,
)
from penstock.protocol.batch import (
    FLAG_COMPACTED,
    SYSTEM_PRODUCERS,
    Kind,
    PublishHeader,
    check_publish,
    parse_header,
    stamp,
)
from penstock.protocol.frames import (
    ACKS_LEADER,
    ACKS_NONE,
    ACKS_QUORUM,
    FLAG_DUPLICATE,
    FLAG_RESPONSE,
    PUBLISH,
    PUBLISH_REPLY,
    REPLY_BYTES,
)
from penstock.protocol.messages import PartitionFigures, PartitionInfo
from penstock_broker.machine.commands import Configure, decode_command, encode_command
from penstock_broker.machine.config import TopicConfig
from penstock_broker.machine.effects import GroupCreated, LogStartMoved, ReplicasChanged
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.producers import Duplicate
from penstock_broker.machine.stamp import Stamp
from penstock_broker.node import fetches, gathering, retention
from penstock_broker.node.deliveries import Deliveries, Done
from penstock_broker.node.fetches import Fetch
from penstock_broker.node.group import Group
from penstock_broker.node.polls import Polls
from penstock_broker.node.retention import RETENTION_SECONDS
from penstock_broker.node.sharing.shared import SharedPartition
from penstock_broker.raft import Entry, Raft, Role

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

FLIGHTS_MAX: Final = 65_536
"""Batches that wait for other replicas, looked at once a round; what a connection may have under
way is limited too."""
_DATA: Final = int(Kind.DATA)
_PACK_REPLY: Final = PUBLISH_REPLY.pack
_APPLIED: Final = Struct("<32xQQ5xBHI4xQQ12xH2x").unpack_from
"""Of a batch's header what a follower needs: base offset, append time, flags, length of extension
fields, count, producer id, base sequence, producer epoch."""

Flight = tuple[int, "Session | None", int, int, int, int, PublishHeader]
"""A batch that this leader appended: index, session (None: nobody waits), correlation, base offset,
append time, size, header fields."""

Joined = tuple["Session", int, Duplicate]
"""Somebody who sent a batch again while it was in flight: session, correlation, the first one."""


class PartitionGroup(Group):
    """One partition: its log, its machine, and the requests that wait for it."""

    __slots__ = ("_append_ts_us", "_deliveries", "_joined", "_proposed_at", "_quickest",
                 "batch_bytes_max", "config", "flights", "latest_us", "log", "machine",
                 "next_offset", "partition", "polls", "retention_at", "shared", "topic",
                 "uncommitted_bytes")  # fmt: skip

    def __init__(
        self, node: Node, raft: Raft, made: GroupCreated | ReplicasChanged, state: bytes | None
    ) -> None:
        super().__init__(node, made.group, raft)
        self.topic = made.topic
        self.partition = made.partition
        self.machine = PartitionMachine()
        if state is not None:
            self.machine.restore(state)
        self.log = node.store.create_log(made.group)
        self.log.trim(self.machine.log_start_offset)
        self.flights: deque[Flight] = deque()
        self._joined: dict[int, list[Joined]] = {}
        self._deliveries = Deliveries()
        self.polls = Polls(self)
        self.shared = SharedPartition(self)
        self.next_offset = 0
        self.uncommitted_bytes = 0
        self._append_ts_us = 0
        self.latest_us = 0
        """The last time that some leader stamped, as far as this broker has seen its entry."""
        self._proposed_at = 0.0
        self._quickest = gathering.ROUND_SECONDS_MAX / 2
        self.retention_at = node.clock + RETENTION_SECONDS * node.rng.random()
        self.configure(made.config)

    def configure(self, config: TopicConfig) -> None:
        """Take a new topic configuration."""
        self.config = config
        self.batch_bytes_max = config.max_batch_bytes
        self.log.configure(config)
        if self.leading and config.dedup_window_ms != self.machine.dedup_window_ms:
            self.propose_command(encode_command(Configure(dedup_window_ms=config.dedup_window_ms)))

    # ----- publish

    def publish(
        self, session: Session, correlation: int, acks: int, batch: bytearray | memoryview
    ) -> None:
        """Check, stamp and queue one batch.

        Raises:
            NotLeader: another broker leads, or nobody does.
            LeaderUnknown: the sequence does not fit, but another broker may lead by now.
            Throttled: too much waits for other replicas.
            CorruptBatch, RecordTooLarge: the batch is refused.
            OutOfSequence, UnknownProducer, Fenced: the producer's sequence does not fit.
            BadRequest: the producer id is one of the brokers' own.
        """
        raft = self.raft
        if self.ready_at_term != raft.term or raft.role is not Role.LEADER:
            raise NotLeader(leader=self.raft.leader)
        if not self.dirty and len(self.flights) > FLIGHTS_MAX:
            raise Throttled(f"{FLIGHTS_MAX} batches of this partition wait for their replicas")
        head = check_publish(batch, self.batch_bytes_max)
        if head[1] or head[4]:
            if head[1] >= SYSTEM_PRODUCERS:
                raise BadRequest("a producer id below 2^63 is needed; the others are the brokers'")
            found = self._check(head, batch)
            if found is not None:
                self._answer_duplicate(session, correlation, acks, found)
                return
        if acks == ACKS_QUORUM:
            session.unanswered_bytes += len(batch)
            self._append(head, batch, session, correlation)
            return
        offset, ts = self._append(head, batch, None, correlation)
        if acks == ACKS_LEADER:
            self._reply(session, correlation, offset, ts, 0)

    def deliver(self, batch: bytearray, done: Done, skips_from: int = -1) -> None:
        """Append what a broker publishes itself, exactly once by its system producer id.

        Args:
            batch: one sealed batch, trusted; the topic's own limit on its size does not apply.
            done: called with the base offset once it is committed (at once, if it was before), or
                with the error that left the outcome open. Deliveries end in the order in which
                they were made; after an error all later ones fail before the next is taken.
            skips_from: see `Producers.check`.

        Raises:
            NotLeader: another broker leads, or nobody does.
            LeaderUnknown: the sequence does not fit, but another broker may lead by now.
            StorageFull: the disk is nearly full.
            OutOfSequence, BadRequest: the sequence does not fit; `expected` in the detail does.
        """
        if not self.leading:
            raise NotLeader(leader=self.raft.leader)
        if not self.node.store.accepting:
            raise StorageFull()
        header = parse_header(batch)
        head = (header.record_count, header.producer_id, header.producer_epoch,
                header.base_sequence, header.ext_len)  # fmt: skip
        found = self._check(head, batch, skips_from)
        if found is None:
            offset, _ = self._append(head, batch, None, 0)
            self._deliveries.add(self.flights[-1][0], offset, done)
        elif found.index <= self.applied_index:
            done(found.base_offset, None)
        else:
            self._deliveries.add(found.index, found.base_offset, done)

    def _check(
        self, head: PublishHeader, batch: bytearray | memoryview, skips_from: int = -1
    ) -> Duplicate | None:
        """Whether a batch is new (None) or a duplicate; refused by who surely leads alone.

        The batches before it may have gone to a leader of which this one has not heard.
        """
        try:
            return self.machine.check(head, batch, self.node.wall_us, skips_from)
        except PenstockError as error:
            if self.sure:
                raise
            raise LeaderUnknown("another broker may lead, and know of what came before") from error

    def _append(
        self,
        head: PublishHeader,
        batch: bytearray | memoryview,
        session: Session | None,
        correlation: int,
    ) -> tuple[int, int]:
        """Stamp and queue a batch that was judged new; returns its offset and time."""
        node, raft, machine = self.node, self.raft, self.machine
        offset, ts = self.next_offset, node.wall_us
        if ts < self._append_ts_us:
            ts = self._append_ts_us
        self._append_ts_us = ts
        index = raft.log.last_index + 1 + len(self.pending)
        stamp(batch, _DATA, index, raft.term, machine.epoch, offset, ts)
        self.pending.append((_DATA, batch))
        if not self.dirty:
            node.mark(self)
        self.next_offset = offset + head[0]
        if head[1] or head[4]:
            machine.note_appended(head, index, offset, ts, batch)
        size = len(batch)
        node.uncommitted_bytes += size
        self.uncommitted_bytes += size
        self.flights.append((index, session, correlation, offset, ts, size, head))
        if node.gathering.missing:
            node.gathering.missing -= 1
        return offset, ts

    def _answer_duplicate(
        self, session: Session, correlation: int, acks: int, found: Duplicate
    ) -> None:
        """Answer a batch that is here already; one still in flight is waited for."""
        if acks == ACKS_NONE:
            return
        if found.index <= self.applied_index or acks == ACKS_LEADER:
            self._reply(session, correlation, found.base_offset, found.append_ts_us, FLAG_DUPLICATE)
        else:
            self._joined.setdefault(found.index, []).append((session, correlation, found))

    def _reply(self, session: Session, correlation: int, offset: int, ts: int, flags: int) -> None:
        if session.closing:
            return
        session.out.append(
            _PACK_REPLY(
                REPLY_BYTES, PUBLISH, FLAG_RESPONSE | flags, 0, correlation, self.gid, offset, ts
            )
        )
        if not session.queued:
            self.node.queue(session)

    # ----- applying

    def apply_run(self, entries: Sequence[Entry]) -> None:
        if self.flights and self.flights[0][0] <= entries[-1].index:
            self._land(entries)
        else:
            self._follow(entries)
        if self._joined:
            self._answer_joined()
        if self._deliveries:
            self._deliveries.applied(self.applied_index)
        if self.polls:
            self.polls.retry()
        if self.shared.dispatchers:
            self.shared.grown()

    def _land(self, entries: Sequence[Entry]) -> None:
        """Apply what this leader appended itself, and answer for it."""
        flights, log, machine = self.flights, self.log, self.machine
        landed = answered = 0
        for entry in entries:
            index, _, kind, data = entry
            if kind != _DATA:
                super().apply_run((entry,))
                continue
            flown, session, correlation, offset, ts, size, head = flights.popleft()
            assert flown == index, f"flight {flown} meets entry {index}"
            machine.apply_appended(head, index, offset, ts, data)
            log.append_at(data, index, offset, offset + head[0], ts)
            landed += size
            if session is not None:
                session.unanswered_bytes -= size
                self._reply(session, correlation, offset, ts, 0)
                answered += 1
        self.applied_index, self.applied_term = entries[-1].index, entries[-1].term
        self.node.uncommitted_bytes -= landed
        self.uncommitted_bytes -= landed
        if self.raft.peers:
            seconds = self.node.clock - self._proposed_at
            self._quickest = min(self._quickest * gathering.FORGETS, seconds)
            self.node.gathering.answered(answered, seconds)

    def _follow(self, entries: Sequence[Entry]) -> None:
        """Apply what another leader appended, or this one before it led."""
        log, machine = self.log, self.machine
        for entry in entries:
            index, _, kind, data = entry
            if kind != _DATA:
                super().apply_run((entry,))
                continue
            base, ts, flags, ext_len, count, pid, sequence, epoch = _APPLIED(data)
            if flags & FLAG_COMPACTED:
                header = parse_header(data)
                machine.apply_batch(header, data)
                log.append(data, header)
                continue
            machine.apply_appended((count, pid, epoch, sequence, ext_len), index, base, ts, data)
            log.append_at(data, index, base, base + count, ts)
        self.applied_index, self.applied_term = entries[-1].index, entries[-1].term

    def apply(self, entry: Entry) -> None:
        body, at = self.command_of(entry)
        self.latest_us = max(self.latest_us, at.time_us)
        reply, effects = self.machine.apply(decode_command(body), at)
        for effect in effects:
            if isinstance(effect, LogStartMoved):
                self.log.trim(effect.offset)
        self.node.pending.applied(self.gid, entry.term, entry.index, reply)
        if self.leading:
            self.shared.applied(entry.index, reply, effects)

    def _answer_joined(self) -> None:
        for index in [index for index in self._joined if index <= self.applied_index]:
            for session, correlation, found in self._joined.pop(index):
                self._reply(
                    session, correlation, found.base_offset, found.append_ts_us, FLAG_DUPLICATE
                )

    def close_round(self) -> None:
        self.shared.propose()
        super().close_round()

    def holds_back(self) -> bool:
        raft = self.raft
        if not raft.peers or raft.change_open or self.uncommitted_bytes > gathering.BYTES_MAX:
            return False
        if len(self.pending) >= gathering.ENTRIES_MAX:
            return False
        if raft.log.commit < raft.log.last_index:
            return self._quickest < gathering.ROUND_SECONDS_MAX
        if self.node.gathering.holds(self):
            return True
        self._proposed_at = self.node.clock
        return False

    # ----- who leads

    def transfer(self, to: int) -> None:
        self.shared.propose()  # leases that members were told of go into the log before
        super().transfer(to)

    def on_noop(self, entry: Entry) -> None:
        self.machine.apply_noop(Stamp(entry.index, entry.term, 0))

    def on_leading(self) -> None:
        self.next_offset = self.log.end_offset
        self._append_ts_us = self.log.last_append_ts_us
        self.latest_us = max(self.latest_us, self._append_ts_us)
        self.configure(self.config)
        self.shared.on_leading()

    def on_lost_leadership(self) -> None:
        self.machine.drop_overlay()
        leader = self.raft.leader
        self._refuse_flights(NotLeader("the leader changed; the outcome is unknown", leader=leader))
        self.polls.refuse_led(NotLeader(leader=leader))
        self.shared.on_lost_leadership()

    def deleted(self, error: PenstockError) -> None:
        """The partition is here no more: answer everybody who waits."""
        self._refuse_flights(error)
        self.polls.refuse(error)
        self.shared.on_lost_leadership(error)

    def _refuse_flights(self, error: PenstockError) -> None:
        for _, session, correlation, _, _, size, _ in self.flights:
            if session is not None:
                session.unanswered_bytes -= size
                self.node.reply_error(session, correlation, PUBLISH, error)
        for joined in self._joined.values():
            for session, correlation, _ in joined:
                self.node.reply_error(session, correlation, PUBLISH, error)
        self.flights.clear()
        self._joined.clear()
        self._deliveries.refuse(error)
        self.node.uncommitted_bytes -= self.uncommitted_bytes
        self.uncommitted_bytes = 0

    # ----- fetch, retention, figures

    def fetch(self, fetch: Fetch) -> None:
        """Answer now, queue a long poll, or start a cold read.

        Raises:
            NotLeader: the leader is to be asked.
            Throttled: too many linearizable reads wait.
            OffsetOutOfRange, CorruptData: the offset can't be read.
        """
        fetches.begin(self, fetch)

    def apply_retention(self) -> None:
        """The leader's decision how far the log may be trimmed, proposed as a command."""
        pause = retention.apply_retention(self) if self.leading else RETENTION_SECONDS
        self.retention_at = self.node.clock + pause

    def machine_state(self) -> bytes:
        return self.machine.snapshot()

    def restore(self, state: bytes) -> None:
        self.machine.restore(state)
        self.log.trim(self.machine.log_start_offset)
        self.polls.retry()

    def figures(self, place: PartitionInfo) -> PartitionFigures:
        """What the partition holds."""
        log = self.log
        return PartitionFigures(
            partition=place.partition,
            group=place.group,
            leader=place.leader,
            term=place.term,
            replicas=place.replicas,
            log_start_offset=log.start_offset,
            high_watermark=log.end_offset,
            size_bytes=log.size_bytes,
            segments=log.segment_count,
            producers=self.machine.producers,
            damaged=[[damage.start_offset, damage.end_offset] for damage in log.damages],
        )
