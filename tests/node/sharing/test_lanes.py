"""Order by key, limits, fair turns: what is delivered next, and what waits for what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PreconditionFailed
from penstock.protocol.leases import ACK, NACK, RELEASE
from penstock.protocol.messages import TrimLog
from penstock.protocol.partitioning import key_slots, tenant_slots
from penstock_broker.node.sharing import lanes
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, alter, create, offsets


def prepared(keys: str, **chosen: Any) -> tuple[Harness, int]:
    """A node with a topic that has both columns, and a record for each letter: "." has no key."""
    node = Harness()
    (gid,) = node.topic(key_slots="key", tenant_separator="/")
    create(node, **chosen)
    publish(node, gid, keys)
    return node, gid


def publish(node: Harness, gid: int, keys: str) -> None:
    """Publish a record for each letter, in batches of four; capital letters are other tenants."""
    client = node.client()
    for at in range(0, len(keys), 4):
        some = [key_of(letter) for letter in keys[at : at + 4]]
        client.publish(
            gid,
            *[letter.encode() for letter in keys[at : at + 4]],
            key_slots=key_slots(some),
            tenant_slots=tenant_slots(some, b"/"),
        )


def key_of(letter: str) -> bytes | None:
    """Letters up to "m" belong to one tenant, those behind to another, digits to their own."""
    if letter == ".":
        return None
    tenant = letter if letter.isdigit() else "a" if letter <= "m" else "z"
    return f"{tenant}/{letter}".encode()


def ready_of(node: Harness, gid: int) -> Any:
    """The leader's soft state about what is next."""
    return node.node.partitions[gid].shared.dispatchers[GROUP].ready


def test_one_record_of_each_key_is_out_at_a_time() -> None:
    node, _ = prepared("aabbac", order_by="key")
    first, second = Member(node, "a"), Member(node, "b")
    got = first.acquire()
    assert offsets(got) == [0, 2, 5]
    assert offsets(second.acquire()) == []
    first.settle(got.lease, [(0, 1)])
    assert offsets(second.acquire()) == [1]
    first.settle(got.lease, [(2, 1)])
    assert offsets(second.acquire()) == [3]


def test_records_without_a_key_have_no_order() -> None:
    node, _ = prepared("..a.a", order_by="key")
    assert offsets(Member(node).acquire()) == [0, 1, 2, 3]


def test_a_failing_key_parks_only_itself() -> None:
    node, gid = prepared("ababab", order_by="key", jitter="none", retry_min_ms=60_000)
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(0, 1)], NACK)
    member.settle(got.lease, [(1, 1)])
    for offset in (3, 5):
        got = member.acquire()
        assert offsets(got) == [offset]
        member.ack_all(got)
    assert offsets(member.acquire()) == []
    assert ready_of(node, gid).why(2) == ("key", 0)
    node.advance(61)
    got = member.acquire()
    assert offsets(got) == [0]
    member.ack_all(got)
    assert offsets(member.acquire()) == [2]


def test_a_released_record_stays_before_the_next_of_its_key() -> None:
    node, _ = prepared("aab", order_by="key")
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(0, 1)], RELEASE)
    assert offsets(member.acquire()) == [0]


def test_a_late_acknowledgement_lets_the_next_of_the_key_go() -> None:
    node, _ = prepared("aa", order_by="key", jitter="none", retry_min_ms=60_000)
    member = Member(node)
    got = member.acquire()
    node.advance(31)
    assert member.ack_all(got).late == 1
    assert offsets(member.acquire()) == [1]


def test_order_by_key_survives_a_restart() -> None:
    node, _ = prepared("abab.", order_by="key")
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0, 1, 4]
    member.settle(got.lease, [(1, 1)])
    node.restart()
    again = Member(node, held=[got.lease])
    assert offsets(again.acquire()) == [3]
    again.settle(got.lease, [(0, 1)])
    assert offsets(again.acquire()) == [2]


