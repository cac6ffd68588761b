"""Shared groups while their partition is handed over: no lease that was told is lost."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import LeaderUnknown, NotLeader
from penstock.protocol.leases import NACK
from penstock.protocol.sharing import CreateGroup
from penstock_broker.node.sharing.dispatch import Dispatcher
from penstock_broker.raft import NOBODY
from tests.node.cluster import Cluster
from tests.node.cluster import Member as Broker
from tests.node.sharing.members import GROUP, Member, offsets

LEASE_SECONDS = 5


class Handing:
    """A cluster of three with a group of ten records, and who leads its partition."""

    def __init__(self) -> None:
        self.cluster = Cluster(3)
        (self.gid,) = self.cluster.topic()
        self.cluster.ask(
            self.cluster.members[1].client(),
            CreateGroup(topic="orders", group=GROUP, settings={"lease_ms": LEASE_SECONDS * 1000}),
        )
        self.old = self.leader()
        others = [broker for broker in self.cluster.alive if broker is not self.old]
        self.new, self.third = others
        self.old.client().publish(self.gid, *(b"%d" % number for number in range(10)))

    def leader(self) -> Broker:
        """Who leads, and has heard of the group."""
        self.cluster.run_until(lambda: self.dispatcher(self.cluster.leader(self.gid)))
        return self.cluster.leader(self.gid)

    def dispatcher(self, broker: Broker) -> Dispatcher | None:
        shared: Any = broker.group(self.gid)
        found: Dispatcher | None = shared.shared.dispatchers.get(GROUP)
        return found

    def member(self, broker: Broker, name: str, **held: Any) -> Member:
        """A member that is attached there."""
        return Member(broker, name, **held)  # type: ignore[arg-type]  # as a harness is used

    def hand_over(self) -> None:
        self.old.group(self.gid).transfer(self.new.node.node_id)


def test_what_was_granted_in_the_round_of_a_handover_goes_along() -> None:
    handing = Handing()
    member = handing.member(handing.old, "m1")
    member.ask(4)
    handing.hand_over()
    handing.cluster.pump()
    got = member.acquired()
    assert offsets(got) == [0, 1, 2, 3]
    assert handing.leader() is handing.new
    other = handing.member(handing.new, "m2")
    assert offsets(other.acquire()) == [4, 5, 6, 7, 8, 9]
    assert handing.member(handing.new, "m1", held=[got.lease]).attached.lost == []


def test_nothing_is_granted_while_the_lead_is_on_its_way() -> None:
    handing = Handing()
    cluster = handing.cluster
    member = handing.member(handing.old, "m1")
    cluster.cut(handing.old.number, handing.new.number)
    handing.old.client().publish_nowait(handing.gid, b"it lacks this one")
    handing.hand_over()
    member.ask(4, wait_ms=60_000)
    cluster.advance(0.3)
    assert handing.old.group(handing.gid).raft.transferee == handing.new.node.node_id
    assert not member.client.session.out
    cluster.heal()
    cluster.run_until(lambda: member.client.session.out)
    with pytest.raises(NotLeader):
        member.acquired()
    assert len(offsets(handing.member(handing.leader(), "m2").acquire())) == 11


def test_who_waited_is_served_when_a_handover_is_given_up() -> None:
    handing = Handing()
    cluster = handing.cluster
    member = handing.member(handing.old, "m1")
    cluster.isolate(handing.new.number)
    handing.old.client().publish_nowait(handing.gid, b"it lacks this one")
    handing.hand_over()
    member.ask(4, wait_ms=60_000)
    cluster.run_until(lambda: member.client.session.out)
    assert handing.old.group(handing.gid).raft.transferee == NOBODY
    assert offsets(member.acquired()) == [0, 1, 2, 3]


def test_leases_whose_members_never_come_back_run_out_under_the_new_leader() -> None:
    """RabbitMQ 15473: after an election messages stayed with consumers that nobody knew."""
    handing = Handing()
    assert len(offsets(handing.member(handing.old, "m1").acquire())) == 10
    handing.hand_over()
    other = handing.member(handing.leader(), "m2")
    assert not offsets(other.acquire())
    handing.cluster.advance(LEASE_SECONDS + 5.0)  # and until they are tried again
    got = other.acquire()
    assert len(offsets(got)) == 10
    assert {span.timed_out for span in got.spans} == {1}


def stand_still(handing: Handing, seconds: float) -> Member:
    """The leader stands still; it wakes up to an acquire, before it has heard of anybody."""
    cluster, old = handing.cluster, handing.old
    member = handing.member(old, "m1")
    cluster.advance(0.5)
    cluster.isolate(old.number)
    cluster.clock += seconds
    old.node.now(cluster.wall_us, cluster.clock)
    return member


def test_a_leader_that_stood_still_grants_nothing_before_it_knows_that_it_still_leads() -> None:
    handing = Handing()
    member = stand_still(handing, 3.0)
    member.ask(4)
    handing.cluster.pump()
    assert not member.client.session.out
    handing.cluster.heal()
    handing.cluster.advance(0.3)
    assert offsets(member.acquired()) == [0, 1, 2, 3]


def test_a_leader_that_stood_still_and_was_replaced_sends_its_members_there() -> None:
    handing = Handing()
    member = stand_still(handing, 0.9)
    member.ask(4, wait_ms=60_000)
    handing.cluster.run_until(lambda: member.client.session.out)
    with pytest.raises(NotLeader):
        member.acquired()


def test_who_does_not_want_to_wait_hears_at_once_that_there_is_nothing_when_that_is_sure() -> None:
    handing = Handing()
    member = handing.member(handing.old, "m1")
    assert len(offsets(member.acquire())) == 10
    cluster = handing.cluster
    cluster.clock += 3.0
    handing.old.node.now(cluster.wall_us, cluster.clock)
    member.ask(1)
    cluster.pump()
    assert not member.client.session.out
    cluster.advance(0.3)
    assert not offsets(member.acquired())


def test_a_leader_is_sure_as_long_as_a_quorum_answers_and_no_longer() -> None:
    handing = Handing()
    cluster, group = handing.cluster, handing.old.group(handing.gid)
    for _ in range(20):
        cluster.advance(0.1)
        assert group.sure
    cluster.isolate(handing.new.number)
    cluster.advance(3.0)
    assert group.sure
    cluster.isolate(handing.third.number)
    cluster.advance(0.5)
    assert group.sure
    cluster.advance(0.4)
    assert group.leading
    assert not group.sure


def test_a_leader_whose_connections_break_is_not_sure_though_it_was_heard_a_moment_ago() -> None:
    handing = Handing()
    cluster, group = handing.cluster, handing.old.group(handing.gid)
    cluster.advance(0.5)
    for end in list(handing.old.ends.values()):
        cluster.disconnect(end)
    assert group.leading
    assert not group.sure


def test_a_new_leader_grants_at_once() -> None:
    handing = Handing()
    handing.hand_over()
    handing.cluster.pump()
    assert handing.new.group(handing.gid).leading
    assert len(offsets(handing.member(handing.new, "m1").acquire())) == 10


def test_a_lease_of_the_next_leader_is_not_called_lost_by_one_that_stood_still() -> None:
    handing = Handing()
    member = stand_still(handing, 3.0)
    with pytest.raises(LeaderUnknown):
        member.renew(7 << 32 | 1)
    handing.cluster.heal()
    handing.cluster.advance(0.3)
    assert member.renew(7 << 32 | 1) == [7 << 32 | 1]


def test_what_was_granted_before_the_process_stood_still_is_told_to_nobody() -> None:
    """It is stopped inside a round: by the clock of that round it is sure that it leads."""
    handing = Handing()
    cluster, old = handing.cluster, handing.old
    member = handing.member(old, "m1")
    cluster.advance(0.5)
    member.ask(4)
    cluster.isolate(old.number)
    cluster.clock += 3.0
    old.node.now(cluster.wall_us, cluster.clock)
    old.work()
    assert member.client.session.closing
    assert not member.client.session.out
    cluster.heal()
    cluster.advance(0.5)
    again = handing.member(handing.leader(), "m1")
    assert len(offsets(again.acquire())) == 10


def with_its_leader_an_hour_ahead() -> Handing:
    handing = Handing()
    handing.old.ahead_us = 3_600_000_000
    handing.cluster.advance(0.5)
    return handing


def test_a_retry_is_no_later_because_the_last_leaders_clock_was_ahead() -> None:
    handing = with_its_leader_an_hour_ahead()
    member = handing.member(handing.old, "m1")
    got = member.acquire(3)
    member.settle(got.lease, [(0, 3)], NACK)
    handing.hand_over()
    handing.cluster.pump()
    other = handing.member(handing.new, "m2")
    assert offsets(other.acquire()) == [3, 4, 5, 6, 7, 8, 9]
    handing.cluster.advance(3.0)
    assert offsets(other.acquire()) == [0, 1, 2]


def test_leases_of_a_leader_whose_clock_was_ahead_run_out_in_their_time_and_no_sooner() -> None:
    handing = with_its_leader_an_hour_ahead()
    handing.member(handing.old, "m1").acquire(4)
    handing.hand_over()
    handing.cluster.pump()
    other = handing.member(handing.new, "m2")
    handing.cluster.advance(LEASE_SECONDS - 1.0)
    assert offsets(other.acquire()) == [4, 5, 6, 7, 8, 9]
    handing.cluster.advance(LEASE_SECONDS)
    assert offsets(other.acquire()) == [0, 1, 2, 3]
