"""The state of group 0: cluster, nodes, topics, and which Raft group carries each partition.

Invariants: the id of a Raft group is given once and never again; a partition that goes becomes a
tombstone, and nothing else allows a node to delete data; ids of nodes are never reused; what the
queries return is immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from penstock.errors import (
    BadRequest,
    InvalidConfig,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
    TopicExists,
    TopicNotFound,
)
from penstock_broker.machine import config, encoding
from penstock_broker.machine.commands import (
    AlterTopic,
    Command,
    CreateTopic,
    DeleteTopic,
    InitCluster,
    RaiseFeatureLevel,
    Refused,
    RegisterNode,
    refuse,
)
from penstock_broker.machine.effects import (
    ConfigChanged,
    Effect,
    GroupCreated,
    GroupDeleted,
    NodeChanged,
    TopicRevised,
)
from penstock_broker.machine.names import TEXT_LENGTH_MAX, check_topic_name
from penstock_broker.machine.placement import Placer, Replicas
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import (
    GROUPS_PARTITIONS,
    GROUPS_TOPIC,
    KIND_GROUPS,
    KIND_RECORDS,
    FeatureLevelRaised,
    Initialised,
    MetadataReply,
    NodeEntry,
    Partition,
    Registered,
    Topic,
    TopicAltered,
    TopicCreated,
    TopicDeleted,
)

GROUPS_REPLICATION_MAX: Final = 3
NODES_MAX: Final = 1_000
TOPICS_MAX: Final = 10_000
PARTITIONS_PER_TOPIC_MAX: Final = 10_000
PARTITIONS_MAX: Final = 20_000
REPLICATION_MAX: Final = 7
FEATURE_LEVEL: Final = 1
"""The highest feature level that this version knows."""

_VERSION: Final = 1


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    cluster: str
    feature_level: int
    next_node: int
    next_group: int
    nodes: list[NodeEntry]
    topics: list[Topic]
    tombstones: list[tuple[int, int]]


_DECODER: Final = encoding.decoder_of(_State)


class MetadataMachine:
    """Group 0's machine.

    Attributes:
        cluster: id of the cluster; empty before `InitCluster`.
        feature_level: what all nodes of the cluster may use.
    """

    def __init__(self) -> None:
        self.cluster = ""
        self.feature_level = FEATURE_LEVEL
        self._next_node = 1
        self._next_group = 1
        self._partition_count = 0
        self._nodes: dict[int, NodeEntry] = {}
        self._topics: dict[str, Topic] = {}
        self._located: dict[int, tuple[str, int]] = {}
        self._tombstones: list[tuple[int, int]] = []

    # ----- queries

    @property
    def nodes(self) -> Mapping[int, NodeEntry]:
        """Nodes by id."""
        return self._nodes

    @property
    def topics(self) -> Mapping[str, Topic]:
        """Topics by name, the internal ones too."""
        return self._topics

    def locate(self, group: int) -> tuple[Topic, int] | None:
        """Topic and partition of a Raft group; None: there is no such partition now."""
        found = self._located.get(group)
        return None if found is None else (self._topics[found[0]], found[1])

    def is_deleted(self, group: int) -> bool:
        """Whether the group's deletion is committed: only then its data may go."""
        return any(first <= group <= last for first, last in self._tombstones)

    # ----- commands

    def apply(self, command: Command, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        """Carry out a committed command."""
        match command:
            case InitCluster():
                return self._init_cluster(command, at)
            case RegisterNode():
                return self._register(command, at)
            case CreateTopic() | AlterTopic() | DeleteTopic():
                reply = self.preview(command, at)
                return reply, self._carry_out(reply, at)
            case RaiseFeatureLevel():
                return self._raise_feature_level(command), []
        return refuse(BadRequest, f"group 0 takes no {type(command).__name__}"), []

    def preview(self, command: CreateTopic | AlterTopic | DeleteTopic, at: Stamp) -> MetadataReply:
        """The reply that the command would get now; changes nothing (dry runs)."""
        try:
            if isinstance(command, CreateTopic):
                return self._plan_create(command, at)
            if isinstance(command, AlterTopic):
                return self._plan_alter(command, at)
            return self._plan_delete(command)
        except (InvalidName, InvalidConfig) as error:
            return refuse(type(error), error.message)

    def _init_cluster(self, command: InitCluster, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        if self.cluster:
            if self.cluster == command.cluster:
                return Initialised(self.cluster, False), []
            return refuse(PreconditionFailed, f"the cluster is {self.cluster} already"), []
        founders = command.founders
        uuids = sorted({founder.uuid for founder in founders})
        texts = [command.cluster, command.groups_topic_id]
        texts += [text for f in founders for text in (f.uuid, f.address)]
        if not founders or len(founders) > NODES_MAX or len(uuids) < len(founders):
            return refuse(BadRequest, "a cluster is founded by distinct nodes, at least one"), []
        if not all(map(_is_text, texts)) or not all(
            len(f.host) <= TEXT_LENGTH_MAX for f in founders
        ):
            return refuse(BadRequest, "an id, address or host is empty or too long"), []
        self.cluster = command.cluster
        effects: list[Effect] = []
        for founder in founders:
            effects += self._set_node(founder.uuid, founder.address, founder.host, at)[1]
        replication = min(len(founders), GROUPS_REPLICATION_MAX)
        places = self._place(command.groups_topic_id, 0, GROUPS_PARTITIONS, replication)
        topic = Topic(
            GROUPS_TOPIC, command.groups_topic_id, KIND_GROUPS, replication, {},
            self._partitions(places), at.index, at.time_us,
        )  # fmt: skip
        return Initialised(self.cluster, True), effects + self._carry_out(
            TopicCreated(topic, True), at
        )

    def _register(self, command: RegisterNode, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        if not self.cluster:
            return refuse(PreconditionFailed, "the cluster is not initialised"), []
        texts_fit = _is_text(command.uuid) and _is_text(command.address)
        if not texts_fit or len(command.host) > TEXT_LENGTH_MAX:
            return refuse(BadRequest, "an id, address or host is empty or too long"), []
        known = any(node.uuid == command.uuid for node in self._nodes.values())
        if not known and len(self._nodes) >= NODES_MAX:
            return refuse(LimitExceeded, f"a cluster has at most {NODES_MAX} nodes"), []
        node, effects = self._set_node(command.uuid, command.address, command.host, at)
        return Registered(node, at.index), effects

    def _set_node(self, uuid: str, address: str, host: str, at: Stamp) -> tuple[int, list[Effect]]:
        before = next((node for node in self._nodes.values() if node.uuid == uuid), None)
        id_ = before.id if before else self._next_node
        self._next_node = max(self._next_node, id_ + 1)
        self._nodes[id_] = NodeEntry(id_, uuid, address, host, at.index)
        if before and (before.address, before.host) == (address, host):
            return id_, []
        return id_, [NodeChanged(id_, address)]

    def _raise_feature_level(self, command: RaiseFeatureLevel) -> MetadataReply:
        if command.level > FEATURE_LEVEL:
            return refuse(PreconditionFailed, f"this broker knows level {FEATURE_LEVEL} at most")
        self.feature_level = max(self.feature_level, command.level)
        return FeatureLevelRaised(self.feature_level)

    # ----- topics: a plan is the reply with the topic as it will be

    def _plan_create(self, command: CreateTopic, at: Stamp) -> MetadataReply:
        check_topic_name(command.name)
        if not self.cluster:
            return refuse(PreconditionFailed, "the cluster is not initialised")
        present = self._topics.get(command.name)
        if present is not None:
            if present.id == command.id:
                return TopicCreated(present, True)
            if command.if_not_exists:
                return TopicCreated(present, False)
            return refuse(TopicExists, f"the topic {command.name!r} exists", topic=command.name)
        if not _is_text(command.id):
            return refuse(BadRequest, "a topic needs an id")
        if len(self._topics) >= TOPICS_MAX:
            return refuse(LimitExceeded, f"a cluster has at most {TOPICS_MAX} topics")
        settings = config.parse(command.config)
        refused = self._check_replication(command.replication)
        refused = refused or self._check_partitions(0, command.partitions)
        if refused is not None:
            return refused
        places = command.replicas
        if places is None:
            places = self._place(command.id, 0, command.partitions, command.replication)
        elif not self._fits(places, command):
            return refuse(BadRequest, "the replicas do not fit partitions, replication and nodes")
        partitions = self._partitions(places)
        return TopicCreated(
            Topic(command.name, command.id, KIND_RECORDS, command.replication, settings,
                  partitions, at.index, at.time_us),
            True,
        )  # fmt: skip

    def _plan_alter(self, command: AlterTopic, at: Stamp) -> MetadataReply:
        check_topic_name(command.name)
        topic = self._topics.get(command.name)
        if topic is None:
            return refuse(TopicNotFound, f"there is no topic {command.name!r}", topic=command.name)
        settings = config.merge(topic.settings, command.config)
        partitions, revision = topic.partitions, topic.revision
        if command.partitions is not None and command.partitions != len(partitions):
            refused = self._check_partitions(len(partitions), command.partitions)
            if refused is not None:
                return refused
            places = self._place(topic.id, len(partitions), command.partitions, topic.replication)
            partitions, revision = partitions + self._partitions(places), at.index
        return TopicAltered(
            replace(topic, settings=settings, partitions=partitions, revision=revision)
        )

    def _plan_delete(self, command: DeleteTopic) -> MetadataReply:
        check_topic_name(command.name)
        topic = self._topics.get(command.name)
        if topic is None:
            return refuse(TopicNotFound, f"there is no topic {command.name!r}", topic=command.name)
        return TopicDeleted(topic)

    def _check_replication(self, replication: int) -> Refused | None:
        if not 1 <= replication <= REPLICATION_MAX:
            return refuse(LimitExceeded, f"replication must be between 1 and {REPLICATION_MAX}")
        if replication > len(self._nodes):
            there = f"the cluster has {len(self._nodes)}"
            return refuse(
                PreconditionFailed, f"replication {replication} needs as many nodes; {there}"
            )
        return None

    def _check_partitions(self, before: int, after: int) -> Refused | None:
        if after < before:
            return refuse(BadRequest, f"there are {before} partitions; they can't become fewer")
        if not 1 <= after <= PARTITIONS_PER_TOPIC_MAX:
            limit = f"a topic has between 1 and {PARTITIONS_PER_TOPIC_MAX} partitions"
            return refuse(LimitExceeded, limit)
        if self._partition_count + after - before > PARTITIONS_MAX:
            return refuse(LimitExceeded, f"a cluster has at most {PARTITIONS_MAX} partitions")
        return None

    def _fits(self, places: list[Replicas], command: CreateTopic) -> bool:
        return len(places) == command.partitions and all(
            len(replicas) == command.replication == len(dict.fromkeys(replicas))
            and all(node in self._nodes for node in replicas)
            for replicas in places
        )

    def _place(self, topic_id: str, first: int, end: int, replication: int) -> list[Replicas]:
        placed = [p.replicas for topic in self._topics.values() for p in topic.partitions]
        placer = Placer({node.id: node.host for node in self._nodes.values()}, placed)
        return [placer.place(topic_id, partition, replication) for partition in range(first, end)]

    def _partitions(self, places: list[Replicas]) -> list[Partition]:
        return [
            Partition(group, replicas) for group, replicas in enumerate(places, self._next_group)
        ]

    # ----- carrying a plan out

    def _carry_out(self, plan: MetadataReply, at: Stamp) -> list[Effect]:
        match plan:
            case TopicCreated(topic):
                before = self._topics.get(topic.name)
                return [] if before is not None else self._put(topic, 0)
            case TopicAltered(topic):
                before = self._topics[topic.name]
                effects = self._put(topic, len(before.partitions))
                if topic.settings != before.settings:
                    groups = [partition.group for partition in before.partitions]
                    effects.append(ConfigChanged(topic.name, groups, topic.config))
                return effects
            case TopicDeleted(topic):
                return self._drop(topic, at.index)
        return []

    def _put(self, topic: Topic, known: int) -> list[Effect]:
        """Store a topic, of which `known` partitions were there before."""
        self._topics[topic.name] = topic
        settings = topic.config
        effects: list[Effect] = []
        for number, partition in enumerate(topic.partitions[known:], known):
            assert partition.group == self._next_group, "a group id is given once"
            self._next_group += 1
            self._partition_count += 1
            self._located[partition.group] = (topic.name, number)
            effects.append(
                GroupCreated(partition.group, topic.name, number, topic.kind, partition.replicas,
                             settings)
            )  # fmt: skip
        if effects and topic.kind == KIND_RECORDS:
            effects.append(
                TopicRevised(topic.name, topic.id, len(topic.partitions), topic.revision)
            )
        return effects

    def _drop(self, topic: Topic, revision: int) -> list[Effect]:
        del self._topics[topic.name]
        effects: list[Effect] = []
        for number, partition in enumerate(topic.partitions):
            del self._located[partition.group]
            self._partition_count -= 1
            effects.append(GroupDeleted(partition.group, topic.name, number))
        self._bury([partition.group for partition in topic.partitions])
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
            self._next_node,
            self._next_group,
            [self._nodes[node] for node in sorted(self._nodes)],
            [self._topics[name] for name in sorted(self._topics)],
            self._tombstones,
        )
        return encoding.encode(_VERSION, state)

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot.

        Raises:
            UnsupportedFormat, CorruptData: it can't be read; the state is as before.
        """
        state: _State = encoding.decode(_VERSION, _DECODER, blob, "a metadata snapshot")
        self.cluster, self.feature_level = state.cluster, state.feature_level
        self._next_node, self._next_group = state.next_node, state.next_group
        self._nodes = {node.id: node for node in state.nodes}
        self._topics = {topic.name: topic for topic in state.topics}
        self._located = {
            partition.group: (topic.name, number)
            for topic in state.topics
            for number, partition in enumerate(topic.partitions)
        }
        self._partition_count = len(self._located)
        self._tombstones = state.tombstones


def _is_text(text: str) -> bool:
    return 0 < len(text) <= TEXT_LENGTH_MAX
