"""Ordered groups in virtual time: several clients against one fake cluster."""

from __future__ import annotations

from random import Random

import pytest

from penstock._core.bulk import publish_many
from penstock._core.naming import member_id
from penstock._core.subscription import Subscription
from penstock.errors import Fenced, InvalidName, MemberUnknown, TopicNotFound
from penstock.protocol.messages import TYPE_OF, CommitOffsets, GroupHeartbeat, JoinGroup, LeaveGroup
from penstock_broker.machine import commands
from tests.client.fake_broker import FakeCluster
from tests.client.test_subscription import loop, numbered
from tests.client.world import World


def cluster_with(count: int, partitions: int) -> FakeCluster:
    cluster = FakeCluster(t=partitions)
    world = World(cluster).connect()
    for at in range(count):
        world.run(publish_many(world.core.producer, "t", [b"%d" % at], partition=at % partitions))
    return cluster


def member(cluster: FakeCluster, seed: int, **options: object) -> tuple[World, Subscription]:
    world = World(cluster, seed=seed).connect()
    return world, world.subscribe(group="g", **options)


def committed(cluster: FakeCluster) -> dict[int, int]:
    found = cluster.groups.describe("g")
    assert found is not None
    return {number: place[0] for number, place in found.positions.get("t", {}).items()}


def together(worlds: list[World], seconds: float) -> None:
    """Let time pass for several clients in small steps."""
    for _ in range(int(seconds * 20)):
        for world in worlds:
            world.now = max(each.now for each in worlds)
            world.advance(0.0)
        for world in worlds:
            world.advance(0.05)


def test_a_lone_member_reads_everything_and_commits_at_the_end() -> None:
    cluster = cluster_with(40, 4)
    world, subscription = member(cluster, 2)
    assert subscription.assignment() == {"t": [0, 1, 2, 3]}
    assert len(world.fetch(subscription, 40)) == 40
    world.run(subscription.close())
    assert committed(cluster) == {0: 10, 1: 10, 2: 10, 3: 10}
    assert cluster.groups.describe("g").members == []


def test_the_next_member_goes_on_from_the_commit() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    assert loop(subscription, world, 7) == numbered(7)
    world.run(subscription.close())
    world, subscription = member(cluster, 3)
    assert world.fetch(subscription) == numbered(13, 7)


def test_a_record_in_the_hands_of_a_failing_application_is_not_committed() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 7)
    world.run(subscription.close(in_error=True))
    assert committed(cluster) == {0: 6}


def test_a_list_in_the_hands_of_a_failing_application_is_not_committed() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    world.fetch(subscription, 5)
    world.fetch(subscription, 5)
    world.run(subscription.close(in_error=True))
    assert committed(cluster) == {0: 5}


def test_progress_is_committed_now_and_then() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2, commit_interval=3.0)
    loop(subscription, world, 7)
    world.advance(3.1)
    assert committed(cluster) == {0: 6}


def test_manual_commit_is_exact_and_nothing_else_commits() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2, commit="manual")
    loop(subscription, world, 7)
    world.advance(20.0)
    assert committed(cluster) == {}
    world.run(subscription.commit())
    assert committed(cluster) == {0: 7}
    world.run(subscription.commit({"t": {0: 3}}))
    assert committed(cluster) == {0: 3}
    loop(subscription, world, 3)
    world.run(subscription.close())
    assert committed(cluster) == {0: 3}


def test_committing_nothing_new_asks_nobody() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 5)
    world.run(subscription.commit())
    before = cluster.seen[TYPE_OF[CommitOffsets]]
    world.run(subscription.commit())
    assert cluster.seen[TYPE_OF[CommitOffsets]] == before


def test_the_session_is_kept_alive_while_nothing_happens() -> None:
    cluster = cluster_with(1, 1)
    world, _ = member(cluster, 2, session_timeout=8.0)
    world.advance(20.0)
    assert 8 <= cluster.seen[TYPE_OF[GroupHeartbeat]] <= 12


# ----- sharing


def test_a_second_member_takes_its_share_after_the_first_let_go() -> None:
    cluster = cluster_with(40, 4)
    one, first = member(cluster, 2)
    first_read = loop(first, one, 5)
    two, second = member(cluster, 3)
    assert second.assignment() == {}
    together([one, two], 4.0)
    # The first still has a record in its hands; it comes back for more.
    first_read += one.fetch(first, 100)
    together([one, two], 4.0)
    second_read = two.fetch(second, 100)
    assert len(first.assignment()["t"]) == 2
    assert len(second.assignment()["t"]) == 2
    assert sorted(int(v) for v in first_read + second_read) == list(range(40))


def test_a_partition_is_held_back_while_its_records_are_worked_on() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2)
    one.fetch(first, 40)
    two, second = member(cluster, 3)
    together([one, two], 5.0)
    assert second.assignment() == {}
    one.fetch(first, 1, wait=0.0)
    together([one, two], 5.0)
    assert len(second.assignment()["t"]) == 1
    assert two.fetch(second) == []


def test_a_stuck_application_loses_a_revoked_partition_after_a_session() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2, session_timeout=6.0)
    one.fetch(first, 40)
    two, second = member(cluster, 3, session_timeout=6.0)
    together([one, two], 9.0)
    assert len(second.assignment()["t"]) == 1
    # What was in its hands was not committed, so it is read again.
    assert len(two.fetch(second)) == 20