def test_keys_of_old_records_are_read_from_segments() -> None:
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (gid,) = node.topic(key_slots="key")
    create(node, order_by="key")
    client = node.client()
    for number in range(60):
        client.publish(gid, b"x" * 600, key_slots=key_slots([b"%d" % (number % 20)]))
    member, got = Member(node, in_flight=1000), []
    while answer := offsets(member.acquire(1000, wait_ms=0)):
        got += answer
    assert got == list(range(20))


def test_records_of_batches_without_the_column_count_as_one_key() -> None:
    node, gid = prepared("", order_by="key")
    node.client().publish(gid, b"1", b"2", b"3")
    publish(node, gid, "a")
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0, 3]
    member.settle(got.lease, [(0, 1)])
    assert offsets(member.acquire()) == [1]


def test_order_by_key_needs_a_topic_that_writes_the_column() -> None:
    node = Harness()
    node.topic()
    with pytest.raises(PreconditionFailed):
        create(node, order_by="key")


def test_a_tenant_has_only_so_many_records_out() -> None:
    node, gid = prepared("abcdxyz.", limit_by="tenant", concurrency=2)
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0, 1, 4, 5, 7]
    assert ready_of(node, gid).why(2) == ("limit", -1)
    member.settle(got.lease, [(0, 1), (5, 1)])
    assert offsets(member.acquire()) == [2, 6]


def test_a_failed_record_makes_room_for_another_of_its_tenant() -> None:
    node, _ = prepared("abc", limit_by="tenant", concurrency=1, jitter="none")
    member = Member(node)
    got = member.acquire()
    member.settle(got.lease, [(0, 1)], NACK)
    second = member.acquire()
    assert offsets(second) == [1]
    node.advance(2)
    assert offsets(member.acquire()) == []
    member.ack_all(second)
    assert offsets(member.acquire()) == [2]


def test_leases_found_by_a_new_leader_count_for_limits() -> None:
    node, _ = prepared("abcd", limit_by="tenant", concurrency=2)
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0, 1]
    node.restart()
    again = Member(node, held=[got.lease])
    assert offsets(again.acquire()) == []
    again.settle(got.lease, [(1, 1)])
    assert offsets(again.acquire()) == [2]


def test_a_tenant_gets_only_so_many_records_a_second() -> None:
    node, _ = prepared("a" * 40 + "z", limit_by="tenant", rate_per_second=10)
    member = Member(node)
    assert offsets(member.acquire()) == [0, 1, 40]
    member.ask(100, wait_ms=60_000)
    node.advance(0.3)
    assert offsets(member.acquired()) == [2, 3]
    got = []
    for _ in range(20):
        node.advance(0.1)
        got += offsets(member.acquire())
    assert 20 <= len(got) <= 22


def test_tenants_have_equal_shares() -> None:
    node, _ = prepared("a" * 30 + "z" * 10 + "1" * 5, fair_by="tenant")
    member = Member(node)
    got = offsets(member.acquire(15))
    assert got == [*range(5), *range(30, 35), *range(40, 45)]
    assert len([each for each in offsets(member.acquire(10)) if each < 30]) == 5


def test_a_share_does_not_wait_for_ninety_thousand_records_of_another() -> None:
    node, gid = prepared("", fair_by="tenant")
    for letter, count in (("a", 45_000), ("a", 45_000), ("z", 5)):
        slots = tenant_slots([key_of(letter)], b"/") * count
        node.client().publish(gid, *[b""] * count, key_slots=slots, tenant_slots=slots)
    member = Member(node)
    got = [offset for _ in range(10) for offset in offsets(member.acquire(10))]
    assert [each for each in got if each >= 90_000] == [*range(90_000, 90_005)]


def test_order_limits_and_shares_go_together() -> None:
    node, _ = prepared("aabbcc" + "zz", order_by="key", limit_by="tenant", concurrency=2,
                       fair_by="tenant")  # fmt: skip
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0, 2, 6]
    member.settle(got.lease, [(0, 1)])
    assert offsets(member.acquire()) == [4]


def test_the_cursor_does_not_go_beyond_the_window() -> None:
    node, gid = prepared("a" * 1200 + "b", order_by="key", window_max=1000)
    member = Member(node)
    got = member.acquire()
    assert offsets(got) == [0]
    assert ready_of(node, gid).blocked_by == "window"
    member.ack_all(got)
    assert offsets(member.acquire()) == [1]
    assert ready_of(node, gid).blocked_by == "window"


