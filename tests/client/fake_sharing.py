"""Shared groups of the fake brokers: leases and verdicts in a few lines, one group per partition.

Time runs out only when a test says so (`expire`). Retries are immediate unless the member named a
time; after `attempts_max` failures a record is held, as in a dead-letter topic of its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import GroupNotFound, MemberUnknown, TopicNotFound
from penstock.protocol import sharing
from penstock.protocol.batch import next_offset, parse_header
from penstock.protocol.frames import Frame
from penstock.protocol.leases import (
    ACK,
    ACQUIRE_REPLY_BYTES,
    REJECT,
    RELEASE,
    Acquire,
    Acquired,
    Settled,
    Span,
    acquire_reply_head,
    read_acquire,
    read_settle,
    settle_reply,
)

if TYPE_CHECKING:
    from tests.client.fake_broker import FakeConnection
    from tests.client.fake_log import Partition

LEASE_MS = 30_000


@dataclass
class Shared:
    """A shared group on one partition."""

    topic: str
    name: str
    partition: Partition
    strict: bool = False
    attempts_max: int = 3
    states: dict[int, str] = field(default_factory=dict)
    """Offset -> leased, done, held or delayed; none: free."""
    owners: dict[int, int] = field(default_factory=dict)
    """Offset -> its lease."""
    members: dict[int, str] = field(default_factory=dict)
    """Lease -> its member."""
    delivered: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    failed: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    reasons: list[tuple[int, str, str]] = field(default_factory=list)
    ready_us: dict[int, int] = field(default_factory=dict)
    verdicts: list[tuple[int, int]] = field(default_factory=list)
    """(offset, verdict) in the order of arrival, sent again or not."""
    renewed: list[int] = field(default_factory=list)
    extended_ms: list[int] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    next_lease: int = 1
    hold: bool = False
    looping: set[int] = field(default_factory=set)

    def state(self, offset: int) -> str:
        return self.states.get(offset, "held" if self.hold else "free")

    def free(self, now_us: int) -> list[int]:
        for offset, when in list(self.ready_us.items()):
            if when <= now_us:
                del self.ready_us[offset]
                self.states[offset] = "free"
        every = range(self.partition.start, self.partition.end)
        return [offset for offset in every if self.state(offset) == "free"]

    def grant(self, member: str, offsets: list[int]) -> int:
        lease = self.next_lease
        self.next_lease += 1
        self.members[lease] = member
        for offset in offsets:
            self.states[offset] = "leased"
            self.owners[offset] = lease
            self.delivered[offset] += 1
        return lease

    def leases(self, member: str) -> set[int]:
        held = {self.owners[o] for o, state in self.states.items() if state == "leased"}
        return {lease for lease in held if self.members[lease] == member}

    def end(self, lease: int) -> None:
        """A lease is over, uncounted."""
        for offset, state in self.states.items():
            if state == "leased" and self.owners[offset] == lease:
                self.states[offset] = "free"
                self.delivered[offset] -= 1

    def expire(self) -> None:
        """All leases run out."""
        for offset, state in self.states.items():
            if state == "leased":
                self.states[offset] = "free"
                self.failed[offset] += 1

    def settle(
        self, lease: int, offset: int, verdict: int, ready_us: int, why: tuple[str, str]
    ) -> str:
        """Carry out one verdict: accepted, late, duplicate or lost."""
        self.verdicts.append((offset, verdict))
        state = self.state(offset)
        if state == "done":
            return "duplicate"
        mine = state == "leased" and self.owners[offset] == lease
        if verdict == ACK:
            if not mine and self.strict:
                return "lost"
            self.states[offset] = "done"
            return "accepted" if mine else "late"
        if not mine:
            return "lost"
        if verdict == RELEASE:
            self.states[offset] = "free"
            self.delivered[offset] -= 1
            return "accepted"
        self.failed[offset] += 1
        self.reasons.append((offset, *why))
        if verdict == REJECT or self.failed[offset] >= self.attempts_max:
            self.states[offset] = "held"
        elif ready_us:
            self.states[offset] = "delayed"
            self.ready_us[offset] = ready_us
        else:
            self.states[offset] = "free"
        return "accepted"


@dataclass
class AcquirePoll:
    """An acquire that waits for records."""

    connection: FakeConnection
    group: Shared
    correlation: int
    wanted: Acquire
    until: float
    member: str

    @property
    def ready(self) -> bool:
        return bool(self.group.free(self.connection.cluster.wall_us))

    def answer(self) -> None:
        """Grant what there is."""
        connection, group, wanted = self.connection, self.group, self.wanted
        cluster = connection.cluster
        offsets = group.free(cluster.wall_us)[: wanted.max_records]
        partition = group.partition
        run = bytearray()
        for batch in partition.batches:
            header = parse_header(batch)
            covered = range(header.base_offset, next_offset(batch, header))
            if header.base_offset not in wanted.have and any(o in covered for o in offsets):
                run += batch
        lease = group.grant(self.member, offsets) if offsets else 0
        spans = _spans(group, offsets)
        found = Acquired(lease, 0, partition.end, cluster.lease_ms, spans, b"")
        connection.out += acquire_reply_head(self.correlation, partition.group, found, len(run))
        connection.out += run
        cluster.granted_bytes += len(run) + ACQUIRE_REPLY_BYTES


def _spans(group: Shared, offsets: list[int]) -> list[Span]:
    spans: list[Span] = []
    for offset in offsets:
        span = Span(offset, 1, group.delivered[offset], group.failed[offset], 0, 0)
        last = spans[-1] if spans else None
        if last is not None and last[0] + last[1] == offset and last[2:] == span[2:]:
            spans[-1] = Span(last[0], last[1] + 1, *last[2:])
        else:
            spans.append(span)
    return spans


def acquire(connection: FakeConnection, data: bytes, frame: Frame) -> None:
    """Handle an acquire frame."""
    partition = connection._leading(frame.group)
    wanted = read_acquire(data, frame.start, frame.end)
    group, member = connection.handle(wanted.handle)
    assert group.partition is partition
    until = connection.cluster.now + wanted.max_wait_ms / 1000
    poll = AcquirePoll(connection, group, frame.correlation, wanted, until, member)
    if poll.ready or not wanted.max_wait_ms:
        poll.answer()
    else:
        connection.cluster.polls.append(poll)


def settle(connection: FakeConnection, data: bytes, frame: Frame) -> None:
    """Handle a settle frame."""
    connection._leading(frame.group)
    handle, verdicts = read_settle(data, frame.start, frame.end)
    group, _ = connection.handle(handle)
    outcomes: dict[str, int] = defaultdict(int)
    lost: list[int] = []
    for verdict in verdicts:
        why = (verdict.reason, verdict.error)
        for offset in range(verdict.first, verdict.first + verdict.count):
            outcome = group.settle(verdict.lease, offset, verdict.verdict, verdict.ready_at_us, why)
            outcomes[outcome] += 1
            if outcome == "lost":
                lost += [offset, 1]
    settled = Settled(
        outcomes["accepted"] + outcomes["late"], outcomes["late"], outcomes["duplicate"], lost
    )
    connection.cluster.settled_entries.append(len(verdicts))
    connection.out += settle_reply(frame.correlation, frame.group, settled)
    connection.cluster.wake()


def create(connection: FakeConnection, asked: sharing.CreateGroup) -> sharing.CreateGroupReply:
    """CreateGroup."""
    cluster = connection.cluster
    made = (asked.topic, asked.group) not in cluster.definitions
    dead = f"dead.{asked.topic}.{asked.group}"
    if made and not asked.topic.startswith("dead."):
        topic = cluster.topics[asked.topic]
        cluster.create(dead, len(topic.partitions))
        cluster.define(dead, asked.group, hold=True)
    cluster.define(asked.topic, asked.group)
    info = sharing.SharedGroupInfo(
        topic=asked.topic,
        group=asked.group,
        settings=asked.settings,
        revision=1,
        dead_topic=dead,
    )
    return sharing.CreateGroupReply(group=info, created=made)


def attach(connection: FakeConnection, asked: sharing.AttachGroup) -> sharing.AttachGroupReply:
    """AttachGroup."""
    cluster = connection.cluster
    partition = connection._leading(cluster.partition(asked.topic, asked.partition).group)
    group = cluster.shared.get((asked.topic, asked.group, asked.partition))
    if group is None:
        raise GroupNotFound(f"there is no group {asked.group!r}")
    held = group.leases(asked.member)
    for lease in held - set(asked.leases):
        group.end(lease)
    connection.handles.append((group, asked.member))
    return sharing.AttachGroupReply(
        handle=len(connection.handles),
        group_id=partition.group,
        lease_ms=cluster.lease_ms,
        lost=[lease for lease in asked.leases if lease not in held],
        strict=group.strict,
        settings={},
    )


def renew(connection: FakeConnection, asked: sharing.RenewLeases) -> sharing.RenewLeasesReply:
    """RenewLeases."""
    cluster = connection.cluster
    connection._leading(cluster.partition(asked.topic, asked.partition).group)
    group = cluster.shared[(asked.topic, asked.group, asked.partition)]
    held = group.leases(asked.member)
    group.renewed.extend(lease for lease in asked.leases if lease in held)
    if asked.extend_ms:
        group.extended_ms.append(asked.extend_ms)
    return sharing.RenewLeasesReply(lost=[lease for lease in asked.leases if lease not in held])


def detach(connection: FakeConnection, asked: sharing.DetachGroup) -> sharing.DetachGroupReply:
    """DetachGroup."""
    cluster = connection.cluster
    group = cluster.shared[(asked.topic, asked.group, asked.partition)]
    for poll in list(cluster.polls):
        if isinstance(poll, AcquirePoll) and (poll.group, poll.member) == (group, asked.member):
            cluster.polls.remove(poll)
    for lease in group.leases(asked.member):
        group.end(lease)
    group.detached.append(asked.member)
    return sharing.DetachGroupReply()


def held_runs(connection: FakeConnection, asked: sharing.HeldRuns) -> sharing.HeldRunsReply:
    """HeldRuns, a few at a time."""
    group = _led(connection, asked.topic, asked.group, asked.partition)
    end = group.partition.end
    spans: list[int] = []
    at = asked.first
    while at < end and len(spans) < 2 * connection.cluster.runs_max:
        if group.state(at) == "held":
            if spans and spans[-2] + spans[-1] == at:
                spans[-1] += 1
            else:
                spans += [at, 1]
        at += 1
    return sharing.HeldRunsReply(spans=spans, end=at, high_watermark=end)


def redrive(connection: FakeConnection, asked: sharing.Redrive) -> sharing.RedriveReply:
    """Redrive."""
    group = _led(connection, asked.topic, asked.group, asked.partition)
    looping: list[int] = []
    absent: list[int] = []
    redriven = 0
    for offset in _offsets(asked.spans):
        if group.state(offset) != "held":
            absent += [offset, 1]
        elif offset in group.looping and not asked.force:
            looping += [offset, 1]
        else:
            group.states[offset] = "free"
            redriven += 1
    connection.cluster.wake()
    return sharing.RedriveReply(redriven=redriven, looping=looping, absent=absent)


def purge(connection: FakeConnection, asked: sharing.PurgeRecords) -> sharing.PurgeRecordsReply:
    """PurgeRecords."""
    group = _led(connection, asked.topic, asked.group, asked.partition)
    held = [each for each in _offsets(asked.spans) if group.state(each) == "held"]
    group.states.update(dict.fromkeys(held, "done"))
    return sharing.PurgeRecordsReply(purged=len(held))


def explain(connection: FakeConnection, asked: sharing.ExplainRecord) -> sharing.ExplainRecordReply:
    """ExplainRecord."""
    group = _led(connection, asked.topic, asked.group, asked.partition)
    attempts = [
        sharing.AttemptInfo(
            kind="failed", member="m", host="h", reason=reason, error="", granted_us=1, ended_us=9
        )
        for offset, reason, _ in group.reasons
        if offset == asked.offset
    ]
    state = sharing.RecordState(
        group=group.name,
        mode="shared",
        offset=asked.offset,
        state="dead",
        text="",
        failed=group.failed[asked.offset],
        redrives=int(bool(attempts)),
        attempts=attempts,
    )
    return sharing.ExplainRecordReply(log_start_offset=0, high_watermark=0, states=[state])


def enable_delays(
    connection: FakeConnection, asked: sharing.EnableDelays
) -> sharing.EnableDelaysReply:
    """EnableDelays."""
    cluster = connection.cluster
    name = f"__delayed.{asked.topic}"
    if asked.topic not in cluster.topics:
        raise TopicNotFound(f"there is no topic {asked.topic!r}")
    if name not in cluster.topics:
        cluster.create(name, len(cluster.topics[asked.topic].partitions))
    return sharing.EnableDelaysReply(delayed_topic=name)


def _led(connection: FakeConnection, topic: str, group: str, number: int) -> Shared:
    connection._leading(connection.cluster.partition(topic, number).group)
    return connection.cluster.shared[(topic, group, number)]


def _offsets(spans: list[int]) -> list[int]:
    pairs = zip(spans[::2], spans[1::2], strict=True)
    return [offset for first, count in pairs for offset in range(first, first + count)]


def handle_of(connection: FakeConnection, handle: int) -> tuple[Shared, str]:
    """What a handle stands for."""
    if not 0 < handle <= len(connection.handles):
        raise MemberUnknown("no such handle")
    return connection.handles[handle - 1]
