"""What has gone wrong in other systems' clusters, played on purpose; tests/README.md lists all."""

from __future__ import annotations

import pytest

from penstock.errors import CorruptData
from penstock.protocol.leases import ACK, NACK, RELEASE
from penstock_broker.simulation.memory_files import MemoryFile
from penstock_broker.storage import Store
from tests.node.cluster import Cluster
from tests.node.sharing.members import Member as Sharer
from tests.node.sharing.members import offsets
from tests.node.sharing.test_handover import Handing
from tests.node.sharing.test_lanes import prepared
from tests.storage.helpers import append_data, checkpoint, read_all

STRANGER = 4711
"""A group that the metadata does not name."""


def with_records(cluster: Cluster) -> int:
    """A topic with ten records on all."""
    (gid,) = cluster.topic()
    client = cluster.leader(gid).client()
    for number in range(10):
        client.publish(gid, b"%d" % number)
    cluster.advance(0.5)
    return gid


def test_metadata_that_one_can_not_read_is_no_reason_to_delete_for_anybody() -> None:
    """NATS 7556: it took what it could not read for nothing, and led: everything was deleted."""
    cluster = Cluster(3)
    gid = with_records(cluster)
    spoilt = cluster.leader(0)
    spoilt.node.checkpoints.request()
    cluster.advance(0.5)
    cluster.kill(spoilt.number)
    (name,) = spoilt.files.list("checkpoint")
    file = spoilt.files.open(f"checkpoint/{name}")
    spoil(file, file.size() // 2)
    with pytest.raises(CorruptData):
        cluster.restart(spoilt.number)
    assert spoilt.files.list(f"partitions/{gid}")
    cluster.advance(5.0)
    assert cluster.leader(0) is not spoilt
    for member in cluster.alive:
        assert len(cluster.contents(member.number, gid)) == 10


def spoil(file: MemoryFile, position: int) -> None:
    """Flip a bit."""
    (byte,) = file.pread(1, position)
    file.pwrite([bytes([byte ^ 1])], position)


def test_what_the_metadata_does_not_name_is_kept() -> None:
    """NATS 7556: a copy without a name in its metadata was an orphan, and was cleaned up."""
    cluster = Cluster(3)
    with_records(cluster)
    member = cluster.members[3]
    cluster.kill(3)
    store = Store.open(member.files, cluster.storage, fresh_uuid=bytes(16))
    append_data(store, STRANGER, 5)
    checkpoint(store, [STRANGER])
    append_data(store, STRANGER, 3)
    store.close()
    cluster.restart(3)
    cluster.run_until(lambda: member.node.groups.informed)
    cluster.advance(2.0)
    member.node.checkpoints.request()
    cluster.advance(1.0)
    cluster.restart(3)
    cluster.advance(2.0)
    cluster.kill(3)
    again = Store.open(member.files, cluster.storage, fresh_uuid=bytes(16))
    assert not again.quarantined()
    assert len(read_all(again, STRANGER)) == 5
    assert len(again.recovered[STRANGER].entries) == 3


def test_offsets_are_dense_and_alike_after_entries_of_all_kinds_were_replaced() -> None:
    """Redpanda 29849: what was cut off the log was still counted between indexes and offsets."""
    handing = Handing()
    cluster, gid, old = handing.cluster, handing.gid, handing.old
    member = handing.member(old, "m1")
    cluster.isolate(old.number)
    client = old.client()
    for number in range(3):
        member.ask(2)
        client.publish_nowait(gid, b"lost", b"too %d" % number)
        cluster.pump()
    assert old.group(gid).raft.log.last_index > old.group(gid).applied_index
    cluster.run_until(lambda: handing.new.group(gid).leading or handing.third.group(gid).leading)
    leader = next(one for one in (handing.new, handing.third) if one.group(gid).leading)
    handing.member(leader, "m2").acquire(1)
    assert leader.client().publish(gid, b"a", b"b") == (10, False)
    cluster.heal()
    cluster.run_until(lambda: not old.group(gid).leading)
    leader.group(gid).transfer(old.number)
    cluster.run_until(lambda: old.group(gid).leading)
    assert old.client().publish(gid, b"c") == (12, False)
    cluster.advance(0.5)
    wanted = [*(b"%d" % number for number in range(10)), b"a", b"b", b"c"]
    assert all(cluster.contents(number, gid) == wanted for number in cluster.members)


def test_an_ack_of_a_grant_that_died_with_its_leader_skips_nothing() -> None:
    """NATS 6469: the new leader took it for a sign that all before had been delivered."""
    handing = Handing()
    cluster = handing.cluster
    cluster.advance(0.5)
    member = handing.member(handing.old, "m1")
    member.ask(6)
    handing.old.node.end_round()
    got = member.acquired()
    assert offsets(got) == list(range(6))
    cluster.kill(handing.old.number)
    leader = handing.leader()
    again = handing.member(leader, "m1", held=[got.lease])
    assert again.attached.lost == [got.lease]
    again.settle(got.lease, [(4, 1)])
    assert offsets(handing.member(leader, "m2").acquire()) == [0, 1, 2, 3, *range(5, 10)]


def test_only_what_ends_a_lease_makes_room_behind_it_and_each_does_so_once() -> None:
    """Pulsar 25627: what was no ack was counted as one: order was broken, or all stood still."""
    node, _ = prepared("abcdefghij", limit_by="tenant", concurrency=2, jitter="none")
    first, second = Sharer(node, "m1"), Sharer(node, "m2")
    out = first.acquire()
    assert offsets(out) == [0, 1]
    for verdict in (ACK, ACK, NACK, RELEASE):  # of records that are settled, or were never leased
        first.settle(out.lease, [(0, 1)], verdict)
        second.settle(out.lease + 99, [(5, 1)], NACK)
    got = second.acquire()
    assert offsets(got) == [2]
    assert offsets(second.acquire()) == []
    first.settle(out.lease, [(1, 1)], NACK)
    again = first.acquire()
    assert offsets(again) == [3]
    node.advance(31)  # both leases run out, and both are acknowledged all the same
    second.settle(got.lease, [(2, 1)])
    first.settle(again.lease, [(3, 1)])
    second.settle(got.lease, [(2, 1)])
    assert len(offsets(second.acquire())) == 2
    assert offsets(first.acquire()) == []
