"""Retention beside shared groups: what is kept, what is counted, what is saved."""

from __future__ import annotations

import pytest

from penstock.protocol.messages import AlterTopic
from penstock.protocol.sharing import EnableDelays
from penstock_broker.machine.sharing.state import MOVING
from penstock_broker.node.sharing import move_lane
from tests.node.sharing.works import Works


def works_with(retention: str = "time", **settings: object) -> Works:
    works = Works(**settings)
    config = {"retention": retention, "retention_ms": 60_000, "segment_bytes": 1 << 16}
    works.node.client().ask(AlterTopic(name="orders", config=config))
    return works


def test_until_acked_keeps_what_a_shared_group_needs() -> None:
    works = works_with("until_acked")
    works.publish(10)
    works.ack(0, 4)
    works.node.advance(100)
    assert works.partition.log.start_offset <= 4
    works.ack(4, 6)
    works.node.advance(100)
    assert works.partition.log.start_offset == 10


def test_until_acked_keeps_dead_letters_until_they_are_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = works_with("until_acked")
    works.publish(3)
    works.ack(1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(move_lane.Lane, "step", lambda _: None)
        works.kill(0, 1)
        works.node.advance(100)
        assert works.partition.log.start_offset == 0
    works.partition.shared.mover.on_leading()
    works.node.advance(100)
    assert works.partition.log.start_offset == 3
    assert len(works.dead_letters()) == 1


def test_otherwise_what_is_deleted_undelivered_is_counted() -> None:
    works = works_with()
    works.publish(10)
    works.ack(0, 4)
    works.grant(4, 2)
    works.node.advance(100)
    assert works.partition.log.start_offset == 10
    assert (works.group.start, works.group.counters.overtaken) == (10, 6)
    assert works.group.leases == {}


def test_or_it_becomes_a_dead_letter_before_the_log_is_trimmed() -> None:
    works = works_with(overtaken="dead_letter")
    works.publish(10)
    works.ack(0, 4)
    works.grant(4, 2, lease_s=1000)
    works.node.advance(100)
    assert works.partition.log.start_offset == 10
    assert [record.value for record in works.dead_letters()] == [b"v%d" % n for n in range(4, 10)]
    assert {story["reason"] for story in works.stories()} == {"overtaken"}
    assert works.group.counters.overtaken == 6


def test_the_trim_waits_while_overtaken_records_can_not_be_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = works_with(overtaken="dead_letter")
    works.publish(10)
    works.ack(0, 4)
    with monkeypatch.context() as patched:
        patched.setattr(move_lane.Lane, "step", lambda _: None)
        works.node.advance(100)
        assert works.partition.log.start_offset == 4
        assert works.group.window.count(MOVING) == 6
    works.partition.shared.mover.on_leading()
    works.node.advance(15)
    assert works.partition.log.start_offset == 10
    assert len(works.dead_letters()) == 6


def test_the_companion_is_trimmed_as_delayed_records_arrive() -> None:
    works = Works()
    name = works.node.client().ask(EnableDelays(topic="orders")).delayed_topic
    companion = works.place(name)
    for seconds in (1, 2, 40):
        at_us = works.node.wall_us + seconds * 1_000_000
        works.node.client().publish(companion.gid, b"x", deliver_at_us=at_us)
    works.node.advance(20)
    assert companion.log.start_offset == 2
    works.node.advance(40)
    assert companion.log.start_offset == 3
    assert works.partition.log.end_offset == 3
