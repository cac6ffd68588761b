"""Publishing for later, and slot columns, through the core."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock._core.times import microseconds, ready_at_us
from penstock.errors import BadRequest, TopicNotFound
from penstock.protocol.extensions import EXT_DELIVER_AT
from penstock.protocol.messages import TYPE_OF
from penstock.protocol.partitioning import key_slot, partition_for_key
from penstock.protocol.record_batch import RecordBatch
from penstock.protocol.sharing import EnableDelays
from tests.client.fake_broker import FakeCluster
from tests.client.world import World

LATER = 1_700_000_600_000_000


def publish(there: World, value: bytes, moment: int = LATER, **more: object):
    """Start publishing one record for later."""
    fields = dict.fromkeys(("key", "headers", "partition", "dedup_id", "timestamp"))
    return there.start(
        there.core.delays.publish("t", value, **{**fields, **more}, deliver_at_us=moment)
    )


def batches(there: World, partition: int) -> list[RecordBatch]:
    log = there.cluster.partition("__delayed.t", partition)
    return [RecordBatch(batch) for batch in log.batches]


def test_a_delayed_record_lies_in_the_companion_with_its_time():
    there = World(FakeCluster(t=3)).connect()
    receipt = there.finish(publish(there, b"x", key="k", headers={"a": "b"}))
    number = partition_for_key(b"k", 3)
    assert (receipt.topic, receipt.partition, receipt.offset) == ("t", number, 0)
    assert receipt.scheduled
    [batch] = batches(there, number)
    assert int.from_bytes(batch.extensions[EXT_DELIVER_AT], "little") == LATER
    assert (batch.values, batch.keys, batch.headers) == ([b"x"], [b"k"], [{"a": b"b"}])
    assert there.cluster.partition("t", number).end == 0


def test_records_for_one_moment_share_a_batch():
    there = World(FakeCluster(t=1)).connect()
    there.finish(publish(there, b"first"))
    there.core.set_time(there.now, there.cluster.wall_us)
    fields = dict.fromkeys(("key", "headers", "partition", "dedup_id", "timestamp"))
    started = [
        there.core.start(
            there.core.delays.publish("t", b"%d" % n, **fields, deliver_at_us=LATER + n % 2 * 1000)
        )
        for n in range(10)
    ]
    receipts = [there.finish(each) for each in started]
    assert sorted(receipt.offset for receipt in receipts) == list(range(1, 11))
    assert sorted(len(batch) for batch in batches(there, 0)) == [1, 5, 5]


def test_the_companion_is_asked_for_once():
    there = World(FakeCluster(t=1)).connect()
    for number in range(5):
        there.finish(publish(there, b"%d" % number))
    assert there.cluster.seen[TYPE_OF[EnableDelays]] == 1


def test_many_records_wait_together():
    there = World(FakeCluster(t=2)).connect()
    values = [b"%d" % n for n in range(3000)]
    delays = there.core.delays
    receipts = there.run(delays.publish_many("t", values, None, None, None, None, LATER))
    assert receipts.scheduled
    assert {receipt.topic for receipt in receipts} == {"t"}
    stored = [
        value for number in range(2) for batch in batches(there, number) for value in batch.values
    ]
    assert sorted(stored) == sorted(values)


def test_a_delayed_record_with_a_dedup_id_is_stored_once():
    there = World(FakeCluster(t=1)).connect()
    first = there.finish(publish(there, b"x", dedup_id="id", partition=0))
    again = there.finish(publish(there, b"x", dedup_id="id", partition=0))
    assert (again.offset, again.duplicate, first.duplicate) == (first.offset, True, False)


def test_a_topic_that_is_not_there_is_told():
    there = World(FakeCluster(other=1)).connect()
    with pytest.raises(TopicNotFound):
        there.finish(publish(there, b"x"))


def test_moments_are_read_and_rounded_up():
    now = 1_700_000_000_000_001
    assert ready_at_us("1m", None, now) == 1_700_000_060_001_000
    assert ready_at_us(timedelta(seconds=1), None, now) == 1_700_000_001_001_000
    assert ready_at_us(None, datetime(2026, 1, 1, tzinfo=UTC), now) == 1_767_225_600_000_000
    assert microseconds(0.5) == 500_000


@pytest.mark.parametrize("delay", [-1, "soon", "", float("nan"), float("inf"), None, [], b"1s"])
def test_what_is_no_duration_is_refused(delay):
    with pytest.raises(BadRequest):
        microseconds(delay)


def test_a_delay_and_a_time_contradict_each_other():
    with pytest.raises(BadRequest):
        ready_at_us("1m", datetime.now(UTC), 0)
    with pytest.raises(BadRequest):
        ready_at_us(None, datetime(2026, 1, 1), 0)


@pytest.mark.parametrize(
    ("config", "keys", "tenants"),
    [
        ({}, None, None),
        ({"key_slots": "none", "tenant_separator": "none"}, None, None),
        ({"key_slots": "key"}, [key_slot(b"acme:7"), 0], None),
        ({"tenant_separator": ":"}, None, [key_slot(b"acme"), 0]),
        (
            {"key_slots": "key", "tenant_separator": ":"},
            [key_slot(b"acme:7"), 0],
            [key_slot(b"acme"), 0],
        ),
    ],
)
def test_slots_are_written_as_the_topic_says(config, keys, tenants):
    cluster = FakeCluster(t=1)
    cluster.configs["t"] = config
    there = World(cluster).connect()
    there.run(there.core.metadata.ensure("t"))
    there.publish(b"1", key="acme:7")
    there.publish(b"2")
    there.advance(0.1)
    [batch] = [RecordBatch(each) for each in cluster.partition("t").batches]
    assert (batch.key_slots and list(batch.key_slots)) == keys
    assert (batch.tenant_slots and list(batch.tenant_slots)) == tenants


def test_batches_without_any_key_have_slots_too():
    cluster = FakeCluster(t=1)
    cluster.configs["t"] = {"key_slots": "key"}
    there = World(cluster).connect()
    there.publish(b"1")
    there.advance(0.1)
    [batch] = [RecordBatch(each) for each in cluster.partition("t").batches]
    assert list(batch.key_slots) == [0]
