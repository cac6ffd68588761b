"""Requests about topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from penstock.errors import (
    InvalidConfig,
    LeaderUnknown,
    NotLeader,
    OffsetOutOfRange,
    PartitionNotFound,
    TopicNotFound,
    from_wire,
)
from penstock.protocol import messages
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, encode_command
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import (
    KIND_GROUPS,
    KIND_RECORDS,
    Topic,
    TopicAltered,
    TopicCreated,
    TopicDeleted,
)
from penstock_broker.node.gather import (
    Replies,
    gather,
    other_leaders,
)
from penstock_broker.node.pending import Request

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

TopicCommand = commands.CreateTopic | commands.AlterTopic | commands.DeleteTopic


def topic_info(node: Node, topic: Topic) -> messages.TopicInfo:
    """A topic as clients see it."""
    partitions = []
    for number, partition in enumerate(topic.partitions):
        term, leader = node.groups.leader_of(partition.group)
        partitions.append(
            messages.PartitionInfo(
                partition=number,
                group=partition.group,
                leader=leader,
                term=term,
                replicas=partition.replicas,
            )
        )
    config = {name: getattr(topic.config, name) for name in topic.config.__struct_fields__}
    return messages.TopicInfo(
        name=topic.name,
        id=topic.id,
        partitions=partitions,
        config=config,
        replication=topic.replication,
    )


def metadata(node: Node, session: Session, correlation: int, asked: messages.Metadata) -> None:
    """Nodes and topics."""
    machine = node.groups.metadata.machine
    if asked.topics is None:
        topics = [topic for topic in machine.topics.values() if topic.kind == KIND_RECORDS]
    else:  # a companion is shown to who knows of it
        named = (machine.topics.get(name) for name in dict.fromkeys(asked.topics))
        topics = [topic for topic in named if topic is not None and topic.kind != KIND_GROUPS]
    reply = messages.MetadataReply(
        cluster=machine.cluster,
        nodes=[messages.Node(id=n.id, address=n.address) for n in machine.members.values()],
        topics=[topic_info(node, topic) for topic in topics],
    )
    node.reply(session, correlation, reply)


def create(node: Node, session: Session, correlation: int, asked: messages.CreateTopic) -> None:
    """Create a topic; answered when every partition has a leader."""
    command = commands.CreateTopic(
        name=asked.name,
        id=f"{node.rng.getrandbits(128):032x}",
        partitions=asked.partitions,
        replication=asked.replication,
        config=_scalars(asked.config),
        if_not_exists=asked.if_not_exists,
    )

    def answer(reply: object) -> None:
        assert isinstance(reply, TopicCreated)
        info = topic_info(node, reply.topic)
        node.reply(
            session, correlation, messages.CreateTopicReply(topic=info, created=reply.created)
        )

    _change(node, Request(session, correlation, TYPE_OF[type(asked)]), command, answer,
            asked.dry_run)  # fmt: skip


def alter(node: Node, session: Session, correlation: int, asked: messages.AlterTopic) -> None:
    """Change configuration or add partitions."""
    command = commands.AlterTopic(
        name=asked.name,
        config=_scalars(asked.config),
        partitions=asked.partitions,
        replication=asked.replication,
    )

    def answer(reply: object) -> None:
        assert isinstance(reply, TopicAltered)
        info = topic_info(node, reply.topic)
        node.reply(session, correlation, messages.AlterTopicReply(topic=info))

    _change(node, Request(session, correlation, TYPE_OF[type(asked)]), command, answer,
            asked.dry_run)  # fmt: skip


def delete(node: Node, session: Session, correlation: int, asked: messages.DeleteTopic) -> None:
    """Delete a topic and its records."""

    def answer(reply: object) -> None:
        assert isinstance(reply, TopicDeleted)
        count = len(reply.topic.partitions)
        node.reply(session, correlation, messages.DeleteTopicReply(partitions=count))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    _change(node, request, commands.DeleteTopic(name=asked.name), answer, asked.dry_run)


def _scalars(config: dict[str, object]) -> dict[str, commands.Scalar]:
    for name, value in config.items():
        if not isinstance(value, bool | int | float | str | None):
            raise InvalidConfig(f"{name[:80]!r} must be a number, a word or nothing")
    return cast("dict[str, commands.Scalar]", config)


def _change(
    node: Node,
    request: Request,
    command: TopicCommand,
    answer: Callable[[object], None],
    dry_run: bool,
) -> None:
    metadata_group = node.groups.metadata
    if not metadata_group.leading:
        raise LeaderUnknown("the metadata has no leader at the moment")
    if dry_run:
        at = Stamp(metadata_group.next_index, metadata_group.raft.term, node.wall_us)
        reply = metadata_group.machine.preview(command, at)
        if isinstance(reply, Refused):
            raise from_wire(reply.code, reply.message, reply.detail)
        answer(reply)
        return

    def applied(reply: object) -> None:
        topic = reply.topic  # type: ignore[attr-defined]  # every reply to a topic command has it
        gids = {partition.group for partition in topic.partitions}
        if isinstance(command, commands.DeleteTopic):
            answer(reply)
        else:
            node.pending.when_ready(gids, request, lambda _: answer(reply))

    node.pending.propose(metadata_group, encode_command(command), applied, request)


def partition_gid(node: Node, topic: str, partition: int) -> int:
    """The Raft group of a partition of records.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
    """
    found = node.groups.metadata.machine.topics.get(topic)
    if found is None or found.kind != KIND_RECORDS:
        raise TopicNotFound(f"there is no topic {topic!r}", topic=topic)
    if not 0 <= partition < len(found.partitions):
        raise PartitionNotFound(
            f"{topic!r} has partitions 0 to {len(found.partitions) - 1}", topic=topic
        )
    return found.partitions[partition].group


def leader_of(node: Node, topic: str, partition: int) -> PartitionGroup:
    """The local leader of a partition.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
        NotLeader: it is led elsewhere, or by nobody.
    """
    gid = partition_gid(node, topic, partition)
    group = node.partitions.get(gid)
    if group is None or not group.leading:
        raise NotLeader(leader=node.groups.leader_of(gid)[1])
    return group


def describe(node: Node, session: Session, correlation: int, asked: messages.DescribeTopic) -> None:
    """A topic and what its partitions hold, by what their leaders say."""
    topic = node.groups.metadata.machine.topics.get(asked.name)
    if topic is None or topic.kind != KIND_RECORDS:
        raise TopicNotFound(f"there is no topic {asked.name!r}", topic=asked.name)
    info = topic_info(node, topic)
    figures: dict[int, messages.PartitionFigures] = {}
    for place in info.partitions:
        group = node.partitions.get(place.group)
        if group is not None and (group.leading or not session.relayed):
            figures[place.partition] = group.figures(place)

    def answer(replies: Replies) -> None:
        for reply in replies.values():
            if isinstance(reply, messages.DescribeTopicReply):
                figures.update((each.partition, each) for each in reply.partitions)
        found = [figures[number] for number in sorted(figures)]
        node.reply(session, correlation, messages.DescribeTopicReply(topic=info, partitions=found))

    gids = [place.group for place in info.partitions]
    leaders = [] if session.relayed else other_leaders(node, gids)
    request = Request(session, correlation, TYPE_OF[type(asked)])
    gather(node, request, dict.fromkeys(leaders, asked), answer)


def trim(node: Node, session: Session, correlation: int, asked: messages.TrimLog) -> None:
    """Delete records below an offset."""
    group = leader_of(node, asked.topic, asked.partition)
    if not 0 <= asked.offset <= group.log.end_offset:
        raise OffsetOutOfRange(f"the log ends at {group.log.end_offset}")

    def applied(_: object) -> None:
        start = group.log.start_offset
        node.reply(session, correlation, messages.TrimLogReply(log_start_offset=start))

    command = encode_command(commands.Trim(offset=asked.offset))
    request = Request(session, correlation, TYPE_OF[type(asked)])
    node.pending.propose(group, command, applied, request)
