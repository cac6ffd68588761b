from typing import Any

import pytest
from msgspec.structs import replace

from penstock.errors import (
    BadRequest,
    CorruptData,
    InvalidConfig,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
    TopicExists,
    TopicNotFound,
    UnsupportedFormat,
)
from penstock_broker.machine import drafts, nodes
from penstock_broker.machine.commands import (
    AlterTopic,
    CreateTopic,
    DeleteTopic,
    Founder,
    InitCluster,
    RaiseFeatureLevel,
    Refused,
    RegisterNode,
    SetBalancing,
    Trim,
)
from penstock_broker.machine.effects import (
    ConfigChanged,
    GroupCreated,
    GroupDeleted,
    NodeChanged,
    TopicRevised,
)
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import GROUPS_PARTITIONS, GROUPS_TOPIC
from tests.machine.replicas import Replicas

Cluster = Replicas[MetadataMachine]


def founder(number: int) -> Founder:
    return Founder(uuid=f"node-{number}", address=f"host-{number}:7400", host=f"host-{number}")


def init(nodes: int = 3, cluster: str = "cluster-1") -> InitCluster:
    founders = [founder(number) for number in range(1, nodes + 1)]
    return InitCluster(cluster=cluster, founders=founders, groups_topic_id="groups-id")


def later() -> MetadataMachine:
    """A machine of a later version."""
    return MetadataMachine(level_max=3)


@pytest.fixture
def cluster() -> Cluster:
    replicas = Cluster(later)
    replicas.apply(init())
    return replicas


def register(number: int, **more: Any) -> RegisterNode:
    about = founder(number)
    return RegisterNode(uuid=about.uuid, address=about.address, host=about.host, **more)


def create(name: str = "orders", **more: Any) -> CreateTopic:
    return CreateTopic(name=name, **{"id": f"{name}-id", **more})


def test_a_cluster_begins_with_its_founders_and_the_coordinators() -> None:
    cluster = Cluster(MetadataMachine)
    assert cluster.apply(init()).created
    machine = cluster.machine
    assert [node.address for node in machine.nodes.values()] == [
        "host-1:7400",
        "host-2:7400",
        "host-3:7400",
    ]
    assert [effect.node for effect in cluster.effects_of(NodeChanged)] == [1, 2, 3]
    created = cluster.effects_of(GroupCreated)
    assert [(effect.topic, effect.kind) for effect in created] == [
        (GROUPS_TOPIC, "groups")
    ] * GROUPS_PARTITIONS
    assert [effect.group for effect in created] == list(range(1, GROUPS_PARTITIONS + 1))
    assert all(sorted(effect.replicas) == [1, 2, 3] for effect in created)


def test_initialising_again_changes_nothing(cluster: Cluster) -> None:
    assert not cluster.apply(init()).created
    assert cluster.refuse(init(cluster="cluster-2")) is PreconditionFailed


@pytest.mark.parametrize(
    "command",
    [
        init(nodes=0),
        InitCluster(cluster="c", founders=[founder(1), founder(1)], groups_topic_id="g"),
        InitCluster(cluster="", founders=[founder(1)], groups_topic_id="g"),
        InitCluster(
            cluster="c", founders=[replace(founder(1), feature_max=0)], groups_topic_id="g"
        ),
        InitCluster(cluster="c", founders=[founder(1)], groups_topic_id="g" * 300),
        InitCluster(
            cluster="c",
            founders=[Founder(uuid="n", address="a", host="h" * 300)],
            groups_topic_id="g",
        ),
    ],
)
def test_a_malformed_beginning_is_refused(command: InitCluster) -> None:
    assert Cluster(MetadataMachine).refuse(command) is BadRequest


def test_nothing_works_before_the_beginning() -> None:
    cluster = Cluster(MetadataMachine)
    assert cluster.refuse(create()) is PreconditionFailed
    assert cluster.refuse(RegisterNode(uuid="n", address="a")) is PreconditionFailed


def test_a_node_keeps_its_id_under_a_new_address(cluster: Cluster) -> None:
    command = RegisterNode(uuid="node-4", address="new:1")
    assert cluster.apply(command).node == 4
    assert cluster.effects == [NodeChanged(4, "new:1")]
    reply = cluster.apply(command)
    assert (reply.node, reply.revision) == (4, cluster.index)
    assert cluster.effects == []
    cluster.apply(RegisterNode(uuid="node-4", address="newer:1"))
    assert cluster.effects == [NodeChanged(4, "newer:1")]
    assert cluster.machine.nodes[4].address == "newer:1"


def test_a_malformed_node_is_refused(cluster: Cluster) -> None:
    assert cluster.refuse(RegisterNode(uuid="", address="a")) is BadRequest
    assert cluster.refuse(RegisterNode(uuid="n", address="a", host="h" * 256)) is BadRequest


