"""Requests for offsets: the earliest, the latest, or that of a time, wherever it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from penstock.errors import BadRequest, LeaderUnknown, NotLeader, PenstockError
from penstock.protocol import messages
from penstock.protocol.frames import FETCH_ANY_REPLICA, FETCH_FLAGS, FETCH_LINEARIZABLE
from penstock.protocol.messages import TYPE_OF
from penstock_broker.node.certainty import read_all
from penstock_broker.node.gather import Replies, all_led, gather, led_here, raise_first
from penstock_broker.node.pending import Request
from penstock_broker.node.topic_requests import leader_of, partition_gid

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

EARLIEST: Final = -2
LATEST: Final = -1


def resolve(group: PartitionGroup, position: int) -> int:
    """The offset that a position means: earliest, latest, or a time in microseconds."""
    if position == EARLIEST:
        return group.log.start_offset
    if position == LATEST:
        return group.log.end_offset
    return max(group.log.offset_at(position), group.log.start_offset)


def list_offsets(
    node: Node, session: Session, correlation: int, asked: messages.ListOffsets
) -> None:
    """Resolve positions.

    Raises:
        BadRequest: an unknown flag is set.
        TopicNotFound, PartitionNotFound, NotLeader, LeaderUnknown, Throttled: see the errors.
    """
    if asked.flags & ~FETCH_FLAGS:
        raise BadRequest(f"no reads with the flags {asked.flags}")

    def answer(offsets: dict[int, int]) -> None:
        node.reply(session, correlation, messages.ListOffsetsReply(offsets=offsets))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    here = [reader_of(node, asked.topic, number, asked.flags) for number in asked.positions]
    if session.relayed and None in here:
        raise NotLeader()
    if None in here:
        resolve_all(node, request, asked.topic, asked.positions, answer, asked.flags)
        return
    groups = [group for group in here if group is not None]

    def resolved(error: PenstockError | None) -> None:
        if error is not None:
            node.reply_error(session, correlation, request.type, error)
            return
        pairs = zip(asked.positions.items(), groups, strict=True)
        answer({number: resolve(group, position) for (number, position), group in pairs})

    if asked.flags & FETCH_LINEARIZABLE:
        read_all(groups, resolved)
    else:
        resolved(None)


def reader_of(node: Node, topic: str, partition: int, flags: int) -> PartitionGroup | None:
    """The replica here that may answer a read with these flags; None: others must be asked.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
    """
    group = node.partitions.get(partition_gid(node, topic, partition))
    if group is None or not (group.leading or flags == FETCH_ANY_REPLICA):
        return None
    return group


def _resolve_here(node: Node, topic: str, positions: Mapping[int, int]) -> dict[int, int]:
    return {
        partition: resolve(leader_of(node, topic, partition), position)
        for partition, position in positions.items()
    }


def resolve_all(
    node: Node,
    request: Request,
    topic: str,
    positions: Mapping[int, int],
    finish: Callable[[dict[int, int]], None],
    flags: int = 0,
) -> None:
    """Resolve positions of partitions wherever they are led.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
        LeaderUnknown: one of them has no leader.
    """
    gids = {partition_gid(node, topic, partition): partition for partition in positions}
    if led_here(node, gids):
        finish(_resolve_here(node, topic, positions))
        return

    def gathered(replies: Replies) -> None:
        raise_first(replies)
        offsets: dict[int, int] = {}
        for reply in replies.values():
            if isinstance(reply, messages.ListOffsetsReply):
                offsets |= reply.offsets
        if not offsets.keys() >= positions.keys():
            raise LeaderUnknown("not all of the leaders said where their logs are")
        finish({partition: offsets[partition] for partition in positions})

    asked = {}
    for to, some in all_led(node, gids).items():
        part = {gids[gid]: positions[gids[gid]] for gid in some}
        asked[to] = messages.ListOffsets(topic=topic, positions=part, flags=flags)
    gather(node, request, asked, gathered)
