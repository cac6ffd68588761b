"""What comes back, when, and to whom: nacks, releases, leases that run out, members that go."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import BadRequest, Fenced, LimitExceeded, MemberUnknown
from penstock.protocol.leases import NACK, REJECT, RELEASE
from penstock.protocol.messages import TrimLog
from penstock_broker.node.sharing import attach
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, alter, counters, offsets, runs
from tests.node.sharing.test_delivery import prepared, publish


def group_of(node: Harness, gid: int) -> Any:
    """The replicated state of the group."""
    return node.node.partitions[gid].machine.sharing.groups[GROUP]


def test_a_released_record_comes_back_at_once_uncounted() -> None:
    node, _ = prepared(10)
    member, other = Member(node), Member(node, "b")
    got = member.acquire(5)
    assert member.settle(got.lease, [(1, 2)], RELEASE).accepted == 2
    again = other.acquire(2)
    assert (runs(again), counters(again)) == ([(1, 2)], [(1, 0, 0, 0)])
    assert offsets(other.acquire()) == [5, 6, 7, 8, 9]


def test_a_failed_record_comes_back_after_its_pause_with_its_counters() -> None:
    node, _ = prepared(3, jitter="none", retry_min_ms=2000)
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(1, 1)], NACK, reason="busy", error="trace")
    member.settle(got.lease, [(0, 1), (2, 1)])
    node.advance(1.9)
    assert offsets(member.acquire()) == []
    node.advance(0.2)
    again = member.acquire()
    assert (offsets(again), counters(again)) == ([1], [(2, 1, 0, 0)])


def test_a_failed_record_comes_back_when_the_member_says() -> None:
    node, _ = prepared(1)
    member = Member(node)
    got = member.acquire()
    at_us = node.wall_us + 500_000
    member.settle(got.lease, [(0, 1)], NACK, ready_at_us=at_us)
    member.ask(1, wait_ms=60_000)
    node.advance(0.4)
    assert member.client.take() == []
    node.advance(0.2)
    assert offsets(member.acquired()) == [0]


def test_redelivered_records_come_with_counters_of_their_own() -> None:
    node, _ = prepared(10, jitter="none")
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(2, 1), (4, 2)], NACK)
    node.advance(1.5)
    again = member.acquire()
    assert (runs(again), counters(again)) == ([(2, 1), (4, 2)], [(2, 1, 0, 0)] * 2)


def test_a_rejected_record_does_not_come_back() -> None:
    node, _ = prepared(2, dead_letters="drop")
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(0, 1)], REJECT, reason="poison")
    node.advance(60)
    assert 0 not in offsets(member.acquire())


def test_a_lease_runs_out_and_the_record_counts_as_timed_out() -> None:
    node, _ = prepared(2, lease_ms=2000, jitter="none")
    member, other = Member(node), Member(node, "b")
    got = member.acquire()
    node.advance(1.9)
    assert offsets(other.acquire()) == []
    node.advance(1.3)
    again = other.acquire()
    assert (offsets(again), counters(again)) == ([0, 1], [(2, 0, 1, 0)])
    assert again.lease != got.lease


def test_a_waiting_member_gets_what_runs_out_within_fifty_milliseconds() -> None:
    node, _ = prepared(1, lease_ms=1000, retry_min_ms=0, retry_max_ms=0)
    member, other = Member(node), Member(node, "b")
    member.acquire()
    other.ask(1, wait_ms=60_000)
    node.pump()
    for _ in range(52):
        node.clock += 0.02
        node.wall_us += 20_000
        node.node.tick(node.wall_us, node.clock)
        node.pump()
    assert offsets(other.acquired()) == [0]


def test_a_renewed_lease_goes_on() -> None:
    node, _ = prepared(1, lease_ms=2000)
    member = Member(node)
    got = member.acquire()
    for _ in range(5):
        node.advance(1.5)
        assert member.renew(got.lease) == []
    assert member.ack_all(got).late == 0


def test_a_lease_can_be_extended_beyond_what_renewals_may_hold() -> None:
    node, _ = prepared(1, lease_ms=1000, hold_max_ms=3000)
    member = Member(node)
    got = member.acquire()
    assert member.renew(got.lease, extend_ms=10_000) == []
    node.advance(9)
    assert member.ack_all(got).late == 0


def test_renewals_hold_a_record_only_so_long() -> None:
    node, gid = prepared(1, lease_ms=1000, hold_max_ms=3000)
    member = Member(node)
    got = member.acquire()
    for _ in range(4):
        node.advance(0.8)
        member.renew(got.lease)
    node.advance(1)
    assert member.renew(got.lease) == [got.lease]
    assert group_of(node, gid).counters.timed_out == 1


def test_a_lease_that_is_over_or_another_members_is_told_as_lost() -> None:
    node, _ = prepared(2)
    member, other = Member(node), Member(node, "b")
    got, others = member.acquire(1), other.acquire(1)
    member.ack_all(got)
    assert member.renew(got.lease, others.lease, 99) == sorted([got.lease, others.lease, 99])


def test_an_impossible_extension_is_refused() -> None:
    node, _ = prepared(1)
    member = Member(node)
    got = member.acquire()
    with pytest.raises(BadRequest):
        member.renew(got.lease, extend_ms=attach.EXTEND_MS_MAX + 1)


def test_what_a_lost_connection_held_comes_back_after_five_seconds() -> None:
    node, gid = prepared(5, jitter="none")
    member, other = Member(node), Member(node, "b")
    member.acquire()
    member.disconnect()
    node.advance(4.9)
    assert group_of(node, gid).counters.timed_out == 0
    node.advance(1.5)
    assert offsets(other.acquire()) == [0, 1, 2, 3, 4]
    assert group_of(node, gid).counters.timed_out == 5


def test_a_grant_that_was_not_applied_when_the_connection_broke_comes_back_too() -> None:
    node, _ = prepared(5, jitter="none")
    member, other = Member(node), Member(node, "b")
    member.ask(5)
    member.disconnect()
    node.advance(6.5)
    assert offsets(other.acquire()) == [0, 1, 2, 3, 4]


def test_a_member_that_attaches_again_keeps_the_leases_that_it_names() -> None:
    node, _ = prepared(10)
    member = Member(node)
    kept, dropped = member.acquire(4), member.acquire(4)
    member.disconnect()
    node.advance(2)
    again = Member(node, held=[kept.lease, 7])
    assert again.attached.lost == [7]
    assert offsets(again.acquire(8)) == [*offsets(dropped), 8, 9]
    node.advance(25)
    assert again.ack_all(kept).late == 0


def test_attaching_again_releases_a_grant_that_was_never_received() -> None:
    node, _ = prepared(5)
    member = Member(node)
    member.ask(5)  # the answer is lost with the connection
    node.node.disconnected(member.client.session)
    again = Member(node)
    got = again.acquire()
    assert (offsets(got), counters(got)) == ([0, 1, 2, 3, 4], [(1, 0, 0, 0)])


def test_a_member_attached_elsewhere_does_not_acquire_here_any_more() -> None:
    node, _ = prepared(5)
    member = Member(node)
    member.ask(5, wait_ms=60_000)
    node.pump()
    member.client.take()
    member.ask(5, wait_ms=60_000)
    node.pump()
    again = Member(node)
    assert member.acquired().spans == []
    with pytest.raises(MemberUnknown):
        member.acquire()
    assert offsets(again.acquire()) == [0, 1, 2, 3, 4]


def test_an_attach_that_comes_late_over_an_old_connection_changes_nothing() -> None:
    node, _ = prepared(5)
    old = Member(node)
    old.attach(epoch=1)
    new = Member(node)
    new.attach(epoch=3)
    got = new.acquire()
    with pytest.raises(Fenced):
        old.attach(epoch=2)  # the network had kept it
    assert new.ack_all(got).late == 0
    assert offsets(Member(node, "b").acquire()) == []


def test_a_member_that_leaves_gives_back_what_it_holds() -> None:
    node, gid = prepared(5)
    member, other = Member(node), Member(node, "b")
    member.acquire(3)
    member.leave()
    assert offsets(other.acquire()) == [0, 1, 2, 3, 4]
    assert group_of(node, gid).counters.released == 3
    assert "m1" not in node.node.partitions[gid].shared.dispatchers[GROUP].members


def test_a_long_poll_is_answered_by_the_next_record() -> None:
    node, gid = prepared()
    member = Member(node)
    member.ask(5, wait_ms=1000)
    node.pump()
    assert member.client.take() == []
    publish(node, gid, 1)
    assert offsets(member.acquired()) == [0]
    assert not member.client.session.acquires


def test_a_long_poll_ends_with_nothing_after_its_time() -> None:
    node, _ = prepared()
    member = Member(node)
    member.ask(5, wait_ms=1000)
    node.advance(0.9)
    assert member.client.take() == []
    node.advance(0.2)
    got = member.acquired()
    assert (got.lease, got.spans) == (0, [])


def test_waiting_members_have_their_turns_one_after_the_other() -> None:
    node, gid = prepared()
    members = [Member(node, f"m{number}") for number in range(3)]
    for _ in range(3):
        members[0].ask(1, wait_ms=60_000)
    for member in members[1:]:
        member.ask(1, wait_ms=60_000)
    node.pump()
    publish(node, gid, 3)
    assert [len(member.client.take()) for member in members] == [1, 1, 1]


def test_a_waiting_member_that_may_not_take_more_does_not_keep_others_waiting() -> None:
    node, gid = prepared(2)
    full, other = Member(node, "a", in_flight=2), Member(node, "b")
    held = full.acquire()
    full.ask(1, wait_ms=60_000)
    other.ask(1, wait_ms=60_000)
    publish(node, gid, 1)
    assert offsets(other.acquired()) == [2]
    assert full.client.take() == []
    publish(node, gid, 1)
    full.tell(held.lease, [(0, 1)])
    node.pump()
    kinds = [frame.type for frame, _ in full.client.take()]
    assert len(kinds) == 2


def test_a_member_holds_no_more_than_it_may() -> None:
    node, _ = prepared(30, member_in_flight_max=8)
    member, other = Member(node, in_flight=5), Member(node, "b", in_flight=100)
    assert len(offsets(member.acquire(3))) == 3
    assert len(offsets(member.acquire(3))) == 2
    assert offsets(member.acquire(3)) == []
    assert len(offsets(other.acquire(30))) == 8


def test_a_group_holds_no_more_than_it_may() -> None:
    node, _ = prepared(30, max_in_flight=8)
    member, other = Member(node), Member(node, "b")
    got = member.acquire(6)
    assert len(offsets(other.acquire(6))) == 2
    other.ask(6, wait_ms=60_000)
    node.pump()
    assert other.client.take() == []
    member.settle(got.lease, [(0, 3)])
    assert len(offsets(other.acquired())) == 3


def test_a_window_that_is_full_is_told() -> None:
    node, gid = prepared(1200, window_max=1000)
    member = Member(node, in_flight=5000)
    got = member.acquire(5000)
    assert len(offsets(got)) == 1000
    assert offsets(member.acquire()) == []
    assert node.node.partitions[gid].shared.dispatchers[GROUP].ready.blocked_by == "window"
    member.settle(got.lease, [(0, 100)])
    assert len(offsets(member.acquire())) == 100


def test_a_connection_has_a_limited_number_of_attachments(monkeypatch: Any) -> None:
    monkeypatch.setattr(attach, "ATTACHMENTS_MAX", 2)
    node, _ = prepared()
    member = Member(node)
    Member(node, "b", client=member.client)
    with pytest.raises(LimitExceeded):
        Member(node, "c", client=member.client)


def test_trimmed_records_are_not_delivered() -> None:
    node, _ = prepared(30)
    member = Member(node)
    got = member.acquire(5)
    member.settle(got.lease, [(0, 5)], RELEASE)
    node.client().ask(TrimLog(topic="orders", partition=0, offset=20))
    assert offsets(member.acquire()) == list(range(20, 30))


def test_leases_and_retries_survive_a_restart() -> None:
    node, _ = prepared(3, jitter="none", retry_min_ms=5000)
    member = Member(node)
    got = member.acquire(2)
    member.settle(got.lease, [(0, 1)], NACK)
    node.restart()
    again = Member(node, held=[got.lease])
    assert again.attached.lost == []
    assert offsets(again.acquire()) == [2]
    assert again.settle(got.lease, [(1, 1)]).late == 0
    node.advance(4.8)
    assert offsets(again.acquire()) == []
    node.advance(0.3)
    retried = again.acquire()
    assert (offsets(retried), counters(retried)) == ([0], [(2, 1, 0, 0)])


def test_settings_that_change_hold_for_the_next_grant() -> None:
    node, _ = prepared(10)
    member = Member(node)
    assert member.acquire(1).lease_ms == 30_000
    alter(node, lease_ms=5000)
    got = member.acquire(1)
    assert (got.lease_ms, got.deadline_us) == (5000, node.wall_us + 5_000_000)


def test_records_that_grow_too_old_are_given_up() -> None:
    node, gid = prepared(5, max_age_ms=10_000, dead_letters="drop")
    member = Member(node)
    got = member.acquire(2)
    node.advance(8)
    publish(node, gid, 1)
    node.advance(4)
    assert group_of(node, gid).counters.expired_age == 3
    assert offsets(member.acquire()) == [5]
    assert member.ack_all(got).accepted == 2


def test_a_member_that_let_a_lease_run_out_is_given_nothing_before_it_asks_again() -> None:
    node, _ = prepared(2, lease_ms=2000, retry_min_ms=0)
    still, other = Member(node, "a"), Member(node, "b")
    assert offsets(still.acquire(2)) == [0, 1]
    still.ask(2, wait_ms=60_000)
    node.advance(2.5)
    assert offsets(still.acquired()) == []
    assert offsets(other.acquire(1)) == [0]
    still.ask(2, wait_ms=60_000)
    assert offsets(still.acquired()) == [1]


def test_a_member_whose_place_another_of_its_name_took_releases_nothing_when_it_leaves() -> None:
    node, _ = prepared(2)
    first, second = Member(node, "twin"), Member(node, "twin")
    got = second.acquire(1)
    first.leave()
    assert offsets(Member(node, "b").acquire()) == [1]
    assert second.settle(got.lease, [(0, 1)]).accepted == 1
