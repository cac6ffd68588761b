"""Leases, retries, delays and schedules come due when a test says so, and at no other time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing
import uvloop

import penstock
import penstock.sync
from penstock.testing import VirtualClock, broker, crash

STEADY = {"retry_min_ms": "10s", "retry_factor": 200, "jitter": "none", "attempts_max": 4}
NOW = 0.05
"""How long to look for something that is not there."""


def take(records: penstock.sync.SharedSubscription, wait: float = NOW) -> list[bytes]:
    """Take what is there, and be done with it."""
    found = records.fetch(wait=wait)
    records.ack_many(found)
    return [bytes(record.value or b"") for record in found]


@pytest.fixture
def topic(penstock_topic: str, penstock_sync: penstock.sync.Client) -> str:
    penstock_sync.publish(penstock_topic, b"work")
    return penstock_topic


def test_retry_is_due_exactly_after_its_pause(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, topic: str
) -> None:
    with penstock_sync.subscribe(topic, group="g", mode="shared", create=STEADY) as records:
        [record] = records.fetch(wait=5.0)
        record.nack(reason="busy")
        records.flush()
        penstock_clock.advance("9s999ms")
        assert take(records) == []
        penstock_clock.advance("1ms")
        assert take(records) == [b"work"]


def test_lease_of_a_client_that_died_ends_after_five_seconds(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, topic: str
) -> None:
    with penstock.sync.connect(penstock_clock.address) as dying:
        first = dying.subscribe(topic, group="g", mode="shared")
        with first:
            assert first.fetch(wait=5.0)
            crash(dying)
    with penstock_sync.subscribe(topic, group="g", mode="shared") as records:
        penstock_clock.advance("4s")
        assert take(records) == []
        penstock_clock.advance("20s")  # and the pause before the next attempt
        [record] = records.fetch(wait=NOW)
        record.ack()
        assert (record.delivered, record.timed_out) == (2, 1)


async def test_lease_of_an_async_client_that_died_ends_too(penstock_clock: VirtualClock) -> None:
    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("t")
        await client.publish("t", b"work")
        async with (
            penstock.connect(penstock_clock.address) as dying,
            dying.subscribe("t", group="g", mode="shared", create=STEADY) as first,
        ):
            assert await first.fetch(wait=5.0)
            crash(dying)
        async with client.subscribe("t", group="g", mode="shared") as records:
            await penstock_clock.advance("14s")
            assert not await records.fetch(wait=NOW)
            await penstock_clock.advance("1s")  # five for the lease, ten until the next attempt
            [record] = await records.fetch(wait=NOW)
            record.ack()
    assert record.timed_out == 1


def test_lease_is_renewed_until_the_longest_time_that_a_record_may_be_held(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, topic: str
) -> None:
    policy = {"hold_max_ms": "2m", "lease_ms": "10s", **STEADY}
    with (
        penstock_sync.subscribe(topic, group="g", mode="shared", create=policy) as slow,
        penstock.sync.connect(penstock_clock.address) as other,
        other.subscribe(topic, group="g", mode="shared") as records,
    ):
        [held] = slow.fetch(wait=5.0)
        penstock_clock.advance("110s")
        assert take(records) == []
        assert not held.lease_lost
        penstock_clock.advance("30s")
        assert take(records) + take(slow) == [b"work"]
        assert held.lease_lost
        held.ack()  # too late: it is done


class Failing:
    """A handler that always fails, and when it was called."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._began = clock.now
        self.times: list[float] = []

    async def work(self, records: penstock.SharedSubscription) -> None:
        async for record in records:
            async with record:
                self.times.append((self._clock.now - self._began).total_seconds())
                raise ConnectionError("down")


