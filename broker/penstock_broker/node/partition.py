"""A data partition on this broker: publish, commit, fetch.

Publishing touches only the 96-byte header: check, look for a duplicate, stamp, gather. A reply to a
quorum publish leaves when its entry is applied, which is after it is durable and committed. Long
polls are answered when something is applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import NotLeader, PenstockError, TopicNotFound
from penstock.protocol.batch import Kind, check_publish, parse_header
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
from penstock_broker.machine.commands import Configure, Trim, decode_command, encode_command
from penstock_broker.machine.config import TopicConfig
from penstock_broker.machine.effects import GroupCreated, LogStartMoved
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.producers import Duplicate
from penstock_broker.machine.stamp import Stamp
from penstock_broker.node import fetches
from penstock_broker.node.fetches import Fetch
from penstock_broker.node.group import Group
from penstock_broker.raft import Entry, Raft

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session


RETENTION_SECONDS: Final = 10.0


class Waiter(NamedTuple):
    """A publish that waits for its entry to be applied."""

    index: int
    session: Session
    correlation: int
    base_offset: int
    append_ts_us: int
    size: int
    flags: int


class PartitionGroup(Group):
    """One partition: its log, its machine, and the requests that wait for it."""

    __slots__ = ("_append_ts_us", "_joined", "batch_bytes_max", "config", "log", "machine",
                 "next_offset", "partition", "polls", "retention_at", "topic",
                 "uncommitted_bytes", "waiters")  # fmt: skip

    def __init__(self, node: Node, raft: Raft, made: GroupCreated, state: bytes | None) -> None:
        super().__init__(node, made.group, raft)
        self.topic = made.topic
        self.partition = made.partition
        self.machine = PartitionMachine()
        if state is not None:
            self.machine.restore(state)
        self.log = node.store.create_log(made.group)
        self.log.trim(self.machine.log_start_offset)
        self.waiters: deque[Waiter] = deque()
        self._joined: dict[int, list[Waiter]] = {}
        self.polls: list[Fetch] = []
        self.next_offset = 0
        self.uncommitted_bytes = 0
        self._append_ts_us = 0
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
            CorruptBatch, RecordTooLarge: the batch is refused.
            OutOfSequence, UnknownProducer, Fenced: the producer's sequence does not fit.
        """
        if self.ready_at_term != self.raft.term or not self.leading:
            raise NotLeader()
        head = check_publish(batch, self.batch_bytes_max)
        node, machine = self.node, self.machine
        tracked = head.producer_id or head.ext_len
        if tracked:
            verdict = machine.check(head, batch, node.wall_us)
            if verdict is not None:
                self._answer_duplicate(session, correlation, acks, verdict)
                return
        offset = self.next_offset
        ts = self._append_ts_us = max(self._append_ts_us, node.wall_us)
        index = self.propose(Kind.DATA, batch, machine.epoch, offset, ts)
        self.next_offset = offset + head.record_count
        if tracked:
            machine.note_appended(head, index, offset, ts, batch)
        size = len(batch)
        node.uncommitted_bytes += size
        self.uncommitted_bytes += size
        if acks == ACKS_QUORUM:
            session.unanswered_bytes += size
            self.waiters.append(Waiter(index, session, correlation, offset, ts, size, 0))
        elif acks == ACKS_LEADER:
            self._reply(session, correlation, offset, ts, 0)

    def _answer_duplicate(
        self, session: Session, correlation: int, acks: int, found: Duplicate
    ) -> None:
        """Answer a batch that is here already; one still in flight is waited for."""
        if acks == ACKS_NONE:
            return
        if found.index <= self.applied_index or acks == ACKS_LEADER:
            self._reply(session, correlation, found.base_offset, found.append_ts_us, FLAG_DUPLICATE)
            return
        waiter = Waiter(
            found.index, session, correlation, found.base_offset, found.append_ts_us, 0,
            FLAG_DUPLICATE,
        )  # fmt: skip
        self._joined.setdefault(found.index, []).append(waiter)

    def _reply(self, session: Session, correlation: int, offset: int, ts: int, flags: int) -> None:
        if session.closing:
            return
        self.node.emit(
            session,
            PUBLISH_REPLY.pack(
                REPLY_BYTES, PUBLISH, FLAG_RESPONSE | flags, 0, correlation, self.gid, offset, ts
            ),
        )

    # ----- applying

    def apply_run(self, entries: Sequence[Entry]) -> None:
        super().apply_run(entries)
        self._answer_waiters()
        if self.polls:
            self._answer_polls()
        self.raft.compact(min(self.applied_index, self.raft.log.durable))

    def apply(self, entry: Entry) -> None:
        if entry.kind == Kind.DATA:
            self._apply_data(entry)
            return
        body, at = self.command_of(entry)
        reply, effects = self.machine.apply(decode_command(body), at)
        for effect in effects:
            if isinstance(effect, LogStartMoved):
                self.log.trim(effect.offset)
        self.node.pending.applied(self.gid, entry.term, entry.index, reply)

    def _apply_data(self, entry: Entry) -> None:
        data = entry.data
        header = parse_header(data)
        self.machine.apply_batch(header, data)
        if entry.index > self.log.last_index:
            self.log.append(data, header)
        if entry.term == self.ready_at_term:
            self.node.uncommitted_bytes -= len(data)
            self.uncommitted_bytes -= len(data)

    def _answer_waiters(self) -> None:
        waiters, applied = self.waiters, self.applied_index
        while waiters and waiters[0].index <= applied:
            waiter = waiters.popleft()
            waiter.session.unanswered_bytes -= waiter.size
            self._answer(waiter)
        if self._joined:
            for index in [index for index in self._joined if index <= applied]:
                for waiter in self._joined.pop(index):
                    self._answer(waiter)

    def _answer(self, waiter: Waiter) -> None:
        self._reply(
            waiter.session, waiter.correlation, waiter.base_offset, waiter.append_ts_us,
            waiter.flags,
        )  # fmt: skip

    def on_noop(self, entry: Entry) -> None:
        self.machine.apply_noop(Stamp(entry.index, entry.term, 0))
        self.next_offset = self.log.end_offset
        self._append_ts_us = max(self._append_ts_us, self.log.last_append_ts_us)

    def on_leading(self) -> None:
        self.configure(self.config)

    def on_lost_leadership(self) -> None:
        self.machine.drop_overlay()
        self.pending.clear()
        self._refuse_waiters(NotLeader("the leader changed; the outcome is unknown"))

    def deleted(self) -> None:
        """The topic is gone: answer everybody who waits."""
        error = TopicNotFound(f"the topic {self.topic!r} was deleted")
        self._refuse_waiters(error)
        for fetch in self.polls:
            fetches.refuse(self, fetch, error)
        self.polls.clear()

    def _refuse_waiters(self, error: PenstockError) -> None:
        joined = [waiter for group in self._joined.values() for waiter in group]
        for waiter in [*self.waiters, *joined]:
            waiter.session.unanswered_bytes -= waiter.size
            self.node.reply_error(waiter.session, waiter.correlation, PUBLISH, error)
        self.waiters.clear()
        self._joined.clear()
        self.node.uncommitted_bytes -= self.uncommitted_bytes
        self.uncommitted_bytes = 0

    # ----- fetch

    def fetch(self, fetch: Fetch) -> None:
        """Answer now, queue a long poll, or start a cold read.

        Raises:
            NotLeader: another broker leads.
            OffsetOutOfRange, CorruptData: the offset can't be read.
        """
        if not self.leading:
            raise NotLeader()
        fetches.serve(self, fetch)

    def poll(self, fetch: Fetch) -> None:
        """Queue a long poll."""
        fetch.session.polls += 1
        self.polls.append(fetch)

    def _answer_polls(self) -> None:
        polls, self.polls = self.polls, []
        for fetch in polls:
            fetch.session.polls -= 1
            if not fetch.session.closing:
                fetches.retry(self, fetch)

    def expire_polls(self) -> None:
        """Answer long polls whose time is over with nothing."""
        now = self.node.clock
        polls, self.polls = self.polls, []
        for fetch in polls:
            if fetch.deadline > now and not fetch.session.closing:
                self.polls.append(fetch)
                continue
            fetch.session.polls -= 1
            if not fetch.session.closing:
                fetches.answer_late(self, fetch)

    def end_polls(self) -> None:
        """Answer all long polls now: the broker stops."""
        polls, self.polls = self.polls, []
        for fetch in polls:
            fetch.session.polls -= 1
            fetches.answer_late(self, fetch)

    # ----- retention

    def apply_retention(self) -> None:
        """The leader's decision how far the log may be trimmed, proposed as a command."""
        self.retention_at = self.node.clock + RETENTION_SECONDS
        if not self.leading:
            return
        config = self.config
        point = self.log.retention_point(
            self.node.wall_us, config.retention_ms * 1000, config.retention_bytes,
            self.machine.floor if config.retention == "until_acked" else None,
        )  # fmt: skip
        if point is not None:
            self.propose_command(encode_command(Trim(offset=point)))

    def machine_state(self) -> bytes:
        return self.machine.snapshot()

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
