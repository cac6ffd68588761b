"""Three processes: whichever of them dies, what was acknowledged is there and work goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from penstock import sync
from penstock.errors import ClusterUnformed, PreconditionFailed
from tests.system.cluster import ClusterProcesses, wait_until

pytestmark = pytest.mark.system


def make_topic(cluster: ClusterProcesses, name: str, partitions: int = 1) -> None:
    with sync.connect(cluster.address) as client:
        client.admin.create_topic(name, partitions, len(cluster.members))


def test_a_cluster_forms_of_brokers_that_were_told_of_each_other(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        known = [cluster.nodes(member) for member in cluster.members]
        assert known[0] == known[1] == known[2]
        assert sorted(known[0].values()) == [1, 2, 3]


def test_before_it_is_formed_clients_are_told_what_to_do(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.members[0].start()
        address = cluster.members[0].address
        with sync.connect(address, request_timeout=1.0) as client:
            with pytest.raises(ClusterUnformed):
                client.admin.create_topic("orders")
            assert client.admin.status().node == 0
        with (
            sync.connect(address, request_timeout=10.0) as client,
            pytest.raises(PreconditionFailed, match="no answer from"),
        ):
            client.admin.init_cluster()


def test_records_survive_the_death_of_their_leader_and_publishing_goes_on(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        make_topic(cluster, "orders")
        with sync.connect(cluster.address) as client:
            before = [client.publish("orders", b"%d" % number) for number in range(200)]
            leader = cluster.leader("orders")
            leader.kill()
            began = time.monotonic()
            after = [client.publish("orders", b"%d" % number) for number in range(200, 400)]
            assert time.monotonic() - began < 15
        assert [receipt.offset for receipt in (*before, *after)] == list(range(400))
        leader.start()
        assert wait_until(cluster.complete, 20)
        with (
            sync.connect(cluster.address) as client,
            client.subscribe("orders", start="earliest") as records,
        ):
            values: list[bytes] = []
            while len(values) < 400:
                values += [record.value for record in records.fetch(400, wait=10.0)]
        assert values == [b"%d" % number for number in range(400)]


def test_a_member_that_is_stopped_in_order_hands_its_leads_over(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        make_topic(cluster, "orders")
        with sync.connect(cluster.address) as client:
            client.publish("orders", b"before")
            leader = cluster.leader("orders")
            leader.send_signal(signal.SIGTERM)
            began = time.monotonic()
            client.publish("orders", b"after")
            assert time.monotonic() - began < 2
            assert leader.wait() == 0
