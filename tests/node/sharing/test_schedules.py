"""Recurring schedules on a node: due in time, never early, once, through restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from penstock.errors import (
    InvalidConfig,
    LimitExceeded,
    PreconditionFailed,
    RecordTooLarge,
    ScheduleNotFound,
    TopicNotFound,
)
from penstock.protocol.messages import DeleteTopic
from penstock.protocol.sharing import (
    CreateSchedule,
    DeleteSchedule,
    ListSchedules,
    PauseSchedule,
    ScheduleInfo,
)
from penstock_broker.node.cron import parse
from penstock_broker.node.node import Node
from penstock_broker.node.sharing.schedules import LATE_US, latest_due
from tests.node.harness import START_US, Harness
from tests.node.sharing.reading import records_of


class Zoned(Harness):
    """A node that knows all time zones."""

    def open(self) -> None:
        super().open()
        self.node.time_zone = ZoneInfo
        for partition in self.node.partitions.values():
            partition.shared.schedules.on_leading()


class World:
    def __init__(self) -> None:
        self.node = Zoned()
        (self.group,) = self.node.topic()

    def create(self, cron: str = "@every 10s", **fields: Any) -> ScheduleInfo:
        asked = {"name": "tick", "topic": "orders", "partition": 0, "value": b"v", **fields}
        return self.node.client().ask(CreateSchedule(cron=cron, **asked)).schedule

    def info(self) -> ScheduleInfo:
        (found,) = self.node.client().ask(ListSchedules(topic="orders")).schedules
        return found

    def pause(self, paused: bool = True) -> ScheduleInfo:
        ask = PauseSchedule(topic="orders", name="tick", paused=paused)
        return self.node.client().ask(ask).schedule

    def sleep(self, seconds: float) -> None:
        """Stop the broker for so long."""
        self.node.node.store.close()
        self.node.wall_us += int(seconds * 1e6)
        self.node.open()

    def fired(self) -> list[int]:
        """The due times of what was published, in seconds since the start."""
        found = []
        for record in records_of(self.node, self.group):
            due_us = int(record.headers["penstock-due"])
            assert record.timestamp_us >= due_us, "it fired early"
            found.append((due_us - START_US) // 1_000_000)
        return found


@pytest.fixture
def world() -> World:
    return World()


def test_a_schedule_fires_at_its_times_and_says_which(world: World) -> None:
    world.create(key=b"k", headers={"source": b"test"})
    world.node.advance(31)
    assert world.fired() == [10, 20, 30]
    record = records_of(world.node, world.group)[0]
    assert (record.value, record.key, record.headers["source"]) == (b"v", b"k", b"test")
    assert record.headers["penstock-schedule"] == b"tick"
    info = world.info()
    assert (info.fired, info.last_us) == (3, START_US + 30_000_000)
    assert info.next_us == START_US + 40_000_000


def test_a_schedule_goes_by_its_time_zone(world: World) -> None:
    info = world.create("30 9 * * *", time_zone="America/New_York")
    due = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=info.next_us)
    local = due.astimezone(ZoneInfo("America/New_York"))
    assert (local.hour, local.minute) == (9, 30)


def test_a_schedule_fires_once_through_restarts(world: World) -> None:
    world.create()
    for _ in range(6):
        world.node.advance(7)
        world.node.restart()
    assert world.fired() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("all", [10, 20, *range(30, 210, 10)]), ("one", [10, 20, 200]), ("skip", [10, 20])],
)
def test_what_a_stop_missed_goes_by_the_policy(
    world: World, catch_up: str, expected: list[int]
) -> None:
    world.create(catch_up=catch_up)
    world.node.advance(25)
    world.sleep(180)  # to 205 seconds
    world.node.advance(0.1)
    assert [due for due in world.fired() if due < 145] == [due for due in expected if due < 145]
    if catch_up == "skip":
        assert world.fired() == [10, 20, 150, 160, 170, 180, 190, 200]  # late, but not missed
    else:
        assert world.fired() == expected
    world.node.advance(10)
    assert world.fired()[-1] == 210


def test_a_long_backlog_is_caught_up_with_in_full(world: World) -> None:
    world.create("@every 1s", catch_up="all")
    world.sleep(2500)
    world.node.advance(2.5)
    assert world.fired() == list(range(1, 2503))


def test_a_paused_schedule_does_not_fire_and_then_follows_its_policy(world: World) -> None:
    world.create()
    world.node.advance(15)
    assert (world.pause().paused, world.info().next_us) == (True, 0)
    world.node.advance(30)
    world.node.restart()
    world.node.advance(5)
    assert world.fired() == [10]
    world.pause(paused=False)
    world.node.advance(11)
    assert world.fired() == [10, 50, 60]


def test_a_deleted_schedule_never_fires_again(world: World) -> None:
    world.create()
    world.node.advance(9.9)
    client = world.node.client()
    client.ask(DeleteSchedule(topic="orders", name="tick"))
    world.node.advance(20)
    assert world.fired() == []
    with pytest.raises(ScheduleNotFound):
        client.ask(DeleteSchedule(topic="orders", name="tick"))
    with pytest.raises(ScheduleNotFound):
        world.pause()


def test_a_schedule_made_anew_begins_anew(world: World) -> None:
    world.create()
    world.node.advance(11)
    with pytest.raises(PreconditionFailed):
        world.create()
    world.create("@every 5s", replace=True)
    world.node.advance(10)
    assert world.fired() == [10, 15, 20]
    assert world.info().fired == 2


def test_a_schedule_waits_for_room_on_the_disk(world: World, monkeypatch: Any) -> None:
    world.create()
    monkeypatch.setattr(type(world.node.node.store), "accepting", False)
    world.node.advance(12)
    assert world.fired() == []
    monkeypatch.undo()
    world.node.advance(1)
    assert world.fired() == [10]


def test_what_can_never_work_is_refused_at_once(world: World) -> None:
    with pytest.raises(InvalidConfig):
        world.create("* * * *")
    with pytest.raises(RecordTooLarge):
        world.create(key=bytes(5000))
    with pytest.raises(LimitExceeded):
        world.create(value=bytes(70_000))
    with pytest.raises(TopicNotFound):
        world.create(topic="nothing")


def test_a_node_without_time_zones_knows_utc_only() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    made = client.ask(CreateSchedule(name="a", topic="orders", partition=0, cron="@daily"))
    assert made.schedule.time_zone == "UTC"
    with pytest.raises(InvalidConfig):
        client.ask(
            CreateSchedule(
                name="b", topic="orders", partition=0, cron="@daily", time_zone="Europe/Berlin"
            )
        )


def test_a_name_is_used_once_in_a_topic() -> None:
    node = Harness()
    node.topic(partitions=2)
    client = node.client()
    client.ask(CreateSchedule(name="a", topic="orders", partition=1, cron="@daily"))
    with pytest.raises(PreconditionFailed) as raised:
        client.ask(CreateSchedule(name="a", topic="orders", partition=0, cron="@daily"))
    assert raised.value.detail["partition"] == 1


def test_schedules_go_with_their_topic(world: World) -> None:
    world.create()
    world.node.client().ask(DeleteTopic(name="orders"))
    world.node.advance(20)
    assert isinstance(world.node.node, Node)


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 9-17 * * mon-fri", "0 0 1 1 *", "@every 7s"])
def test_the_latest_due_time_is_found_without_walking_through_all(cron: str) -> None:
    recurrence, zone = parse(cron), ZoneInfo("Europe/Berlin")
    first = recurrence.next_after(START_US, zone)
    assert first is not None
    for after_us in (0, LATE_US // 2, 3_600_000_000, 86_400_000_000 * 3, 86_400_000_000 * 800):
        now_us = first + after_us
        found = latest_due(recurrence, zone, first, now_us)
        following = recurrence.next_after(found, zone)
        assert first <= found <= now_us
        assert following is not None
        assert following > now_us
