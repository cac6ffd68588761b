"""Ordered groups over a change of their coordinator."""

from __future__ import annotations

from penstock.protocol.messages import DescribeGroup, GroupHeartbeat, JoinGroup
from tests.node.cluster import Cluster


def test_a_member_outlives_its_coordinator_by_a_whole_session() -> None:
    cluster = Cluster(3)
    cluster.topic()
    cluster.advance(15.0)  # the coordinators get their replicas
    client = cluster.members[1].client()
    joined = cluster.ask(client, JoinGroup(group="g", member="m", topics=["orders"]))
    generation = joined.assignment.generation
    gid = cluster.members[1].node.groups.coordinator_group("g")
    old = cluster.leader(gid)
    assert len(old.group(gid).raft.configuration.voters) == 3
    cluster.kill(old.number)
    other = cluster.alive[0].client()
    cluster.run_until(lambda: cluster.leader(gid) is not old)
    cluster.advance(8.0)
    cluster.ask(other, GroupHeartbeat(group="g", member="m", generation=generation))
    described = cluster.ask(other, DescribeGroup(group="g"))
    assert [member.member for member in described.members] == ["m"]
