"""The state of group 0: cluster, nodes, topics, and which Raft group carries each partition.

Invariants: the id of a Raft group is given once and never again; a partition that goes becomes a
tombstone, and nothing else allows a node to delete data; ids of nodes are never reused; what the
queries return is immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from penstock.errors import BadRequest, PreconditionFailed, RequestError, UnsupportedFormat
from penstock_broker.machine import encoding
from penstock_broker.machine.commands import (
    AlterSharedGroup,
    AlterTopic,
    ChangeReplicas,
    Command,
    CreateSharedGroup,
    CreateTopic,
    DeleteSharedGroup,
    DeleteTopic,
    EnableDelays,
    InitCluster,
    RaiseFeatureLevel,
    RecoverPartition,
    Refused,
    RegisterNode,
    SetBalancing,
    SetNodeState,
    SettleReplicas,
    refuse,
)
from penstock_broker.machine.config import TopicConfig
from penstock_broker.machine.decisions import chained
from penstock_broker.machine.drafts import Draft
from penstock_broker.machine.effects import (
    ConfigChanged,
    Effect,
    GroupCreated,
    GroupDeleted,
    ReplicaRemoved,
    ReplicasChanged,
    SharedChanged,
    TopicRevised,
)
from penstock_broker.machine.names import TEXT_LENGTH_MAX
from penstock_broker.machine.nodes import NODES_MAX, NodeTable
from penstock_broker.machine.replica_plans import change_replicas, settle_replicas
from penstock_broker.machine.replica_recovery import recover_partition
from penstock_broker.machine.shared_plans import (
    alter_shared,
    create_shared,
    delete_shared,
    enable_delays,
)
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topic_plans import alter_topic, create_topic, delete_topic
from penstock_broker.machine.topology import (
    GROUPS_PARTITIONS,
    GROUPS_TOPIC,
    KIND_GROUPS,
    KIND_RECORDS,
    REMOVED,
    BalancingSet,
    FeatureLevelRaised,
    Initialised,
    MetadataReply,
    NodeEntry,
    NodeStateSet,
    Partition,
    Registered,
    Topic,
)

GROUPS_REPLICATION_MAX: Final = 3
FEATURE_LEVEL: Final = 1
"""The highest feature level that this version knows."""

_VERSION: Final = 3

TopicCommand = (
    CreateTopic
    | AlterTopic
    | DeleteTopic
    | CreateSharedGroup
    | AlterSharedGroup
    | DeleteSharedGroup
    | EnableDelays
    | ChangeReplicas
    | SettleReplicas
    | RecoverPartition
)


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    cluster: str
    feature_level: int
    balancing: bool
    next_node: int
    next_group: int
    nodes: list[NodeEntry]
    topics: list[Topic]
    tombstones: list[tuple[int, int]]
    digest: int


_DECODER: Final = encoding.decoder_of(_State)


class MetadataMachine:
    """Group 0's machine.

    Attributes:
        cluster: id of the cluster; empty before `InitCluster`.
        feature_level: what all nodes of the cluster may use, and the only version that a
            decision may depend on: 0 before `InitCluster`, then the highest that its founders all
            knew, until it is raised. It comes from the log alone, so that a newer version that
            replays the log decides as those did that wrote it.
        balancing: whether replicas and leads may be moved only to make brokers more even.
        digest: of all that was decided so far, also before a snapshot that was restored: equal on
            all brokers that have applied the same (`decisions`).
    """

    def __init__(self, level_max: int = FEATURE_LEVEL) -> None:
        """A machine of a version that knows this level, and none above."""
        self._level_max = level_max
        self.cluster = ""
        self.feature_level = 0
        self.balancing = True
        self.digest = 0
        self._next_group = 1
        self._nodes = NodeTable()
        self._topics: dict[str, Topic] = {}
        self._located: dict[int, tuple[str, int]] = {}
        self._tombstones: list[tuple[int, int]] = []

    # ----- queries

    @property
    def nodes(self) -> Mapping[int, NodeEntry]:
        """Nodes by id, those that are gone too (`NodeEntry.gone`)."""
        return self._nodes.all

    @property
    def members(self) -> Mapping[int, NodeEntry]:
        """The nodes that belong to the cluster now, by id."""
        return self._nodes.present

    @property
    def feature_max(self) -> int:
        """The highest feature level that every member of the cluster knows."""
        return self._nodes.feature_max

    @property
    def topics(self) -> Mapping[str, Topic]:
        """Topics by name, the internal ones too."""
        return self._topics

    def locate(self, group: int) -> tuple[Topic, int] | None:
        """Topic and partition of a Raft group; None: there is no such partition now."""
        found = self._located.get(group)
        return None if found is None else (self._topics[found[0]], found[1])

    def dead_partition(self, topic: str, group: str, partition: int) -> int:
        """Raft group of the partition where dead letters go to; 0: they go nowhere."""
        found = self._topics.get(topic)
        definition = None if found is None else found.shared.get(group)
        dead = None if definition is None else self._topics.get(definition.dead_topic)
        if dead is None or not 0 <= partition < len(dead.partitions):
            return 0
        return dead.partitions[partition].group

    def holding(self) -> dict[int, int]:
        """Number of replicas that each node keeps a copy of; nodes without any are left out."""
        held: dict[int, int] = {}
        for topic in self._topics.values():
            for partition in topic.partitions:
                for node in partition.holders:
                    held[node] = held.get(node, 0) + 1
        return held

    def is_deleted(self, group: int) -> bool:
        """Whether the group's deletion is committed: only then its data may go."""
        return any(first <= group <= last for first, last in self._tombstones)

    # ----- commands

    def apply(self, command: Command, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        """Carry out a committed command.

        Raises:
            UnsupportedFormat: from here on the cluster uses a level that is not known here.
        """
        reply, effects = self._decide(command, at)
        if not isinstance(reply, Refused):
            general = self.feature_level, self.balancing
            nodes, topics = self._nodes.all, self._topics
            self.digest = chained(self.digest, at.index, general, effects, nodes, topics)
        return reply, effects

    def _decide(self, command: Command, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        match command:
            case InitCluster():
                return self._init_cluster(command, at)
            case RegisterNode():
                return self._register(command, at)
            case SetNodeState():
                return self._set_node_state(command)
            case RaiseFeatureLevel():
                return self._raise_feature_level(command), []
            case SetBalancing():
                self.balancing = command.on
                return BalancingSet(command.on), []
        if isinstance(command, TopicCommand):
            draft = self._draft(at)
            reply = _plan(draft, command, bool(self.cluster))
            return reply, [] if isinstance(reply, Refused) else self._carry_out(draft)
        return refuse(BadRequest, f"group 0 takes no {type(command).__name__}"), []

    def preview(self, command: Command, at: Stamp) -> MetadataReply:
        """The reply that a command would get now; changes nothing (dry runs)."""
        match command:
            case SetNodeState():
                return self._check_node_state(command)
            case RaiseFeatureLevel():
                return self._check_feature_level(command)
            case SetBalancing():
                return BalancingSet(command.on)
            case RegisterNode():
                return self._check_registration(command)
        assert isinstance(command, TopicCommand), "other commands have no dry run"
        return _plan(self._draft(at), command, bool(self.cluster))

    def _init_cluster(self, command: InitCluster, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        if self.cluster:
            if self.cluster == command.cluster:
                return Initialised(self.cluster, False), []
            return refuse(PreconditionFailed, f"the cluster is {self.cluster} already"), []
        founders = command.founders
        uuids = sorted({founder.uuid for founder in founders})
        texts = [command.cluster, command.groups_topic_id]
        if not founders or len(founders) > NODES_MAX or len(uuids) < len(founders):
            return refuse(BadRequest, "a cluster is founded by distinct nodes, at least one"), []
        try:
            for founder in founders:
                self._nodes.check_texts(founder.uuid, founder.address, founder.host)
            if not all(0 < len(text) <= TEXT_LENGTH_MAX for text in texts):
                raise BadRequest("an id is empty or too long")
            level = min(founder.feature_max for founder in founders)
            if level < 1:
                raise BadRequest("a founder knows no feature level")
        except RequestError as error:
            return refuse(type(error), error.message), []
        self._use(level)
        self.cluster = command.cluster
        effects: list[Effect] = []
        for founder in founders:
            entry = RegisterNode(uuid=founder.uuid, address=founder.address, host=founder.host,
                                 feature_max=founder.feature_max)  # fmt: skip
            effects += self._nodes.register(entry, 0, at.index)[1]
        replication = min(len(founders), GROUPS_REPLICATION_MAX)
        draft = self._draft(at)
        id_ = command.groups_topic_id
        draft.create(GROUPS_TOPIC, id_, KIND_GROUPS, {}, replication, GROUPS_PARTITIONS)
        return Initialised(self.cluster, True), effects + self._carry_out(draft)

    def _register(self, command: RegisterNode, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        if not self.cluster:
            return refuse(PreconditionFailed, "the cluster is not initialised"), []
        try:
            node, effects = self._nodes.register(command, self.feature_level, at.index)
            if self._nodes.crowded:
                self._nodes.forget(self.holding())
        except RequestError as error:
            return refuse(type(error), error.message, **error.detail), []
        return Registered(node, at.index), list(effects)

    def _check_registration(self, command: RegisterNode) -> Refused | Registered:
        try:
            known = self._nodes.check(command, self.feature_level)
        except RequestError as error:
            return refuse(type(error), error.message, **error.detail)
        return Registered(known.id if known else self._nodes.next_id, 0)

    def _set_node_state(self, command: SetNodeState) -> tuple[MetadataReply, list[Effect]]:
        reply = self._check_node_state(command)
        if isinstance(reply, Refused):
            return reply, []
        return reply, list(self._nodes.set_state(command.node, command.state))

    def _check_node_state(self, command: SetNodeState) -> Refused | NodeStateSet:
        node, state = command.node, command.state
        try:
            entry = self._nodes.check_state(node, state)
            holding = self.holding()
            if state == REMOVED and node in holding and not command.force:
                raise PreconditionFailed(
                    f"node {node} holds {holding[node]} replicas: drain it first", node=node
                )
        except RequestError as error:
            return refuse(type(error), error.message, **error.detail)
        return NodeStateSet(replace(entry, state=state))

    def _raise_feature_level(self, command: RaiseFeatureLevel) -> MetadataReply:
        reply = self._check_feature_level(command)
        if isinstance(reply, FeatureLevelRaised):
            self._use(reply.level)
        return reply

    def _use(self, level: int) -> None:
        """Begin to use a level; who does not know it must not guess what others decide."""
        if level > self._level_max:
            raise UnsupportedFormat(
                f"the cluster uses feature level {level}, this broker knows {self._level_max}"
            )
        self.feature_level = level

    def _check_feature_level(self, command: RaiseFeatureLevel) -> Refused | FeatureLevelRaised:
        known = self._nodes.feature_max
        if command.level > known:
            return refuse(PreconditionFailed, f"some broker knows level {known} at most")
        return FeatureLevelRaised(max(self.feature_level, command.level))

    # ----- carrying a plan out

    def _draft(self, at: Stamp) -> Draft:
        return Draft(at, self._nodes.present, self._topics, self._located, self._next_group)

    def _carry_out(self, draft: Draft) -> list[Effect]:
        effects: list[Effect] = []
        for topic in draft.put.values():
            effects += self._put(topic)
        for topic in draft.dropped:
            effects += self._drop(topic, draft.at.index)
        return effects

    def _put(self, topic: Topic) -> list[Effect]:
        """Store a topic that is new or changed."""
        before = self._topics.get(topic.name)
        known = [] if before is None else before.partitions
        self._topics[topic.name] = topic
        effects: list[Effect] = []
        config = topic.config
        for number, partition in enumerate(topic.partitions[len(known) :], len(known)):
            assert partition.group == self._next_group, "a group id is given once"
            self._next_group += 1
            self._located[partition.group] = (topic.name, number)
            effects.append(created(topic, number, config))
        grown = bool(effects)
        for number, (old, new) in enumerate(zip(known, topic.partitions, strict=False)):
            if old is not new and old != new:
                effects += _replicas_changed(topic, number, old)
        if grown and topic.kind == KIND_RECORDS:
            effects.append(
                TopicRevised(topic.name, topic.id, len(topic.partitions), topic.revision)
            )
        if before is not None and topic.settings != before.settings:
            groups = [partition.group for partition in known]
            effects.append(ConfigChanged(topic.name, groups, topic.config))
        if topic.shared != ({} if before is None else before.shared):
            groups = [partition.group for partition in topic.partitions]
            effects.append(SharedChanged(topic.name, groups))
        return effects

    def _drop(self, topic: Topic, revision: int) -> list[Effect]:
        del self._topics[topic.name]
        effects: list[Effect] = []
        for number, partition in enumerate(topic.partitions):
            del self._located[partition.group]
            effects.append(GroupDeleted(partition.group, topic.name, number))
        self._bury([partition.group for partition in topic.partitions])
        if topic.kind == KIND_RECORDS:
            effects.append(TopicRevised(topic.name, topic.id, 0, revision))
        return effects

    def _bury(self, groups: list[int]) -> None:
        """Add tombstones, kept as merged ranges: never more of them than living groups + 1."""
        ranges = sorted([*self._tombstones, *((group, group) for group in groups)])
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and merged[-1][1] == first - 1:
                merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        self._tombstones = merged

    # ----- snapshots

    def snapshot(self) -> bytes:
        """The whole state; equal on all replicas that applied the same commands."""
        state = _State(
            self.cluster,
            self.feature_level,
            self.balancing,
            self._nodes.next_id,
            self._next_group,
            [self._nodes.all[node] for node in sorted(self._nodes.all)],
            [self._topics[name] for name in sorted(self._topics)],
            self._tombstones,
            self.digest,
        )
        return encoding.encode(_VERSION, state)

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot.

        Raises:
            UnsupportedFormat, CorruptData: it can't be read, or uses a level that is not known
                here; the state is as before.
        """
        state: _State = encoding.decode(_VERSION, _DECODER, blob, "a metadata snapshot")
        self._use(state.feature_level)
        self.cluster, self.balancing = state.cluster, state.balancing
        self.digest = state.digest
        self._next_group = state.next_group
        self._nodes = NodeTable(state.next_node, state.nodes)
        self._topics = {topic.name: topic for topic in state.topics}
        self._located = {
            partition.group: (topic.name, number)
            for topic in state.topics
            for number, partition in enumerate(topic.partitions)
        }
        self._tombstones = state.tombstones


_PLANS: Final[dict[type, Callable[[Draft, Any], MetadataReply]]] = {
    CreateTopic: create_topic,
    AlterTopic: alter_topic,
    DeleteTopic: delete_topic,
    CreateSharedGroup: create_shared,
    AlterSharedGroup: alter_shared,
    DeleteSharedGroup: delete_shared,
    EnableDelays: enable_delays,
    ChangeReplicas: change_replicas,
    SettleReplicas: settle_replicas,
    RecoverPartition: recover_partition,
}


def _plan(draft: Draft, command: TopicCommand, initialised: bool) -> MetadataReply:
    """Plan a command; a refusal leaves a draft that must not be used."""
    try:
        if not initialised:
            raise PreconditionFailed("the cluster is not initialised")
        return _PLANS[type(command)](draft, command)
    except RequestError as error:
        return refuse(type(error), error.message, **error.detail)


def created(topic: Topic, number: int, config: TopicConfig | None = None) -> GroupCreated:
    """A partition as the effect that makes its group, with its holders as they are now.

    Who asks for many of a topic hands in its `config`.
    """
    partition = topic.partitions[number]
    return GroupCreated(
        partition.group, topic.name, number, topic.kind, partition.replicas,
        config or topic.config, partition.founders, partition.holders,
    )  # fmt: skip


def _replicas_changed(topic: Topic, number: int, before: Partition) -> list[Effect]:
    partition = topic.partitions[number]
    changed = ReplicasChanged(
        partition.group, topic.name, number, topic.kind, partition.replicas, topic.config,
        partition.founders, partition.holders,
    )  # fmt: skip
    gone = [node for node in before.holders if node not in partition.holders]
    return [changed, *(ReplicaRemoved(partition.group, node) for node in gone)]
