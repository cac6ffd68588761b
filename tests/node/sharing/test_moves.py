"""Dead letters are moved exactly once: through batches, restarts, lost leads and full disks."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import CorruptData, NotLeader
from penstock.protocol.messages import DeleteTopic
from penstock.protocol.sharing import AlterGroup
from penstock_broker.machine.sharing.ops import REJECT, Settle
from penstock_broker.machine.sharing.state import DONE, HELD, MOVING
from penstock_broker.node import deliveries
from penstock_broker.node.sharing import composing, move_lane
from tests.node.sharing.works import DEAD, Works


@pytest.fixture
def works() -> Works:
    return Works()


def test_a_rejected_record_lies_in_the_dead_letter_topic(works: Works) -> None:
    works.publish(3, keys=[b"a", b"b", b"c"], headers=[None, {"x": b"1"}, None])
    works.kill(1, 1)
    (dead,) = works.dead_letters()
    assert (dead.value, dead.key, dead.headers["x"]) == (b"v1", b"b", b"1")
    assert works.group.window.state(1) == DONE
    assert works.group.moves.begun == {}
    assert works.group.moves.recent[1] == (works.dead.gid, 0)
    assert works.group_of(works.dead).window.state(0) == HELD


def test_a_dead_letter_tells_how_it_died(works: Works) -> None:
    works.publish(2)
    works.kill(1, 1, reason="ValueError", error="trace")
    (story,) = works.stories()
    (attempt,) = story.pop("attempts")
    assert story == {
        "topic": "orders", "partition": 0, "offset": 1, "group": "billing",
        "reason": story["reason"], "died_us": attempt["ended_us"], "delivered": 1, "failed": 0,
        "timed_out": 0, "redrives": 0, "attempts_left_out": 0, "unreadable": "",
    }  # fmt: skip
    assert (attempt["kind"], attempt["reason"], attempt["error"]) == (
        "rejected", "ValueError", "trace",
    )  # fmt: skip
    assert (attempt["member"], attempt["host"]) == ("m", "h")


def test_many_dead_letters_travel_in_few_batches_and_in_order(works: Works) -> None:
    works.publish(3_000)
    works.kill(0, 3_000)
    assert [record.value for record in works.dead_letters()] == [b"v%d" % n for n in range(3_000)]
    assert works.group.window.count(MOVING) == 0
    assert works.group.start == 3_000
    sequence = works.dead.machine.expected(
        works.partition.shared.mover.lane("billing")._producer_id
    )
    assert sequence == 3_000


def test_records_keep_their_times_and_slots(works: Works) -> None:
    works.publish(2, timestamps_ms=[7_000, 8_000], key_slots=[5, 6], keys=[b"a", b"b"])
    works.publish(1)
    works.kill(0, 3)
    assert [r.timestamp_us for r in works.dead_letters()][:2] == [7_000_000, 8_000_000]


def test_times_far_apart_go_in_batches_of_their_own(works: Works) -> None:
    works.publish(1, timestamps_ms=[1_000])
    works.publish(1, timestamps_ms=[9_000_000_000])
    works.kill(0, 2)
    assert len(works.dead_letters()) == 2


class Flaky:
    """Fails the deliveries that a test chooses, before or after they are stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail_before: set[int] = set()
        self.fail_after: set[int] = set()
        self._real = deliveries.deliver
        monkeypatch.setattr(move_lane, "deliver", self.deliver)

    def deliver(self, node: Any, gid: int, batch: Any, done: Any, skips_from: int = -1) -> None:
        self.count += 1
        number = self.count
        if number in self.fail_before:
            raise NotLeader("chosen by the test")

        def told(offset: int, error: Any) -> None:
            done(0, NotLeader("chosen by the test")) if number in self.fail_after else done(
                offset, error
            )

        self._real(node, gid, batch, told, skips_from)


@pytest.mark.parametrize("before", [{1}, {2, 3}, {1, 2, 3, 4, 5}])
@pytest.mark.parametrize("after", [set(), {1}, {3, 4}])
def test_failures_lose_nothing_and_double_nothing(
    works: Works, monkeypatch: pytest.MonkeyPatch, before: set[int], after: set[int]
) -> None:
    flaky = Flaky(monkeypatch)
    flaky.fail_before, flaky.fail_after = before, after
    monkeypatch.setattr(composing, "RECORDS_MAX", 7)
    works.publish(40)
    works.kill(0, 40)
    works.node.advance(120)
    assert [record.value for record in works.dead_letters()] == [b"v%d" % n for n in range(40)]
    assert works.group.start == 40
    assert works.partition.shared.mover.blocked("billing") == ""


