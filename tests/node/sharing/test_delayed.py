"""Delayed records: never early, once, in order of time; listed, cancelled, kept."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from penstock.errors import PartitionNotFound, PreconditionFailed, TopicNotFound
from penstock.protocol.messages import AlterTopic, DeleteTopic, Metadata
from penstock.protocol.sharing import (
    CancelScheduled,
    CreateGroup,
    EnableDelays,
    ExplainRecord,
    ListScheduled,
    ListScheduledReply,
)
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.topology import TIMER_GROUP
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.sharing import composing, delayed
from tests.node.harness import START_US, Harness
from tests.node.sharing.reading import records_of


def us(seconds: float) -> int:
    return START_US + int(seconds * 1_000_000)


class World:
    def __init__(self, partitions: int = 1) -> None:
        self.node = Harness()
        self.gids = self.node.topic(partitions=partitions)
        self.companion = self.enable()

    def enable(self) -> str:
        reply = self.node.client().ask(EnableDelays(topic="orders"))
        return str(reply.delayed_topic)

    def place(self, partition: int = 0) -> PartitionGroup:
        found = self.node.node.groups.find(self.companion, partition)
        assert found is not None
        return found

    @property
    def timer(self) -> SharedGroup:
        return self.place().machine.sharing.groups[TIMER_GROUP]

    def publish(self, seconds: float, *values: bytes, partition: int = 0, **batch: Any) -> int:
        """Publish for a time after the start; returns the id."""
        gid = self.place(partition).gid
        return self.node.client().publish(gid, *values, deliver_at_us=us(seconds), **batch)[0]

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in records_of(self.node, self.gids[partition])]

    def listed(self, **page: Any) -> ListScheduledReply:
        found = self.node.client().ask(ListScheduled(topic="orders", partition=0, **page))
        assert isinstance(found, ListScheduledReply)
        return found

    def cancel(self, *ids: int) -> list[int]:
        ask = CancelScheduled(topic="orders", partition=0, ids=list(ids))
        return list(self.node.client().ask(ask).cancelled)


@pytest.fixture
def world() -> World:
    return World()


def test_a_record_arrives_when_its_time_has_come_and_not_before(world: World) -> None:
    world.publish(60, b"a", keys=[b"k"], headers=[{"h": b"1"}])
    world.node.advance(59.7)
    assert world.values() == []
    world.node.advance(0.6)
    (record,) = records_of(world.node, world.gids[0])
    assert (record.value, record.key, dict(record.headers)) == (b"a", b"k", {"h": b"1"})
    assert us(60) <= record.timestamp_us <= us(60.3)
    assert world.timer.start == world.timer.end == 1


def test_a_time_in_the_past_means_at_once(world: World) -> None:
    world.publish(-100, b"late")
    world.node.client().publish(world.place().gid, b"no time")
    world.node.advance(0.2)
    assert world.values() == [b"no time", b"late"]


def test_records_arrive_in_the_order_of_their_times(world: World) -> None:
    random = Random(3)
    times = [random.randrange(1, 5_000) / 100 for _ in range(300)]
    for seconds in times:
        world.publish(seconds, b"%.2f" % seconds)
    for _ in range(60):
        world.node.advance(random.random() * 2)
    assert world.values() == [b"%.2f" % seconds for seconds in sorted(times)]


def test_after_a_stop_the_overdue_arrive_in_the_order_of_their_times(world: World) -> None:
    random = Random(4)
    times = [random.randrange(1, 5_000) for _ in range(500)]
    for seconds in times:
        world.publish(seconds, b"%d" % seconds)
    world.node.node.store.close()
    world.node.wall_us += 6_000_000_000
    world.node.open()
    world.node.advance(1)
    assert world.values() == [b"%d" % seconds for seconds in sorted(times)]


def test_nothing_is_lost_or_doubled_through_restarts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composing, "RECORDS_MAX", 3)
    for number in range(30):
        world.publish(number / 4, b"%d" % number)
    for _ in range(9):
        world.node.advance(0.9)
        world.node.restart()
    assert world.values() == [b"%d" % number for number in range(30)]


def test_a_batch_goes_as_it_was_if_nothing_of_it_is_cancelled(world: World) -> None:
    values = [b"%d" % number for number in range(40)]
    world.publish(5, *values, key_slots=list(range(40)), trace_id=bytes(range(16)))
    world.publish(5, *values, timestamps_ms=list(range(1_000, 1_040)))
    world.publish(5, *values)
    assert world.cancel(83) == [83]
    world.node.advance(6)
    records = records_of(world.node, world.gids[0])
    assert [r.value for r in records] == [*values, *values, *values[:3], *values[4:]]
    assert records[40].timestamp_us == 1_000_000


def test_what_waits_is_listed_soonest_first_in_pages(world: World) -> None:
    for seconds in (50, 10, 30, 10):
        world.publish(seconds, b"x")
    first = world.listed(limit=3)
    assert [(each.id, each.deliver_at_us) for each in first.scheduled] == [
        (1, us(10)), (3, us(10)), (2, us(30)),
    ]  # fmt: skip
    assert first.total == 4
    last = first.scheduled[-1]
    rest = world.listed(after_us=last.deliver_at_us, after_id=last.id)
    assert [each.id for each in rest.scheduled] == [0]
    world.node.advance(11)
    assert [each.id for each in world.listed().scheduled] == [2, 0]
    assert world.listed().total == 2


def test_a_cancelled_record_never_arrives(world: World) -> None:
    first, second = world.publish(10, b"a"), world.publish(10, b"b", b"c")
    assert world.cancel(second, 77, second) == [second]
    assert world.cancel(second) == []
    world.node.restart()
    world.node.advance(11)
    assert world.values() == [b"a", b"c"]
    assert world.cancel(first) == []
    assert world.timer.start == 3


def test_times_far_away_are_kept(world: World) -> None:
    century = 100 * 365 * 86_400
    world.publish(century, b"far")
    world.node.advance(30)
    world.node.restart()
    assert [each.deliver_at_us for each in world.listed().scheduled] == [us(century)]
    world.node.node.store.close()
    world.node.wall_us = us(century + 1)
    world.node.open()
    world.node.advance(1)
    assert world.values() == [b"far"]


def test_enabling_twice_changes_nothing(world: World) -> None:
    world.publish(30, b"a")
    assert world.enable() == world.companion
    assert world.listed().total == 1


def test_the_companion_is_shown_to_who_names_it(world: World) -> None:
    client = world.node.client()
    assert [topic.name for topic in client.ask(Metadata()).topics] == ["orders"]
    (shown,) = client.ask(Metadata(topics=[world.companion])).topics
    assert [place.leader for place in shown.partitions] == [1]


def test_new_partitions_can_be_delayed_to_at_once(world: World) -> None:
    world.node.client().ask(AlterTopic(name="orders", partitions=3))
    world.node.pump()
    (topic,) = world.node.metadata().topics
    world.gids = [place.group for place in topic.partitions]
    world.publish(5, b"third", partition=2)
    world.node.advance(6)
    assert world.values(2) == [b"third"]


def test_delayed_records_go_with_their_topic(world: World) -> None:
    world.publish(5, b"a")
    client = world.node.client()
    client.ask(DeleteTopic(name="orders"))
    world.node.advance(10)
    assert world.node.node.groups.find(world.companion, 0) is None
    with pytest.raises(TopicNotFound):
        world.listed()


def test_a_topic_without_delays_has_none_to_list_or_cancel() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    assert client.ask(ListScheduled(topic="orders", partition=0)).total == 0
    assert client.ask(CancelScheduled(topic="orders", partition=0, ids=[1])).cancelled == []
    with pytest.raises(PartitionNotFound):
        client.ask(ListScheduled(topic="orders", partition=4))
    with pytest.raises(TopicNotFound):
        client.ask(EnableDelays(topic="nothing"))


def test_dead_letters_can_not_be_delayed() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    client.ask(CreateGroup(topic="orders", group="g"))
    with pytest.raises(PreconditionFailed):
        client.ask(EnableDelays(topic="dead.orders.g"))


def crowded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records of the far future, and much that comes and goes behind them."""
    monkeypatch.setattr(delayed, "CARRY_SPAN_MIN", 100)
    world.publish(7_200, b"far 1", keys=[b"k"])
    world.publish(7_300, b"far 2", b"far 3")
    for number in range(10):
        world.publish(1 + number, *[b"x"] * 20)


