"""Groups with several voters: they elect, replicate and fail over; nothing acknowledged is lost."""

from __future__ import annotations

import pytest

from penstock.errors import NotLeader
from tests.node.shim import Together


@pytest.fixture
def cluster() -> Together:
    return Together(3)


def test_a_topic_has_one_leader_and_its_records_are_on_all_nodes(cluster: Together) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    assert leader.client().publish(gid, b"a", b"b") == (0, False)
    cluster.advance(0.3)
    assert [one.node.partitions[gid].log.end_offset for one in cluster.members.values()] == [2] * 3


def test_the_others_name_the_leader(cluster: Together) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    other = next(one for one in cluster.members.values() if one is not leader)
    with pytest.raises(NotLeader) as raised:
        other.client().publish(gid, b"a")
    assert raised.value.detail["leader"] == leader.id


def test_after_a_leader_dies_another_goes_on_with_all_that_was_acknowledged(
    cluster: Together,
) -> None:
    gids = cluster.topic(partitions=4)
    for gid in gids:
        cluster.leader(gid).client().publish(gid, b"before")
    dead = cluster.leader(gids[0])
    cluster.kill(dead.id)
    for gid in gids:
        leader = cluster.leader(gid)
        assert leader.client().publish(gid, b"after") == (1, False)
        assert leader.client().fetch(gid, 0) == [b"before", b"after"]


def test_one_that_comes_back_catches_up_and_can_lead(cluster: Together) -> None:
    (gid,) = cluster.topic()
    first = cluster.leader(gid)
    first.client().publish(gid, b"one")
    cluster.kill(first.id)
    cluster.leader(gid).client().publish(gid, b"two")
    cluster.start(first.id)
    cluster.advance(2.0)
    cluster.leader(gid).node.partitions[gid].transfer(first.id)
    cluster.advance(0.5)
    assert cluster.leader(gid).id == first.id
    assert cluster.leader(gid).client().fetch(gid, 0) == [b"one", b"two"]
