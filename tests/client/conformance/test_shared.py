"""Shared groups, what every driver does alike, against a real broker over real sockets."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import penstock
from penstock import errors, sync
from tests.client.conformance.apis import Api
from tests.client.conformance.proxy import Proxy

QUICK = {"retry_min_ms": "5ms", "retry_max_ms": "5ms", "jitter": "none"}
PATIENCE_SECONDS = 30.0


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def shared(client: Any, topic: str, **options: Any) -> Any:
    """A member of the topic's group `g`, which retries quickly."""
    options.setdefault("create", QUICK)
    return client.subscribe(topic, group="g", mode="shared", **options)


def figures(helper: sync.Client, topic: str) -> dict[str, int]:
    """The group's counters over all partitions, and what is where."""
    found: dict[str, int] = {}
    for each in helper.admin.describe_shared(topic, "g").partitions:
        for name, count in each.counters.items():
            found[name] = found.get(name, 0) + count
        for name in ("ready", "leased", "delayed", "moving"):
            found[name] = found.get(name, 0) + getattr(each, name)
    return found


async def _until_state(api: Api, client: Any, topic: str, wanted: str) -> None:
    """Wait until the first record of partition 0 is in a state: grants are not waited for."""
    for _ in range(500):
        found = await client.admin.explain(topic, 0, 0, group="g")
        if [each.state for each in found.states] == [wanted]:
            return
        await api.sleep(0.01)
    raise AssertionError(f"the record is never {wanted}, but {found.states}")


def test_records_are_shared_acked_and_settled(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        values: list[bytes] = []

        async def work() -> None:
            async with api.connect(address) as client, shared(client, topic) as records:
                async for record in records:
                    async with api.handling(record):
                        values.append(record.value)
                    if len(values) >= 300:
                        break
                await records.flush()

        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(300))
        await api.together(work)
        assert sorted(values) == sorted(numbered(300))

    api.run(test)


