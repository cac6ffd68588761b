"""Three processes: whichever of them dies, what was acknowledged is there and work goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from penstock import sync
from penstock.errors import ClusterUnformed, PreconditionFailed
from tests.system.cluster import ClusterProcesses, wait_until
from tests.system.process import BrokerProcess, Sabotaged

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
        assert wait_until(cluster.complete)
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


def stored(cluster: ClusterProcesses, topic: str, count: int) -> list[bytes]:
    """The first records of a topic."""
    values: list[bytes] = []
    with (
        sync.connect(cluster.address) as client,
        client.subscribe(topic, start="earliest") as records,
    ):
        while len(values) < count:
            found = records.fetch(count, wait=15.0)
            assert found, f"only {len(values)} of {count} records came"
            values += [record.value for record in found]
    return values


def test_all_members_are_killed_at_once_and_come_back_with_everything(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        make_topic(cluster, "orders", partitions=3)
        with sync.connect(cluster.address) as client:
            for number in range(300):
                client.publish("orders", b"%d" % number, partition=number % 3)
        cluster.kill()
        for member in cluster.members:
            member.start()
        assert sorted(map(int, stored(cluster, "orders", 300))) == list(range(300))
        with sync.connect(cluster.address) as client:
            assert client.publish("orders", b"on", partition=0).offset == 100


def test_a_leader_that_stops_for_a_while_loses_its_lead_and_nothing_else(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        make_topic(cluster, "orders")
        with sync.connect(cluster.address) as client:
            client.publish("orders", b"0")
            leader = cluster.leader("orders")
            leader.freeze()
            offsets = [client.publish("orders", b"%d" % number).offset for number in (1, 2, 3)]
            leader.send_signal(signal.SIGCONT)
            offsets += [client.publish("orders", b"%d" % number).offset for number in (4, 5)]
        assert offsets == [1, 2, 3, 4, 5]
        assert wait_until(cluster.complete)
        assert stored(cluster, "orders", 6) == [b"%d" % number for number in range(6)]


def test_a_leader_whose_disk_hangs_hands_its_leads_over(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, kind=Sabotaged) as cluster:
        cluster.start()
        make_topic(cluster, "orders")
        with sync.connect(cluster.address) as client:
            client.publish("orders", b"0")
            leader = cluster.leader("orders")
            assert isinstance(leader, Sabotaged)
            leader.begin("hang")
            began = time.monotonic()
            for number in (1, 2, 3):
                client.publish("orders", b"%d" % number)
            assert time.monotonic() - began < 15
            assert wait_until(lambda: "leads are handed over" in leader.log())
            assert wait_until(lambda: cluster.leader("orders") is not leader)
            leader.end("hang")
        assert stored(cluster, "orders", 4) == [b"%d" % number for number in range(4)]


def test_a_member_that_moves_is_found_at_its_new_address(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.start()
        moved = cluster.members[2]
        assert moved.stop() == 0
        moved.address = "127.0.0.1:0"
        moved.start()
        assert moved.address in wait_for_nodes(cluster, moved)


def wait_for_nodes(cluster: ClusterProcesses, moved: BrokerProcess) -> dict[str, int]:
    first = cluster.members[0]
    wait_until(lambda: moved.address in cluster.nodes(first))
    return cluster.nodes(first)