def test_a_trim_lets_keys_go_on() -> None:
    node, _ = prepared("aaaaab", order_by="key")
    member = Member(node)
    assert offsets(member.acquire()) == [0, 5]
    node.client().ask(TrimLog(topic="orders", partition=0, offset=3))
    assert offsets(member.acquire()) == [3]


def test_a_trim_beyond_what_came_into_view_is_no_matter() -> None:
    node, gid = prepared("aa", order_by="key")
    member = Member(node)
    assert offsets(member.acquire(1)) == [0]
    publish(node, gid, "abcd")
    node.client().ask(TrimLog(topic="orders", partition=0, offset=4))
    assert offsets(member.acquire()) == [4, 5]


def test_a_group_may_begin_and_end_to_keep_an_order() -> None:
    node, _ = prepared("aaabb")
    member = Member(node)
    got = member.acquire(2)
    alter(node, order_by="key")
    assert offsets(member.acquire()) == [3]
    member.settle(got.lease, [(0, 2)])
    assert offsets(member.acquire()) == [2]
    alter(node, order_by=None)
    assert offsets(member.acquire()) == [4]


class Consumer:
    """A member that is told what to do by numbers, and knows what must hold."""

    def __init__(self, keys: str, **chosen: Any) -> None:
        self.node, _ = prepared(keys, jitter="none", retry_min_ms=100, attempts_max=-1, **chosen)
        self.keys = keys
        self.member = Member(self.node)
        self.held: dict[int, int] = {}
        self.done: list[int] = []

    def take(self, count: int) -> bool:
        """Acquire; no key may be out twice."""
        got = self.member.acquire(count)
        self.held.update(dict.fromkeys(offsets(got), got.lease))
        out = [self.keys[offset] for offset in self.held if self.keys[offset] != "."]
        assert len(out) == len(set(out))
        return bool(got.spans)

    def restart(self) -> None:
        """The broker starts again, and the member attaches with what it holds."""
        self.node.restart()
        self.member = Member(self.node, held=sorted(set(self.held.values())))

    def settle(self, offset: int, verdict: int) -> None:
        """Say what became of a record."""
        self.member.settle(self.held.pop(offset), [(offset, 1)], verdict)
        if verdict == ACK:
            self.done.append(offset)

    def step(self, what: int, size: int) -> None:
        """Do one thing."""
        if what <= 3:
            self.take(size + 1)
        elif what == 7:
            self.restart()
        elif self.held:
            offset = sorted(self.held)[size % len(self.held)]
            self.settle(offset, (ACK, NACK, RELEASE)[what - 4])

    def finish(self) -> None:
        """Acknowledge everything that comes, until nothing does."""
        for _ in range(500):
            for offset, lease in sorted(self.held.items()):
                self.member.tell(lease, [(offset, 1)])
            self.done += sorted(self.held)
            self.held.clear()
            self.node.pump()
            self.member.client.take()
            if not self.take(100):
                if len(self.done) == len(self.keys):
                    return
                self.node.advance(0.2)


@settings(max_examples=30, deadline=None)
@given(
    st.text("abcz.", min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), max_size=40),
    st.sampled_from(
        [
            {"order_by": "key"},
            {"order_by": "key", "limit_by": "tenant", "concurrency": 2},
            {"limit_by": "key", "concurrency": 1, "fair_by": "tenant"},
            {"order_by": "key", "fair_by": "key"},
        ]
    ),
)
def test_whatever_happens_all_records_are_delivered_in_the_order_of_their_keys(
    keys: str, steps: list[tuple[int, int]], chosen: dict[str, object]
) -> None:
    consumer = Consumer(keys, **chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "CUT_RECORDS", 2)
        for what, size in steps:
            consumer.step(what, size)
        consumer.finish()
    assert sorted(consumer.done) == list(range(len(keys)))
    if "order_by" in chosen:
        for key in set(keys) - {"."}:
            mine = [offset for offset in consumer.done if keys[offset] == key]
            assert mine == sorted(mine)
