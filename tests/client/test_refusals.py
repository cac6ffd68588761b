"""What a program is told that publishes where nobody can take it."""

from __future__ import annotations

import pytest

from penstock.errors import ClusterUnformed, LeaderUnknown, PenstockError, StorageFull, TimedOut
from penstock.protocol.frames import PUBLISH
from penstock.protocol.messages import TYPE_OF, Hello, ListGroups, Metadata
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def refuse(world: World, kind: int, error: PenstockError) -> None:
    """Every request of a kind is refused from now on."""
    world.cluster.refusals.extend((kind, error) for _ in range(2_000))


def test_who_publishes_to_a_broker_without_a_cluster_learns_of_it() -> None:
    world = World(delivery_timeout=5.0).connect()
    refuse(world, TYPE_OF[Metadata], ClusterUnformed())
    with pytest.raises(ClusterUnformed, match="no cluster yet") as caught:
        world.finish(world.publish(b"x"))
    assert caught.value.detail["outcome"] == "not stored"
    assert "cluster init" in caught.value.hint


def test_requests_to_brokers_without_a_cluster_end_soon() -> None:
    world = World(request_timeout=10.0).connect()
    refuse(world, TYPE_OF[ListGroups], ClusterUnformed())
    before = world.now
    with pytest.raises(ClusterUnformed):
        world.run(world.core.admin.list_groups())
    assert world.now - before < 5.0


def test_a_broker_without_a_cluster_is_left_for_another_one() -> None:
    world = World(FakeCluster(t=1, nodes=2), servers="node1:7400,node2:7400").connect()
    world.cluster.refusals.append((TYPE_OF[Metadata], ClusterUnformed()))
    before = world.now
    world.finish(world.publish(b"x"))
    assert world.now - before < 1.0
    assert world.cluster.seen[TYPE_OF[Hello]] > 1


def test_a_record_that_is_late_tells_what_a_broker_said_last() -> None:
    world = World(delivery_timeout=5.0).connect()
    refuse(world, TYPE_OF[Metadata], LeaderUnknown("it has not caught up"))
    with pytest.raises(TimedOut, match="topic t was not found in time: it has not caught up"):
        world.finish(world.publish(b"x"))
    world.cluster.refusals.clear()
    world.finish(world.publish(b"x"))
    refuse(world, PUBLISH, StorageFull("the disk is full"))
    with pytest.raises(TimedOut, match="last heard: the disk is full"):
        world.finish(world.publish(b"y"))


def test_a_record_for_which_no_broker_is_reached_says_so() -> None:
    world = World(delivery_timeout=5.0).connect()
    world.refusing.add("node1:7400")
    world.cut_all()
    with pytest.raises(TimedOut, match="no broker could be reached at node1:7400"):
        world.finish(world.publish(b"x"))
