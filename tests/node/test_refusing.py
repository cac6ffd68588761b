"""A broker that takes no writes is known to all others: it gets no leads and no replicas."""

from __future__ import annotations

import pytest

from penstock.errors import PreconditionFailed, RemoteProtocolError
from penstock.protocol.cluster import MovePartition, TransferLeader
from penstock_broker.machine.moves import Standing
from penstock_broker.node.peers.frames import checked_frame
from penstock_broker.node.refusing import HOLD_SECONDS, REFUSING
from tests.node.cluster import Cluster, Member


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(3)


def fill_disk(cluster: Cluster, member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member.node.store.files, "free_bytes", lambda: 0)
    cluster.run_until(
        lambda: all(other.node.refusing(member.number) for other in cluster.alive), 2.0
    )


def test_the_preferred_leader_gets_no_lead_back_while_its_disk_is_full(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gid,) = cluster.topic()
    member = cluster.leader(gid)
    fill_disk(cluster, member, monkeypatch)
    member.node.hand_over.begin()
    cluster.run_until(lambda: cluster.leader(gid) is not member)
    for _ in range(30):
        cluster.advance(1.0)
        assert cluster.leader(gid) is not member
    monkeypatch.undo()
    cluster.run_until(lambda: cluster.leader(gid) is member, HOLD_SECONDS + 30.0)


def test_leads_are_not_handed_from_one_full_disk_to_another(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    for member in cluster.alive:
        fill_disk(cluster, member, monkeypatch)
    assert not leader.node.hand_over.possible


def test_who_stops_hands_its_leads_to_a_full_disk_rather_than_to_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    for member in cluster.alive:
        if member is not leader:
            fill_disk(cluster, member, monkeypatch)
    assert leader.node.hand_over.possible


def test_no_replicas_go_to_a_full_disk(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = cluster.leader(0)
    other = next(member for member in cluster.alive if member is not metadata)
    cluster.advance(6.0)
    entry = metadata.node.groups.metadata.machine.nodes[other.number]
    controller = metadata.node.groups.controller
    assert controller._standing(entry) is Standing.TAKES
    fill_disk(cluster, other, monkeypatch)
    assert controller._standing(entry) is Standing.KEEPS


def test_a_leader_that_is_moved_away_hands_its_lead_to_no_full_disk(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gid,) = cluster.topic(replication=2)
    leader = cluster.leader(gid)
    partition = cluster.leader(0).node.groups.metadata.machine.topics["orders"].partitions[0]
    (full,) = [node for node in partition.replicas if node != leader.number]
    (fresh,) = {1, 2, 3} - set(partition.replicas)
    fill_disk(cluster, cluster.members[full], monkeypatch)
    cluster.ask(leader.client(), MovePartition(topic="orders", partition=0, replicas=[full, fresh]))
    for _ in range(100):
        cluster.advance(0.1)
        assert not cluster.members[full].group(gid).raft.is_leader
    raft = cluster.leader(gid).group(gid).raft
    assert (raft.id, sorted(raft.configuration.voters)) == (fresh, sorted([full, fresh]))
    wanted = TransferLeader(topic="orders", partition=0, to=full)
    with pytest.raises(PreconditionFailed, match="takes no writes now"):
        cluster.ask(leader.client(), wanted)


@pytest.mark.parametrize("body", [b"", b"\2", b"\1\1"])
def test_a_frame_that_says_neither_is_refused(cluster: Cluster, body: bytes) -> None:
    frame = memoryview(checked_frame(REFUSING, body))
    with pytest.raises(RemoteProtocolError):
        cluster.members[1].node.refusing.received(2, frame, 0, len(frame), True)
