"""The fixtures serve plain, trio and asyncio tests alike."""

from __future__ import annotations

import asyncio

import pytest

import penstock
import penstock.sync

VALUES = [b"one", b"two"]


def test_plain_test_gets_a_blocking_client_and_a_topic_of_its_own(
    penstock_sync: penstock.sync.Client, penstock_topic: str
) -> None:
    penstock_sync.publish_many(penstock_topic, VALUES)
    with penstock_sync.subscribe(penstock_topic) as records:
        assert [record.value for record in records.fetch(wait=5.0)] == VALUES


async def publish_and_read(address: str, topic: str) -> None:
    async with penstock.connect(address) as client:
        await client.publish_many(topic, VALUES)
        async with client.subscribe(topic) as records:
            assert [record.value for record in await records.fetch(wait=5.0)] == VALUES


async def test_trio_test_opens_a_client_of_its_own(
    penstock_address: str, penstock_topic: str
) -> None:
    await publish_and_read(penstock_address, penstock_topic)


def test_asyncio_test_opens_a_client_of_its_own(penstock_address: str, penstock_topic: str) -> None:
    asyncio.run(publish_and_read(penstock_address, penstock_topic))


@pytest.mark.penstock(partitions=3, config={"cleanup": "compact"})
def test_marker_says_how_the_topic_is_created(
    penstock_sync: penstock.sync.Client, penstock_topic: str
) -> None:
    topic = penstock_sync.admin.describe_topic(penstock_topic).topic
    assert len(topic.partitions) == 3
    assert topic.config["cleanup"] == "compact"


@pytest.mark.parametrize("run", [1, 2])
def test_topic_is_fresh_in_each_test(
    run: int, penstock_sync: penstock.sync.Client, penstock_topic: str
) -> None:
    assert penstock_sync.publish(penstock_topic, b"first").offset == 0
