"""A test moves time: what comes due is carried out before `advance` returns, and nothing sleeps."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import trio
import trio.testing

import penstock
import penstock.sync
from penstock.errors import BadRequest, Fenced, InvalidConfig
from penstock.testing import VirtualClock, broker, crash
from penstock_broker.runtime.embed import EmbeddedBroker

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def kept(client: penstock.sync.Client, topic: str) -> tuple[int, int]:
    """Log start offset and high watermark."""
    [figures] = client.admin.describe_topic(topic).partitions
    return figures.log_start_offset, figures.high_watermark


def members(client: penstock.sync.Client, group: str) -> int:
    return len(client.admin.describe_group(group).members)


# ----- the clock itself


def test_wall_clock_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(START)
    with broker(clock=clock), penstock.sync.connect(clock.address) as client:
        client.admin.create_topic("times")
        first = client.publish("times", b"a").timestamp
        clock.advance("1h30m")
        second = client.publish("times", b"b").timestamp
    assert (first, second) == (START, START + timedelta(minutes=90))


@pytest.mark.parametrize("duration", ["250ms", 0.25, timedelta(milliseconds=250)])
def test_durations_are_text_seconds_or_timedeltas(
    penstock_clock: VirtualClock, duration: str | float | timedelta
) -> None:
    before = penstock_clock.now
    penstock_clock.advance(duration)
    assert penstock_clock.now - before == timedelta(milliseconds=250)


def test_time_goes_on_to_a_moment_and_never_back(penstock_clock: VirtualClock) -> None:
    tomorrow = penstock_clock.now + timedelta(days=1)
    penstock_clock.advance(until=tomorrow)
    assert penstock_clock.now == tomorrow
    with pytest.raises(BadRequest, match="back"):
        penstock_clock.advance(until=tomorrow - timedelta(seconds=1))
    with pytest.raises(BadRequest, match="back"):
        penstock_clock.advance(-1)
    with pytest.raises(InvalidConfig):
        penstock_clock.advance("soon")


def test_brokers_with_clocks_of_their_own_are_independent() -> None:
    first, second = VirtualClock(START), VirtualClock(START)
    with broker(clock=first), broker(clock=second):
        first.advance("1d")
        assert (first.now - START, second.now - START) == (timedelta(days=1), timedelta())


def test_clients_opened_after_the_broker_has_stopped_live_by_the_machines_clock() -> None:
    clock = VirtualClock(START)
    with broker(clock=clock) as running:
        port = int(running.address.rpartition(":")[2])
    with broker(port=port) as running, penstock.sync.connect(running.address) as client:
        client.admin.create_topic("times")
        assert client.publish("times", b"a").timestamp > datetime.now(UTC) - timedelta(minutes=1)


class Standing:
    """A client's driver whose event loop stands still."""

    def __init__(self) -> None:
        self.woken = threading.Event()

    def wake(self) -> None:
        self.woken.set()

    def rest(self) -> None:
        return None


def test_alarms_ring_by_real_time_too_also_after_time_was_moved(
    penstock_clock: VirtualClock,
) -> None:
    driver = Standing()
    penstock_clock.attach(driver)
    penstock_clock.alarm(driver, penstock_clock.monotonic() + 3600.0)
    penstock_clock.advance("2h")
    driver.woken.clear()
    penstock_clock.alarm(driver, penstock_clock.monotonic() + 0.01)
    assert driver.woken.wait(30.0)
    penstock_clock.detach(driver)


# ----- what comes due in the broker