def test_two_members_get_different_records(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as one, api.connect(address) as two:
            await one.publish_many(topic, numbered(40))
            async with (
                shared(one, topic, max_in_flight=10) as first,
                shared(two, topic, max_in_flight=10) as second,
            ):
                mine = await first.fetch(10, wait=5.0)
                theirs = await second.fetch(10, wait=5.0)
                places = [(r.partition, r.offset) for r in [*mine, *theirs]]
                assert len(set(places)) == len(places) > 0
                first.ack_many(mine)
                second.ack_many(theirs)
                await first.flush()
                await second.flush()

    api.run(test)


def test_a_failing_handler_is_tried_again_and_the_loop_goes_on(
    api: Api, address: str, topic: str
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(5), partition=0)
            seen: list[tuple[int, int]] = []
            async with shared(client, topic) as records:
                async for record in records:
                    async with api.handling(record):
                        seen.append((record.offset, record.attempt))
                        if record.offset == 2 and record.attempt < 3:
                            raise ValueError("not yet")
                    if (2, 3) in seen and len(seen) == 7:
                        break
        assert [attempt for offset, attempt in seen if offset == 2] == [1, 2, 3]

    api.run(test)


def test_errors_may_be_raised_after_the_attempt_failed(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish(topic, b"x")
            async with shared(client, topic, on_error="raise") as records:
                [record] = await records.fetch(1, wait=5.0)
                with pytest.raises(ZeroDivisionError):
                    async with api.handling(record):
                        _ = 1 / 0
                [again] = await records.fetch(1, wait=5.0)
                assert (again.attempt, again.failed) == (2, 1)
                again.ack()
                await records.flush()

    api.run(test)


def test_a_handler_may_ask_for_a_time_or_reject(
    api: Api, address: str, topic: str, helper: sync.Client
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(2), partition=0)
            async with shared(client, topic) as records:
                first, second = await records.fetch(2, wait=5.0)
                async with api.handling(first):
                    raise penstock.Retry(delay="100ms", reason="Busy")
                async with api.handling(second):
                    raise penstock.Reject("unreadable", "no such field")
                began = time.monotonic()
                [again] = await records.fetch(2, wait=5.0)
                assert time.monotonic() - began > 0.05
                assert (again.offset, again.attempt) == (0, 2)
                again.ack()
                await records.flush()

    api.run(test)
    assert figures(helper, topic)["rejected"] == 1


def test_attempts_run_out_into_dead_letters_and_a_redrive_brings_them_back(
    api: Api, address: str, topic: str
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish(topic, b"bad", key="k", headers={"a": "b"}, partition=1)
            settings = {**QUICK, "attempts_max": 2}
            async with shared(client, topic, create=settings) as records:
                for _ in range(2):
                    [record] = await records.fetch(1, wait=5.0)
                    async with api.handling(record):
                        raise ValueError("no")
                await records.flush()
                page = await _letters(api, client, topic, 1)
                [letter] = page.letters
                assert (letter.value, letter.key, dict(letter.headers)) == (
                    b"bad",
                    b"k",
                    {"a": b"b"},
                )
                assert (letter.origin_topic, letter.origin_partition) == (topic, 1)
                assert (letter.cause, letter.failed, len(letter.attempts)) == ("ValueError", 2, 2)
                assert "ValueError: no" in letter.attempts[-1].error
                assert page.after is None
                plan = await client.admin.redrive(topic, "g", dry_run=True, reason="ValueError")
                assert (plan.matched, plan.redriven) == (1, 0)
                none = await client.admin.redrive(topic, "g", reason="Other")
                assert (none.matched, none.redriven) == (0, 0)
                done = await client.admin.redrive(topic, "g", edit=lambda letter: b"good")
                assert (done.matched, done.redriven, done.edited) == (1, 1, 1)
                [record] = await records.fetch(1, wait=5.0)
                assert (record.value, record.origin) == (b"good", (topic, 1, 0))
                record.ack()
                await records.flush()
                assert not len(await client.admin.dead_letters(topic, "g"))

    api.run(test)


async def _letters(api: Api, client: Any, topic: str, count: int) -> Any:
    for _ in range(500):
        page = await client.admin.dead_letters(topic, "g")
        if len(page) >= count:
            return page
        await api.sleep(0.01)
    raise AssertionError("there are no dead letters")


def test_dead_letters_are_purged(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(6))
            async with shared(client, topic) as records:
                left = 6
                while left:
                    for record in await records.fetch(6, wait=5.0):
                        record.reject("bad" if int(record.value) % 2 else "worse")
                        left -= 1
                await records.flush()
            await _letters(api, client, topic, 6)
            assert await client.admin.purge_dead(topic, "g", reason="bad", dry_run=True) == 3
            assert await client.admin.purge_dead(topic, "g", reason="bad") == 3
            rest = await client.admin.dead_letters(topic, "g")
            assert {letter.cause for letter in rest} == {"worse"}

    api.run(test)


def test_leaving_gives_back_what_was_not_begun(
    api: Api, address: str, topic: str, helper: sync.Client
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(20), partition=0)
            async with shared(client, topic) as records:
                async for record in records:
                    async with api.handling(record):
                        break
            async with shared(client, topic) as records:
                rest: list[Any] = []
                while len(rest) < 19:
                    rest += await records.fetch(100, wait=5.0)
                assert {record.attempt for record in rest} == {1}
                records.ack_many(rest)

    api.run(test)
    assert figures(helper, topic)["acked"] == 20


def test_batches_have_columns_and_one_verdict(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(500), partition=0)
            found: list[bytes] = []
            async with shared(client, topic, max_in_flight=200) as records:
                async for batch in records.batches():
                    found.extend(batch.values)
                    batch.ack()
                    if len(found) == 500:
                        break
                await records.flush()
        assert found == numbered(500)

    api.run(test)


def test_broken_connections_lose_and_repeat_nothing(api: Api, proxy: Proxy, topic: str) -> None:
    async def test(api: Api) -> None:
        seen: dict[tuple[int, int], int] = {}
        async with api.connect(proxy.address) as client:
            await client.publish_many(topic, numbered(200))
            async with shared(client, topic, max_in_flight=20) as records:
                until = time.monotonic() + PATIENCE_SECONDS
                while len(seen) < 200 and time.monotonic() < until:
                    for record in await records.fetch(10, wait=0.5):
                        place = record.partition, record.offset
                        seen[place] = seen.get(place, 0) + 1
                        async with api.handling(record):
                            pass
                        if len(seen) % 40 == 20:
                            proxy.cut()
                await records.flush()
        assert len(seen) == 200

    api.run(test)


def test_a_handler_that_blocks_everything_keeps_its_lease(
    api: Api, address: str, topic: str, helper: sync.Client
) -> None:
    """The loop is truly blocked, for longer than a lease lasts."""

    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish(topic, b"slow")
            settings = {**QUICK, "lease_ms": "1s"}
            async with shared(client, topic, create=settings) as records:
                async for record in records:
                    async with api.handling(record):
                        time.sleep(1.6)  # noqa: ASYNC251 - blocking is the point
                    break
                await records.flush()

    api.run(test)
    counted = figures(helper, topic)
    assert (counted["delivered"], counted["acked"], counted["timed_out"]) == (1, 1, 0)


def test_without_renewals_a_lease_would_run_out(
    address: str, topic: str, helper: sync.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above shows something."""
    monkeypatch.setattr("penstock._drivers.renewing.Renewer.start", lambda self: None)
    helper.publish(topic, b"slow")
    with sync.connect(address) as client:
        settings = {**QUICK, "lease_ms": "1s"}
        with shared(client, topic, create=settings) as records:
            [record] = records.fetch(1, wait=5.0)
            time.sleep(1.6)
            record.release()
    assert figures(helper, topic)["timed_out"] == 1


def test_delayed_records_wait_and_can_be_cancelled(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            soon = await client.publish(topic, b"soon", delay=0.3, key="k")
            late = await client.publish(topic, b"late", delay="1h", partition=0)
            many = await client.publish_many(topic, numbered(3), delay="2h")
            assert soon.scheduled
            assert (late.scheduled, late.topic, late.partition) == (True, topic, 0)
            assert many.scheduled
            listed = await client.admin.list_scheduled(topic)
            assert listed.total >= 2
            reply = await client.admin.cancel_scheduled(topic, 0, [late.offset])
            assert reply.cancelled == [late.offset]
            async with client.subscribe(topic) as records:
                found = await records.fetch(10, wait=5.0)
            assert [(r.value, r.key) for r in found] == [(b"soon", b"k")]

    api.run(test)


def test_schedules(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            made = await client.admin.create_schedule(topic, "nightly", "0 3 * * *", value=b"go")
            assert made.schedule.next_us > 0
            assert [each.name for each in await client.admin.list_schedules(topic)] == ["nightly"]
            paused = await client.admin.pause_schedule(topic, "nightly")
            assert paused.schedule.paused
            await client.admin.delete_schedule(topic, "nightly")
            assert await client.admin.list_schedules(topic) == []
            with pytest.raises(errors.ScheduleNotFound):
                await client.admin.delete_schedule(topic, "nightly")

    api.run(test)


def test_groups_are_administered(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish(topic, b"x", partition=0)
            made = await client.admin.create_group(topic, "g", {"attempts_max": 7})
            assert made.group.settings["attempts_max"] == 7
            with pytest.raises(errors.GroupExists):
                await client.admin.create_group(topic, "g")
            altered = await client.admin.alter_group(topic, "g", {"lease_ms": "10s"})
            assert altered.group.settings["lease_ms"] == 10_000
            async with shared(client, topic) as records:
                [record] = await records.fetch(1, wait=5.0)
                await _until_state(api, client, topic, "leased")
                described = await client.admin.describe_shared(topic, "g")
                assert sum(each.leased for each in described.partitions) == 1
                [(partition, state)] = await client.admin.stuck(topic, "g")
                assert (partition, state.offset, state.member) == (0, 0, records.member)
                record.ack()
                await records.flush()
            await client.admin.delete_group("g", topic)
            with pytest.raises(errors.GroupNotFound):
                await client.admin.describe_shared(topic, "g")

    api.run(test)


def test_a_topic_that_is_gone_says_so(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            async with shared(client, topic) as records:
                await client.admin.delete_topic(topic)
                with pytest.raises(errors.TopicNotFound, match=topic):
                    await _fetch_for_ever(records)
            with pytest.raises(errors.TopicNotFound):
                await client.admin.explain(topic, 0, 0)

    api.run(test)


async def _fetch_for_ever(records: Any) -> None:
    for _ in range(100):
        await records.fetch(1, wait=0.2)


def test_options_of_ordered_groups_are_refused(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            for options in ({"partitions": [0]}, {"commit": "manual"}, {"group": None}):
                with pytest.raises(errors.BadRequest):
                    client.subscribe(topic, **{"group": "g", "mode": "shared", **options})

    api.run(test)


def test_the_renewing_thread_ends_with_its_client(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client, shared(client, topic):
            await _until_threads(api, 1)
        await _until_threads(api, 0)

    api.run(test)


async def _until_threads(api: Api, count: int) -> None:
    for _ in range(500):
        names = [thread.name for thread in threading.enumerate()]
        if names.count("penstock-leases") == count:
            return
        await api.sleep(0.01)
    raise AssertionError(f"{names.count('penstock-leases')} threads renew leases")


def test_records_may_be_settled_in_other_threads(address: str, topic: str) -> None:
    with sync.connect(address) as client:
        client.publish_many(topic, numbered(50))
        with shared(client, topic) as records:
            left = 50
            while left:
                found = records.fetch(50, wait=5.0)
                left -= len(found)
                threads = [threading.Thread(target=record.ack) for record in found]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            records.flush()
            assert records.in_flight == 0


def test_keyboard_interrupt_gives_a_record_back(address: str, topic: str) -> None:
    with sync.connect(address) as client:
        client.publish(topic, b"x")
        with shared(client, topic) as records:
            [record] = records.fetch(1, wait=5.0)
            with pytest.raises(KeyboardInterrupt), record:
                raise KeyboardInterrupt
            [again] = records.fetch(1, wait=5.0)
            assert again.attempt == 1
            again.ack()


def test_a_cancelled_handler_gives_its_record_back_at_once(
    async_api: Api, address: str, topic: str
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client, api.connect(address) as other:
            await client.publish(topic, b"x")
            async with shared(client, topic, max_in_flight=1) as records:

                async def handle() -> None:
                    async for record in records:
                        async with record:
                            await api.sleep(60.0)

                assert await api.cancelled_after(0.3, handle)
            async with shared(other, topic) as records:
                began = time.monotonic()
                [record] = await records.fetch(1, wait=5.0)
                assert time.monotonic() - began < 2.0
                assert (record.attempt, record.failed, record.timed_out) == (1, 0, 0)
                record.ack()
                await records.flush()

    async_api.run(test)


def test_many_handlers_at_once(async_api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        done: list[bytes] = []

        async def handle(record: Any) -> None:
            async with record:
                await api.sleep(0.002)
                done.append(record.value)

        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(200))
            async with shared(client, topic, max_in_flight=16) as records:
                while len(done) < 200:
                    found = await records.fetch(16, wait=5.0)
                    await api.together(*[_bind(handle, record) for record in found])
                await records.flush()
        assert sorted(done) == sorted(numbered(200))

    async_api.run(test)


def _bind(function: Any, *arguments: Any) -> Any:
    return lambda: function(*arguments)
