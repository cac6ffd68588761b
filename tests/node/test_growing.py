"""A cluster that grows: who takes part in group 0, and where the coordinators' groups go."""

from __future__ import annotations

from penstock_broker.machine.topology import Partition
from tests.node.cluster import Cluster


def partitions(cluster: Cluster, topic: str) -> list[Partition]:
    return cluster.leader(0).node.groups.metadata.machine.topics[topic].partitions


def settled(cluster: Cluster, topic: str, members: list[int]) -> bool:
    return all(p.members == members and not p.moving for p in partitions(cluster, topic))


def test_the_coordinators_get_three_replicas_as_nodes_come() -> None:
    cluster = Cluster(3)
    cluster.run_until(lambda: settled(cluster, "__groups", [1, 2, 3]), 30.0)
    for p in partitions(cluster, "__groups"):
        for member in cluster.alive:
            assert member.group(p.group).raft.configuration.voters == (1, 2, 3)
