"""Acquire and settle: records under leases, once each, durable when it is said."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    GroupNotFound,
    MemberUnknown,
    ShuttingDown,
    TopicNotFound,
)
from penstock.protocol import leases
from penstock.protocol.leases import ACK, NACK, RELEASE
from penstock.protocol.messages import DeleteGroup, DeleteTopic
from penstock.protocol.sharing import AttachGroup
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, batches, counters, create, offsets, runs


def prepared(records: int = 0, **settings: Any) -> tuple[Harness, int]:
    """A node with a topic, its group, and some records in one batch each of ten."""
    node = Harness()
    (gid,) = node.topic()
    create(node, **settings)
    publish(node, gid, records)
    return node, gid


def publish(node: Harness, gid: int, records: int) -> None:
    """Publish records in batches of ten."""
    client = node.client()
    for first in range(0, records, 10):
        client.publish(gid, *[b"%d" % (first + at) for at in range(min(10, records - first))])


def test_records_are_acquired_with_the_batches_that_hold_them() -> None:
    node, _ = prepared(30)
    got = Member(node).acquire(12)
    assert runs(got) == [(0, 12)]
    assert batches(got) == [(0, 10), (10, 20)]
    assert counters(got) == [(1, 0, 0, 0)]
    assert (got.high_watermark, got.lease_ms) == (30, 30_000)
    assert got.deadline_us == node.wall_us + 30_000_000


def test_each_record_goes_to_one_member() -> None:
    node, _ = prepared(30)
    first, second = Member(node, "a"), Member(node, "b")
    assert offsets(first.acquire(12)) == list(range(12))
    assert offsets(second.acquire(12)) == list(range(12, 24))
    assert offsets(first.acquire(12)) == list(range(24, 30))


def test_two_acquires_in_one_round_get_different_records() -> None:
    node, _ = prepared(30)
    first, second = Member(node, "a"), Member(node, "b")
    first.ask(15)
    second.ask(15)
    node.pump()
    assert offsets(first.acquired()) + offsets(second.acquired()) == list(range(30))


def test_an_acquire_is_answered_before_its_grant_is_durable() -> None:
    node, _ = prepared(10)
    member = Member(node)
    member.ask(10)
    node.node.end_round()
    assert offsets(member.acquired()) == list(range(10))


def test_an_acknowledgement_is_answered_when_it_is_durable() -> None:
    node, _ = prepared(10)
    member = Member(node)
    got = member.acquire()
    member.tell(got.lease, runs(got))
    node.node.end_round()
    assert member.client.take() == []
    node.pump()
    settled = member.settled()
    assert (settled.accepted, settled.duplicates, settled.lost) == (10, 0, [])
    assert offsets(member.acquire()) == []


def test_an_acknowledgement_in_the_round_of_its_grant_counts() -> None:
    node, _ = prepared(10)
    member = Member(node)
    member.ask(10)
    lease = 1  # of this term, the first
    lease |= node.node.partitions[member.gid].raft.term << 32
    member.tell(lease, [(0, 10)])
    node.pump()
    answers = [frame.type for frame, _ in member.client.take()]
    assert answers == [leases.ACQUIRE, leases.SETTLE]
    assert node.node.partitions[member.gid].machine.sharing.groups[GROUP].start == 10


def test_acknowledged_records_do_not_come_back_after_a_restart() -> None:
    node, _ = prepared(30, jitter="none")
    member = Member(node)
    member.settle(member.acquire(20).lease, [(0, 5), (7, 3)])
    node.restart()
    again = Member(node, "b")
    got = again.acquire()
    assert offsets(got) == list(range(20, 30))
    again.ack_all(got)
    node.advance(30.5)
    assert offsets(again.acquire()) == []  # the retry policy makes them wait
    node.advance(1)
    assert offsets(again.acquire()) == [5, 6, *range(10, 20)]


def test_a_late_acknowledgement_is_accepted() -> None:
    node, _ = prepared(10)
    member = Member(node)
    got = member.acquire()
    node.advance(31)
    settled = member.ack_all(got)
    assert (settled.accepted, settled.late) == (10, 10)
    node.advance(5)
    assert offsets(member.acquire()) == []


def test_a_strict_group_refuses_late_acknowledgements() -> None:
    node, _ = prepared(10, strict="yes")
    member = Member(node)
    assert member.attached.strict
    got = member.acquire()
    node.advance(31)
    settled = member.ack_all(got)
    assert (settled.accepted, settled.lost) == (0, [0, 10])
    node.advance(5)
    assert offsets(member.acquire()) == list(range(10))


def test_acknowledging_twice_is_told_as_duplicates() -> None:
    node, _ = prepared(10)
    member = Member(node)
    got = member.acquire()
    member.ack_all(got)
    settled = member.ack_all(got)
    assert (settled.accepted, settled.duplicates) == (0, 10)


def test_acknowledging_what_lies_beyond_the_log_is_refused() -> None:
    node, _ = prepared(10)
    member = Member(node)
    got = member.acquire(5)
    with pytest.raises(BadRequest):
        member.settle(got.lease, [(10, 1)])


def test_acknowledgements_of_a_grant_that_was_lost_with_its_leader_count() -> None:
    node, _ = prepared(10)
    member = Member(node)
    assert offsets(member.acquire(2)) == [0, 1]
    assert member.settle(77, [(5, 2)]).late == 2
    assert offsets(member.acquire()) == [2, 3, 4, 7, 8, 9]


def test_settles_of_a_round_become_one_entry() -> None:
    node, gid = prepared(40)
    members = [Member(node, f"m{number}") for number in range(4)]
    held = [member.acquire(10) for member in members]
    before = node.node.partitions[gid].applied_index
    for member, got in zip(members, held, strict=True):
        member.tell(got.lease, runs(got))
    node.pump()
    assert node.node.partitions[gid].applied_index == before + 1
    assert [member.settled().accepted for member in members] == [10] * 4


def test_verdicts_of_one_frame_may_differ() -> None:
    node, _ = prepared(10)
    member = Member(node)
    got = member.acquire()
    said = [
        leases.Verdict(got.lease, 0, 2, ACK),
        leases.Verdict(got.lease, 2, 1, RELEASE),
        leases.Verdict(got.lease, 3, 1, NACK, reason="busy"),
        leases.Verdict(got.lease, 4, 6, ACK),
    ]
    member.client.send(leases.settle_request(9, member.gid, member.handle, said))
    node.pump()
    assert member.settled().accepted == 10
    assert offsets(member.acquire()) == [2]


def test_an_acquire_takes_no_more_bytes_than_it_asks_for() -> None:
    node, _ = prepared(30)
    member = Member(node)
    got = member.acquire(30, max_bytes=1)
    assert (runs(got), batches(got)) == ([(0, 10)], [(0, 10)])
    assert offsets(member.acquire(30)) == list(range(10, 30))


def test_batches_that_a_member_keeps_are_left_out() -> None:
    node, _ = prepared(30)
    member = Member(node)
    member.acquire(5)
    got = member.acquire(10, have=(0,))
    assert (runs(got), batches(got)) == ([(5, 10)], [(10, 20)])


def test_old_records_come_from_segments() -> None:
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (gid,) = node.topic()
    create(node)
    client = node.client()
    for number in range(100):
        client.publish(gid, b"%04d" % number + b"x" * 400)
    member = Member(node, in_flight=1000)
    got: list[int] = []
    while len(got) < 100:
        answer = member.acquire(1000, max_bytes=3000)
        assert sum(stop - first for first, stop in batches(answer)) == len(offsets(answer)) > 0
        got += offsets(answer)
    assert got == list(range(100))


def test_a_group_may_begin_with_what_comes_after_it() -> None:
    node = Harness()
    (gid,) = node.topic()
    publish(node, gid, 10)
    create(node, start=-1)
    publish(node, gid, 10)
    assert offsets(Member(node).acquire()) == list(range(10, 20))


def test_who_is_not_attached_is_told_so() -> None:
    node, _ = prepared(10)
    member = Member(node)
    member.handle += 1
    with pytest.raises(MemberUnknown):
        member.acquire()
    with pytest.raises(MemberUnknown):
        member.settle(1, [(0, 1)])


def test_a_group_that_does_not_exist_is_not_found() -> None:
    node, _ = prepared()
    client = node.client()
    with pytest.raises(GroupNotFound):
        client.ask(AttachGroup(topic="orders", partition=0, group="other", member="m"))
    with pytest.raises(TopicNotFound):
        client.ask(AttachGroup(topic="other", partition=0, group=GROUP, member="m"))


def test_deleting_a_group_ends_its_acquires() -> None:
    node, _ = prepared()
    member = Member(node)
    member.ask(10, wait_ms=60_000)
    node.pump()
    node.client().ask(DeleteGroup(group=GROUP, topic="orders"))
    with pytest.raises(GroupNotFound):
        member.acquired()
    with pytest.raises(MemberUnknown):
        member.acquire()
    with pytest.raises(GroupNotFound):
        member.attach()


def test_deleting_a_topic_ends_its_acquires() -> None:
    node, _ = prepared()
    member = Member(node)
    member.ask(10, wait_ms=60_000)
    node.pump()
    node.client().ask(DeleteTopic(name="orders"))
    with pytest.raises(TopicNotFound):
        member.acquired()
    with pytest.raises(TopicNotFound):
        member.acquire()


def test_a_broker_that_stops_answers_who_waits_and_still_takes_acknowledgements() -> None:
    node, _ = prepared(10)
    member, other = Member(node), Member(node, "b")
    got = member.acquire()
    other.ask(10, wait_ms=60_000)
    node.pump()
    node.node.drain()
    node.pump()
    assert other.acquired().spans == []
    with pytest.raises(ShuttingDown):
        other.acquire()
    assert member.ack_all(got).accepted == 10
    assert node.node.drained