def test_batches_cut_otherwise_after_a_restart_are_not_doubled(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published in threes and not confirmed is published again in tens."""
    monkeypatch.setattr(composing, "RECORDS_MAX", 3)
    monkeypatch.setattr(move_lane.Lane, "_landed", lambda *_: None)
    works.publish(25)
    works.kill(0, 25)
    assert len(works.dead_letters()) == 25
    assert len(works.group.moves.begun) == 25
    monkeypatch.undo()
    monkeypatch.setattr(composing, "RECORDS_MAX", 10)
    works.node.restart()
    works.node.advance(1)
    assert [record.value for record in works.dead_letters()] == [b"v%d" % n for n in range(25)]
    assert works.group.moves.begun == {}
    works.publish(1)
    works.kill(25, 1)
    assert len(works.dead_letters()) == 26


def test_a_restart_at_any_moment_moves_each_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "RECORDS_MAX", 4)
    for jobs in range(1, 14):
        works = Works()
        works.publish(20)
        works.grant(0, 20)
        works.partition.shared.offer(
            Settle(group="billing", lease=(1 << 40) + works.lease, verdict=REJECT, spans=[0, 20])
        )
        works.node.node.end_round()
        for _ in range(jobs):
            job = works.node.node.store.take_flush()
            if job is not None:
                job.run()
                works.node.node.job_done(job, None)
            works.node.node.end_round()
        works.node.restart()
        works.node.advance(35)
        values = [record.value for record in works.dead_letters()]
        assert values in ([], [b"v%d" % n for n in range(20)])
        assert bool(values) == (works.group.start == 20)


def test_a_record_that_can_not_be_read_leaves_its_story(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.publish(3)
    log = works.partition.log
    real = log.read

    def damaged(offset: int, max_bytes: int) -> Any:
        if offset == 1 or (offset == 0 and log.__dict__.get("hurt")):
            raise CorruptData("flipped bits")
        return real(offset, max_bytes)

    monkeypatch.setattr(log, "read", damaged)
    works.kill(1, 1)
    (dead,) = works.dead_letters()
    assert dead.value is None
    assert works.stories()[0]["unreadable"] == "flipped bits"


def test_a_record_is_read_from_disk_when_ram_has_it_no_more(works: Works) -> None:
    works.publish(500)
    works.node.restart()
    works.kill(100, 300)
    assert len(works.dead_letters()) == 300


def test_while_the_dead_letter_topic_is_out_of_reach_records_are_held(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(monkeypatch)
    flaky.fail_before = set(range(1, 100))
    works.publish(2)
    works.kill(0, 2)
    works.node.advance(300)
    assert works.group.window.count(MOVING) == 2
    assert works.partition.shared.mover.blocked("billing") == "chosen by the test"
    assert flaky.count < 30
    flaky.fail_before = set()
    works.node.advance(31)
    assert len(works.dead_letters()) == 2


def test_while_the_dead_letter_topic_is_out_of_reach_policy_may_drop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = Works(dead_letter_unavailable="drop")
    flaky = Flaky(monkeypatch)
    flaky.fail_before = set(range(1, 100))
    works.publish(3)
    works.kill(0, 1)
    works.node.advance(15)
    works.kill(1, 2)
    works.node.advance(31)
    assert works.group.counters.dropped == 2
    flaky.fail_before = set()
    works.node.advance(31)
    assert [record.value for record in works.dead_letters()] == [b"v0"]
    assert works.group.start == 3


def test_what_is_on_its_way_to_a_deleted_topic_is_dropped_if_the_group_drops(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(monkeypatch)
    flaky.fail_before = set(range(1, 100))
    works.publish(2)
    works.kill(0, 2)
    client = works.node.client()
    client.ask(AlterGroup(topic="orders", group="billing", settings={"dead_letters": "drop"}))
    client.ask(DeleteTopic(name=DEAD))
    works.node.advance(60)
    assert (works.group.start, works.group.counters.dropped) == (2, 2)


def test_what_was_on_its_way_to_a_deleted_topic_goes_to_the_new_one(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(monkeypatch)
    flaky.fail_before = set(range(1, 100))
    works.publish(2)
    works.kill(0, 2)
    works.partition.shared.mover.on_lost_leadership()
    client = works.node.client()
    client.ask(AlterGroup(topic="orders", group="billing", settings={"dead_letters": "drop"}))
    client.ask(DeleteTopic(name=DEAD))
    client.ask(AlterGroup(topic="orders", group="billing", settings={"dead_letters": "topic"}))
    flaky.fail_before = set()
    works.partition.shared.mover.on_leading()
    works.node.advance(60)
    assert len(works.dead_letters()) == 2
    works.publish(1)
    works.kill(2, 1)
    assert len(works.dead_letters()) == 3


def test_a_full_disk_delays_the_moves(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    works.publish(2)
    monkeypatch.setattr(type(works.node.node.store), "accepting", False)
    works.kill(0, 2)
    works.node.advance(5)
    assert works.group.window.count(MOVING) == 2
    assert "disk" in works.partition.shared.mover.blocked("billing")
    monkeypatch.undo()
    works.node.advance(40)
    assert len(works.dead_letters()) == 2


def test_records_redriven_and_dead_again_stay_where_they_are(works: Works) -> None:
    works.publish(1)
    works.kill(0, 1)
    works.redrive(0, 1)
    works.grant(0, 1, partition=works.dead)
    works.settle(3, 0, 1, partition=works.dead, reason="again")
    assert len(works.dead_letters()) == 1
    group = works.group_of(works.dead)
    assert (group.window.state(0), group.troubles[0].redrives) == (HELD, 1)
