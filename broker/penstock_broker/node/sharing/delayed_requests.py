"""Requests about delayed records."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from penstock.errors import BadRequest, LeaderUnknown, LimitExceeded, NotLeader
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.commands import EnableDelays, encode_command
from penstock_broker.machine.sharing.ops import SPANS_MAX, Purge
from penstock_broker.machine.sharing.replies import Purged
from penstock_broker.machine.sharing.state import DELAYED
from penstock_broker.machine.topology import DELAYED_PREFIX, TIMER_GROUP, DelaysEnabled
from penstock_broker.node.pending import Request
from penstock_broker.node.sharing.answering import when_settled
from penstock_broker.node.sharing.requests import when_known
from penstock_broker.node.sharing.spans import flat, pairs, runs_of
from penstock_broker.node.topic_requests import partition_gid

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

LIST_MAX: Final = 10_000
OFFSET_END: Final = 1 << 63


def enable(node: Node, session: Session, correlation: int, asked: wire.EnableDelays) -> None:
    """Make the companion of a topic, unless it is there; answered when it can be used."""
    metadata = node.groups.metadata
    if not metadata.leading:
        raise LeaderUnknown("the metadata has no leader at the moment")

    def applied(reply: object) -> None:
        assert isinstance(reply, DelaysEnabled)
        companion = reply.companion
        answer = wire.EnableDelaysReply(delayed_topic=companion.name)
        when_known(node, request, TIMER_GROUP, [companion],
                   lambda: node.reply(session, correlation, answer))  # fmt: skip

    request = Request(session, correlation, TYPE_OF[type(asked)])
    command = EnableDelays(topic=asked.topic, id=f"{node.rng.getrandbits(128):032x}")
    node.pending.propose(metadata, encode_command(command), applied, request)


def list_scheduled(
    node: Node, session: Session, correlation: int, asked: wire.ListScheduled
) -> None:
    """A page of the records that wait, soonest first."""
    partition = _companion(node, asked.topic, asked.partition)
    limit = max(1, min(asked.limit, LIST_MAX))
    found: list[wire.ScheduledRecord] = []
    total = 0
    if partition is not None:
        total = partition.machine.sharing.groups[TIMER_GROUP].window.count(DELAYED)
        moves = partition.machine.sharing.groups[TIMER_GROUP].moves
        after = moves.places.get(asked.after_id, asked.after_id)
        upcoming = partition.shared.delayed.upcoming(asked.after_us, after)
        found = [
            wire.ScheduledRecord(id=moves.carried.get(offset, offset), count=1, deliver_at_us=at_us)
            for at_us, offset in islice(upcoming, limit)
        ]
    node.reply(session, correlation, wire.ListScheduledReply(scheduled=found, total=total))


def cancel(node: Node, session: Session, correlation: int, asked: wire.CancelScheduled) -> None:
    """Cancel records that wait; the reply says which this did."""
    if len(asked.ids) > SPANS_MAX:
        raise LimitExceeded(f"at most {SPANS_MAX} records are cancelled at once")
    if any(not 0 <= each < OFFSET_END for each in asked.ids):
        raise BadRequest("the id of a delayed record is an offset")
    partition = _companion(node, asked.topic, asked.partition)
    if partition is None or not asked.ids:
        node.reply(session, correlation, wire.CancelScheduledReply(cancelled=[]))
        return
    moves = partition.machine.sharing.groups[TIMER_GROUP].moves
    ids = {moves.places.get(each, each): each for each in asked.ids if each not in moves.carried}
    spans = runs_of(sorted(ids))

    def answer(reply: Purged) -> None:
        done = pairs(reply.spans)
        offsets = (offset for first, count in done for offset in range(first, first + count))
        cancelled = sorted(ids[offset] for offset in offsets)
        node.reply(session, correlation, wire.CancelScheduledReply(cancelled=cancelled))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    op = Purge(group=TIMER_GROUP, spans=flat(spans))
    partition.shared.offer(op, when_settled(node, request, Purged, answer), 64 + 18 * len(spans))


def _companion(node: Node, topic: str, partition: int) -> PartitionGroup | None:
    """Where a partition's delayed records wait; None: there never were any.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such partition.
        NotLeader: it is led elsewhere, or by nobody.
    """
    partition_gid(node, topic, partition)
    found = node.groups.metadata.machine.topics.get(DELAYED_PREFIX + topic)
    if found is None or partition >= len(found.partitions):
        return None
    gid = found.partitions[partition].group
    companion = node.partitions.get(gid)
    if companion is None or not companion.leading:
        raise NotLeader(leader=node.groups.leader_of(gid)[1])
    if TIMER_GROUP not in companion.machine.sharing.groups:
        raise LeaderUnknown("the delayed records are being set up")
    return companion