def test_retention_by_time_is_carried_out(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("short", config={"retention_ms": 60_000, "segment_ms": 1000})
    penstock_sync.publish_many("short", [b"old"] * 3)
    penstock_clock.advance("59s")
    penstock_sync.publish_many("short", [b"new"] * 2)
    assert kept(penstock_sync, "short") == (0, 5)
    penstock_clock.advance("2s")
    assert kept(penstock_sync, "short") == (3, 5)


def test_dedup_ids_are_forgotten_after_their_window(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("orders", config={"dedup_window_ms": 600_000})
    again = []
    for pause in ("0s", "9m", "2m"):
        penstock_clock.advance(pause)
        receipt = penstock_sync.publish("orders", b"one", dedup_id=b"order-1")
        again.append((receipt.offset, receipt.duplicate))
    assert again == [(0, False), (0, True), (1, False)]


def test_member_that_dies_is_expired_and_one_that_lives_stays(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("work", partitions=2)
    with (
        penstock.sync.connect(penstock_clock.address) as other,
        penstock_sync.subscribe("work", group="g", session_timeout=10) as living,
        other.subscribe("work", group="g", session_timeout=10) as dying,
    ):
        living.fetch(wait=0.01)
        dying.fetch(wait=0.01)
        assert members(penstock_sync, "g") == 2
        crash(other)
        penstock_clock.advance("9s")
        assert members(penstock_sync, "g") == 2
        penstock_clock.advance("2s")
        assert members(penstock_sync, "g") == 1
        penstock_clock.advance("10m")
        assert members(penstock_sync, "g") == 1


def test_idle_group_is_forgotten_after_a_month(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("work")
    penstock_sync.publish("work", b"a")
    with penstock_sync.subscribe("work", group="rare") as records:
        records.fetch(wait=5.0)
    assert [found.group for found in penstock_sync.admin.list_groups().groups] == ["rare"]
    penstock_clock.advance("31d")
    assert not penstock_sync.admin.list_groups().groups


# ----- from all kinds of code


def test_waits_of_blocking_clients_end_when_time_passes(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("empty")
    found: list[object] = []
    with penstock_sync.subscribe("empty") as records:
        records.fetch(wait=0.01)
        waiting = threading.Thread(target=lambda: found.append(records.fetch(wait=600.0)))
        waiting.start()
        while waiting.is_alive():  # until it has begun to wait, time passes for nothing
            penstock_clock.advance("11m")
            waiting.join(0.01)
    assert found == [[]]


async def wait_for_an_hour(clock: VirtualClock, topic: str) -> list[penstock.Record]:
    async with penstock.connect(clock.address) as client:
        await client.admin.create_topic(topic)
        await client.publish(topic, b"early")
        await clock.advance("1h")
        await client.publish(topic, b"late")
        async with client.subscribe(topic) as records:
            found = await records.fetch(wait=5.0)
            await clock.advance("1h")
    return found


async def test_trio_test_moves_time(penstock_clock: VirtualClock) -> None:
    began = penstock_clock.now
    early, late = await wait_for_an_hour(penstock_clock, "t")
    assert (early.timestamp, late.timestamp) == (began, began + timedelta(hours=1))


def test_asyncio_test_moves_time(penstock_clock: VirtualClock) -> None:
    began = penstock_clock.now
    early, late = asyncio.run(wait_for_an_hour(penstock_clock, "a"))
    assert (early.timestamp, late.timestamp) == (began, began + timedelta(hours=1))


async def test_clock_of_trio_does_not_jump_while_time_is_moved(
    penstock_clock: VirtualClock, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    with trio.fail_after(60.0):
        await penstock_clock.advance("1d")
    assert trio.current_time() == before


async def test_waiting_trio_task_is_told_before_advance_returns(
    penstock_clock: VirtualClock,
) -> None:
    found: list[list[penstock.Record]] = []

    async def wait(records: penstock.Subscription) -> None:
        found.append(await records.fetch(wait=600.0))

    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("empty")
        async with client.subscribe("empty") as records, trio.open_nursery() as nursery:
            nursery.start_soon(wait, records)
            await trio.testing.wait_all_tasks_blocked()
            await penstock_clock.advance(599.0)
            assert found == []
            await penstock_clock.advance(2.0)
            assert found == [[]]


async def test_application_goes_on_between_two_due_times(penstock_clock: VirtualClock) -> None:
    """A program that polls every minute is seen to do so, sixty times in an hour."""
    times: list[datetime] = []

    async def poll(records: penstock.Subscription) -> None:
        while True:
            await records.fetch(wait=60.0)
            times.append(penstock_clock.now)

    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("empty")
        async with client.subscribe("empty") as records, trio.open_nursery() as nursery:
            nursery.start_soon(poll, records)
            await trio.testing.wait_all_tasks_blocked()
            await penstock_clock.advance("1h30s")
            nursery.cancel_scope.cancel()
    assert len(times) >= 60
    for before, after in pairwise(times):
        assert timedelta(seconds=50) < after - before <= timedelta(seconds=61)


async def test_client_that_crashed_in_its_block_does_not_hold_up_time(
    penstock_clock: VirtualClock,
) -> None:
    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("empty")
        async with client.subscribe("empty") as records:
            await records.fetch(wait=0.01)
            crash(client)
            await penstock_clock.advance("30d")


async def test_failure_to_advance_reaches_the_caller_as_it_is(
    penstock_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Fenced("as it is")

    monkeypatch.setattr(EmbeddedBroker, "rest", fail)
    with pytest.raises(Fenced, match="as it is"):
        await penstock_clock.advance("1s")