def test_records_of_the_far_future_do_not_hold_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world, monkeypatch)
    world.node.advance(45)
    assert world.timer.start == 203
    assert world.place().log.start_offset == 203
    assert world.timer.end == 206
    world.node.restart()
    world.node.node.store.close()
    world.node.wall_us = us(7_400)
    world.node.open()
    world.node.advance(1)
    assert world.values()[200:] == [b"far 1", b"far 2", b"far 3"]
    assert len(world.values()) == 203
    assert world.timer.moves.carried == {}
    (record,) = [r for r in records_of(world.node, world.gids[0]) if r.value == b"far 1"]
    assert record.key == b"k"


def test_a_record_that_was_carried_forward_keeps_its_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world, monkeypatch)
    world.node.advance(45)
    world.node.restart()
    assert [each.id for each in world.listed().scheduled] == [0, 1, 2]
    first = world.listed(limit=1).scheduled[0]
    page = world.listed(after_us=first.deliver_at_us, after_id=first.id)
    assert [each.id for each in page.scheduled] == [1, 2]
    assert world.cancel(1, 204) == [1]
    assert [each.id for each in world.listed().scheduled] == [0, 2]
    ask = ExplainRecord(topic=world.companion, partition=0, offset=2)
    (found,) = world.node.client().ask(ask).states
    assert (found.state, found.offset, found.next_us) == ("delayed", 2, us(7_300))


def test_a_record_is_carried_forward_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(world, monkeypatch)
    for turn in range(1, 4):
        world.node.advance(45)
        for _ in range(10):
            world.publish(45 * turn + 1, *[b"x"] * 20)
    world.node.advance(60)
    assert world.timer.start > 800
    assert [each.id for each in world.listed().scheduled] == [0, 1, 2]
