"""A test gets a whole cluster, and may hurt it."""

from __future__ import annotations

from penstock import sync, testing
from penstock.testing import RunningCluster


def values(address: str, topic: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    with sync.connect(address) as client, client.subscribe(topic, start="earliest") as records:
        while len(found) < count:
            found += [record.value for record in records.fetch(count, wait=10.0)]
    return found


def test_members_are_killed_stopped_and_started_and_nothing_is_lost(
    penstock_cluster: RunningCluster,
) -> None:
    cluster = penstock_cluster
    with sync.connect(cluster.address) as client:
        client.admin.create_topic("orders", replication=3)
        client.publish("orders", b"0")
        for number, end in enumerate((cluster.kill, cluster.stop), 1):
            leader = cluster.leader("orders")
            end(leader)
            assert client.publish("orders", b"%d" % number).offset == number
            cluster.start(leader)
    assert values(cluster.address, "orders", 3) == [b"0", b"1", b"2"]


def test_a_cluster_of_one_is_a_cluster() -> None:
    with testing.cluster(1) as cluster, sync.connect(cluster.address) as client:
        client.admin.create_topic("orders")
        assert client.publish("orders", b"a").offset == 0


async def test_a_cluster_runs_beside_trio() -> None:
    async with testing.cluster(2) as cluster:
        assert len(cluster.members) == 2
