"""Requests of clients that another node answers."""

from __future__ import annotations

from penstock.protocol import messages
from penstock.protocol.messages import CreateTopic, DescribeGroup, JoinGroup, ListOffsets, TrimLog
from tests.node.cluster import Cluster
from tests.node.harness import error_of


def test_any_node_creates_a_topic() -> None:
    cluster = Cluster(3)
    for number, member in cluster.members.items():
        reply = cluster.ask(member.client(), CreateTopic(name=f"t{number}", partitions=2))
        assert reply.created
        assert all(place.leader for place in reply.topic.partitions)
