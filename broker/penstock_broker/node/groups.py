"""All Raft groups on this broker: made from what the store recovered, kept in step with metadata.

Group 0 comes first; the topics in its state name all others. A group is created when metadata says
so, and deleted only when metadata holds its tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from penstock.errors import LeaderUnknown, NotLeader, PenstockError, TopicNotFound
from penstock_broker import raft as consensus
from penstock_broker.machine.commands import TopicRef
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
from penstock_broker.machine.metadata import created
from penstock_broker.machine.topology import GROUPS_TOPIC, Topic
from penstock_broker.node.controller.controller import Controller
from penstock_broker.node.coordinator import CoordinatorGroup
from penstock_broker.node.dropping import Remains, drop, leftover, remains_of
from penstock_broker.node.group import Group
from penstock_broker.node.leaving import Leaving
from penstock_broker.node.making import Making
from penstock_broker.node.metadata import MetadataGroup
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.reconfigure import Reconfiguring
from penstock_broker.node.restart import METADATA_OPTIONS, make_raft
from penstock_broker.node.surviving import Surviving
from penstock_broker.raft import NOBODY, AppendResponse, InstallSnapshot, VoteRequest
from penstock_broker.raft import Message as RaftMessage

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

METADATA: Final = 0
RAFT_TICK_SECONDS: Final = 0.1
TICKS_TO_REST: Final = 8
"""So often is looked for groups that need no ticks."""
RETURN_SECONDS: Final = 10.0
"""A replica that was dropped comes back not before: no connection keeps its answers for so long."""
EARLY_MAX: Final = 4096
"""Groups whose first vote is asked for before the metadata here names them."""


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
        self._raft_ticks = 0
        self._restless: dict[int, Group] = {}
        """Groups that need Raft's ticks: all but those whose leader has no peers."""
        self._early: dict[int, RaftMessage] = {}
        """The last request for a vote in each group that is not known here yet."""
        self.strays = 0
        """Messages for groups that are not here."""
        self.retained_bytes = 0
        """Applied entries in memory, over all groups; see `retained`."""
        self._returning: set[int] = set()
        """Groups that come back to this node before their old copy is gone."""
        self._dropped_at: dict[int, float] = {}
        self._started_at = 0.0
        self._replaying = True
        """Whether the metadata here may be older than what lies on this disk."""
        self._known = 0
        """Index up to which the metadata was logged here before the start."""
        self.making = Making(self._create, self._delete)
        self.leaving = Leaving(node, self._drop_here)
        self.surviving = Surviving(node, self._give_up)
        self.reconfiguring = Reconfiguring(node)
        self.controller = Controller(node)

    def start(self, node_id: int, new_cluster: str, voters: list[int]) -> None:
        """Make group 0; what its state and log name follows.

        Args:
            node_id: Who we are from now on.
            new_cluster: Id of the cluster, if one is founded here.
            voters: Group 0 before its first entry; none: a leader will tell.
        """
        node = self._node
        self.node_id = node_id
        recovered = node.store.recovered.pop(METADATA, None)
        raft, state = make_raft(node_id, node.rng, voters, recovered, METADATA_OPTIONS)
        self.metadata = MetadataGroup(node, raft, state, new_cluster)
        self._all[METADATA] = self.metadata
        self._known = raft.log.last_index
        self._started_at = node.clock
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
        """Whether metadata is known and every group here has a leader."""
        if not self.cluster_id or self.making:
            return False
        return all(map(self._is_led, self._all.values()))

    @staticmethod
    def _is_led(group: Group) -> bool:
        raft = group.raft
        return group.leading if raft.is_leader else raft.leader != NOBODY

    def get(self, gid: int) -> Group | None:
        """A group of this broker."""
        return self._all.get(gid)

    def __len__(self) -> int:
        return len(self._all)

    def serves(self, gid: int) -> bool:
        """Whether a group has a leader, here or elsewhere, or is gone."""
        group = self._all.get(gid)
        if group is not None and self._is_led(group):
            return True
        return gid in self._node.peers.leaders or self.metadata.machine.is_deleted(gid)

    def leader_of(self, gid: int) -> tuple[int, int]:
        """(term, node) that leads a group as far as is known here; node 0: nobody."""
        group = self._all.get(gid)
        known = self._node.peers.leaders.get(gid, (0, NOBODY))
        if group is None:
            return known
        raft = group.raft
        if raft.is_leader:
            return raft.term, raft.id if group.leading else NOBODY
        if raft.leader != NOBODY or raft.term > known[0]:
            return raft.term, raft.leader
        return known

    def coordinator_group(self, group: str) -> int:
        """The Raft group that coordinates an ordered group, wherever it is led.

        Raises:
            LeaderUnknown: the cluster is not formed yet.
        """
        topic = self.metadata.machine.topics.get(GROUPS_TOPIC)
        if topic is None:
            raise LeaderUnknown("the cluster is being formed")
        return topic.partitions[crc32c(group.encode()) % len(topic.partitions)].group

    def coordinator_of(self, group: str) -> CoordinatorGroup:
        """The coordinator of an ordered group.

        Raises:
            LeaderUnknown: it has no leader at the moment.
        """
        coordinator = self._all.get(self.coordinator_group(group))
        if not isinstance(coordinator, CoordinatorGroup) or not coordinator.leading:
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
        for effect in self.making.postpone(effects):
            match effect:
                case GroupCreated() | ReplicasChanged():
                    self._create(effect)
                    self.reconfiguring.watch(effect.group)
                case GroupDeleted():
                    self._delete(effect.group)
                case ReplicaRemoved():
                    if effect.node == self.node_id:
                        self._removed(effect.group)
                case ConfigChanged():
                    self._configure(effect)
                case SharedChanged():
                    self._reconcile(effect.groups)
                case TopicRevised():
                    self._revise(effect)
                case _:
                    pass

    def _configure(self, effect: ConfigChanged) -> None:
        """A topic has other settings."""
        for gid in effect.groups:
            if gid in self._node.partitions:
                self._node.partitions[gid].configure(effect.config)

    def _revise(self, effect: TopicRevised) -> None:
        """A topic got partitions or is gone: ordered groups must know."""
        for coordinator in self.coordinators.values():
            coordinator.topic_revised(effect)

    def _reconcile(self, gids: Sequence[int]) -> None:
        """The shared groups of a topic changed."""
        for gid in gids:
            if gid in self._node.partitions:
                self._node.partitions[gid].shared.configuring.reconcile()

    def reconcile(self) -> None:
        """The metadata was replaced as a whole: catch up with what its effects would have done."""
        machine = self.metadata.machine
        for gid in [gid for gid in self._all if gid != METADATA and machine.is_deleted(gid)]:
            self._delete(gid)
        every = self.metadata.creations()
        for one in every:
            if self.node_id not in one.holders:
                self._removed(one.group)
        self.carry_out(every)
        for topic in machine.topics.values():
            gids = [partition.group for partition in topic.partitions]
            self.carry_out([ConfigChanged(topic.name, gids, topic.config)])
            self._reconcile(gids)

    def _create(self, effect: GroupCreated | ReplicasChanged) -> None:
        node, gid = self._node, effect.group
        if self.node_id not in effect.holders:
            return
        self.surviving.watch(gid)
        if gid in self._all:
            self.leaving.discard(gid)
            return
        if not self._may_return(gid):
            self._returning.add(gid)
            return
        recovered = node.store.recovered.pop(gid, None)
        founders = effect.founders if self.node_id in effect.founders else []
        raft, state = make_raft(self.node_id, node.rng, founders, recovered)
        group: Group
        if effect.kind == "groups":
            group = self.coordinators[effect.partition] = CoordinatorGroup(node, gid, raft, state)
        else:
            group = node.partitions[gid] = PartitionGroup(node, raft, effect, state)
        self._all[gid] = group
        self.disturb(group)
        fresh = bool(founders) and recovered is None and effect.replicas[0] == self.node_id
        if fresh or raft.configuration.is_sole_voter(self.node_id):
            group.campaign()
        elif effect.replicas[0] == self.node_id:
            group.suspect()
        early = self._early.pop(gid, None)
        if early is not None:
            self.peer_message(gid, early)

    def _delete(self, gid: int) -> None:
        here = self._end(gid, TopicNotFound("the topic was deleted"))
        if here or gid in self._node.store.recovered:
            self._node.store.delete_log(gid)
        if here:
            self._node.pending.group_ready(gid)

    def _removed(self, gid: int) -> None:
        """The group settled without this node."""
        if self._replaying:
            return  # it may have come back since: what lies here can be younger than this word
        if gid in self._all:
            self.leaving.add(gid)

    def _drop_here(self, gid: int) -> None:
        group = self._all.get(gid)
        if group is not None and self._end(gid, NotLeader("the replica here was removed")):
            self._drop(gid, remains_of(group))

    def _give_up(self, gid: int) -> None:
        """The copy here is of no use: the replica begins anew as if there had been none."""
        self._drop_here(gid)
        self._returning.add(gid)

    def _drop(self, gid: int, remains: Remains) -> None:
        self._dropped_at[gid] = self._node.clock
        drop(self._node, gid, remains)

    def _may_return(self, gid: int) -> bool:
        """Whether nothing is left of a replica that was here, neither on disk nor on its way.

        An answer of its earlier life must not be taken for one of the next.
        """
        store = self._node.store
        recovered = store.recovered.get(gid)
        if recovered is None or not recovered.emptied or recovered.entries:
            return True
        since = self._node.clock - self._dropped_at.get(gid, self._started_at)
        return not store.dropping(gid) and since >= RETURN_SECONDS

    def _tidy(self) -> None:
        """Take in groups that come back, as soon as their old copy is gone."""
        self.leaving.step()
        machine = self.metadata.machine
        for gid in [gid for gid in self._returning if self._may_return(gid)]:
            self._returning.discard(gid)
            place = machine.locate(gid)
            if place is not None:
                self._create(created(*place))
        log = self.metadata.raft.log
        if self._replaying and self.metadata.applied_index >= min(self._known, log.last_index):
            self._replaying = False
            self._drop_strangers()

    def _drop_strangers(self) -> None:
        """Drop copies that are elsewhere now; all metadata that was known before is applied."""
        store, machine = self._node.store, self.metadata.machine
        for gid in {*self._all, *store.recovered} - {METADATA}:
            place = machine.locate(gid)
            if machine.is_deleted(gid):
                store.delete_log(gid)
            elif place is None or self.node_id in place[0].partitions[place[1]].holders:
                continue  # what the metadata does not name is no leftover: it never was here
            elif gid in self._all:
                self._removed(gid)
            elif store.recovered[gid].entries or not store.recovered[gid].emptied:
                self._drop(gid, leftover(store.recovered[gid]))

    def _end(self, gid: int, error: PenstockError) -> bool:
        """Take a group off this node; whether it was here."""
        group = self._all.pop(gid, None)
        if group is None:
            return False
        group.end(error)
        self.leaving.discard(gid)
        self._restless.pop(gid, None)
        self._node.polling.pop(gid, None)
        self._node.catchup.deleted(gid)
        partition = self._node.partitions.pop(gid, None)
        if partition is not None:
            partition.deleted(error)
        self.coordinators = {at: one for at, one in self.coordinators.items() if one is not group}
        return True

    # ----- other nodes

    def peer_message(self, gid: int, message: RaftMessage) -> None:
        """A message of a group arrived from another node."""
        group = self._all.get(gid)
        if gid in self.leaving.silent:
            return
        if group is None:
            self._stray(gid, message)
        elif type(message) is InstallSnapshot:
            self._node.catchup.arrived(group, message)
        else:
            group.raft.step(message)
            if type(message) is AppendResponse and self._node.catchup.sending:
                self._node.catchup.acknowledged(group, message)
            self._node.mark(group)

    def _stray(self, gid: int, message: RaftMessage) -> None:
        """A group's first election may be faster than word of the group itself."""
        self.strays += 1
        if type(message) is VoteRequest:
            if len(self._early) >= EARLY_MAX:
                self._early.pop(next(iter(self._early)))
            self._early[gid] = message

    def announce(self, gid: int, term: int) -> None:
        """This node leads a group from now on; term 0: no longer."""
        self._node.peers.announce(gid, term)

    def suspect(self, node_id: int) -> None:
        """A node's process is gone: whatever it led needs another leader soon."""
        for group in self._restless.values():
            if group.raft.leader == node_id:
                group.raft.stand_in_turn(self._turn(group, node_id))
            group.doubt()

    def _turn(self, group: Group, gone: int) -> int:
        """How many stand before this node when a leader is gone: leads go in replicas' order."""
        place = self.metadata.machine.locate(group.gid)
        voters = group.raft.configuration.voters
        order = voters if place is None else place[0].partitions[place[1]].replicas
        refusing, alive = self._node.refusing, self._node.peers.alive
        before = order[: order.index(self.node_id)] if self.node_id in order else order
        if refusing.here:  # all others first
            before = [node for node in order if node != self.node_id]
        return sum(node != gone and alive(node) and not refusing(node) for node in before)

    def offer_to_lead(self) -> None:
        """Another node is there: preferred leaders need not wait for silence after a start."""
        for group in self._restless.values():
            if group.raft.leader == NOBODY and self._is_preferred(group):
                group.suspect()

    def _is_preferred(self, group: Group) -> bool:
        if group.gid == METADATA:
            return group.raft.configuration.voters[:1] == (self.node_id,)
        place = self.metadata.machine.locate(group.gid)
        return place is not None and place[0].partitions[place[1]].replicas[0] == self.node_id

    # ----- time

    def tick(self) -> None:
        """Elections and long polls; costs nothing for groups at rest and without polls."""
        node = self._node
        if node.clock >= self._raft_tick_at and self._restless:
            self._raft_tick_at = node.clock + RAFT_TICK_SECONDS
            self._tick_rafts(list(self._restless.values()))
        for partition in list(node.polling.values()):
            partition.polls.expire(node.clock)
            if not partition.polls:
                del node.polling[partition.gid]

    def _tick_rafts(self, groups: list[Group]) -> None:
        due = [group for group in groups if group.pending]
        due += consensus.tick([(group, group.raft) for group in groups])
        for group in due:
            self._node.mark(group)
        self._raft_ticks += 1
        if self._raft_ticks % TICKS_TO_REST:
            return
        for group in groups:
            if group.raft.is_leader and not group.raft.peers:
                self._restless.pop(group.gid, None)

    def led(self) -> Iterator[Group]:
        """The groups that this node leads."""
        return (group for group in list(self._all.values()) if group.leading)

    def restless(self) -> Iterable[Group]:
        """All groups but those that this node leads without peers."""
        return self._restless.values()

    def disturb(self, group: Group) -> None:
        """A group's role or members changed: it needs ticks until its leader is alone again."""
        if not group.gone:
            self._restless[group.gid] = group

    def housekeeping(self) -> None:
        """Retention and group sessions; called a few times a second."""
        self._node.pending.look_again()
        for coordinator in self.coordinators.values():
            coordinator.housekeeping()
        self._retention_step()
        if self.node_id:
            self._tidy()
            self._node.store.expire(self._node.wall_us)
            self.surviving.tick(replaying=self._replaying)
            self.controller.tick()
            self.reconfiguring.tick()

    def _retention_step(self) -> None:
        now = self._node.clock
        for partition in self._node.partitions.values():
            if now >= partition.retention_at:
                partition.apply_retention()