def test_leaving_hands_over_at_the_next_heartbeat() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2)
    two, second = member(cluster, 3)
    together([one, two], 5.0)
    one.run(first.close())
    together([two], 3.0)
    assert second.assignment() == {"t": [0, 1]}


def test_loops_of_two_members_read_every_record_once_while_partitions_move() -> None:
    cluster = cluster_with(60, 3)
    one, first = member(cluster, 2)
    read = [loop(first, one, 20)]
    two, second = member(cluster, 3)
    for _ in range(40):
        together([one, two], 0.5)
        read.append(one.fetch(first, 2, wait=0.0))
        read.append(two.fetch(second, 2, wait=0.0))
    assert sorted(int(v) for part in read for v in part) == list(range(60))


# ----- being moved and being lost


def test_a_seek_of_the_group_moves_its_live_members() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 15)
    world.run(subscription.commit())
    world.run(world.core.admin.seek_group("g", "t", to=4))
    world.advance(3.0)
    assert loop(subscription, world, 3) == numbered(3, 4)
    world.run(subscription.close())
    assert committed(cluster) == {0: 7}


def test_a_commit_that_crosses_a_seek_does_not_undo_it() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 15)
    world.run(world.core.admin.seek_group("g", "t", to=4))
    world.run(subscription.commit())
    assert committed(cluster) == {0: 4}
    assert loop(subscription, world, 2) == numbered(2, 4)


def test_an_expelled_member_joins_again_and_reads_from_the_commit() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 10)
    world.run(subscription.commit())
    loop(subscription, world, 5)
    expelled = subscription._membership
    assert expelled is not None
    cluster.apply(commands.Leave(group="g", member=expelled.member))
    with pytest.raises(MemberUnknown):
        world.run(subscription.commit())
    world.advance(3.0)
    assert world.events("membership_lost")
    assert world.fetch(subscription) == numbered(10, 10)


def test_a_member_that_hears_nothing_for_a_session_hands_out_nothing() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2, session_timeout=4.0)
    loop(subscription, world, 3)
    cluster.deaf.update({TYPE_OF[GroupHeartbeat], TYPE_OF[JoinGroup], TYPE_OF[CommitOffsets]})
    world.advance(8.0)
    assert subscription.assignment() == {}
    assert world.fetch(subscription, wait=0.0) == []
    cluster.deaf.clear()
    assert world.fetch(subscription, wait=20.0) == numbered(20)


def test_a_cut_connection_does_not_end_the_membership() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 3)
    for _ in range(5):
        world.cut_all()
        world.advance(1.0)
    assert not world.events("membership_lost")
    assert loop(subscription, world, 17) == numbered(17, 3)


def test_closing_is_bounded_when_the_broker_is_gone() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 3)
    cluster.deaf.update({TYPE_OF[LeaveGroup], TYPE_OF[CommitOffsets]})
    before = world.now
    world.run(subscription.close())
    assert world.now - before < 7.0


def test_an_explicit_commit_of_what_is_not_owned_is_refused() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2)
    two, second = member(cluster, 3)
    together([one, two], 5.0)
    other = second.assignment()["t"][0]
    with pytest.raises(Fenced):
        one.run(first.commit({"t": {other: 5}}))


def test_a_partition_that_is_given_back_before_it_was_let_go_is_read_on() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2)
    read = one.fetch(first, 10)
    two, second = member(cluster, 3)
    together([one, two], 3.0)
    assert any(reader.revoked for reader in first.readers.values())
    two.run(second.close())
    together([one], 3.0)
    assert not any(reader.revoked for reader in first.readers.values())
    read += one.fetch(first, 100) + one.fetch(first, 100)
    assert {int(value) for value in read} == set(range(40))
    one.run(first.close())
    assert committed(cluster) == {0: 20, 1: 20}


def test_a_partition_that_nobody_read_yet_begins_where_it_was_told() -> None:
    cluster = cluster_with(40, 2)
    one, first = member(cluster, 2, start="latest")
    one.advance(0.5)
    one.run(first.close())
    assert committed(cluster) == {0: 20, 1: 20}


def test_an_offset_is_where_a_new_group_begins() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2, start=15)
    assert world.fetch(subscription) == numbered(5, 15)


def test_a_deleted_topic_ends_the_membership_with_an_error() -> None:
    cluster = cluster_with(20, 1)
    world, subscription = member(cluster, 2)
    loop(subscription, world, 20)
    membership = subscription._membership
    assert membership is not None
    cluster.apply(commands.Leave(group="g", member=membership.member))
    del cluster.topics["t"]
    world.advance(5.0)
    with pytest.raises(TopicNotFound):
        world.fetch(subscription)


def test_joining_a_group_of_a_refused_name_fails() -> None:
    world = World().connect()
    with pytest.raises(InvalidName):
        Subscription(world.core, ["t"], group="a b")


def test_a_member_is_known_by_the_name_of_its_client() -> None:
    ids = {member_id("billing worker/7", Random(seed)) for seed in range(50)}
    assert len(ids) == 50
    assert all(id_.startswith("billing-worker-7-") for id_ in ids)
    assert len(member_id("n" * 200, Random(1))) < 64
    assert member_id("", Random(1)).isalnum()
