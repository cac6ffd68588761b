"""Requests that look at records and groups: explain, stuck, figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.errors import GroupNotFound, OffsetOutOfRange, TopicNotFound
from penstock.protocol import sharing as wire
from penstock_broker.machine.group_views import GroupDescription
from penstock_broker.machine.topology import KIND_GROUPS
from penstock_broker.node.sharing.ages import appended_us
from penstock_broker.node.sharing.attach import leader_of
from penstock_broker.node.sharing.explain import explain, stuck
from penstock_broker.node.sharing.figures import figures
from penstock_broker.node.sharing.requests import info

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
    states = [
        explain(partition, group, asked.offset)
        for name, group in sorted(partition.machine.sharing.groups.items())
        if asked.group in ("", name)
    ]
    states += [
        _ordered(partition, described, asked.offset)
        for described in _ordered_groups(node, asked.topic, asked.group)
    ]
    if asked.group and not states:
        raise GroupNotFound(
            f"there is no group {asked.group!r} on {asked.topic!r}", group=asked.group
        )
    reply = wire.ExplainRecordReply(
        log_start_offset=log.start_offset, high_watermark=log.end_offset, states=states
    )
    node.reply(session, correlation, reply)


def stuck_records(node: Node, session: Session, correlation: int, asked: wire.StuckRecords) -> None:
    """What holds a group back in a partition."""
    partition = leader_of(node, asked.topic, asked.partition)
    group = _group(partition, asked.group)
    reply = wire.StuckRecordsReply(states=stuck(partition, group, asked.limit))
    node.reply(session, correlation, reply)


def describe(node: Node, session: Session, correlation: int, asked: wire.DescribeShared) -> None:
    """A group's figures in each partition that is led here."""
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
    reply = wire.DescribeSharedReply(group=info(topic, asked.group), partitions=found)
    node.reply(session, correlation, reply)


def _group(partition: PartitionGroup, name: str) -> SharedGroup:
    group = partition.machine.sharing.groups.get(name)
    if group is None:
        topic = partition.topic
        raise GroupNotFound(f"there is no shared group {name!r} on {topic!r}", group=name)
    return group


def _ordered_groups(node: Node, topic: str, name: str) -> Iterator[GroupDescription]:
    """The ordered groups that have to do with a topic, by name; of those coordinated here."""
    found = []
    for coordinator in node.groups.coordinators.values():
        for summary in coordinator.machine.list_groups() if coordinator.leading else ():
            if topic in summary.topics and name in ("", summary.group):
                described = coordinator.machine.describe(summary.group)
                if described is not None:
                    found.append(described)
    yield from sorted(found, key=lambda described: described.group)


def _ordered(
    partition: PartitionGroup, described: GroupDescription, offset: int
) -> wire.RecordState:
    """What an ordered group's committed position says of a record."""
    topic, number, log = partition.topic, partition.partition, partition.log
    committed, at_us = described.positions.get(topic, {}).get(number, (-1, 0))
    member = described.owners.get(topic, {}).get(number, "")
    host = next((each.host for each in described.members if each.id == member), "")
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
        group=described.group,
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
