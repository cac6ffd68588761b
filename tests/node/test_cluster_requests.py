"""What operators ask of a cluster, through any of its brokers."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import PartitionNotFound, PreconditionFailed, ShuttingDown, TopicNotFound
from penstock.protocol.cluster import (
    ClusterStatus,
    ListPartitions,
    MovePartition,
    RaiseFeatureLevel,
    SetBalancing,
    SetNodeState,
    TransferLeader,
)
from penstock.protocol.messages import Message, Metadata
from tests.node.cluster import Cluster


def asked(cluster: Cluster, message: Message, through: int = 0) -> Any:
    """Ask any broker, or the first one that runs."""
    member = cluster.members[through] if through else cluster.alive[-1]
    return cluster.ask(member.client(), message)


def states(cluster: Cluster) -> dict[str, list[str]]:
    """Topic -> states of its partitions, as each broker says."""
    found = []
    for member in cluster.alive:
        reply = cluster.ask(member.client(), ListPartitions())
        by_topic: dict[str, list[str]] = {}
        for row in reply.partitions:
            by_topic.setdefault(row.topic, []).append(row.state)
        found.append(by_topic)
    assert all(each == found[0] for each in found)
    return found[0]


def test_every_broker_tells_the_same_about_a_healthy_cluster() -> None:
    cluster = Cluster(3)
    cluster.topic("orders", 3)
    cluster.advance(1.0)
    for member in cluster.alive:
        reply = cluster.ask(member.client(), ClusterStatus())
        assert reply.node == member.number
        assert [(n.id, n.alive, n.answered, n.state) for n in reply.nodes] == [
            (1, True, True, "active"), (2, True, True, "active"), (3, True, True, "active"),
        ]  # fmt: skip
        assert reply.metadata.voters == [1, 2, 3]
        assert reply.metadata.leader
        assert sum(node.leaders for node in reply.nodes) == reply.partitions
        assert (reply.leaderless, reply.under_replicated, reply.moving) == (0, 0, 0)
    assert states(cluster) == {"orders": ["ok"] * 3}


def test_a_dead_broker_is_shown_and_its_partitions_are_under_replicated() -> None:
    cluster = Cluster(3)
    cluster.topic("orders", 3)
    cluster.kill(2)
    cluster.advance(3.0)
    reply = asked(cluster, ClusterStatus())
    assert [(n.id, n.alive) for n in reply.nodes] == [(1, True), (2, False), (3, True)]
    assert reply.under_replicated >= 3
    assert reply.leaderless == 0
    rows = asked(cluster, ListPartitions(topic="orders")).partitions
    assert {row.state for row in rows} == {"under-replicated"}
    assert all(row.behind[2] == -1 for row in rows)


def test_a_lead_goes_where_it_is_sent_and_stays_there() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("orders")
    before = cluster.leader(gid).number
    to = before % 3 + 1
    dry = asked(cluster, TransferLeader(topic="orders", partition=0, to=to, dry_run=True))
    assert (dry.before, dry.leader) == (before, to)
    cluster.advance(0.5)
    assert cluster.leader(gid).number == before
    asked(cluster, TransferLeader(topic="orders", partition=0, to=to))
    cluster.run_until(lambda: cluster.members[to].group(gid).leading, 1.0)
    cluster.advance(15.0)
    (row,) = asked(cluster, ListPartitions(topic="orders")).partitions
    assert row.leader == to == row.replicas[0]


def test_a_lead_does_not_go_to_who_takes_no_part_or_is_away() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("orders")
    with pytest.raises(PreconditionFailed, match="none of the replicas"):
        asked(cluster, TransferLeader(topic="orders", partition=0, to=9))
    away = next(m.number for m in cluster.alive if m is not cluster.leader(gid))
    cluster.kill(away)
    cluster.advance(2.0)
    with pytest.raises(PreconditionFailed, match="not heard of"):
        asked(cluster, TransferLeader(topic="orders", partition=0, to=away))


def test_a_partition_moves_after_a_dry_run_that_changes_nothing() -> None:
    cluster = Cluster(4)
    (gid,) = cluster.topic("orders", replication=2)
    (row,) = asked(cluster, ListPartitions(topic="orders")).partitions
    others = [n for n in cluster.members if n not in row.replicas]
    move = MovePartition(topic="orders", partition=0, replicas=others, dry_run=True)
    dry = asked(cluster, move)
    assert (dry.before, dry.replicas, dry.moving) == (row.replicas, others, True)
    (still,) = asked(cluster, ListPartitions(topic="orders")).partitions
    assert still.replicas == row.replicas
    assert not still.moving
    asked(cluster, MovePartition(topic="orders", partition=0, replicas=others))

    def there() -> bool:
        (row,) = asked(cluster, ListPartitions(topic="orders")).partitions
        return bool(row.state == "ok" and row.members == sorted(others))

    cluster.run_until(there, 20.0)
    assert cluster.leader(gid).number in others


def test_a_partition_keeps_its_number_of_copies() -> None:
    cluster = Cluster(3)
    cluster.topic("orders")
    with pytest.raises(PreconditionFailed, match="3 copies"):
        asked(cluster, MovePartition(topic="orders", partition=0, replicas=[1, 2]))


def test_a_drain_tells_of_replicas_that_no_other_broker_can_take() -> None:
    cluster = Cluster(3)
    cluster.topic("orders", 2)
    assert asked(cluster, SetNodeState(node=2, state="draining", dry_run=True)).stuck >= 2
    assert asked(cluster, SetNodeState(node=2, state="active", dry_run=True)).stuck == 0
    assert [node.stuck for node in asked(cluster, ClusterStatus()).nodes] == [0, 0, 0]
    asked(cluster, SetNodeState(node=2, state="draining"))
    cluster.advance(1.0)
    stuck = [node.stuck > 1 for node in asked(cluster, ClusterStatus()).nodes]
    assert stuck == [False, True, False]


def test_a_removal_names_the_partitions_that_have_no_majority_without_the_broker() -> None:
    cluster = Cluster(3)
    cluster.topic("one", 3, replication=1)
    cluster.topic("two", 3, replication=2)
    cluster.topic("three", 1)
    topics = cluster.leader(0).node.groups.metadata.machine.topics
    dry = SetNodeState(node=3, state="removed", force=True, dry_run=True)
    expected = [
        (name, number, [m for m in place.members if m != 3])
        for name in ("one", "two")
        for number, place in enumerate(topics[name].partitions)
        if 3 in place.members
    ]
    lost = asked(cluster, dry).bereft
    assert [(each.topic, each.partition, each.others) for each in lost] == expected
    assert all(each.alive == each.others for each in lost)
    cluster.kill(2)
    cluster.advance(2.0)
    away = {each.topic: each for each in asked(cluster, dry).bereft}
    assert (away["three"].others, away["three"].alive) == ([1, 2], [1])
    assert asked(cluster, SetNodeState(node=3, state="draining", dry_run=True)).bereft == []


def test_a_removal_names_partitions_whose_move_may_be_over_without_a_report() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("one", 1, replication=1)
    metadata = cluster.leader(0).number
    before = cluster.leader(gid).number
    after = next(n for n in cluster.members if n not in (before, metadata))
    asked(cluster, MovePartition(topic="one", partition=0, replicas=[after]), metadata)
    cluster.kill(after)
    cluster.advance(2.0)
    (place,) = cluster.leader(0).node.groups.metadata.machine.topics["one"].partitions
    assert (place.members, place.replicas) == ([before], [after])
    for leaving in (before, after):
        dry = SetNodeState(node=leaving, state="removed", force=True, dry_run=True)
        lost = asked(cluster, dry, metadata).bereft
        assert [each.others for each in lost if each.topic == "one"] == [[]]


def test_unknown_places_are_refused() -> None:
    cluster = Cluster(3)
    cluster.topic("orders")
    with pytest.raises(TopicNotFound):
        asked(cluster, ListPartitions(topic="missing"))
    with pytest.raises(TopicNotFound):
        asked(cluster, MovePartition(topic="missing", partition=0, replicas=[1]))
    with pytest.raises(PartitionNotFound):
        asked(cluster, TransferLeader(topic="orders", partition=5, to=1))
    with pytest.raises(PreconditionFailed):
        asked(cluster, MovePartition(topic="orders", partition=0, replicas=[1, 9]))


def test_a_broker_is_drained_taken_back_and_removed() -> None:
    cluster = Cluster(4)
    cluster.topic("orders", 4, 3)
    cluster.advance(3.0)
    dry = asked(cluster, SetNodeState(node=2, state="draining", dry_run=True))
    assert dry.state == "draining"
    assert asked(cluster, ClusterStatus()).nodes[1].state == "active"
    asked(cluster, SetNodeState(node=2, state="draining"))
    with pytest.raises(PreconditionFailed, match="drain it first"):
        asked(cluster, SetNodeState(node=2, state="removed", dry_run=True))
    cluster.run_until(lambda: asked(cluster, ClusterStatus()).nodes[1].replicas == 0, 60.0)
    asked(cluster, SetNodeState(node=2, state="active"))
    asked(cluster, SetNodeState(node=2, state="draining"))
    cluster.run_until(lambda: asked(cluster, ClusterStatus()).nodes[1].replicas == 0, 60.0)
    cluster.kill(2)
    asked(cluster, SetNodeState(node=2, state="removed"))
    assert [node.id for node in asked(cluster, ClusterStatus()).nodes] == [1, 3, 4]


def test_a_broker_that_was_removed_answers_nobody_and_says_why() -> None:
    cluster = Cluster(3)
    cluster.kill(2)
    asked(cluster, SetNodeState(node=2, state="removed", force=True), through=1)
    cluster.restart(2)
    cluster.run_until(lambda: cluster.members[2].node.membership.removed)
    client = cluster.members[2].client()
    for request in (Metadata(), ClusterStatus(), ListPartitions()):
        with pytest.raises(ShuttingDown, match=r"node 2 was removed .* wipe its data directory"):
            client.ask(request)


def test_a_broker_that_runs_while_it_is_removed_learns_of_it() -> None:
    cluster = Cluster(3)
    removed = cluster.members[2].node.membership
    asked(cluster, SetNodeState(node=2, state="removed", force=True), through=1)
    cluster.run_until(lambda: removed.removed)


def test_a_feature_level_is_raised_to_what_all_know_and_no_further() -> None:
    cluster = Cluster(3)
    reply = asked(cluster, RaiseFeatureLevel(dry_run=True))
    assert (reply.before, reply.level) == (1, 1)
    assert asked(cluster, RaiseFeatureLevel()).level == 1
    with pytest.raises(PreconditionFailed, match="level 1 at most"):
        asked(cluster, RaiseFeatureLevel(level=2, dry_run=True))


def test_balance_is_switched_through_any_broker_and_dry_runs_switch_nothing() -> None:
    cluster = Cluster(3)
    machines = [member.node.groups.metadata.machine for member in cluster.alive]
    for member, on in ((1, False), (2, True), (3, False)):
        assert asked(cluster, SetBalancing(on=on, dry_run=True), through=member).on is on
        cluster.advance(0.5)
        assert [machine.balancing for machine in machines] == [not on] * 3
        assert asked(cluster, SetBalancing(on=on), through=member).before is not on
        cluster.advance(0.5)
        assert [machine.balancing for machine in machines] == [on] * 3


def test_a_broker_without_a_cluster_says_so() -> None:
    cluster = Cluster(3, form=False)
    reply = cluster.ask(cluster.members[1].client(), ClusterStatus())
    assert reply.cluster == ""
    assert reply.nodes == []
