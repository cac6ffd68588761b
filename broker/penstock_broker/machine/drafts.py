"""Topics as a command will leave them, before anything is changed.

A command about topics is planned on a draft: what it creates, changes and drops is gathered there,
limits and placements count what the draft holds already, and only a plan that succeeds as a whole
is carried out. Refusals are raised as errors of the tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from penstock.errors import (
    BadRequest,
    LimitExceeded,
    PartitionNotFound,
    PreconditionFailed,
    TopicNotFound,
)
from penstock_broker.machine.keys import Value
from penstock_broker.machine.names import TEXT_LENGTH_MAX
from penstock_broker.machine.placement import Placer, Replicas
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import ACTIVE, NodeEntry, Partition, Topic

TOPICS_MAX: Final = 10_000
PARTITIONS_PER_TOPIC_MAX: Final = 10_000
PARTITIONS_MAX: Final = 20_000
REPLICATION_MAX: Final = 7


class Draft:
    """Changes to topics that are not carried out yet.

    Attributes:
        at: the command's stamp.
        put: topics that are new or changed, by name, in the order of their group ids.
        dropped: topics that go.
    """

    def __init__(
        self,
        at: Stamp,
        present: Mapping[int, NodeEntry],
        topics: Mapping[str, Topic],
        located: Mapping[int, tuple[str, int]],
        next_group: int,
    ) -> None:
        self.at = at
        self.put: dict[str, Topic] = {}
        self.dropped: list[Topic] = []
        self._present = present
        self._nodes = {id_: node for id_, node in present.items() if node.state == ACTIVE}
        self._topics = topics
        self._located = located
        self._next_group = next_group
        self._partition_count = len(located)

    def find(self, name: str) -> Topic | None:
        """A topic as it is in the draft."""
        return self.put.get(name) or self._topics.get(name)

    def need(self, name: str) -> Topic:
        """A topic that must exist.

        Raises:
            TopicNotFound: it does not.
        """
        found = self.find(name)
        if found is None:
            raise TopicNotFound(f"there is no topic {name!r}", topic=name)
        return found

    def locate(self, group: int) -> tuple[Topic, int]:
        """Topic and partition of a Raft group.

        Raises:
            PartitionNotFound: there is no such partition now.
        """
        found = self._located.get(group)
        if found is None:
            raise PartitionNotFound(f"no partition has the group {group}")
        return self.need(found[0]), found[1]

    @property
    def members(self) -> Mapping[int, NodeEntry]:
        """The nodes that belong to the cluster now, by id."""
        return self._present

    def takes_replicas(self, node: int) -> bool:
        """Whether new replicas may be put on a node."""
        return node in self._nodes

    def create(
        self,
        name: str,
        id_: str,
        kind: str,
        settings: dict[str, Value],
        replication: int,
        places: list[Replicas] | int,
    ) -> Topic:
        """Add a topic; with a number of partitions in `places`, they are placed.

        Places that are given may be fewer than `replication`: the others follow by moves.

        Raises:
            BadRequest, LimitExceeded, PreconditionFailed: that can't be.
        """
        if not 0 < len(id_) <= TEXT_LENGTH_MAX:
            raise BadRequest("a topic needs an id")
        if len(self._topics) + len(self.put.keys() - self._topics.keys()) >= TOPICS_MAX:
            raise LimitExceeded(f"a cluster has at most {TOPICS_MAX} topics")
        self._check_partitions(0, places if isinstance(places, int) else len(places))
        if isinstance(places, int):
            self._check_replication(replication)
            places = self._place(id_, range(places), replication)
        topic = Topic(name, id_, kind, replication, settings, [], self.at.index, self.at.time_us)
        return self._add(topic, places)

    def grow(self, topic: Topic, places: list[Replicas] | int) -> Topic:
        """Add partitions: up to a number, or one for each of these places.

        Raises:
            BadRequest, LimitExceeded: that can't be.
        """
        before = len(topic.partitions)
        after = places if isinstance(places, int) else before + len(places)
        if after == before:
            return topic
        self._check_partitions(before, after)
        if isinstance(places, int):
            places = self._place(topic.id, range(before, after), topic.replication)
        return self._add(topic, places)

    def beside(self, topic: Topic, first: int = 0) -> list[Replicas]:
        """Places for a topic that goes with this one: where its partitions from `first` on are.

        So it has a majority whenever this one has. A node that is draining has its copy too, which
        leaves it with all others: without it a node that is away could cost the majority. For a
        node that is gone there is no other, which might be away, but a copy fewer for a while.

        Raises:
            PreconditionFailed: all nodes of a partition are gone, and none takes replicas.
        """
        places = {
            number: [node for node in partition.replicas if node in self._present]
            for number, partition in enumerate(topic.partitions[first:], first)
        }
        lost = [number for number, replicas in places.items() if not replicas]
        if lost:
            places.update(zip(lost, self._place(topic.id, lost, topic.replication), strict=True))
        return list(places.values())

    def change(self, topic: Topic) -> Topic:
        """Take another version of a topic, with the same groups."""
        if topic != self.find(topic.name):
            self.put[topic.name] = topic
        return topic

    def replicate(self, topic: Topic, replication: int) -> Topic:
        """Want another number of replicas; they come and go by moves.

        Raises:
            LimitExceeded, PreconditionFailed: that can't be.
        """
        if replication == topic.replication:
            return topic
        self._check_replication(replication)
        return self.change(replace(topic, replication=replication))

    def drop(self, topic: Topic) -> None:
        """Let a topic go."""
        self.dropped.append(topic)

    def _add(self, topic: Topic, places: list[Replicas]) -> Topic:
        partitions = [
            Partition(group, replicas, sorted(replicas), revision=self.at.index)
            for group, replicas in enumerate(places, self._next_group)
        ]
        self._next_group += len(places)
        self._partition_count += len(places)
        # What has the higher group ids comes later: they are given in this order.
        self.put.pop(topic.name, None)
        self.put[topic.name] = replace(
            topic, partitions=topic.partitions + partitions, revision=self.at.index
        )
        return self.put[topic.name]

    def _check_replication(self, replication: int) -> None:
        if not 1 <= replication <= REPLICATION_MAX:
            raise LimitExceeded(f"replication must be between 1 and {REPLICATION_MAX}")
        if replication > len(self._nodes):
            there = f"the cluster has {len(self._nodes)} that are active"
            raise PreconditionFailed(f"replication {replication} needs as many nodes; {there}")

    def _check_partitions(self, before: int, after: int) -> None:
        if after < before:
            raise BadRequest(f"there are {before} partitions; they can't become fewer")
        if not 1 <= after <= PARTITIONS_PER_TOPIC_MAX:
            limit = f"a topic has between 1 and {PARTITIONS_PER_TOPIC_MAX} partitions"
            raise LimitExceeded(limit)
        if self._partition_count + after - before > PARTITIONS_MAX:
            raise LimitExceeded(f"a cluster has at most {PARTITIONS_MAX} partitions")

    def fits(self, places: list[Replicas], replication: int) -> bool:
        """Whether these are as many active nodes for each partition as there must be."""
        return all(
            len(replicas) == replication == len(dict.fromkeys(replicas))
            and all(node in self._nodes for node in replicas)
            for replicas in places
        )

    def _place(self, topic_id: str, numbers: Sequence[int], replication: int) -> list[Replicas]:
        if not self._nodes:
            raise PreconditionFailed("no node takes new replicas")
        topics = {**self._topics, **self.put}
        placed = [p.replicas for topic in topics.values() for p in topic.partitions]
        placer = Placer({node.id: node.host for node in self._nodes.values()}, placed)
        # With fewer nodes for now there are fewer replicas, until there are nodes again.
        replication = min(replication, len(self._nodes))
        return [placer.place(topic_id, partition, replication) for partition in numbers]