def test_nodes_have_a_limit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "NODES_MAX", 3)
    assert cluster.refuse(RegisterNode(uuid="node-4", address="a")) is LimitExceeded
    assert cluster.apply(RegisterNode(uuid="node-3", address="a")).node == 3


def test_a_topic_gets_one_group_per_partition(cluster: Cluster) -> None:
    reply = cluster.apply(create(partitions=3, replication=2, config={"retention_ms": "1d"}))
    assert reply.created
    groups = [partition.group for partition in reply.topic.partitions]
    assert groups == [9, 10, 11]
    created = cluster.effects_of(GroupCreated)
    assert [(effect.group, effect.partition) for effect in created] == [(9, 0), (10, 1), (11, 2)]
    assert all(effect.config.retention_ms == 86_400_000 for effect in created)
    assert all(len(effect.replicas) == 2 for effect in created)
    assert cluster.effects_of(TopicRevised) == [TopicRevised("orders", "orders-id", 3, 2)]
    found = cluster.machine.locate(10)
    assert found is not None
    assert (found[0].name, found[1]) == ("orders", 1)
    assert cluster.machine.locate(12) is None
    assert list(cluster.machine.topics) == [GROUPS_TOPIC, "orders"]


def test_a_proposal_made_twice_is_answered_twice(cluster: Cluster) -> None:
    cluster.apply(create())
    assert cluster.apply(create()).created
    assert cluster.effects == []


def test_a_name_is_taken_once(cluster: Cluster) -> None:
    cluster.apply(create())
    assert cluster.refuse(create(id="another")) is TopicExists
    assert not cluster.apply(create(id="another", if_not_exists=True)).created


def test_replicas_may_be_given(cluster: Cluster) -> None:
    reply = cluster.apply(create(partitions=2, replication=2, replicas=[[3, 1], [2, 3]]))
    assert [partition.replicas for partition in reply.topic.partitions] == [[3, 1], [2, 3]]


@pytest.mark.parametrize("replicas", [[[1]], [[1, 1], [1, 2]], [[1, 9], [1, 2]], [[1, 2], [1]]])
def test_replicas_must_fit(cluster: Cluster, replicas: list[list[int]]) -> None:
    assert cluster.refuse(create(partitions=2, replication=2, replicas=replicas)) is BadRequest


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (create("__mine"), InvalidName),
        (create("a b"), InvalidName),
        (create(id=""), BadRequest),
        (create(config={"colour": "red"}), InvalidConfig),
        (create(partitions=0), LimitExceeded),
        (create(partitions=-1), BadRequest),
        (create(partitions=10_001), LimitExceeded),
        (create(replication=0), LimitExceeded),
        (create(replication=8), LimitExceeded),
        (create(replication=4), PreconditionFailed),
        (AlterTopic(name="orders"), TopicNotFound),
        (AlterTopic(name=GROUPS_TOPIC), InvalidName),
        (DeleteTopic(name="orders"), TopicNotFound),
        (DeleteTopic(name=GROUPS_TOPIC), InvalidName),
        (Trim(offset=1), BadRequest),
        (RaiseFeatureLevel(level=99), PreconditionFailed),
    ],
)
def test_what_can_not_be_is_refused(cluster: Cluster, command: Any, error: type) -> None:
    assert cluster.refuse(command) is error


def test_partitions_and_topics_have_limits(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "PARTITIONS_MAX", 12)
    assert cluster.refuse(create(partitions=5)) is LimitExceeded
    cluster.apply(create(partitions=4))
    assert cluster.refuse(AlterTopic(name="orders", partitions=5)) is LimitExceeded
    cluster.apply(DeleteTopic(name="orders"))
    cluster.apply(create(partitions=4))
    monkeypatch.setattr(drafts, "TOPICS_MAX", 2)
    assert cluster.refuse(create("more")) is LimitExceeded


def test_configuration_is_merged_and_reset(cluster: Cluster) -> None:
    cluster.apply(create(partitions=2, config={"retention_ms": "1d", "cleanup": "compact"}))
    reply = cluster.apply(
        AlterTopic(name="orders", config={"retention_ms": None, "segment_ms": 1000})
    )
    assert reply.topic.settings == {"cleanup": "compact", "segment_ms": 1000}
    assert cluster.effects == [ConfigChanged("orders", [9, 10], reply.topic.config)]
    cluster.apply(AlterTopic(name="orders", config={"segment_ms": 1000}))
    assert cluster.effects == []
    assert cluster.refuse(AlterTopic(name="orders", config={"cleanup": "x"})) is InvalidConfig


def test_the_number_of_replicas_that_is_wanted_changes(cluster: Cluster) -> None:
    cluster.apply(create(partitions=2, replication=1))
    reply = cluster.apply(AlterTopic(name="orders", replication=3))
    assert reply.topic.replication == 3
    assert [len(partition.replicas) for partition in reply.topic.partitions] == [1, 1]
    assert cluster.refuse(AlterTopic(name="orders", replication=4)) is PreconditionFailed
    assert cluster.refuse(AlterTopic(name="orders", replication=0)) is LimitExceeded


