"""Damaged records of one replica are copied again from another one."""

from __future__ import annotations

import pytest

from penstock.errors import CorruptData
from tests.node.cluster import Cluster, Member

VALUE = bytes(range(256)) * 40


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(3, segment_bytes=128 << 10, tail_bytes_max=64 << 10, write_bytes=16 << 10)


def fill(cluster: Cluster, gid: int) -> None:
    cluster.advance(0.5)
    client = cluster.leader(gid).client()
    for number in range(60):
        client.publish(gid, b"%d" % number + VALUE)
    cluster.advance(0.5)


def damage(member: Member, gid: int, position: int) -> None:
    """Flip a byte of the first segment."""
    log = member.node.partitions[gid].log
    file = member.files.open(log.segments[0].path)
    (byte,) = file.pread(1, position)
    file.pwrite([bytes([byte ^ 1])], position)


def is_whole(cluster: Cluster, member: Member, gid: int) -> bool:
    if member.node.partitions[gid].log.damages:
        return False
    return cluster.contents(member.number, gid) == [b"%d" % n + VALUE for n in range(60)]


@pytest.mark.parametrize("position", [50, 5_000, 60_000])
def test_a_damaged_leader_gives_the_lead_away_and_is_repaired(
    cluster: Cluster, position: int
) -> None:
    (gid,) = cluster.topic()
    fill(cluster, gid)
    leader = cluster.leader(gid)
    damage(leader, gid, position)
    offset = position // len(VALUE)
    with pytest.raises(CorruptData):
        leader.client().fetch(gid, offset)
    cluster.run_until(lambda: cluster.leader(gid) is not leader)
    assert cluster.leader(gid).client().fetch(gid, offset, max_bytes=1)[0][-1:] == VALUE[-1:]
    cluster.run_until(lambda: is_whole(cluster, leader, gid))


def test_without_others_damage_stays_refused() -> None:
    cluster = Cluster(1, segment_bytes=128 << 10, tail_bytes_max=64 << 10, write_bytes=16 << 10)
    (gid,) = cluster.topic()
    fill(cluster, gid)
    damage(cluster.leader(gid), gid, 50)
    for _ in range(2):
        with pytest.raises(CorruptData):
            cluster.leader(gid).client().fetch(gid, 0)
        cluster.advance(2.0)
