"""Requests about dead letters: where they lie, redrive, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import (
    GroupNotFound,
    LimitExceeded,
    PreconditionFailed,
    TopicNotFound,
)
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.sharing.ops import SPANS_MAX, Purge, Redrive
from penstock_broker.machine.sharing.replies import Purged, Redriven
from penstock_broker.machine.sharing.state import HELD, HOLD
from penstock_broker.node.pending import Request
from penstock_broker.node.sharing.answering import when_settled
from penstock_broker.node.sharing.attach import leader_of
from penstock_broker.node.sharing.spans import flat

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

RUNS_MAX: Final = 100_000


def held_runs(node: Node, session: Session, correlation: int, asked: wire.HeldRuns) -> None:
    """Runs of dead letters that wait, from an offset on."""
    partition, group = _held(node, asked.topic, asked.partition, asked.group)
    limit = max(1, min(asked.limit, RUNS_MAX))
    runs = group.window.runs(HELD, asked.first, limit)
    end = partition.log.end_offset
    reply = wire.HeldRunsReply(
        spans=flat(runs),
        end=runs[-1][0] + runs[-1][1] if len(runs) == limit else end,
        high_watermark=end,
    )
    node.reply(session, correlation, reply)


def redrive(node: Node, session: Session, correlation: int, asked: wire.Redrive) -> None:
    """Give dead letters back to their group; the loop guard may refuse some."""
    partition, _ = _held(node, asked.topic, asked.partition, asked.group)
    _check_origin(node, asked.topic)
    _check_length(asked.spans)

    def answer(reply: Redriven) -> None:
        found = wire.RedriveReply(redriven=reply.count, looping=reply.looping, absent=reply.absent)
        node.reply(session, correlation, found)

    request = Request(session, correlation, TYPE_OF[type(asked)])
    op = Redrive(group=asked.group, spans=asked.spans, force=asked.force)
    done = when_settled(node, request, Redriven, answer)
    partition.shared.offer(op, done, 64 + 9 * len(asked.spans))


def purge(node: Node, session: Session, correlation: int, asked: wire.PurgeRecords) -> None:
    """Settle dead letters for good."""
    partition, _ = _held(node, asked.topic, asked.partition, asked.group)
    _check_length(asked.spans)

    def answer(reply: Purged) -> None:
        node.reply(session, correlation, wire.PurgeRecordsReply(purged=reply.count))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    op = Purge(group=asked.group, spans=asked.spans)
    done = when_settled(node, request, Purged, answer)
    partition.shared.offer(op, done, 64 + 9 * len(asked.spans))


def _held(node: Node, topic: str, partition: int, name: str) -> tuple[PartitionGroup, SharedGroup]:
    """A group that holds dead letters.

    Raises:
        TopicNotFound, PartitionNotFound, GroupNotFound: there is no such thing.
        NotLeader: the partition is led elsewhere, or by nobody.
        PreconditionFailed: the group does not hold dead letters.
    """
    place = leader_of(node, topic, partition)
    group = place.machine.sharing.groups.get(name)
    if group is None:
        raise GroupNotFound(f"there is no shared group {name!r} on {topic!r}", group=name)
    if group.kind != HOLD:
        raise PreconditionFailed(f"{topic!r} does not hold the dead letters of {name!r}")
    return place, group


def _check_origin(node: Node, dead: str) -> None:
    """Refuse to give letters back to nobody: they would be no dead letters any more, and lost.

    Raises:
        TopicNotFound, GroupNotFound: where they came from is gone.
    """
    topics = node.groups.metadata.machine.topics
    origin = topics[dead].origin
    if origin is None:
        return
    topic, group = origin
    rest = "its dead letters can be read, exported and purged, but not given back"
    if topic not in topics:
        raise TopicNotFound(f"the topic {topic!r} was deleted: {rest}", topic=topic)
    if group not in topics[topic].shared:
        raise GroupNotFound(
            f"the shared group {group!r} of {topic!r} was deleted: {rest}", group=group
        )


def _check_length(spans: list[int]) -> None:
    if len(spans) > 2 * SPANS_MAX:
        raise LimitExceeded(f"a request names at most {SPANS_MAX} spans")
