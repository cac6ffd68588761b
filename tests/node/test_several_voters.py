"""Groups with several voters: they elect, replicate and fail over; nothing acknowledged is lost."""

from __future__ import annotations

import pytest

from penstock.errors import NotLeader
from tests.node.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(3)


def followers(cluster: Cluster, gid: int) -> list[int]:
    leader = cluster.leader(gid)
    return [member.number for member in cluster.alive if member is not leader]


def test_a_topic_has_one_leader_and_its_records_are_on_all_nodes(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    assert cluster.leader(gid).client().publish(gid, b"a", b"b") == (0, False)
    cluster.advance(0.3)
    assert [cluster.contents(number, gid) for number in (1, 2, 3)] == [[b"a", b"b"]] * 3
    assert not cluster.errors


def test_the_others_name_the_leader(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    other = cluster.members[followers(cluster, gid)[0]]
    with pytest.raises(NotLeader) as raised:
        other.client().publish(gid, b"a")
    assert raised.value.detail["leader"] == leader.number


def test_after_a_leader_dies_another_goes_on_with_all_that_was_acknowledged(
    cluster: Cluster,
) -> None:
    gids = cluster.topic(partitions=4)
    for gid in gids:
        cluster.leader(gid).client().publish(gid, b"before")
    cluster.kill(cluster.leader(gids[0]).number)
    for gid in gids:
        leader = cluster.leader(gid)
        assert leader.client().publish(gid, b"after") == (1, False)
        assert leader.client().fetch(gid, 0) == [b"before", b"after"]


def test_after_a_crash_there_is_a_new_leader_within_half_a_second(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    before = cluster.clock
    cluster.kill(cluster.leader(gid).number)
    cluster.leader(gid)
    assert cluster.clock - before < 0.5


def test_one_that_comes_back_catches_up_and_can_lead(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    first = cluster.leader(gid)
    first.client().publish(gid, b"one")
    cluster.kill(first.number)
    cluster.leader(gid).client().publish(gid, b"two")
    cluster.restart(first.number)
    cluster.advance(2.0)
    cluster.leader(gid).node.partitions[gid].transfer(first.number)
    cluster.run_until(lambda: cluster.leader(gid) is first)
    assert first.client().fetch(gid, 0) == [b"one", b"two"]


def test_all_come_back_with_what_they_had(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    cluster.leader(gid).client().publish(gid, b"kept")
    for number in (1, 2, 3):
        cluster.kill(number)
    for number in (1, 2, 3):
        cluster.restart(number)
    assert cluster.leader(gid).client().fetch(gid, 0) == [b"kept"]


def test_what_a_cut_off_leader_took_is_refused_and_gone(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    old = cluster.leader(gid)
    client, poller = old.client(), old.client()
    cluster.isolate(old.number)
    client.publish_nowait(gid, b"lost")
    poller.fetch_nowait(gid, 0, wait_ms=60_000)
    cluster.advance(4.0)
    with pytest.raises(NotLeader):
        client.publish_reply()
    with pytest.raises(NotLeader):
        poller.fetched()
    assert old.node.uncommitted_bytes == 0
    assert cluster.leader(gid).client().publish(gid, b"kept") == (0, False)
    cluster.heal()
    cluster.advance(3.0)
    assert [cluster.contents(number, gid) for number in (1, 2, 3)] == [[b"kept"]] * 3


def test_what_is_published_while_the_lead_moves_waits_for_the_outcome(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    to = followers(cluster, gid)[0]
    client = leader.client()
    leader.node.partitions[gid].transfer(to)
    client.publish_nowait(gid, b"too late")
    cluster.run_until(lambda: client.session.out)
    with pytest.raises(NotLeader):
        client.publish_reply()
    assert cluster.leader(gid).number == to


def test_a_lead_that_nobody_takes_goes_on_in_another_term(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    to = followers(cluster, gid)[0]
    cluster.cut(leader.number, to)
    client, partition = leader.client(), leader.node.partitions[gid]
    term = partition.raft.term
    partition.transfer(to)
    client.publish_nowait(gid, b"a")
    cluster.run_until(lambda: client.session.out)
    with pytest.raises(NotLeader):
        client.publish_reply()
    cluster.run_until(lambda: partition.leading)
    assert partition.raft.term == term + 1
    client.publish(gid, b"a")
    cluster.heal()
    cluster.run_until(lambda: cluster.contents(to, gid) == [b"a"])


def test_after_a_start_of_all_preferred_leaders_do_not_wait_for_silence() -> None:
    cluster = Cluster(3)
    gids = cluster.topic(partitions=12)
    for number in cluster.members:
        cluster.kill(number)
    for number in cluster.members:
        cluster.restart(number)
    began = cluster.clock
    cluster.run_until(lambda: all(member.node.ready for member in cluster.members.values()))
    assert cluster.clock - began < 0.9, "an election after silence takes one to two seconds"
    topics = cluster.members[1].node.groups.metadata.machine.topics
    preferred = [partition.replicas[0] for partition in topics["orders"].partitions]
    assert [cluster.leader(gid).number for gid in gids] == preferred
    assert len(set(preferred)) > 1


def test_who_starts_again_leaves_the_leads_where_they_are() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    old = cluster.leader(gid).number
    cluster.kill(old)
    leader = cluster.leader(gid)
    term = leader.group(gid).raft.term
    cluster.restart(old)
    cluster.advance(3.0)
    assert cluster.leader(gid) is leader
    assert leader.group(gid).raft.term == term
