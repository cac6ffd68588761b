"""The figures of a shared group."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import GroupNotFound, TopicNotFound
from penstock.protocol.sharing import AttachGroup, DescribeShared, SharedFigures
from penstock_broker.node.sharing import figures
from penstock_broker.node.sharing.ages import appended_us
from penstock_broker.node.sharing.queue_times import Histogram
from tests.node.harness import START_US
from tests.node.sharing.works import DEAD, Works


def described(works: Works, topic: str = "orders") -> SharedFigures:
    (found,) = works.node.client().ask(DescribeShared(topic=topic, group="billing")).partitions
    assert isinstance(found, SharedFigures)
    return found


@pytest.fixture
def works() -> Works:
    made = Works(jitter="none", retry_min_ms=20_000)
    made.publish(10)
    return made


def test_records_are_counted_by_state(works: Works) -> None:
    works.ack(1, 1)
    works.nack(0, 1)
    works.grant(3, 2)
    works.kill(6, 1)
    found = described(works)
    assert (found.start, found.end, found.high_watermark) == (0, 7, 10)
    assert (found.ready, found.leased, found.delayed, found.moving) == (5, 2, 1, 0)
    assert found.counters["acked"] == found.counters["failed"] == found.counters["rejected"] == 1
    assert found.counters["moved"] == 1
    assert found.attempts == {1: 1}
    assert 0 < found.next_ready_us <= works.node.wall_us + 20_000_000
    assert described(works, DEAD).held == 1


def test_the_oldest_unsettled_record_counts_also_while_it_is_leased(works: Works) -> None:
    works.grant(0, 1, lease_s=3_000)
    works.node.advance(5)
    works.publish(1)
    works.ack(1, 9)
    assert described(works).oldest_unacked_us == START_US
    works.settle(1, 0, 1, lease=(1 << 40) + 1)
    assert described(works).oldest_unacked_us == START_US + 5_000_000
    works.ack(10, 1)
    assert described(works).oldest_unacked_us == 0


def test_members_and_what_they_hold_are_listed(works: Works) -> None:
    works.node.client().ask(
        AttachGroup(topic="orders", partition=0, group="billing", member="idle", host="h2")
    )
    (found,) = described(works).members
    assert (found.member, found.host, found.attached, found.in_flight) == ("idle", "h2", True, 0)


def test_who_attaches_again_with_nothing_in_hand_stays_a_member(works: Works) -> None:
    for host in ("h1", "h2"):
        works.node.client().ask(
            AttachGroup(topic="orders", partition=0, group="billing", member="m", host=host)
        )
    (found,) = described(works).members
    assert (found.member, found.host, found.attached) == ("m", "h2", True)


def test_a_group_says_what_keeps_it_from_going_on(works: Works) -> None:
    assert described(works).blocked_by == "no_member"
    works.node.client().ask(
        AttachGroup(topic="orders", partition=0, group="billing", member="idle")
    )
    assert described(works).blocked_by == "no_demand"


def test_the_time_in_the_queue_is_from_append_to_settlement(works: Works) -> None:
    assert described(works).time_in_queue_ms == {}
    works.node.advance(2)
    works.ack(0, 9)
    works.node.advance(58)
    works.ack(9, 1)
    found = described(works).time_in_queue_ms
    assert found["max"] == pytest.approx(60_000)
    assert 2_000 <= found["p50"] <= 2_000 * 1.2
    assert found["p99"] == pytest.approx(60_000)


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(1, 50)), min_size=1, max_size=40))
def test_percentiles_are_right_within_a_fifth(durations: list[tuple[int, int]]) -> None:
    histogram = Histogram()
    for duration_us, count in durations:
        histogram.add(duration_us, count)
    every = sorted(duration for duration, count in durations for _ in range(count))
    found = histogram.percentiles()
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = every[max(0, -(-int(share * 1000) * len(every) // 1000) - 1)] / 1000
        assert exact <= found[name] * 1.0001 or found[name] == found["max"]
        assert found[name] <= max(exact * 1.2, 1.0)


def test_append_times_of_older_records_come_from_the_index(works: Works) -> None:
    works.node.advance(3)
    works.publish(10)
    log = works.partition.log
    assert [appended_us(log, offset) for offset in (0, 10, 20)] == [
        START_US, works.node.wall_us, 0,
    ]  # fmt: skip
    works.node.restart()
    log = works.partition.log
    assert START_US <= appended_us(log, 5) <= works.node.wall_us


def test_the_histogram_of_attempts_has_a_limit(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "TROUBLES_COUNTED", 3)
    works.nack(0, 10)
    assert described(works).attempts == {1: 3}


def test_what_is_not_there_is_refused(works: Works) -> None:
    client: Any = works.node.client()
    with pytest.raises(TopicNotFound):
        client.ask(DescribeShared(topic="nothing", group="billing"))
    with pytest.raises(GroupNotFound):
        client.ask(DescribeShared(topic="orders", group="nobody"))
