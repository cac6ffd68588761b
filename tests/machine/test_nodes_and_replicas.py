"""States of nodes, and the way of a partition's replicas from one set of nodes to another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import (
    BadRequest,
    LimitExceeded,
    PartitionNotFound,
    PreconditionFailed,
)
from penstock_broker.machine import nodes
from penstock_broker.machine.commands import (
    AlterTopic,
    ChangeReplicas,
    Command,
    CreateSharedGroup,
    CreateTopic,
    Founder,
    InitCluster,
    RaiseFeatureLevel,
    Refused,
    RegisterNode,
    SetNodeState,
    SettleReplicas,
)
from penstock_broker.machine.effects import (
    GroupCreated,
    NodeChanged,
    ReplicaRemoved,
    ReplicasChanged,
)
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import Partition
from tests.machine.replicas import Replicas

NODES = 5


class Cluster(Replicas[MetadataMachine]):
    """Five nodes, and a topic of one partition on the first three."""

    def __init__(self) -> None:
        super().__init__(lambda: MetadataMachine(level_max=2))
        founders = [
            Founder(uuid=f"node-{n}", address=f"host-{n}:1", host=f"host-{n}")
            for n in range(1, NODES + 1)
        ]
        self.apply(InitCluster(cluster="c", founders=founders, groups_topic_id="g"))
        self.apply(CreateTopic(name="orders", id="o", replication=3, replicas=[[1, 2, 3]]))
        self.group = self.partition.group

    @property
    def partition(self) -> Partition:
        return self.machine.topics["orders"].partitions[0]

    def change(self, *replicas: int, **more: Any) -> ChangeReplicas:
        return ChangeReplicas(group=self.group, replicas=list(replicas), **more)

    def settle(self, *members: int) -> SettleReplicas:
        revision = self.partition.revision
        return SettleReplicas(group=self.group, members=list(members), revision=revision)

    def state(self, node: int, state: str, **more: Any) -> SetNodeState:
        return SetNodeState(node=node, state=state, **more)

    def free(self, node: int) -> None:
        """Take every replica off a node."""
        others = [n for n in self.machine.members if n != node][:3]
        for topic in list(self.machine.topics.values()):
            for partition in topic.partitions:
                if node in partition.holders:
                    self.apply(ChangeReplicas(group=partition.group, replicas=others))
                    revision = self.index
                    found = self.machine.locate(partition.group)
                    assert found is not None
                    revision = found[0].partitions[found[1]].revision
                    self.apply(
                        SettleReplicas(group=partition.group, members=others, revision=revision)
                    )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


# ----- replicas


def test_a_new_partition_begins_with_its_replicas_as_voters(cluster: Cluster) -> None:
    cluster.apply(CreateTopic(name="more", id="m", replication=2, replicas=[[3, 1]]))
    (made,) = cluster.effects_of(GroupCreated)
    assert (made.replicas, made.founders, made.holders) == ([3, 1], [1, 3], [1, 3])


def test_a_move_keeps_every_copy_until_it_is_settled(cluster: Cluster) -> None:
    cluster.apply(cluster.change(1, 2, 4))
    (changed,) = cluster.effects
    assert isinstance(changed, ReplicasChanged)
    assert changed.holders == [1, 2, 3, 4]
    assert changed.founders == [1, 2, 3]
    assert cluster.partition.moving
    cluster.apply(cluster.settle(4, 2, 1))
    assert cluster.effects_of(ReplicaRemoved) == [ReplicaRemoved(cluster.group, 3)]
    partition = cluster.partition
    assert (partition.members, partition.holders, partition.moving) == ([1, 2, 4],) * 2 + (False,)
    assert partition.founders == []


def test_a_move_that_is_called_off_still_has_to_settle(cluster: Cluster) -> None:
    cluster.apply(cluster.change(1, 2, 4))
    cluster.apply(cluster.change(1, 2, 3))
    assert (cluster.partition.moving, cluster.partition.holders) == (True, [1, 2, 3, 4])
    assert cluster.effects_of(ReplicaRemoved) == []
    cluster.apply(cluster.settle(1, 2, 3))
    assert cluster.effects_of(ReplicaRemoved) == [ReplicaRemoved(cluster.group, 4)]


def test_settling_what_was_changed_since_is_refused(cluster: Cluster) -> None:
    cluster.apply(cluster.change(1, 2, 4))
    late = cluster.settle(1, 2, 4)
    cluster.apply(cluster.change(1, 2, 5))
    cluster.apply(cluster.change(1, 2, 4))
    assert cluster.refuse(late) is PreconditionFailed
    assert cluster.refuse(cluster.settle(1, 2, 5)) is PreconditionFailed
    cluster.apply(cluster.settle(1, 2, 4))
    assert [gone.node for gone in cluster.effects_of(ReplicaRemoved)] == [3, 5]


def test_another_order_is_no_move(cluster: Cluster) -> None:
    cluster.apply(cluster.change(3, 1, 2))
    assert (cluster.partition.moving, cluster.partition.replicas[0]) == (False, 3)
    assert cluster.partition.founders == [1, 2, 3]
    cluster.apply(cluster.change(3, 1, 2))
    assert cluster.effects == []


def test_only_who_knows_the_replicas_changes_them(cluster: Cluster) -> None:
    assert cluster.refuse(cluster.change(1, 2, 4, expected=[1, 2, 5])) is PreconditionFailed
    cluster.apply(cluster.change(1, 2, 4, expected=[1, 2, 3]))


def test_replicas_that_make_no_sense_are_refused(cluster: Cluster) -> None:
    assert cluster.refuse(cluster.change()) is LimitExceeded
    assert cluster.refuse(cluster.change(*range(1, 9))) is LimitExceeded
    assert cluster.refuse(cluster.change(1, 1)) is BadRequest
    assert cluster.refuse(cluster.change(1, 9)) is PreconditionFailed
    assert cluster.refuse(ChangeReplicas(group=999, replicas=[1])) is PartitionNotFound


def test_a_draining_node_keeps_replicas_and_gets_no_new_ones(cluster: Cluster) -> None:
    cluster.apply(cluster.state(3, "draining"))
    cluster.apply(cluster.state(4, "draining"))
    assert cluster.refuse(cluster.change(1, 2, 4)) is PreconditionFailed
    cluster.apply(cluster.change(2, 1, 3))
    reply = cluster.apply(CreateTopic(name="n", id="n", partitions=9, replication=3))
    assert all({3, 4}.isdisjoint(p.replicas) for p in reply.topic.partitions)
    assert cluster.refuse(CreateTopic(name="m", id="m", replication=4)) is PreconditionFailed


def test_a_companion_goes_where_its_topic_is_even_when_that_is_draining(cluster: Cluster) -> None:
    cluster.apply(cluster.state(3, "draining"))
    reply = cluster.apply(CreateSharedGroup(topic="orders", group="g", id="g"))
    assert [p.replicas for p in reply.dead.partitions] == [[1, 2, 3]]


def test_a_companion_begins_without_the_nodes_that_are_gone(cluster: Cluster) -> None:
    cluster.apply(cluster.state(3, "removed", force=True))
    reply = cluster.apply(CreateSharedGroup(topic="orders", group="g", id="g"))
    assert [p.replicas for p in reply.dead.partitions] == [[1, 2]]
    assert reply.dead.replication == 3


def test_a_companion_of_a_topic_whose_nodes_are_all_gone_goes_to_others(cluster: Cluster) -> None:
    for node in (1, 2, 3):
        cluster.apply(cluster.state(node, "removed", force=True))
    reply = cluster.apply(CreateSharedGroup(topic="orders", group="g", id="g"))
    assert [sorted(p.replicas) for p in reply.dead.partitions] == [[4, 5]]


def test_partitions_are_added_with_fewer_replicas_while_there_are_fewer_nodes(
    cluster: Cluster,
) -> None:
    for node in (2, 3, 4):
        cluster.apply(cluster.state(node, "draining"))
    reply = cluster.apply(AlterTopic(name="orders", partitions=2))
    assert sorted(reply.topic.partitions[1].replicas) == [1, 5]


@settings(max_examples=60)
@given(st.data())
def test_no_copy_goes_before_it_is_settled(data: st.DataObject) -> None:
    cluster = Cluster()
    held = set(cluster.partition.holders)
    nodes_ = st.lists(st.integers(1, NODES), min_size=1, max_size=4, unique=True)
    for _ in range(data.draw(st.integers(1, 8))):
        command: Command = cluster.change(*data.draw(nodes_))
        if data.draw(st.booleans()):
            command = cluster.settle(*data.draw(st.sampled_from([[1, 2], [4], [1, 2, 3]])))
        if data.draw(st.booleans()):
            command = cluster.settle(*cluster.partition.replicas)
        reply = cluster.apply(command)
        gone = {effect.node for effect in cluster.effects_of(ReplicaRemoved)}
        if isinstance(command, ChangeReplicas) or isinstance(reply, Refused):
            assert not gone
        partition = cluster.partition
        held = (held | set(partition.replicas)) - gone
        assert held == set(partition.holders)
        assert partition.moving or sorted(partition.replicas) == partition.members
        assert partition.moving or held == set(partition.members)


# ----- nodes


def test_a_wiped_disk_is_a_new_node_that_replaces_the_old_one(cluster: Cluster) -> None:
    assert cluster.apply(RegisterNode(uuid="wiped", address="host-2:1", host="host-2")).node == 6
    assert cluster.effects == [
        NodeChanged(2, "host-2:1", "replaced"),
        NodeChanged(6, "host-2:1"),
    ]
    assert 2 not in cluster.machine.members
    assert 2 in cluster.machine.nodes
    assert cluster.refuse(cluster.state(2, "active")) is PreconditionFailed


def test_who_was_replaced_comes_back_under_another_address(cluster: Cluster) -> None:
    cluster.apply(RegisterNode(uuid="node-1", address="host-2:1"))
    cluster.apply(RegisterNode(uuid="node-2", address="host-1:1"))
    assert [cluster.machine.members[n].address for n in (1, 2)] == ["host-2:1", "host-1:1"]


def test_a_node_drains_and_comes_back(cluster: Cluster) -> None:
    assert cluster.apply(cluster.state(1, "draining")).node.state == "draining"
    assert cluster.effects == [NodeChanged(1, "host-1:1", "draining")]
    cluster.apply(RegisterNode(uuid="node-1", address="new:1"))
    assert cluster.machine.nodes[1].state == "draining"
    cluster.apply(cluster.state(1, "active"))
    cluster.apply(cluster.state(1, "active"))
    assert cluster.effects == []


def test_who_holds_replicas_is_removed_only_by_force(cluster: Cluster) -> None:
    assert cluster.refuse(cluster.state(1, "removed")) is PreconditionFailed
    cluster.apply(cluster.state(1, "removed", force=True))
    assert cluster.refuse(RegisterNode(uuid="node-1", address="a")) is PreconditionFailed
    assert cluster.refuse(cluster.state(1, "active")) is PreconditionFailed
    cluster.free(5)
    cluster.apply(cluster.state(5, "removed"))
    assert 5 not in cluster.machine.members


def test_states_that_make_no_sense_are_refused(cluster: Cluster) -> None:
    assert cluster.refuse(cluster.state(77, "active")) is PreconditionFailed
    assert cluster.refuse(cluster.state(1, "asleep")) is BadRequest
    assert cluster.refuse(cluster.state(1, "replaced")) is BadRequest
    for node in range(2, NODES + 1):
        cluster.apply(cluster.state(node, "draining"))
    assert cluster.refuse(cluster.state(1, "draining")) is PreconditionFailed


def test_a_broker_that_is_too_old_is_not_taken_in(cluster: Cluster) -> None:
    for n in range(1, NODES + 1):
        cluster.apply(RegisterNode(uuid=f"node-{n}", address=f"host-{n}:1", feature_max=2))
    cluster.apply(RaiseFeatureLevel(level=2))
    old = RegisterNode(uuid="old", address="a")
    assert cluster.refuse(old) is PreconditionFailed
    preview = cluster.machine.preview(old, Stamp(0, 0, 0))
    assert isinstance(preview, Refused)
    assert "level 2, this broker knows 1: upgrade it" in preview.message
    assert cluster.apply(RegisterNode(uuid="new", address="a", feature_max=2)).node == 6


def test_the_memory_of_those_that_are_gone_is_bounded(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "NODES_MAX", 7)
    for number in range(20):
        cluster.apply(RegisterNode(uuid=f"wiped-{number}", address="host-9:1"))
    assert len(cluster.machine.nodes) <= 14
    assert set(cluster.machine.nodes) > {1, 2, 3, NODES + 20}