async def test_every_attempt_of_a_handler_is_seen_within_one_advance(
    penstock_clock: VirtualClock,
) -> None:
    handler = Failing(penstock_clock)
    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("mails")
        await client.publish("mails", b"m")
        async with (
            client.subscribe("mails", group="g", mode="shared", create=STEADY) as records,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(handler.work, records)
            await penstock_clock.advance("5m")
            nursery.cancel_scope.cancel()
    assert handler.times == [0, 10, 30, 70]


def test_every_attempt_of_a_thread_is_seen_if_it_is_quick(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, topic: str
) -> None:
    began, times = penstock_clock.now, []

    def work(records: penstock.sync.SharedSubscription) -> None:
        for record in records:
            with record:
                times.append((penstock_clock.now - began).total_seconds())
                raise ConnectionError("down")

    with penstock.sync.connect(penstock_clock.address) as client:
        with client.subscribe(topic, group="g", mode="shared", create=STEADY) as records:
            worker = threading.Thread(target=work, args=(records,))
            worker.start()
            while not times:
                penstock_clock.advance(0)
            penstock_clock.advance("5m")
        worker.join()
    assert times == [0, 10, 30, 70]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_every_attempt_is_seen_under_asyncio_too(
    run: Callable[[Coroutine[None, None, None]], None], penstock_clock: VirtualClock
) -> None:
    handler = Failing(penstock_clock)

    async def main() -> None:
        async with penstock.connect(penstock_clock.address) as client:
            await client.admin.create_topic("mails")
            await client.publish("mails", b"m")
            async with client.subscribe(
                "mails", group="g", mode="shared", create=STEADY
            ) as records:
                worker = asyncio.create_task(handler.work(records))
                await penstock_clock.advance("5m")
                worker.cancel()
                await asyncio.wait([worker])

    run(main())
    assert handler.times == [0, 10, 30, 70]


async def test_a_client_does_not_wind_up_the_clock_of_trio(
    penstock_clock: VirtualClock, autojump_clock: trio.testing.MockClock
) -> None:
    """A client's timers are not trio's: a test's own MockClock stays where it is."""
    before = trio.current_time()
    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("t")
        await client.publish("t", b"work")
        async with client.subscribe("t", group="g", mode="shared") as records:
            [record] = await records.fetch(wait=60.0)
            await penstock_clock.advance("10m")
            record.ack()
    assert trio.current_time() == before


def values(client: penstock.sync.Client, topic: str) -> list[tuple[bytes, datetime]]:
    """All records of a topic and when they were appended."""
    with client.subscribe(topic, start="earliest") as records:
        found = records.fetch(wait=NOW)
    return [(bytes(record.value or b""), record.timestamp) for record in found]


def test_delayed_record_arrives_exactly_when_it_was_meant_to(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, penstock_topic: str
) -> None:
    began = penstock_clock.now
    penstock_sync.publish(penstock_topic, b"later", delay="3d")
    penstock_sync.publish(penstock_topic, b"sooner", at=began + timedelta(days=1))
    penstock_clock.advance("23h59m59s999ms")
    assert values(penstock_sync, penstock_topic) == []
    penstock_clock.advance("1ms")
    sooner = (b"sooner", began + timedelta(days=1))
    assert values(penstock_sync, penstock_topic) == [sooner]
    penstock_clock.advance("5d")
    later = (b"later", began + timedelta(days=3))
    assert values(penstock_sync, penstock_topic) == [sooner, later]


def test_schedule_fires_at_each_of_its_times() -> None:
    clock = VirtualClock(datetime(2026, 3, 27, 11, tzinfo=UTC))
    with broker(clock=clock), penstock.sync.connect(clock.address) as client:
        client.admin.create_topic("t")
        client.admin.create_schedule(
            "t", "noon", "0 12 * * *", time_zone="Europe/Berlin", value=b"noon"
        )
        clock.advance("3d")
        found = values(client, "t")
    assert [(value, moment.day, moment.hour) for value, moment in found] == [
        (b"noon", 28, 11),
        (b"noon", 29, 10),  # the clocks went forward that night
        (b"noon", 30, 10),
    ]
    assert all(moment.minute == moment.second == moment.microsecond == 0 for _, moment in found)


def test_a_schedule_of_every_minute_fires_sixty_times_in_an_hour(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client, penstock_topic: str
) -> None:
    penstock_sync.admin.create_schedule(penstock_topic, "tick", "* * * * *", value=b"tick")
    penstock_clock.advance("1h")
    assert len(values(penstock_sync, penstock_topic)) == 60


def test_rate_limit_lets_records_go_as_time_passes(
    penstock_clock: VirtualClock, penstock_sync: penstock.sync.Client
) -> None:
    penstock_sync.admin.create_topic("exports", config={"key_slots": "key"})
    penstock_sync.publish_many("exports", [b"export"] * 30, keys=[b"customer"] * 30)
    limits = {"limit_by": "key", "rate_per_second": 1}
    with penstock_sync.subscribe("exports", group="g", mode="shared", create=limits) as records:
        done = len(take(records, 5.0))
        assert 1 <= done <= 2  # one at once, and one that may be saved up
        for _ in range(10):
            penstock_clock.advance("1s")
            done += len(take(records))
    assert 10 <= done <= 12


async def test_record_that_always_fails_is_a_dead_letter_when_advance_returns(
    penstock_clock: VirtualClock,
) -> None:
    handler = Failing(penstock_clock)
    async with penstock.connect(penstock_clock.address) as client:
        await client.admin.create_topic("mails")
        await client.publish("mails", b"m")
        async with (
            client.subscribe("mails", group="g", mode="shared", create=STEADY) as records,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(handler.work, records)
            await penstock_clock.advance("5m")
            nursery.cancel_scope.cancel()
        [letter] = await client.admin.dead_letters("mails", "g")
    assert [attempt.reason for attempt in letter.attempts] == ["ConnectionError"] * 4
