"""Publishing many records at once, in virtual time."""

from __future__ import annotations

import pytest

from penstock._core.bulk import publish_many
from penstock.errors import BadRequest, RecordTooLarge
from penstock.protocol.frames import PUBLISH
from tests.client.fake_broker import FakeCluster
from tests.client.test_producer import numbered
from tests.client.world import World


def test_many_records_are_stored_in_order_and_their_places_told() -> None:
    world = World().connect()
    receipts = world.run(publish_many(world.core.producer, "t", numbered(5000)))
    assert world.cluster.values("t") == numbered(5000)
    assert len(receipts) == 5000
    assert [receipts[at].offset for at in (0, 999, 1000, 4999, -1)] == [0, 999, 1000, 4999, 4999]
    assert [(each.base_offset, each.count) for each in receipts.ranges] == [
        (at, 1000) for at in range(0, 5000, 1000)
    ]
    assert not receipts.errors
    assert [each.offset for each in receipts[10:12]] == [10, 11]


def test_many_records_with_keys_are_told_their_own_places() -> None:
    world = World(FakeCluster(t=5)).connect()
    values = numbered(3000)
    keys = [b"k%d" % (number % 50) for number in range(3000)]
    receipts = world.run(publish_many(world.core.producer, "t", values, keys=keys))
    stored = [part.values() for part in world.cluster.topics["t"].partitions]
    for receipt, value in zip(receipts, values, strict=True):
        assert stored[receipt.partition][receipt.offset] == value
    assert len({each.partition for each in receipts}) == 5


def test_large_values_are_cut_into_batches_by_size() -> None:
    world = World(batch_bytes=32 * 1024, compression="none").connect()
    values = [b"x" * 10_000] * 10 + [b"y" * 100_000] + [b"z"] * 10
    world.run(publish_many(world.core.producer, "t", values))
    assert world.cluster.values("t") == values


def test_many_records_need_no_more_than_the_buffer() -> None:
    world = World(buffer_bytes=64 * 1024).connect()
    world.stalled = True
    process = world.start(publish_many(world.core.producer, "t", [b"x" * 100] * 10_000))
    world.stalled = False
    assert world.core.producer.buffered_bytes < 256 * 1024
    assert len(world.finish(process)) == 10_000


def test_a_partial_failure_of_many_names_the_records_that_failed() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.refusals.append((PUBLISH, RecordTooLarge("no")))
    with pytest.raises(RecordTooLarge) as caught:
        world.run(publish_many(world.core.producer, "t", numbered(3000)))
    receipts = caught.value.detail["receipts"]
    assert sorted(receipts.errors) == list(range(1000))
    assert world.cluster.values("t") == [b"first", *numbered(3000)[1000:]]


def test_a_wrong_value_among_many_fails_and_tells_what_was_stored() -> None:
    world = World().connect()
    with pytest.raises(BadRequest) as caught:
        world.run(publish_many(world.core.producer, "t", [*numbered(1500), 7, *numbered(10)]))
    assert len(caught.value.detail["receipts"]) == 1000
    assert world.cluster.values("t") == numbered(1000)


def test_columns_of_different_lengths_are_refused() -> None:
    world = World().connect()
    with pytest.raises(BadRequest):
        world.run(publish_many(world.core.producer, "t", numbered(3), keys=[b"k"]))


@pytest.mark.parametrize("values", ["one text", b"some bytes", memoryview(b"x")])
def test_one_value_is_not_taken_for_many(values: object) -> None:
    world = World().connect()
    with pytest.raises(BadRequest, match="publish takes one"):
        world.run(publish_many(world.core.producer, "t", values))
