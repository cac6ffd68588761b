"""Groups while a partition or a coordinator has no leader: that is told, and not waited for."""

from __future__ import annotations

import pytest

from penstock.errors import LeaderUnknown
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import CommitOffsets, DescribeGroup, ListGroups, Message
from penstock.protocol.sharing import CreateGroup, DescribeShared
from tests.node.cluster import Cluster
from tests.node.harness import Client

SOON = 0.5
"""Seconds; no broker is waited for."""


def bereft(*killed: int) -> Cluster:
    """Topics with one replica on each broker and both kinds of groups; some brokers are killed."""
    cluster = Cluster(3)
    cluster.topic("orders", 3, replication=1)
    client = cluster.members[1].client()
    cluster.ask(client, CreateGroup(topic="orders", group="shared"))
    offsets = dict.fromkeys(range(3), 0)
    commit = CommitOffsets(group="ordered", member="", generation=0, offsets={"orders": offsets})
    cluster.ask(client, commit)
    for number in killed:
        cluster.kill(number)
    cluster.advance(4.0)
    return cluster


def tell(cluster: Cluster, client: Client, message: Message) -> object:
    """The first answer, also if it is an error that passes."""
    client.correlation += 1
    client.send(encode_message(message, client.correlation))
    cluster.run_until(lambda: client.session.out, SOON)
    ((frame, data),) = client.take()
    return client.decode(frame, data)


def test_partitions_without_a_leader_are_named() -> None:
    cluster = bereft(3)
    topic = cluster.leader(0).node.groups.metadata.machine.topics["orders"]
    lost = [n for n, place in enumerate(topic.partitions) if place.replicas == [3]]
    assert lost
    for member in cluster.alive:
        client = member.client()
        shared = cluster.ask(client, DescribeShared(topic="orders", group="shared"), SOON)
        assert shared.missing == lost
        assert [each.partition for each in shared.partitions] == [
            n for n in range(3) if n not in lost
        ]
        for group in ("ordered", "shared"):
            reply = cluster.ask(client, DescribeGroup(group=group), SOON)
            assert reply.missing == {"orders": lost}


def test_groups_are_listed_with_how_many_partitions_their_lag_leaves_out() -> None:
    cluster = bereft()
    topic = cluster.leader(0).node.groups.metadata.machine.topics["orders"]
    for place in topic.partitions:
        cluster.leader(place.group).client().publish(place.group, b"a", b"b")
    cluster.advance(1.0)
    groups = cluster.ask(cluster.members[1].client(), ListGroups()).groups
    assert [(each.lag, each.missing) for each in groups] == [(6, 0), (6, 0)]
    cluster.kill(3)
    cluster.advance(4.0)
    lost = sum(place.replicas == [3] for place in topic.partitions)
    assert lost
    for member in cluster.alive:
        reply = cluster.ask(member.client(), ListGroups(partial=True), SOON)
        assert reply.missing == 0
        found = [(each.lag, each.missing) for each in reply.groups]
        assert found == [(6 - 2 * lost, lost)] * 2


def test_groups_are_listed_without_those_of_lost_coordinators_if_that_is_asked_for() -> None:
    cluster = bereft()
    client = cluster.members[1].client()
    reply = cluster.ask(client, ListGroups(partial=True))
    assert [group.group for group in reply.groups] == ["ordered", "shared"]
    assert reply.missing == 0
    cluster.kill(2)
    cluster.kill(3)
    cluster.advance(4.0)
    reply = cluster.ask(client, ListGroups(partial=True), SOON)
    assert [group.group for group in reply.groups] == ["shared"]
    assert reply.missing == 8
    with pytest.raises(LeaderUnknown, match="8 of the groups' coordinators"):
        tell(cluster, client, ListGroups())
