"""What every driver does alike, against a real broker over real sockets."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock import errors, sync
from tests.client.conformance.apis import Api
from tests.client.conformance.proxy import Proxy

PATIENCE_SECONDS = 60.0
"""When a loop that waits for records gives up: as long as a busy machine may need."""
PAUSES = (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003)
"""Before a fetch is cancelled: what it had found waits for the next one, so this gets on."""


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


async def read(subscription: Any, count: int) -> list[Any]:
    """The next `count` records of a loop."""
    found: list[Any] = []
    async for record in subscription:
        found.append(record)
        if len(found) == count:
            break
    return found


def test_publish_and_consume(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            moment = datetime(2026, 4, 1, tzinfo=UTC)
            receipt = await client.publish(
                topic, "täxt", key="k", headers={"source": "web"}, timestamp=moment
            )
            assert receipt.offset == 0
            assert not receipt.duplicate
            async with client.subscribe(topic) as subscription:
                [record] = await read(subscription, 1)
        assert record.value == "täxt".encode()
        assert (record.key, record.headers) == (b"k", {"source": b"web"})
        assert (record.topic, record.partition) == (topic, receipt.partition)
        assert record.timestamp == moment

    api.run(test)


def test_publish_from_many_tasks(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        places = []

        async def work(client: Any, number: int) -> None:
            for step in range(20):
                receipt = await client.publish(topic, b"%d-%d" % (number, step), key=b"%d" % number)
                places.append((receipt.partition, receipt.offset))

        async with api.connect(address) as client:
            await api.together(*[_bind(work, client, number) for number in range(16)])
            async with client.subscribe(topic) as subscription:
                records = await read(subscription, 320)
        assert len(set(places)) == 320
        for number in range(16):
            mine = [r.value for r in records if r.key == b"%d" % number]
            assert mine == [b"%d-%d" % (number, step) for step in range(20)]

    api.run(test)


def _bind(function: Any, *arguments: Any) -> Any:
    return lambda: function(*arguments)


def test_publish_many_and_batches(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        values = numbered(25_000)
        async with api.connect(address) as client:
            receipts = await client.publish_many(topic, values)
            assert len(receipts) == 25_000
            assert sum(each.count for each in receipts.ranges) == 25_000
            found = []
            async with client.subscribe(topic) as subscription:
                async for batch in subscription.batches():
                    found.extend(batch.values)
                    if len(found) == 25_000:
                        break
        assert sorted(found) == sorted(values)

    api.run(test)


def test_publish_nowait_then_flush(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            pending = [client.publish_nowait(topic, value, partition=0) for value in numbered(50)]
            await client.flush()
            offsets = [(await each).offset for each in pending]
        assert offsets == list(range(50))

    api.run(test)


def test_closing_sends_what_was_handed_over(
    api: Api, address: str, topic: str, helper: sync.Client
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            for value in numbered(50):
                client.publish_nowait(topic, value)

    api.run(test)
    with helper.subscribe(topic) as subscription:
        assert sorted(r.value for r in subscription.fetch(100)) == sorted(numbered(50))


def _publish_until_full(client: Any, topic: str) -> None:
    for _ in range(100):
        client.publish_nowait(topic, b"x" * 4000)


def test_a_full_buffer_refuses_or_waits(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address, buffer_bytes=64 * 1024) as client:
            with pytest.raises(errors.QueueFull):
                _publish_until_full(client, topic)
            for _ in range(5):
                await client.publish(topic, b"y" * 4000)
            await client.publish_many(topic, [b"z" * 1000] * 500)

    api.run(test)


def test_fetch_is_empty_when_there_is_nothing(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with (
            api.connect(address) as client,
            client.subscribe(topic, start="latest") as subscription,
        ):
            assert await subscription.fetch(wait=0.05) == []
            await client.publish(topic, b"x")
            assert [r.value for r in await subscription.fetch(wait=5.0)] == [b"x"]

    api.run(test)


def test_positions_seek_and_pause(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(100), partition=1)
            async with client.subscribe(topic, partitions=[1]) as subscription:
                assert len(await read(subscription, 30)) == 30
                assert subscription.position() == {topic: {1: 30}}
                assert subscription.lag() == {topic: {1: 70}}
                await subscription.seek(90)
                assert [r.offset for r in await read(subscription, 5)] == [90, 91, 92, 93, 94]
                subscription.pause()
                assert await subscription.fetch(wait=0.05) == []
                subscription.resume()
                assert [r.offset for r in await subscription.fetch()] == [95, 96, 97, 98, 99]
                await subscription.seek("earliest", partition=1)
                assert (await subscription.fetch(1))[0].offset == 0

    api.run(test)


def test_a_group_shares_and_hands_over(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        group = f"g-{topic}"
        options = {"group": group, "session_timeout": 1.0, "commit_interval": 0.2}
        async with api.connect(address) as one, api.connect(address) as two:
            await one.publish_many(topic, numbered(40), partition=0)
            await one.publish_many(topic, numbered(40, 40), partition=1)
            values = []
            async with one.subscribe(topic, **options) as first:
                values += [r.value for r in await first.fetch(10)]
                async with two.subscribe(topic, **options) as second:
                    for _ in range(200):
                        values += [r.value for r in await first.fetch(5, wait=0.02)]
                        values += [r.value for r in await second.fetch(5, wait=0.02)]
                        if len(values) == 80 and second.assignment():
                            break
                    assert len(first.assignment()[topic]) == 1
                    assert len(second.assignment()[topic]) == 1
            assert sorted(map(int, values)) == list(range(80))
            described = await one.admin.describe_group(group)
            assert [(p.partition, p.lag) for p in described.partitions] == [(0, 0), (1, 0)]

    api.run(test)


def test_a_group_is_moved_by_a_seek_and_commits_by_hand(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        group = f"g-{topic}"
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(20), partition=0)
            options = {"group": group, "commit": "manual", "session_timeout": 0.6}
            async with client.subscribe(topic, **options) as subscription:
                assert len(await read(subscription, 15)) == 15
                await subscription.commit()
                plan = await client.admin.seek_group(group, topic, positions={0: 3})
                assert plan.plan == {0: [15, 3]}
                for _ in range(100):
                    if subscription.position()[topic][0] == 3:
                        break
                    await api.sleep(0.02)
                assert [r.offset for r in await subscription.fetch(2, wait=5.0)] == [3, 4]

    api.run(test)


def test_broken_connections_are_survived(api: Api, proxy: Proxy, topic: str) -> None:
    async def test(api: Api) -> None:
        async with (
            api.connect(proxy.address) as client,
            client.subscribe(topic) as subscription,
        ):
            values = []
            for number in range(30):
                if number % 7 == 3:
                    proxy.cut()
                await client.publish(topic, b"%d" % number)
                if number % 5 == 0:
                    values += [r.value for r in await subscription.fetch(100, wait=0.02)]
            for _ in range(100):
                values += [r.value for r in await subscription.fetch(100, wait=0.1)]
                if len(values) >= 30:
                    break
        assert sorted(map(int, values)) == list(range(30))

    api.run(test)


def test_a_path_that_is_blocked_holds_up_and_loses_nothing(
    api: Api, proxy: Proxy, topic: str
) -> None:
    async def test(api: Api) -> None:
        value = random.randbytes(1000)
        async with api.connect(proxy.address, compression="none") as client:
            await client.publish(topic, b"first", partition=0)
            proxy.flowing.clear()
            threading.Timer(0.2, proxy.flowing.set).start()
            receipts = await client.publish_many(topic, [value] * 12_000, partition=1)
            assert (receipts[-1].offset, receipts[-1].duplicate) == (11_999, False)
            async with client.subscribe(topic, partitions=[1]) as subscription:
                proxy.flowing.clear()
                threading.Timer(0.1, proxy.flowing.set).start()
                count = 0
                async for batch in subscription.batches():
                    assert set(batch.values) == {value}
                    count += len(batch)
                    if count == 12_000:
                        break

    api.run(test)


def test_errors_name_themselves(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            with pytest.raises(errors.TopicNotFound):
                await client.publish("no-such-topic", b"x")
            with pytest.raises(errors.TopicNotFound):
                await client.publish_many("no-such-topic", [b"x"])
            with pytest.raises(errors.PartitionNotFound):
                await client.publish(topic, b"x", partition=99)
            with pytest.raises(errors.BadRequest):
                await client.publish(topic, 42)
            with pytest.raises(errors.RecordTooLarge):
                await client.publish(topic, random.randbytes(3_000_000), key="big")
            with pytest.raises(errors.TopicExists):
                await client.admin.create_topic(topic)
            with pytest.raises(errors.GroupNotFound):
                await client.admin.describe_group("no-such-group")

    api.run(test)


def test_nobody_listens(api: Api) -> None:
    async def test(api: Api) -> None:
        with pytest.raises(errors.ConnectionLost, match="no broker could be reached"):
            async with api.connect("127.0.0.1:1", request_timeout=0.3):
                raise AssertionError("there is nobody")

    api.run(test)


def test_a_closed_client_refuses(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish(topic, b"x")
        with pytest.raises(errors.ClientClosed):
            await client.publish(topic, b"y")
        with pytest.raises(errors.ClientClosed):
            await client.admin.list_topics()
        with pytest.raises(errors.ClientClosed):
            async with client:
                raise AssertionError("a client is entered once")

    api.run(test)


def test_an_error_in_the_block_leaves_as_it_is(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        with pytest.raises(ValueError, match="mine"):
            async with api.connect(address) as client, client.subscribe(topic):
                raise ValueError("mine")

    api.run(test)


def test_admin(api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async with api.connect(address) as client:
            await client.publish_many(topic, numbered(10), partition=0)
            assert topic in [each.name for each in await client.admin.list_topics()]
            described = await client.admin.describe_topic(topic)
            assert [p.high_watermark for p in described.partitions] == [10, 0]
            assert await client.admin.list_offsets(topic) == {0: 10, 1: 0}
            assert await client.admin.list_offsets(topic, {0: "earliest"}) == {0: 0}
            assert (await client.admin.trim(topic, 0, 4)).log_start_offset == 4
            altered = await client.admin.alter_topic(topic, {"retention_ms": 1000}, partitions=3)
            assert altered.topic.config["retention_ms"] == 1000
            assert (await client.publish(topic, b"x", partition=2)).partition == 2
            assert (await client.admin.status()).node > 0
            assert (await client.admin.metadata([topic])).topics[0].name == topic
            with pytest.raises(errors.BadRequest):
                await client.admin.metadata(topic)
            assert (await client.admin.delete_topic(topic)).partitions == 3
            assert topic not in [each.name for each in await client.admin.list_topics()]

    api.run(test)


# ----- async programs only


def test_cancelling_a_publish_leaves_everything_sound(
    async_api: Api, proxy: Proxy, topic: str
) -> None:
    async def test(api: Api) -> None:
        async with api.connect(proxy.address) as client:
            await client.publish(topic, b"first", partition=0)
            for _ in range(3):
                await api.cancelled_after(0.0, lambda: client.publish(topic, b"maybe", partition=0))
            receipt = await client.publish(topic, b"last", partition=0)
            async with client.subscribe(topic, partitions=[0]) as subscription:
                values = [r.value for r in await read(subscription, receipt.offset + 1)]
        assert values[0] == b"first"
        assert values[-1] == b"last"
        assert set(values[1:-1]) <= {b"maybe"}

    async_api.run(test)


def test_cancelling_a_loop_and_a_client(async_api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        async def forever() -> None:
            async with (
                api.connect(address) as client,
                client.subscribe(topic, group=f"g-{topic}") as subscription,
            ):
                async for _ in subscription:
                    raise AssertionError("there is nothing")

        assert await api.cancelled_after(0.1, forever)

    async_api.run(test)


def test_cancelled_fetches_lose_nothing(async_api: Api, address: str, topic: str) -> None:
    async def test(api: Api) -> None:
        values: list[bytes] = []
        async with (
            api.connect(address) as client,
            client.subscribe(topic, group=f"g-{topic}") as subscription,
        ):

            async def fetch() -> None:
                values.extend(r.value for r in await subscription.fetch(3, wait=5.0))

            async def publish() -> None:
                for number in range(100):
                    await client.publish(topic, b"%d" % number)

            async def consume() -> None:
                step = 0
                until = time.monotonic() + PATIENCE_SECONDS
                while len(values) < 100 and time.monotonic() < until:
                    await api.cancelled_after(PAUSES[step % len(PAUSES)], fetch)
                    step += 1

            await api.together(publish, consume)
        assert sorted(map(int, values)) == list(range(100))

    async_api.run(test)


def test_events_tell_of_reconnects(async_api: Api, proxy: Proxy, topic: str) -> None:
    async def test(api: Api) -> None:
        kinds: list[str] = []

        async with api.connect(proxy.address) as client:

            async def watch() -> None:
                async for event in client.events():
                    kinds.append(event.kind)
                    if kinds.count("connected") == 1:
                        return

            async def break_it() -> None:
                await api.sleep(0.05)
                proxy.cut()

            await api.together(watch, break_it)
        assert kinds == ["disconnected", "connected"]

    async_api.run(test)
