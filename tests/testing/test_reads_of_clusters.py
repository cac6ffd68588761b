"""Who answers a reader: the leader, one that has made sure that it leads, or a replica nearby."""

from __future__ import annotations

import pytest

from penstock import sync
from penstock.errors import BadRequest
from penstock.testing import RunningCluster

VALUES = [b"%d" % number for number in range(100)]


def test_a_replica_nearby_is_read_when_nobody_can_lead(penstock_cluster: RunningCluster) -> None:
    cluster = penstock_cluster
    with sync.connect(cluster.address) as client:
        client.admin.create_topic("orders", replication=3)
        client.publish_many("orders", VALUES)
        for read in ("leader", "linearizable", "nearest"):
            with client.subscribe("orders", start=0, read=read) as records:  # type: ignore[arg-type]  # a loop over literals
                assert [record.value for record in records.fetch(100, wait=10)] == VALUES
        assert client.admin.list_offsets("orders", read="linearizable") == {0: 100}
    left = (cluster.leader("orders") + 1) % 3
    with (  # it hears of the end a little late
        sync.connect(cluster.members[left].address) as client,
        client.subscribe("orders", partitions=[0], start=0, read="nearest") as records,
    ):
        assert [record.value for record in records.fetch(100, wait=10)] == VALUES
    for number in {0, 1, 2} - {left}:
        cluster.kill(number)
    with sync.connect(cluster.members[left].address) as client:
        with client.subscribe("orders", partitions=[0], start=0, read="nearest") as records:
            assert [record.value for record in records.fetch(100, wait=10)] == VALUES
        with client.subscribe("orders", partitions=[0], start=0, read="linearizable") as records:
            assert records.fetch(100, wait=0.5) == []


def test_a_kind_of_read_that_is_not_there_is_refused(penstock_cluster: RunningCluster) -> None:
    with sync.connect(penstock_cluster.address) as client, pytest.raises(BadRequest, match="read"):
        client.subscribe("orders", read="fresh")  # type: ignore[arg-type]  # that is the point
