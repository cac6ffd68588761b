"""Why a record is where it is: every state, what blocks it, what happens next."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import GroupNotFound, OffsetOutOfRange, TopicNotFound
from penstock.protocol import leases
from penstock.protocol.messages import CommitOffsets, JoinGroup, TrimLog
from penstock.protocol.sharing import (
    AttachGroup,
    EnableDelays,
    ExplainRecord,
    RecordState,
    StuckRecords,
)
from penstock_broker.node.sharing import move_lane
from tests.node.harness import Client
from tests.node.sharing.works import DEAD, Works


@pytest.fixture
def works() -> Works:
    made = Works(jitter="none", retry_min_ms=20_000)
    made.publish(10)
    return made


def why(works: Works, offset: int, topic: str = "orders", group: str = "billing") -> RecordState:
    ask = ExplainRecord(topic=topic, partition=0, offset=offset, group=group)
    (found,) = works.node.client().ask(ask).states
    assert isinstance(found, RecordState)
    return found


def stuck(works: Works, topic: str = "orders", **fields: Any) -> list[RecordState]:
    ask = StuckRecords(topic=topic, partition=0, group="billing", **fields)
    return list(works.node.client().ask(ask).states)


def attach(works: Works, **fields: Any) -> Client:
    client = works.node.client()
    client.ask(AttachGroup(topic="orders", partition=0, group="billing", member="m", **fields))
    return client


def test_a_record_that_nobody_can_take_waits_for_a_member(works: Works) -> None:
    found = why(works, 3)
    assert (found.state, found.blocked_by, found.mode) == ("ahead", "no_member", "shared")
    assert "no member" in found.text
    assert found.since_us == works.node.wall_us


def test_a_record_that_members_leave_lying_says_so(works: Works) -> None:
    attach(works)
    found = why(works, 3)
    assert (found.state, found.blocked_by) == ("ahead", "no_demand")


def test_a_leased_record_names_its_holder_and_deadline(works: Works) -> None:
    works.grant(0, 3)
    works.node.advance(5)
    found = why(works, 1)
    assert (found.state, found.member, found.host, found.delivered) == ("leased", "m", "h", 1)
    assert found.deadline_us == found.next_us == found.since_us + 30_000_000
    assert found.text == (
        "Held by m on h for 5s (attempt 1 of 5); its lease runs out in 25s unless it is renewed."
    )


def test_a_failed_record_says_when_it_is_tried_again(works: Works) -> None:
    works.nack(0, 1, reason="Timeout", error="trace")
    found = why(works, 0)
    assert (found.state, found.failed, found.next_us) == (
        "delayed", 1, works.node.wall_us + 20_000_000,
    )  # fmt: skip
    assert found.text == (
        "Waits for its next attempt in 20s, after 1 failed attempt (the last one: Timeout)."
    )
    (attempt,) = found.attempts
    assert (attempt.kind, attempt.reason, attempt.error) == ("failed", "Timeout", "trace")
    works.node.advance(21)
    assert (why(works, 0).state, why(works, 0).blocked_by) == ("ready", "no_member")


def test_a_record_on_its_way_to_the_dead_letters_says_what_stops_it(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise TopicNotFound("no way there")

    monkeypatch.setattr(move_lane, "deliver", fails)
    works.kill(0, 1)
    found = why(works, 0)
    assert (found.state, found.blocked_by, found.dead_topic) == (
        "moving", "dead_letter_topic", DEAD,
    )  # fmt: skip
    assert found.text == (
        "On its way to the dead-letter topic, because it was rejected; it waits: no way there."
    )


def test_a_dead_letter_is_followed_to_where_it_is(works: Works) -> None:
    works.kill(4, 1, reason="poison")
    found = why(works, 4)
    assert (found.state, found.dead_topic, found.dead_partition, found.dead_offset) == (
        "dead", DEAD, 0, 0,
    )  # fmt: skip
    assert "redriven or purged" in found.text
    works.redrive(0, 1)
    works.grant(0, 1, partition=works.dead)
    found = why(works, 4)
    assert (found.state, found.member, found.redrives) == ("leased", "m", 1)
    assert why(works, 0, topic=DEAD).state == "leased"


def test_a_settled_record_is_done(works: Works) -> None:
    works.ack(0, 2)
    assert why(works, 1).state == "done"


def test_a_record_behind_a_full_window_names_what_fills_it() -> None:
    works = Works(window_max=1_000)
    works.publish(1_500)
    works.grant(0, 1)
    found = why(works, 1_200)
    assert (found.state, found.blocked_by, found.blocking_offset) == ("ahead", "window", 0)


def test_a_record_behind_another_of_its_key_names_it() -> None:
    works = Works({"key_slots": "key"}, order_by="key")
    works.publish(3, keys=[b"a", b"b", b"a"], key_slots=[7, 8, 7])
    client = attach(works)
    client.send(leases.acquire_request(9, works.gid, leases.Acquire(1, 3, 1 << 20, 0)))
    works.node.pump()
    client.take()
    found = why(works, 2)
    assert (found.blocked_by, found.blocking_offset) == ("key", 0)
    assert "offset 0" in found.text


def test_a_delayed_record_says_when_it_goes(works: Works) -> None:
    name = works.node.client().ask(EnableDelays(topic="orders")).delayed_topic
    at_us = works.node.wall_us + 60_000_000
    gid = works.place(name).gid
    works.node.client().publish(gid, b"x", deliver_at_us=at_us)
    found = why(works, 0, topic=name, group="__timer")
    assert (found.state, found.next_us) == ("delayed", at_us)
    works.node.advance(61)
    found = why(works, 0, topic=name, group="__timer")
    assert (found.state, found.dead_topic, found.dead_offset) == ("done", "orders", 10)


def test_a_deleted_record_is_gone_or_done(works: Works) -> None:
    works.node.client().ask(TrimLog(topic="orders", partition=0, offset=5))
    assert why(works, 2).state == "done"


def test_a_deleted_record_may_be_one_that_retention_overtook(works: Works) -> None:
    works.ack(0, 4)
    works.node.client().ask(TrimLog(topic="orders", partition=0, offset=3))
    assert "overtook" not in why(works, 2).text
    works.node.client().ask(TrimLog(topic="orders", partition=0, offset=6))
    assert "among the 2 records that retention overtook" in why(works, 2).text


def test_ordered_groups_tell_by_their_positions(works: Works) -> None:
    client = works.node.client()
    joined = client.ask(JoinGroup(group="audit", member="a", topics=["orders"], host="h1"))
    client.ask(
        CommitOffsets(
            group="audit", member="a", generation=joined.assignment.generation,
            offsets={"orders": {0: 4}},
        )
    )  # fmt: skip
    done, ahead = why(works, 3, group="audit"), why(works, 6, group="audit")
    assert (done.state, done.mode) == ("done", "ordered")
    assert (ahead.state, ahead.member, ahead.blocking_offset) == ("ahead", "a", 4)
    assert ahead.text == "Not committed yet: 2 records before it; a reads the partition."
    every = client.ask(ExplainRecord(topic="orders", partition=0, offset=6)).states
    assert [state.group for state in every] == ["billing", "audit"]


def test_the_oldest_unsettled_records_are_the_stuck_ones(works: Works) -> None:
    works.ack(1, 1)
    works.nack(0, 1)
    works.grant(3, 1)
    found = stuck(works)
    assert [(each.offset, each.state) for each in found] == [
        (0, "delayed"), (2, "ready"), (3, "leased"), (4, "ahead"),
    ]  # fmt: skip
    assert [each.offset for each in stuck(works, limit=2)] == [0, 2]


def test_dead_letters_that_rest_are_not_stuck(works: Works) -> None:
    works.kill(0, 3)
    assert stuck(works, DEAD) == []
    works.redrive(1, 1)
    assert [each.offset for each in stuck(works, DEAD)] == [1]


def test_what_is_not_there_is_refused(works: Works) -> None:
    with pytest.raises(OffsetOutOfRange):
        why(works, 10)
    with pytest.raises(GroupNotFound):
        why(works, 0, group="nobody")
    with pytest.raises(TopicNotFound):
        why(works, 0, topic="nothing")
