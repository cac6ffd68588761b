"""A cluster that grows: who takes part in group 0, and where the coordinators' groups go."""

from __future__ import annotations

from functools import partial

from penstock.protocol.cluster import ClusterStatus, ListPartitions, SetNodeState
from penstock.protocol.messages import AlterTopic
from penstock.protocol.sharing import CreateGroup
from penstock_broker.machine.topology import Partition
from tests.node.cluster import Cluster

DEAD = "dead.orders.workers"


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


def test_a_topic_gets_more_replicas_and_fewer_when_it_is_told() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic(replication=1)
    client = cluster.leader(gid).client()
    for number in range(5):
        client.publish(gid, b"%d" % number)
    for wanted in (3, 2):
        cluster.ask(cluster.leader(0).client(), AlterTopic(name="orders", replication=wanted))
        cluster.run_until(partial(has_members, cluster, wanted), 30.0)
        (members,) = [p.members for p in partitions(cluster, "orders")]
        cluster.run_until(partial(hold, cluster, members, gid, 5), 5.0)


def test_added_partitions_begin_with_fewer_replicas_while_a_broker_is_drained() -> None:
    cluster = Cluster(3)
    cluster.topic("orders", 2)
    anybody = cluster.leader(0).client()
    cluster.ask(anybody, CreateGroup(topic="orders", group="workers"))
    cluster.ask(anybody, SetNodeState(node=3, state="draining"))
    cluster.ask(anybody, AlterTopic(name="orders", partitions=3))
    for topic in ("orders", DEAD):
        assert [p.members for p in partitions(cluster, topic)] == [[1, 2, 3], [1, 2, 3], [1, 2]]
        assert states(cluster, topic) == ["ok", "ok", "under-replicated"]
    assert cluster.ask(anybody, ClusterStatus()).under_replicated == 2
    cluster.ask(anybody, SetNodeState(node=3, state="active"))
    for topic in ("orders", DEAD):
        cluster.run_until(partial(settled, cluster, topic, [1, 2, 3]), 30.0)
        assert states(cluster, topic) == ["ok"] * 3


def test_dead_letters_have_a_leader_while_one_broker_is_away_and_another_is_drained() -> None:
    cluster = Cluster(3)
    cluster.topic("orders", 2)
    cluster.kill(1)
    cluster.advance(3.0)
    anybody = cluster.leader(0).client()
    cluster.ask(anybody, SetNodeState(node=3, state="draining"))
    cluster.ask(anybody, CreateGroup(topic="orders", group="workers"))
    assert states(cluster, "orders") == states(cluster, DEAD) == ["under-replicated"] * 2
    cluster.ask(anybody, SetNodeState(node=3, state="active"))
    cluster.restart(1)
    cluster.run_until(lambda: states(cluster, DEAD) == ["ok"] * 2, 30.0)


def test_dead_letters_begun_after_a_broker_was_removed_get_their_third_copy() -> None:
    cluster = Cluster(4)
    cluster.topic("orders", 2, replication=3)
    anybody = cluster.leader(0).client()
    gone = next(
        n for n in partitions(cluster, "orders")[0].replicas if n != cluster.leader(0).number
    )
    cluster.kill(gone)
    cluster.advance(3.0)
    cluster.ask(anybody, SetNodeState(node=gone, state="removed", force=True))
    cluster.ask(anybody, CreateGroup(topic="orders", group="workers"))
    rest = [n for n in cluster.members if n != gone]
    cluster.run_until(partial(settled, cluster, DEAD, rest), 30.0)
    assert states(cluster, DEAD) == ["ok"] * 2


def states(cluster: Cluster, topic: str) -> list[str]:
    listed = ListPartitions(topic=topic, internal=False)
    return [p.state for p in cluster.ask(cluster.leader(0).client(), listed).partitions]


def has_members(cluster: Cluster, count: int) -> bool:
    return all(len(p.members) == count and not p.moving for p in partitions(cluster, "orders"))


def hold(cluster: Cluster, members: list[int], gid: int, records: int) -> bool:
    return all(len(cluster.contents(number, gid)) == records for number in members)