def test_partitions_are_added_never_removed(cluster: Cluster) -> None:
    cluster.apply(create(partitions=2))
    cluster.apply(create("other"))
    reply = cluster.apply(AlterTopic(name="orders", partitions=4))
    assert [partition.group for partition in reply.topic.partitions] == [9, 10, 12, 13]
    assert [effect.partition for effect in cluster.effects_of(GroupCreated)] == [2, 3]
    assert cluster.effects_of(TopicRevised) == [TopicRevised("orders", "orders-id", 4, 4)]
    assert cluster.refuse(AlterTopic(name="orders", partitions=3)) is BadRequest
    assert cluster.apply(AlterTopic(name="orders", partitions=4)).topic == reply.topic


def test_group_ids_of_deleted_topics_are_tombstones_for_ever(cluster: Cluster) -> None:
    cluster.apply(create(partitions=2))
    cluster.apply(create("other"))
    cluster.apply(DeleteTopic(name="orders"))
    assert [effect.group for effect in cluster.effects_of(GroupDeleted)] == [9, 10]
    assert cluster.effects_of(TopicRevised) == [TopicRevised("orders", "orders-id", 0, 4)]
    assert [group for group in range(20) if cluster.machine.is_deleted(group)] == [9, 10]
    assert cluster.machine.locate(9) is None
    again = cluster.apply(create(id="another"))
    assert [partition.group for partition in again.topic.partitions] == [12]
    cluster.apply(DeleteTopic(name="other"))
    cluster.apply(DeleteTopic(name="orders"))
    assert [group for group in range(20) if cluster.machine.is_deleted(group)] == [9, 10, 11, 12]


def test_a_preview_changes_nothing(cluster: Cluster) -> None:
    before = cluster.machine.snapshot()
    at = Stamp(99, 1, 5)
    planned = cluster.machine.preview(create(partitions=2), at)
    assert cluster.machine.snapshot() == before
    cluster.index, cluster.now_us = 98, 5
    assert cluster.apply(create(partitions=2)) == planned
    assert isinstance(cluster.machine.preview(DeleteTopic(name="nothing"), at), Refused)


def test_the_feature_level_never_falls(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        assert cluster.refuse(RaiseFeatureLevel(level=3)) is PreconditionFailed
        cluster.apply(register(number, feature_max=3))
    assert cluster.apply(RaiseFeatureLevel(level=3)).level == 3
    assert cluster.apply(RaiseFeatureLevel(level=2)).level == 3


def test_balancing_is_switched_and_remembered(cluster: Cluster) -> None:
    assert cluster.machine.balancing
    assert not cluster.apply(SetBalancing(on=False)).on
    other = MetadataMachine()
    other.restore(cluster.machine.snapshot())
    assert not other.balancing


def test_the_feature_level_is_that_of_the_founders_and_not_of_who_replays_the_log() -> None:
    founders = [replace(founder(1), feature_max=3), replace(founder(2), feature_max=2)]
    for level_max in (2, 3):
        machine = MetadataMachine(level_max)
        assert machine.feature_level == 0
        machine.apply(replace(init(), founders=founders), Stamp(1, 1, 1))
        assert machine.feature_level == 2
        assert restored(machine.snapshot(), level_max + 1).feature_level == 2


def restored(blob: bytes, level_max: int) -> MetadataMachine:
    machine = MetadataMachine(level_max)
    machine.restore(blob)
    return machine


def test_a_version_that_does_not_know_the_level_decides_nothing(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        cluster.apply(register(number, feature_max=2))
    old = restored(cluster.machine.snapshot(), 1)
    before = old.snapshot()
    with pytest.raises(UnsupportedFormat, match="level 2, this broker knows 1"):
        old.apply(RaiseFeatureLevel(level=2), Stamp(9, 1, 1))
    assert old.snapshot() == before
    cluster.apply(RaiseFeatureLevel(level=2))
    with pytest.raises(UnsupportedFormat):
        old.restore(cluster.machine.snapshot())
    assert old.snapshot() == before
    founders = [replace(founder(1), feature_max=2)]
    with pytest.raises(UnsupportedFormat):
        MetadataMachine(1).apply(replace(init(), founders=founders), Stamp(1, 1, 1))


def test_a_snapshot_of_another_version_or_damaged_is_refused(cluster: Cluster) -> None:
    blob = cluster.machine.snapshot()
    for damaged, error in [(b"\x09" + blob[1:], UnsupportedFormat), (blob[:-3], CorruptData)]:
        with pytest.raises(error):
            cluster.machine.restore(damaged)
    assert cluster.machine.snapshot() == blob
