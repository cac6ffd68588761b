"""Reads of a cluster: from any replica, and linearizable ones."""

from __future__ import annotations

import pytest

from penstock.errors import BadRequest, NotLeader, OffsetOutOfRange
from penstock.protocol.codec import encode_message
from penstock.protocol.frames import FETCH_ANY_REPLICA, FETCH_LINEARIZABLE, fetch_request
from penstock.protocol.messages import ListOffsets
from tests.node.cluster import Cluster, Member
from tests.node.harness import Client


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(3)


def follower(cluster: Cluster, gid: int) -> Member:
    leader = cluster.leader(gid)
    return next(member for member in cluster.alive if member is not leader)


def fetch(client: Client, gid: int, offset: int, flags: int, wait_ms: int = 0) -> None:
    client.correlation += 1
    client.send(fetch_request(client.correlation, gid, offset, 1 << 20, 1, wait_ms, flags))


def test_a_follower_answers_who_does_not_mind(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    cluster.leader(gid).client().publish(gid, b"a")
    cluster.advance(0.3)
    client = follower(cluster, gid).client()
    fetch(client, gid, 0, FETCH_ANY_REPLICA)
    assert client.fetched() == [b"a"]
    with pytest.raises(NotLeader):
        client.fetch(gid, 0)


def test_a_follower_answers_a_long_poll_when_it_hears_of_a_record(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    cluster.advance(0.5)
    client = follower(cluster, gid).client()
    fetch(client, gid, 0, FETCH_ANY_REPLICA, wait_ms=5000)
    cluster.leader(gid).client().publish(gid, b"a")
    cluster.advance(0.3)
    assert client.fetched() == [b"a"]


def test_a_follower_sends_on_who_is_ahead_of_it(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    client = follower(cluster, gid).client()
    fetch(client, gid, 7, FETCH_ANY_REPLICA)
    with pytest.raises(NotLeader):
        client.fetched()


def test_a_linearizable_read_is_answered_after_a_round_of_heartbeats(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    leader.client().publish(gid, b"a")
    client = leader.client()
    fetch(client, gid, 0, FETCH_LINEARIZABLE)
    assert not client.session.out
    cluster.pump()
    assert client.fetched() == [b"a"]


def test_a_leader_that_is_cut_off_answers_no_linearizable_read(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    client = leader.client()
    cluster.isolate(leader.number)
    fetch(client, gid, 0, FETCH_LINEARIZABLE)
    cluster.advance(0.5)
    assert not client.session.out
    cluster.advance(3.0)
    with pytest.raises(NotLeader):
        client.fetched()


def test_a_leader_that_others_have_replaced_does_not_say_that_a_record_is_not_there(
    cluster: Cluster,
) -> None:
    (gid,) = cluster.topic()
    stale = cluster.leader(gid)
    cluster.advance(0.5)
    client = stale.client()
    cluster.isolate(stale.number)
    for flags in (0, FETCH_ANY_REPLICA):
        fetch(client, gid, 7, flags)
    cluster.pump()
    assert not client.session.out
    cluster.advance(4.0)
    replies = client.take()
    assert len(replies) == 2
    for reply in replies:
        with pytest.raises(NotLeader):
            client.decode(*reply)


def test_a_leader_of_several_refuses_an_offset_beyond_the_end_once_it_is_certain(
    cluster: Cluster,
) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    client = leader.client()
    fetch(client, gid, 7, 0)
    assert not client.session.out
    cluster.pump()
    with pytest.raises(OffsetOutOfRange):
        client.fetched()


def test_a_broker_alone_answers_linearizable_reads_at_once() -> None:
    cluster = Cluster(1)
    (gid,) = cluster.topic()
    cluster.leader(gid).client().publish(gid, b"a")
    client = cluster.leader(gid).client()
    fetch(client, gid, 0, FETCH_LINEARIZABLE)
    cluster.pump()
    assert client.fetched() == [b"a"]


def test_offsets_are_told_by_any_replica_or_after_a_round_of_heartbeats(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    cluster.leader(gid).client().publish(gid, b"a")
    cluster.advance(0.3)
    other = follower(cluster, gid).client()
    for flags in (0, FETCH_ANY_REPLICA, FETCH_LINEARIZABLE):
        asked = ListOffsets(topic="orders", positions={0: -1}, flags=flags)
        assert cluster.ask(other, asked).offsets == {0: 1}
        assert cluster.ask(cluster.leader(gid).client(), asked).offsets == {0: 1}


def test_a_leader_that_is_cut_off_tells_no_linearizable_offset(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    cluster.isolate(leader.number)
    client = leader.client()
    asked = ListOffsets(topic="orders", positions={0: -1}, flags=FETCH_LINEARIZABLE)
    client.send(encode_message(asked, 9))
    cluster.advance(4.0)
    with pytest.raises(NotLeader):
        client.decode(*client.take()[0])


def test_an_unknown_flag_is_refused(cluster: Cluster) -> None:
    cluster.topic()
    asked = ListOffsets(topic="orders", positions={0: -1}, flags=4)
    with pytest.raises(BadRequest):
        cluster.ask(cluster.members[1].client(), asked)
