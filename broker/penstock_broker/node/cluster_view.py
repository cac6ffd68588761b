"""How the cluster is, as this node sees it: brokers, partitions, where they are and how far.

Metadata says where things shall be; the leaders, asked each time, say how far their groups are.
Invariant: an answer never waits for a broker that is not heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from penstock.errors import TopicNotFound
from penstock.protocol import cluster
from penstock.protocol.messages import TYPE_OF, Message
from penstock_broker.machine.replica_recovery import is_bereft
from penstock_broker.machine.topology import (
    ACTIVE,
    DRAINING,
    KIND_RECORDS,
    NodeEntry,
    Partition,
    Topic,
)
from penstock_broker.node import questions
from penstock_broker.node.gather import Replies, gather
from penstock_broker.node.pending import Request
from penstock_broker.node.reconfigure import ENTRIES_BEHIND_MAX
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.machine.metadata import MetadataMachine
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

SILENT = -1
"""Entries behind of a member that is not heard of."""
OK = "ok"
MOVING = "moving"
UNDER_REPLICATED = "under-replicated"
LEADERLESS = "leaderless"

Leads = dict[int, tuple[int, questions.GroupLead]]
"""Group -> (leader, what it says)."""
Answers = Mapping[int, questions.NodeLeadsReply]
"""Node -> what it says."""


def is_alive(node: Node, id_: int) -> bool:
    """Whether this node hears from another one; it always does from itself."""
    return id_ == node.node_id or node.peers.alive(id_)


# ----- asking the leaders


def leads(node: Node, session: Session, correlation: int, asked: questions.NodeLeads) -> None:
    """What is led here."""
    if asked.groups is None:
        led = list(node.groups.led())
    else:
        found = map(node.groups.get, asked.groups)
        led = [group for group in found if group is not None and group.leading]
    reply = questions.NodeLeadsReply(
        version=node.config.version,
        leads=[_lead(node, group) for group in led],
        full=node.store.full,
    )
    node.reply(session, correlation, reply)


def _lead(node: Node, group: Group) -> questions.GroupLead:
    raft = group.raft
    last = raft.log.last_index
    behind = {
        member: last - progress.match if is_alive(node, member) else SILENT
        for member, progress in raft.progress.items()
        if member != raft.id
    }
    configuration = raft.configuration
    return questions.GroupLead(
        group=group.gid,
        term=raft.term,
        voters=list(configuration.voters),
        learners=list(configuration.learners),
        behind=behind,
    )


def _ask(
    node: Node,
    request: Request,
    groups: list[int] | None,
    finish: Callable[[Leads, Answers], None],
) -> None:
    """Ask everybody who is heard of; `finish` gets the leads, and what each said."""

    def answer(replies: Replies) -> None:
        found: Leads = {}
        answers: dict[int, questions.NodeLeadsReply] = {}
        for leader, reply in replies.items():
            if not isinstance(reply, questions.NodeLeadsReply):
                continue
            answers[leader] = reply
            for lead in reply.leads:
                if lead.group not in found or found[lead.group][1].term < lead.term:
                    found[lead.group] = (leader, lead)
        finish(found, answers)

    members = [id_ for id_ in node.groups.metadata.machine.members if is_alive(node, id_)]
    gather(node, request, dict.fromkeys(members, questions.NodeLeads(groups=groups)), answer)


# ----- partitions


def list_partitions(
    node: Node, session: Session, correlation: int, asked: cluster.ListPartitions
) -> None:
    """Where partitions are."""
    chosen = [
        topic
        for name, topic in sorted(node.groups.metadata.machine.topics.items())
        if name == asked.topic or (not asked.topic and (asked.internal or _is_public(topic)))
    ]
    if asked.topic and not chosen:
        raise TopicNotFound(f"there is no topic {asked.topic!r}", topic=asked.topic)
    places = [(topic, number) for topic in chosen for number in range(len(topic.partitions))]

    def answer(found: Leads, _: Answers) -> None:
        states = [_state(node, topic, number, found) for topic, number in places]
        node.reply(session, correlation, cluster.ListPartitionsReply(partitions=states))

    groups = [topic.partitions[number].group for topic, number in places]
    _ask(node, _request(session, correlation, asked), groups, answer)


def _is_public(topic: Topic) -> bool:
    return topic.kind == KIND_RECORDS


def _state(node: Node, topic: Topic, number: int, leads: Leads) -> cluster.PartitionState:
    partition = topic.partitions[number]
    leader, lead = leads.get(partition.group, (NOBODY, None))
    return cluster.PartitionState(
        topic=topic.name,
        partition=number,
        group=partition.group,
        leader=leader,
        term=lead.term if lead is not None else 0,
        replicas=partition.replicas,
        members=lead.voters if lead is not None else partition.members,
        learners=lead.learners if lead is not None else [],
        behind=lead.behind if lead is not None else {},
        moving=partition.moving,
        state=state_of(node, topic, partition, lead),
        bereft=lead is None and is_bereft(partition, node.groups.metadata.machine.members),
    )


def state_of(
    node: Node, topic: Topic, partition: Partition, lead: questions.GroupLead | None
) -> str:
    """The worst that is to be said of a partition."""
    if lead is None:
        return LEADERLESS
    # Partitions that are added, and companions, begin with fewer while there are fewer nodes.
    if len(partition.replicas) < topic.replication:
        return UNDER_REPLICATED
    whole = sum(_is_near(lead, voter) and is_alive(node, voter) for voter in lead.voters)
    for replica in partition.replicas:
        if replica not in lead.voters and partition.moving:
            # It is copied at the moment; nothing lacks as long as the copies before it are whole.
            lacks = whole < len(partition.replicas) and not _is_near(lead, replica)
        else:
            lacks = replica not in lead.voters or not _is_near(lead, replica)
        if lacks or not is_alive(node, replica):
            return UNDER_REPLICATED
    return MOVING if partition.moving else OK


def _is_near(lead: questions.GroupLead, member: int) -> bool:
    return lead.behind.get(member, 0) <= ENTRIES_BEHIND_MAX


# ----- the whole


def status(node: Node, session: Session, correlation: int, asked: cluster.ClusterStatus) -> None:
    """How the cluster is."""
    if not node.membership.started:
        node.reply(session, correlation, _unformed(node))
        return
    request = _request(session, correlation, asked)
    _ask(
        node,
        request,
        None,
        lambda found, answers: node.reply(session, correlation, _status(node, found, answers)),
    )


def _request(session: Session, correlation: int, asked: Message) -> Request:
    return Request(session, correlation, TYPE_OF[type(asked)])


def _unformed(node: Node) -> cluster.ClusterStatusReply:
    nobody = cluster.MetadataStatus(leader=NOBODY, term=0, voters=[], learners=[])
    return cluster.ClusterStatusReply(
        cluster="", node=node.node_id, metadata=nobody, nodes=[], feature_level=0, feature_max=0,
        partitions=0, leaderless=0, under_replicated=0, moving=0,
    )  # fmt: skip


def _status(node: Node, found: Leads, answers: Answers) -> cluster.ClusterStatusReply:
    machine, raft = node.groups.metadata.machine, node.groups.metadata.raft
    placed = [(topic, p) for topic in machine.topics.values() for p in topic.partitions]
    words = [state_of(node, topic, p, found.get(p.group, (0, None))[1]) for topic, p in placed]
    held = machine.holding()
    shown = [e for e in machine.nodes.values() if not e.gone or e.id in held]
    led = _count(leader for gid, (leader, _) in found.items() if gid)
    term, leader = node.groups.leader_of(0)
    return cluster.ClusterStatusReply(
        cluster=machine.cluster,
        node=node.node_id,
        metadata=cluster.MetadataStatus(
            leader=leader,
            term=term,
            voters=list(raft.configuration.voters),
            learners=list(raft.configuration.learners),
        ),
        nodes=[_node(node, entry, led, held, answers) for entry in shown],
        feature_level=machine.feature_level,
        feature_max=machine.feature_max,
        partitions=len(placed),
        leaderless=words.count(LEADERLESS),
        bereft=sum(
            word == LEADERLESS and is_bereft(partition, machine.members)
            for (_, partition), word in zip(placed, words, strict=True)
        ),
        under_replicated=words.count(UNDER_REPLICATED),
        moving=sum(partition.moving for _, partition in placed),
        awaited=node.membership.awaited(),
        internal=sum(not _is_public(topic) for topic, _ in placed),
        balancing=machine.balancing,
    )


def _node(
    node: Node,
    entry: NodeEntry,
    led: Mapping[int, int],
    held: Mapping[int, int],
    answers: Answers,
) -> cluster.NodeStatus:
    answer = answers.get(entry.id)
    parted = None if entry.gone else node.agreement.parted.get(entry.id)
    return cluster.NodeStatus(
        id=entry.id,
        address=entry.address,
        host=entry.host,
        state=entry.state,
        alive=is_alive(node, entry.id),
        answered=answer is not None,
        version=answer.version if answer is not None else "",
        full=answer is not None and answer.full,
        leaders=led.get(entry.id, 0),
        replicas=held.get(entry.id, 0),
        feature_max=entry.feature_max,
        stuck=stuck(node.groups.metadata.machine, entry.id) if entry.state == DRAINING else 0,
        parted_at=parted.index if parted is not None else 0,
        diverged=parted is not None and parted.proven,
    )


def stuck(machine: MetadataMachine, leaving: int) -> int:
    """Replicas of a node that have nowhere to go."""
    active = {entry.id for entry in machine.members.values() if entry.state == ACTIVE} - {leaving}
    return sum(
        leaving in partition.replicas and not active - set(partition.replicas)
        for topic in machine.topics.values()
        for partition in topic.partitions
    )


def bereft(node: Node, leaving: int) -> list[cluster.Bereft]:
    """The partitions that have no majority when a node is gone.

    During a move those are named that have none where they were, or none where they shall be: a
    move may be over although nobody has told the metadata yet.
    """
    found = []
    for name, topic in sorted(node.groups.metadata.machine.topics.items()):
        for number, partition in enumerate(topic.partitions):
            for members in (partition.members, sorted(partition.replicas)):
                others = [member for member in members if member != leaving]
                alive = [member for member in others if is_alive(node, member)]
                if len(others) < len(members) and len(alive) * 2 <= len(members):
                    found.append(
                        cluster.Bereft(topic=name, partition=number, others=others, alive=alive)
                    )
                    break
    return found


def _count(items: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts
