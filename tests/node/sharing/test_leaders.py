"""Shared groups when the lead is lost and gained, and when bytes can't be read."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import CorruptData, MemberUnknown, NotLeader
from penstock.protocol.leases import NACK
from penstock.protocol.messages import DeleteGroup
from penstock.protocol.partitioning import key_slots
from penstock_broker.machine.sharing.ops import Expire
from penstock_broker.node.sharing import dispatch
from penstock_broker.raft.messages import Heartbeat
from penstock_broker.simulation.memory_files import MemoryFile
from penstock_broker.storage import Cold
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, alter, create, offsets, runs
from tests.node.sharing.test_delivery import prepared, publish


def depose(node: Harness, gid: int) -> None:
    """Another broker leads the partition in a later term."""
    group = node.node.partitions[gid]
    group.raft.step(Heartbeat(2, 1, group.raft.term + 1, 0, 1))
    node.node.mark(group)


def test_who_waits_is_told_that_the_leader_changed() -> None:
    node, gid = prepared(5)
    member, other = Member(node), Member(node, "b")
    got = member.acquire()
    other.ask(5, wait_ms=60_000)
    member.tell(got.lease, runs(got))
    node.node.end_round()
    depose(node, gid)
    node.pump()
    with pytest.raises(NotLeader):
        other.acquired()
    with pytest.raises(NotLeader):
        member.settled()
    with pytest.raises(NotLeader):
        member.acquire()
    assert gid not in node.node.sharing
    assert not other.client.session.acquires
    assert not node.node.uncommitted_bytes
    assert not member.client.session.unanswered_bytes


def test_who_has_heard_of_a_later_term_grants_nothing_in_its_name() -> None:
    node, gid = prepared(5)
    member = Member(node)
    group = node.node.partitions[gid]
    led = group.raft.term
    group.raft.step(Heartbeat(2, 1, led + 1, 0, 1))
    member.ask(5, wait_ms=60_000)
    assert group.shared.next_lease() >> 32 == led
    node.node.mark(group)
    node.pump()
    with pytest.raises(NotLeader):
        member.acquired()


def test_a_new_leader_honours_the_leases_that_it_knows() -> None:
    node, gid = prepared(10, jitter="none")
    member, other = Member(node), Member(node, "b")
    got = member.acquire(4)
    member.settle(got.lease, [(3, 1)], NACK)
    depose(node, gid)
    node.pump()
    node.advance(5)
    with pytest.raises(MemberUnknown):
        member.acquire()
    member.attach(held=[got.lease])
    other.attach()
    assert offsets(other.acquire()) == [3, *range(4, 10)]
    assert member.settle(got.lease, [(0, 3)]).late == 0


def test_leases_of_different_leaders_have_different_ids() -> None:
    node, gid = prepared(10)
    member = Member(node)
    first = member.acquire(1)
    depose(node, gid)
    node.advance(5)
    member.attach(held=[first.lease])
    second = member.acquire(1)
    assert second.lease >> 32 > first.lease >> 32


def spoil(node: Harness, gid: int, number: int) -> None:
    """Damage the bytes of a record in its segment."""
    found = node.node.partitions[gid].log.read(number, 1)
    assert isinstance(found, Cold)
    data = bytes(found.file.pread(found.length, found.position))
    found.file.pwrite([b"????"], found.position + data.index(b"%04d" % number))


def corrupted(batches: int, bad: int) -> tuple[Harness, int]:
    """Records in segments, of which one batch is damaged."""
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (gid,) = node.topic()
    create(node)
    client = node.client()
    for number in range(batches):
        client.publish(gid, b"%04d" % number + b"x" * 600)
    spoil(node, gid, bad)
    return node, gid


def test_a_record_that_cant_be_read_is_told_and_does_not_hold_others_back() -> None:
    node, gid = corrupted(30, 2)
    member, got = Member(node, in_flight=1000), []
    failures = 0
    for _ in range(60):
        try:
            answer = member.acquire(1)
        except CorruptData:
            failures += 1
        else:
            got += offsets(answer)
    assert failures == 1
    assert got == [0, 1, *range(3, 30)]
    group = node.node.partitions[gid].machine.sharing.groups[GROUP]
    assert group.counters.delivered == 29
    node.advance(dispatch.RETRY_US / 1_000_000 + 1)
    with pytest.raises(CorruptData):
        member.acquire(1)


def test_a_read_that_is_under_way_when_its_member_goes_gives_its_records_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryFile, "try_pread", lambda *_: None)
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (gid,) = node.topic()
    create(node)
    client = node.client()
    for number in range(30):
        client.publish(gid, b"%04d" % number + b"x" * 600)
    member, other = Member(node), Member(node, "b")
    member.ask(3)
    node.node.end_round()
    node.node.disconnected(member.client.session)
    node.pump()
    assert offsets(other.acquire(3)) == [0, 1, 2]


def test_a_group_that_was_made_anew_begins_anew() -> None:
    node, gid = prepared(5)
    member = Member(node)
    member.ack_all(member.acquire())
    node.client().ask(DeleteGroup(group=GROUP, topic="orders"))
    create(node)
    member.attach()
    assert offsets(member.acquire()) == [0, 1, 2, 3, 4]
    publish(node, gid, 1)
    assert offsets(member.acquire()) == [5]


def keyed(batches: int, **chosen: Any) -> tuple[Harness, int]:
    """Records of ten keys in segments, a batch each."""
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (gid,) = node.topic(key_slots="key")
    create(node, **chosen)
    client = node.client()
    for number in range(batches):
        slots = key_slots([b"%d" % (number % 10)])
        client.publish(gid, b"%04d" % number + b"x" * 600, key_slots=slots)
    return node, gid


def test_keys_are_read_in_a_thread_where_the_disk_must_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryFile, "try_pread", lambda *_: None)
    node, _ = keyed(40, order_by="key")
    member = Member(node)
    assert offsets(member.acquire()) == list(range(10))
    assert offsets(member.acquire()) == []


def test_a_record_of_a_key_that_cant_be_read_is_told_and_others_go_on() -> None:
    node, gid = keyed(30, order_by="key")
    spoil(node, gid, 2)
    member, got, failures = Member(node), [], 0
    for _ in range(60):
        try:
            answer = member.acquire(1)
        except CorruptData:
            failures += 1
            continue
        got += offsets(answer)
        if answer.spans:
            member.ack_all(answer)
    assert failures == 1
    assert sorted(got) == [0, 1, *range(3, 30)]
    node.advance(dispatch.RETRY_US / 1_000_000 + 1)
    with pytest.raises(CorruptData):
        member.acquire(1)


def test_an_order_that_begins_while_records_are_read_delivers_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryFile, "try_pread", lambda *_: None)
    node, gid = keyed(20)
    member, other = Member(node), Member(node, "b")
    member.ask(15, max_bytes=3000)
    (read,) = node.node.take_reads()
    alter(node, order_by="key")
    other.ask(20, wait_ms=60_000)
    node.pump()
    read.run()
    node.node.job_done(read, None)
    node.pump()
    mine = member.acquired()
    assert 0 < len(offsets(mine)) < 15
    assert not set(offsets(mine)) & set(offsets(other.acquired()))
    assert not node.node.partitions[gid].shared.dispatchers[GROUP].reading


def test_an_op_that_was_dropped_before_its_leader_served_holds_up_none_after_it() -> None:
    node, gid = prepared(5)
    group = node.node.partitions[gid]
    told: list[object] = []
    group.shared.offer(Expire(GROUP, []), told.append)
    group.shared.propose()
    group.ready_at_term = 0
    depose(node, gid)
    node.pump()
    assert isinstance(told[0], NotLeader)
    assert not group.shared.uncommitted_bytes
