"""Requests that look at records and groups: explain, stuck, figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.errors import GroupNotFound, OffsetOutOfRange, TopicNotFound
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.topology import KIND_GROUPS
from penstock_broker.node import group_parts
from penstock_broker.node.gather import (
    Replies,
    gather,
    gather_all,
    other_leaders,
    raise_first,
)
from penstock_broker.node.pending import Request
from penstock_broker.node.questions import GroupParts, GroupPartsReply, OrderedPart
from penstock_broker.node.sharing.ages import appended_us
from penstock_broker.node.sharing.attach import gid_of, leader_of
from penstock_broker.node.sharing.explain import explain, followed, stuck
from penstock_broker.node.sharing.figures import figures
from penstock_broker.node.sharing.requests import info
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

ORDERED: str = "ordered"


def explain_record(
    node: Node, session: Session, correlation: int, asked: wire.ExplainRecord
) -> None:
    """What has become of a record, for each group or for one."""
    partition = leader_of(node, asked.topic, asked.partition)
    log = partition.log
    if not 0 <= asked.offset < log.end_offset:
        raise OffsetOutOfRange(
            f"{asked.topic!r} has no record {asked.offset} in partition {asked.partition}: "
            f"its log ends at {log.end_offset}",
            start_offset=log.start_offset,
            end_offset=log.end_offset,
        )
    shared = [
        explain(partition, group, asked.offset)
        for name, group in sorted(partition.machine.sharing.groups.items())
        if asked.group in ("", name)
    ]
    request = Request(session, correlation, TYPE_OF[type(asked)])

    def told(parts: list[OrderedPart]) -> None:
        states = [*shared, *(_ordered(partition, part, asked.offset) for part in parts)]
        if asked.group and not states:
            raise GroupNotFound(
                f"there is no group {asked.group!r} on {asked.topic!r}", group=asked.group
            )
        _follow(node, request, states, answer)

    def answer(states: list[wire.RecordState]) -> None:
        reply = wire.ExplainRecordReply(
            log_start_offset=log.start_offset, high_watermark=log.end_offset, states=states
        )
        node.reply(session, correlation, reply)

    _ordered_groups(node, request, asked.topic, asked.group, told)


def _follow(
    node: Node,
    request: Request,
    states: list[wire.RecordState],
    finish: Callable[[list[wire.RecordState]], None],
) -> None:
    """Add what became of dead letters that lie with other leaders."""
    places: list[int] = []
    asked: list[tuple[int, wire.ExplainRecord]] = []
    for place, state in enumerate(states):
        if state.dead_offset < 0:
            continue
        gid = gid_of(node, state.dead_topic, state.dead_partition)
        leader = node.groups.leader_of(gid)[1]
        if leader not in (NOBODY, node.node_id):
            places.append(place)
            wanted = wire.ExplainRecord(
                topic=state.dead_topic,
                partition=state.dead_partition,
                offset=state.dead_offset,
                group=state.group,
            )
            asked.append((leader, wanted))

    def gathered(replies: list[object]) -> None:
        for place, reply in zip(places, replies, strict=True):
            if isinstance(reply, wire.ExplainRecordReply):
                mine = [each for each in reply.states if each.mode == states[place].mode]
                if mine:
                    states[place] = followed(states[place], mine[0])
        finish(states)

    gather_all(node, request, asked, gathered)


def stuck_records(node: Node, session: Session, correlation: int, asked: wire.StuckRecords) -> None:
    """What holds a group back in a partition."""
    partition = leader_of(node, asked.topic, asked.partition)
    group = _group(partition, asked.group)
    reply = wire.StuckRecordsReply(states=stuck(partition, group, asked.limit))
    node.reply(session, correlation, reply)


def describe(node: Node, session: Session, correlation: int, asked: wire.DescribeShared) -> None:
    """A group's figures in each partition, by what their leaders say."""
    topic = node.groups.metadata.machine.topics.get(asked.topic)
    if topic is None or topic.kind == KIND_GROUPS:
        raise TopicNotFound(f"there is no topic {asked.topic!r}", topic=asked.topic)
    if asked.group not in topic.shared:
        raise GroupNotFound(
            f"there is no shared group {asked.group!r} on {asked.topic!r}", group=asked.group
        )
    found = []
    for place in topic.partitions:
        partition = node.partitions.get(place.group)
        if partition is not None and partition.leading:
            group = partition.machine.sharing.groups.get(asked.group)
            if group is not None:
                found.append(figures(partition, group))

    def gathered(replies: Replies) -> None:
        for reply in replies.values():
            if isinstance(reply, wire.DescribeSharedReply):
                found.extend(reply.partitions)
        found.sort(key=lambda each: each.partition)
        told = {each.partition for each in found}
        reply = wire.DescribeSharedReply(
            group=info(topic, asked.group),
            partitions=found,
            missing=[number for number in range(len(topic.partitions)) if number not in told],
        )
        node.reply(session, correlation, reply)

    gids = [place.group for place in topic.partitions]
    leaders = [] if session.relayed else other_leaders(node, gids)
    request = Request(session, correlation, TYPE_OF[type(asked)])
    gather(node, request, dict.fromkeys(leaders, asked), gathered)


def _group(partition: PartitionGroup, name: str) -> SharedGroup:
    group = partition.machine.sharing.groups.get(name)
    if group is None:
        topic = partition.topic
        raise GroupNotFound(f"there is no shared group {name!r} on {topic!r}", group=name)
    return group


def _ordered_groups(
    node: Node,
    request: Request,
    topic: str,
    name: str,
    finish: Callable[[list[OrderedPart]], None],
) -> None:
    """The ordered groups that have to do with a topic, by name; of all who answer."""
    wanted = GroupParts(group=name, topic=topic, shared=False)
    own = group_parts.parts(node, wanted)

    def gathered(replies: Replies) -> None:
        if name:
            raise_first(replies)
        found = [own, *(each for each in replies.values() if isinstance(each, GroupPartsReply))]
        parts = [part for each in found for part in each.ordered]
        finish(sorted(parts, key=lambda part: part.group))

    gids = [node.groups.coordinator_group(name)] if name else group_parts.coordinators(node)
    gather(node, request, dict.fromkeys(other_leaders(node, gids), wanted), gathered)


def _ordered(partition: PartitionGroup, part: OrderedPart, offset: int) -> wire.RecordState:
    """What an ordered group's committed position says of a record."""
    topic, number, log = partition.topic, partition.partition, partition.log
    committed, at_us = part.positions.get(topic, {}).get(number, (-1, 0))
    member = part.owners.get(topic, {}).get(number, "")
    host = part.members.get(member, "")
    state, blocked_by, since_us = "ahead", "", appended_us(log, offset)
    if offset < committed:
        state, since_us = "done", at_us
        text = f"Consumed: the group has committed offset {committed}."
    elif offset < log.start_offset:
        state, text = "gone", "Deleted by retention before the group had committed it."
    else:
        reader = f"{member} reads the partition" if member else "no member reads the partition"
        blocked_by = "" if member else "no_member"
        if committed < 0:
            text = f"The group has committed nothing in this partition yet; {reader}."
        else:
            before = offset - max(committed, log.start_offset)
            records = f"{before} record{'' if before == 1 else 's'}"
            text = f"Not committed yet: {records} before it; {reader}."
    return wire.RecordState(
        group=part.group,
        mode=ORDERED,
        offset=offset,
        state=state,
        text=text,
        member=member,
        host=host,
        since_us=since_us,
        blocked_by=blocked_by,
        blocking_offset=committed if state == "ahead" and 0 <= committed < offset else -1,
    )
