"""Requests that change the cluster: states of brokers, places of partitions, leads, versions.

Each is a command to group 0, refused there if it breaks a rule; a dry run asks the machine for the
same answer without a command. What follows (moving replicas, handing over leads) goes on after the
answer: `cluster_view` shows how far it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.errors import (
    LeaderUnknown,
    NotLeader,
    PartitionNotFound,
    PenstockError,
    PreconditionFailed,
    TopicNotFound,
    from_wire,
)
from penstock.protocol import cluster
from penstock.protocol.messages import TYPE_OF, Message
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, encode_command
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import (
    ACTIVE,
    KIND_GROUPS,
    REMOVED,
    BalancingSet,
    FeatureLevelRaised,
    NodeStateSet,
    Partition,
    ReplicasChosen,
)
from penstock_broker.node.cluster_view import bereft, is_alive, stuck
from penstock_broker.node.pending import Request

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session


def set_node_state(
    node: Node, session: Session, correlation: int, asked: cluster.SetNodeState
) -> None:
    """Drain a broker, take it back, or remove it."""
    command = commands.SetNodeState(node=asked.node, state=asked.state, force=asked.force)

    lost = bereft(node, asked.node) if asked.state == REMOVED else []

    def answer(reply: object) -> None:
        assert isinstance(reply, NodeStateSet)
        machine, id_ = node.groups.metadata.machine, reply.node.id
        led = sum(
            node.groups.leader_of(partition.group)[1] == id_
            for topic in machine.topics.values()
            for partition in topic.partitions
        )
        changed = cluster.SetNodeStateReply(
            node=id_,
            state=reply.node.state,
            replicas=machine.holding().get(id_, 0),
            leaders=led,
            stuck=0 if reply.node.state == ACTIVE else stuck(machine, id_),
            bereft=lost,
        )
        node.reply(session, correlation, changed)

    decide(node, request_of(session, correlation, asked), command, answer, asked.dry_run)


def raise_feature_level(
    node: Node, session: Session, correlation: int, asked: cluster.RaiseFeatureLevel
) -> None:
    """Allow what only newer brokers know."""
    machine = node.groups.metadata.machine
    before = machine.feature_level
    command = commands.RaiseFeatureLevel(level=asked.level or machine.feature_max)

    def answer(reply: object) -> None:
        assert isinstance(reply, FeatureLevelRaised)
        raised = cluster.RaiseFeatureLevelReply(before=before, level=reply.level)
        node.reply(session, correlation, raised)

    decide(node, request_of(session, correlation, asked), command, answer, asked.dry_run)


def set_balancing(
    node: Node, session: Session, correlation: int, asked: cluster.SetBalancing
) -> None:
    """Allow or forbid moves that only make brokers more even."""
    before = node.groups.metadata.machine.balancing

    def answer(reply: object) -> None:
        assert isinstance(reply, BalancingSet)
        node.reply(session, correlation, cluster.SetBalancingReply(before=before, on=reply.on))

    command = commands.SetBalancing(on=asked.on)
    decide(node, request_of(session, correlation, asked), command, answer, asked.dry_run)


def move_partition(
    node: Node, session: Session, correlation: int, asked: cluster.MovePartition
) -> None:
    """Say where the copies of a partition shall be.

    Raises:
        PreconditionFailed: that is more or fewer than the topic has.
    """
    partition = find_partition(node, asked.topic, asked.partition)
    topic = node.groups.metadata.machine.topics[asked.topic]
    if topic.kind != KIND_GROUPS and len(asked.replicas) != topic.replication:
        raise PreconditionFailed(f"{asked.topic!r} has {topic.replication} copies: name as many")
    command = commands.ChangeReplicas(
        group=partition.group, replicas=asked.replicas, expected=partition.replicas
    )

    def answer(reply: object) -> None:
        assert isinstance(reply, ReplicasChosen)
        chosen = reply.topic.partitions[reply.partition]
        moved = cluster.MovePartitionReply(
            before=partition.replicas, replicas=chosen.replicas, moving=chosen.moving
        )
        node.reply(session, correlation, moved)

    decide(node, request_of(session, correlation, asked), command, answer, asked.dry_run)


def find_partition(node: Node, topic: str, number: int) -> Partition:
    """A partition of any topic, the internal ones too.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
    """
    found = node.groups.metadata.machine.topics.get(topic)
    if found is None:
        raise TopicNotFound(f"there is no topic {topic!r}", topic=topic)
    if not 0 <= number < len(found.partitions):
        raise PartitionNotFound(
            f"{topic!r} has partitions 0 to {len(found.partitions) - 1}", topic=topic
        )
    return found.partitions[number]


# ----- handing over a lead


def transfer_leader(
    node: Node, session: Session, correlation: int, asked: cluster.TransferLeader
) -> None:
    """Hand the lead of a partition to another of its replicas, which is preferred from then on.

    Raises:
        PreconditionFailed: that one does not take part, or is away.
        NotLeader: the lead is elsewhere.
    """
    partition, to = find_partition(node, asked.topic, asked.partition), asked.to
    group = _may_lead(node, partition, to)
    reply = cluster.TransferLeaderReply(before=node.node_id, leader=to)
    if asked.dry_run:
        node.reply(session, correlation, reply)
        return
    request = request_of(session, correlation, asked)

    def decided(outcome: object) -> None:
        try:
            raise_refusal(outcome)
            if to != node.node_id and group.leading:
                group.transfer(to)
        except PenstockError as error:
            node.reply_error(request.session, request.correlation, request.type, error)
        else:
            node.reply(session, correlation, reply)

    others = [replica for replica in partition.replicas if replica != to]
    command = commands.ChangeReplicas(
        group=partition.group, replicas=[to, *others], expected=partition.replicas
    )
    node.ask_metadata(command, decided)


def _may_lead(node: Node, partition: Partition, to: int) -> Group:
    group = node.groups.get(partition.group)
    if group is None or not group.leading:
        raise NotLeader(leader=node.groups.leader_of(partition.group)[1])
    if to not in group.raft.configuration.voters or to not in partition.replicas:
        raise PreconditionFailed(
            f"node {to} is none of the replicas {partition.replicas}", replicas=partition.replicas
        )
    if not is_alive(node, to):
        raise PreconditionFailed(f"node {to} is not heard of", node=to)
    if node.refusing(to):
        raise PreconditionFailed(
            f"node {to} takes no writes now: its disk is full, or can't keep up", node=to
        )
    return group


# ----- deciding


def request_of(session: Session, correlation: int, asked: Message) -> Request:
    """Whom to answer."""
    return Request(session, correlation, TYPE_OF[type(asked)])


def decide(
    node: Node,
    request: Request,
    command: commands.Command,
    answer: Callable[[object], None],
    dry_run: bool,
) -> None:
    """Have group 0 decide, or say what it would."""
    group = node.groups.metadata
    if not group.leading:
        raise LeaderUnknown("the metadata has no leader at the moment")
    if not dry_run:
        node.pending.propose(group, encode_command(command), answer, request)
        return
    reply = group.machine.preview(command, Stamp(group.next_index, group.raft.term, node.wall_us))
    raise_refusal(reply)
    answer(reply)


def raise_refusal(reply: object) -> None:
    """Let no refusal of a machine, nor error on the way to it, pass.

    Raises:
        PenstockError: it is one.
    """
    if isinstance(reply, PenstockError):
        raise reply
    if isinstance(reply, Refused):
        raise from_wire(reply.code, reply.message, reply.detail)
