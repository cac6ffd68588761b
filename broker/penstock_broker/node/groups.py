"""All Raft groups on this broker: made from what the store recovered, kept in step with metadata.

Group 0 comes first; the topics in its state name all others. A group is created when metadata says
so, and deleted only when metadata holds its tombstone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from penstock.errors import LeaderUnknown
from penstock_broker.machine.commands import TopicRef
from penstock_broker.machine.effects import (
    ConfigChanged,
    Effect,
    GroupCreated,
    GroupDeleted,
    SharedChanged,
    TopicRevised,
)
from penstock_broker.machine.topology import Topic
from penstock_broker.node.coordinator import CoordinatorGroup
from penstock_broker.node.group import Group
from penstock_broker.node.metadata import MetadataGroup
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.restart import make_raft

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

METADATA: Final = 0
RAFT_TICK_SECONDS: Final = 0.1


class Groups:
    """The registry: group id -> group, and by what each one is for."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._all: dict[int, Group] = {}
        self.coordinators: dict[int, CoordinatorGroup] = {}
        """By partition number of the internal topic."""
        self.metadata: MetadataGroup
        """Group 0, from `start` on."""
        self.node_id = 0
        """0: this node belongs to no cluster yet."""
        self._informed = False
        self._raft_tick_at = 0.0
        self._restless: dict[int, Group] = {}
        """Groups that need Raft's ticks: all but those whose leader has no peers."""
        self._expected: set[int] = set()

    def start(self, node_id: int, new_cluster: str, voters: list[int]) -> None:
        """Make group 0; what its state and log name follows.

        Args:
            node_id: Who we are from now on.
            new_cluster: Id of the cluster, if one is founded here.
            voters: Group 0 before its first entry; none: a leader will tell.
        """
        node = self._node
        self.node_id = node_id
        raft, state = make_raft(node_id, node.rng, voters, node.store.recovered.pop(METADATA, None))
        self.metadata = MetadataGroup(node, raft, state, new_cluster)
        self._all[METADATA] = self.metadata
        self.disturb(self.metadata)
        self.carry_out(self.metadata.creations())
        if raft.configuration.is_sole_voter(node_id):
            self.metadata.campaign()

    @property
    def cluster_id(self) -> str:
        """The cluster's id; empty until it is formed."""
        return self.metadata.machine.cluster if self.node_id else ""

    @property
    def informed(self) -> bool:
        """Whether the metadata here was up to date at least once since the start."""
        if not self._informed and self.cluster_id:
            group = self.metadata
            told = group.raft.leader and group.applied_index >= group.raft.log.commit
            self._informed = group.leading if group.raft.is_leader else bool(told)
        return self._informed

    @property
    def ready(self) -> bool:
        """Whether metadata is known and every group here has a leader that serves."""
        return bool(self.cluster_id) and all(group.leading for group in self._all.values())

    def get(self, gid: int) -> Group | None:
        """A group of this broker."""
        return self._all.get(gid)

    def __len__(self) -> int:
        return len(self._all)

    def serves(self, gid: int) -> bool:
        """Whether a group has a leader that serves, or is gone."""
        group = self._all.get(gid)
        return group is None or group.leading

    def coordinator_of(self, group: str) -> CoordinatorGroup:
        """The coordinator of an ordered group.

        Raises:
            LeaderUnknown: it has no leader at the moment.
        """
        count = len(self.coordinators)
        coordinator = self.coordinators.get(crc32c(group.encode()) % count) if count else None
        if coordinator is None or not coordinator.leading:
            raise LeaderUnknown("the group's coordinator has no leader at the moment")
        return coordinator

    @property
    def metadata_index(self) -> int:
        """How far the metadata is applied."""
        return self.metadata.applied_index

    @staticmethod
    def topic_ref(topic: Topic) -> TopicRef:
        """A topic as coordinators are told of it."""
        return TopicRef(
            name=topic.name,
            id=topic.id,
            partitions=len(topic.partitions),
            revision=topic.revision,
        )

    def find(self, topic: str, partition: int) -> PartitionGroup | None:
        """A data partition by name."""
        found = self.metadata.machine.topics.get(topic)
        if found is None or not 0 <= partition < len(found.partitions):
            return None
        return self._node.partitions.get(found.partitions[partition].group)

    # ----- effects of metadata

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Do what the metadata machine asks; each effect may come again after a restart."""
        for effect in effects:
            match effect:
                case GroupCreated():
                    self._create(effect)
                case GroupDeleted():
                    self._delete(effect.group)
                case ConfigChanged():
                    for gid in effect.groups:
                        if gid in self._node.partitions:
                            self._node.partitions[gid].configure(effect.config)
                case SharedChanged():
                    self._reconcile(effect.groups)
                case TopicRevised():
                    for coordinator in self.coordinators.values():
                        coordinator.topic_revised(effect)
                case _:
                    pass

    def _reconcile(self, gids: Sequence[int]) -> None:
        """The shared groups of a topic changed."""
        for gid in gids:
            if gid in self._node.partitions:
                self._node.partitions[gid].shared.configuring.reconcile()

    def _create(self, effect: GroupCreated) -> None:
        node, gid = self._node, effect.group
        if gid in self._all:
            return
        recovered = node.store.recovered.pop(gid, None)
        raft, state = make_raft(self.node_id, node.rng, effect.replicas, recovered)
        group: Group
        if effect.kind == "groups":
            group = self.coordinators[effect.partition] = CoordinatorGroup(node, gid, raft, state)
        else:
            group = node.partitions[gid] = PartitionGroup(node, raft, effect, state)
        self._all[gid] = group
        self.disturb(group)
        if effect.replicas[0] == self.node_id:
            group.campaign()

    def _delete(self, gid: int) -> None:
        group = self._all.pop(gid, None)
        if group is None:
            return
        group.gone = True
        partition = self._node.partitions.pop(gid, None)
        self._restless.pop(gid, None)
        self._node.polling.pop(gid, None)
        if partition is not None:
            partition.deleted()
        self._node.store.delete_log(gid)
        self._node.pending.group_ready(gid)

    # ----- time

    def tick(self) -> None:
        """Elections and long polls; costs nothing for groups at rest and without polls."""
        node = self._node
        if node.clock >= self._raft_tick_at and self._restless:
            self._raft_tick_at = node.clock + RAFT_TICK_SECONDS
            for group in list(self._restless.values()):
                if group.raft.is_leader and not group.raft.peers:
                    del self._restless[group.gid]
                else:
                    group.raft.tick()
                    node.mark(group)
        for partition in list(node.polling.values()):
            partition.polls.expire(node.clock)
            if not partition.polls:
                del node.polling[partition.gid]

    def disturb(self, group: Group) -> None:
        """A group's role changed: it needs ticks until it leads alone again."""
        self._restless[group.gid] = group

    def housekeeping(self) -> None:
        """Retention and group sessions; called a few times a second."""
        for coordinator in self.coordinators.values():
            coordinator.housekeeping()
        self._retention_step()

    def _retention_step(self) -> None:
        now = self._node.clock
        for partition in self._node.partitions.values():
            if now >= partition.retention_at:
                partition.apply_retention()
