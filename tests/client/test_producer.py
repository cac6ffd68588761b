"""Publishing, in virtual time, against a broker that checks every sequence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import (
    BadRequest,
    ClientClosed,
    ConnectionLost,
    LeaderUnknown,
    NotLeader,
    PartitionNotFound,
    RecordTooLarge,
    StorageFull,
    Throttled,
    TimedOut,
    TopicNotFound,
    UnknownProducer,
)
from penstock.protocol.frames import PUBLISH
from penstock.protocol.messages import TYPE_OF, Metadata
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_a_published_record_is_stored_and_its_place_is_told() -> None:
    world = World().connect()
    batch = world.publish(b"hello", key=b"k", headers={"source": "web"})
    world.finish(batch)
    receipt = batch.receipt(0)
    assert (receipt.topic, receipt.partition, receipt.offset) == ("t", 0, 0)
    assert receipt.timestamp_us == world.cluster.wall_us
    assert world.cluster.values("t") == [b"hello"]


def test_records_published_at_once_share_batches() -> None:
    world = World().connect()
    batches = [world.publish(value) for value in numbered(500)]
    for batch in batches:
        world.finish(batch)
    assert world.cluster.values("t") == numbered(500)
    assert world.cluster.seen[PUBLISH] == 1


def test_records_pile_up_while_two_small_batches_are_in_flight() -> None:
    world = World(FakeCluster(t=3)).connect()
    world.finish(world.publish(b"warm"))
    world.stalled = True
    before = world.cluster.seen[PUBLISH]
    for value in numbered(50):
        world.publish(value)
        world.settle()
    assert world.cluster.seen[PUBLISH] == before + 2
    world.stalled = False
    world.settle()
    assert sorted(world.cluster.values("t")) == sorted([b"warm", *numbered(50)])


def test_keyed_records_keep_their_order_and_their_partition() -> None:
    world = World(FakeCluster(t=4)).connect()
    for value in numbered(200):
        world.publish(value, key=b"key-%d" % (int(value) % 7))
        world.settle()
    for partition in world.cluster.topics["t"].partitions:
        for key in range(7):
            mine = [int(v) for v in partition.values() if int(v) % 7 == key]
            assert mine == sorted(mine)
            assert len(mine) in (0, len([v for v in range(200) if v % 7 == key]))


def test_full_batches_leave_before_the_open_one() -> None:
    world = World(FakeCluster(t=3), batch_bytes=2000, batch_records=7).connect()
    world.finish(world.publish(b"warm", partition=0))
    world.stalled = True
    for value in numbered(300):
        world.publish(value, partition=1)
        world.publish(value)
    world.stalled = False
    world.settle()
    assert sorted(world.cluster.values("t")) == sorted([b"warm", *numbered(300), *numbered(300)])


def test_a_batch_that_can_not_be_encoded_fails_alone() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    bad = world.publish(b"x")
    bad.values[0] = 7  # type: ignore[call-overload] # as if a check had been forgotten
    with pytest.raises(BadRequest):
        world.finish(bad)
    world.finish(world.publish(b"last"))
    assert world.cluster.values("t") == [b"first", b"last"]


def test_a_topic_that_is_never_found_times_out_as_not_stored() -> None:
    world = World(delivery_timeout=3.0, request_timeout=1.0).connect()
    world.cluster.deaf.add(TYPE_OF[Metadata])
    for batch in (world.publish(b"a"), world.publish(b"b", key=b"k")):
        with pytest.raises(TimedOut) as caught:
            world.finish(batch, limit=5.0)
        assert caught.value.detail["outcome"] == "not stored"
    world.cluster.deaf.clear()
    world.finish(world.publish(b"c"), limit=10.0)
    assert world.cluster.values("t") == [b"c"]


def test_records_without_a_key_reach_every_partition() -> None:
    world = World(FakeCluster(t=4)).connect()
    for value in numbered(40):
        world.finish(world.publish(value))
    assert [len(part.values()) for part in world.cluster.topics["t"].partitions] == [10] * 4


def test_publishing_before_the_topic_is_known_keeps_the_order() -> None:
    world = World().connect()
    for value in numbered(10):
        world.publish(value, key=b"k" if int(value) % 2 else None)
    world.settle()
    assert world.cluster.values("t") == numbered(10)


def test_publishing_to_an_unknown_topic_fails() -> None:
    world = World().connect()
    batch = world.publish(b"x", topic="nowhere")
    with pytest.raises(TopicNotFound, match="nowhere"):
        world.finish(batch)
    world.cluster.create("nowhere", 1)
    world.finish(world.publish(b"x", topic="nowhere"))


def test_publishing_to_a_partition_that_does_not_exist_fails() -> None:
    world = World().connect()
    with pytest.raises(PartitionNotFound):
        world.finish(world.publish(b"x", partition=9))
    with pytest.raises(PartitionNotFound):
        world.finish(world.publish(b"x", partition=9))
    with pytest.raises(PartitionNotFound):
        world.publish(b"x", partition=-1)


def test_a_partition_that_was_added_meanwhile_is_found() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.topics["t"].partitions.extend(world.cluster.create("more", 1).partitions)
    world.finish(world.publish(b"x", partition=1))
    assert world.cluster.partition("t", 1).values() == [b"x"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"value": 7}, BadRequest),
        ({"value": b"", "key": b"k" * 5000}, RecordTooLarge),
        ({"value": b"", "headers": {"a": 7}}, BadRequest),
        ({"value": b"", "headers": [("a", b"b")]}, BadRequest),
        ({"value": b"", "headers": {"a": b"x" * 20_000}}, RecordTooLarge),
        ({"value": b"", "dedup_id": b"d" * 65}, BadRequest),
        ({"value": b"", "timestamp": datetime(2026, 1, 1)}, BadRequest),
    ],
)
def test_a_record_that_can_not_be_is_refused_alone(arguments: dict, error: type[Exception]) -> None:
    world = World().connect()
    good = world.publish(b"good")
    with pytest.raises(error):
        world.publish(**arguments)
    world.finish(good)
    assert world.cluster.values("t") == [b"good"]


def test_timestamps_are_kept_and_do_not_mix_with_records_without() -> None:
    world = World().connect()
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    world.publish(b"a")
    world.publish(b"b", timestamp=moment)
    world.publish(b"c")
    subscription = world.subscribe()
    records = world.run(subscription.fetch(10, 1.0)) + world.run(subscription.fetch(10, 1.0))
    assert [each.value for each in records] == [b"a", b"b", b"c"]
    assert [each.timestamp == moment for each in records] == [False, True, False]


def test_a_dedup_id_is_stored_once() -> None:
    world = World().connect()
    first = world.publish(b"a", dedup_id="order-1")
    world.finish(first)
    again = world.publish(b"a", dedup_id="order-1")
    world.finish(again)
    assert not first.receipt(0).duplicate
    assert again.receipt(0).duplicate
    assert again.receipt(0).offset == 0
    assert world.cluster.values("t") == [b"a"]


# ----- faults


@pytest.mark.parametrize("cut", range(0, 101, 4))
def test_a_cut_at_any_byte_of_the_replies_neither_loses_nor_repeats(cut: int) -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cut_after = cut
    for value in numbered(30):
        world.publish(value)
        world.settle()
    world.advance(10.0)
    assert world.cluster.values("t") == [b"first", *numbered(30)]
    assert world.cuts == (1 if world.cut_after is None else 0)


@given(
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200)), max_size=6),
    partitions=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_cuts_leave_every_record_once_and_in_order(
    cuts: list[tuple[int, int]], partitions: int, seed: int
) -> None:
    world = World(FakeCluster(t=partitions), seed=seed).connect()
    places = dict(cuts)
    batches = []
    for number, value in enumerate(numbered(40)):
        if number in places:
            world.cut_after = places[number]
        batches.append(world.publish(value, partition=number % partitions))
        if number % 3 == 0:
            world.settle()
    for batch in batches:
        world.finish(batch)
    for number, partition in enumerate(world.cluster.topics["t"].partitions):
        expected = [value for value in numbered(40) if int(value) % partitions == number]
        assert partition.values() == expected


@pytest.mark.parametrize(
    "error", [NotLeader(), LeaderUnknown(), Throttled(), StorageFull(), TimedOut()]
)
def test_a_passing_refusal_is_waited_out_without_a_gap(error: Exception) -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.refusals.extend([(PUBLISH, error)] * 3)
    batches = []
    for value in numbered(5):
        batches.append(world.publish(value))
        world.settle()
    for batch in batches:
        world.finish(batch)
    assert world.cluster.values("t") == [b"first", *numbered(5)]
    assert not world.events("producer_reset")


def test_a_refused_batch_fails_alone_and_the_rest_goes_on() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.stalled = True
    world.cluster.refusals.append((PUBLISH, RecordTooLarge("no")))
    bad = world.publish(b"bad")
    world.settle()
    good = world.publish(b"good")
    world.settle()
    world.stalled = False
    with pytest.raises(RecordTooLarge):
        world.finish(bad)
    world.finish(good)
    assert world.cluster.values("t") == [b"first", b"good"]


def test_a_forgotten_producer_begins_a_new_epoch_if_nothing_can_be_stored_twice() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.partition("t").producers = type(world.cluster.partition("t").producers)()
    world.finish(world.publish(b"second"))
    assert world.cluster.values("t") == [b"first", b"second"]
    assert len(world.events("producer_reset")) == 1


def test_a_forgotten_producer_is_reported_if_the_record_may_be_stored_already() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.silent.add(PUBLISH)
    batch = world.publish(b"second")
    world.settle()
    world.cluster.silent.clear()
    world.cluster.partition("t").producers = type(world.cluster.partition("t").producers)()
    world.cut_all()
    with pytest.raises(UnknownProducer):
        world.finish(batch)
    world.finish(world.publish(b"third"))
    assert world.cluster.values("t") == [b"first", b"second", b"third"]


def test_a_moved_leader_is_followed() -> None:
    world = World(FakeCluster(nodes=3, t=3)).connect()
    for number in range(3):
        world.finish(world.publish(b"a", partition=number))
    for partition in world.cluster.topics["t"].partitions:
        partition.leader = partition.leader % 3 + 1
    for number in range(3):
        world.finish(world.publish(b"b", partition=number))
    assert [part.values() for part in world.cluster.topics["t"].partitions] == [[b"a", b"b"]] * 3


def test_a_dead_leader_is_waited_for_until_another_one_is_elected() -> None:
    world = World(FakeCluster(nodes=2, t=2), servers="node1:7400,node2:7400").connect()
    world.finish(world.publish(b"a", partition=1))
    world.refusing.add("node2:7400")
    world.cut_all()
    batch = world.publish(b"b", partition=1)
    world.advance(3.0)
    assert not batch.done
    world.cluster.partition("t", 1).leader = 1
    world.finish(batch)
    assert world.cluster.partition("t", 1).values() == [b"a", b"b"]


def test_a_topic_made_anew_takes_what_was_not_acknowledged() -> None:
    world = World().connect()
    world.finish(world.publish(b"old"))
    world.cluster.create("t", 2)
    world.finish(world.publish(b"new"))
    assert world.cluster.values("t") == [b"new"]


def test_a_deleted_topic_fails_what_waits_for_it() -> None:
    world = World().connect()
    world.finish(world.publish(b"old"))
    del world.cluster.topics["t"]
    with pytest.raises(TopicNotFound):
        world.finish(world.publish(b"new"))


# ----- time


def test_a_record_that_was_never_sent_times_out_as_not_stored() -> None:
    world = World(delivery_timeout=5.0).connect()
    world.finish(world.publish(b"first"))
    world.refusing.add("node1:7400")
    world.cut_all()
    batch = world.publish(b"x")
    with pytest.raises(TimedOut) as caught:
        world.finish(batch, limit=6.0)
    assert caught.value.detail["outcome"] == "not stored"
    assert world.core.producer.buffered_bytes == 0


def test_an_unanswered_record_times_out_with_an_unknown_outcome_and_a_new_epoch() -> None:
    world = World(delivery_timeout=5.0, request_timeout=2.0).connect()
    world.finish(world.publish(b"first"))
    world.cluster.silent.add(PUBLISH)
    batch = world.publish(b"lost?")
    with pytest.raises(TimedOut) as caught:
        world.finish(batch, limit=6.0)
    assert caught.value.detail["outcome"] == "unknown"
    assert len(world.events("producer_reset")) == 1
    world.cluster.silent.clear()
    world.finish(world.publish(b"next"))
    assert world.cluster.values("t") == [b"first", b"lost?", b"next"]


def test_a_late_broker_still_gets_older_records_before_younger_ones() -> None:
    world = World(delivery_timeout=5.0).connect()
    world.finish(world.publish(b"first"))
    world.cluster.deaf.add(PUBLISH)
    old = world.publish(b"old")
    world.advance(4.0)
    young = world.publish(b"young")
    world.advance(2.0)
    assert isinstance(old.error, TimedOut)
    assert not young.done
    world.cluster.deaf.clear()
    world.cut_all()
    world.finish(young)
    assert world.cluster.values("t") == [b"first", b"old", b"young"]


def test_the_delivery_time_runs_from_the_publish_however_long_the_client_was_idle() -> None:
    world = World(delivery_timeout=5.0).connect()
    world.finish(world.publish(b"first"))
    world.now += 3600.0
    batch = world.publish(b"second")
    world.finish(batch)
    assert world.cluster.values("t") == [b"first", b"second"]


def test_a_silent_connection_is_replaced() -> None:
    world = World(request_timeout=2.0).connect()
    world.finish(world.publish(b"first"))
    world.cluster.deaf.add(PUBLISH)
    batch = world.publish(b"second")
    world.advance(2.1)
    world.cluster.deaf.clear()
    world.finish(batch)
    assert world.cluster.values("t") == [b"first", b"second"]
    assert world.events("disconnected")


# ----- bounds


def test_accepted_bytes_are_bounded_and_room_is_told() -> None:
    world = World(buffer_bytes=64 * 1024).connect()
    world.finish(world.publish(b"first"))
    world.stalled = True
    accepted = 0
    while not world.core.producer.full:
        world.publish(b"x" * 1000)
        accepted += 1
    assert accepted == 66
    room = world.core.producer.room.wait()
    world.stalled = False
    world.finish(room)
    assert len(world.cluster.values("t")) == 67


def test_credit_is_kept_to() -> None:
    cluster = FakeCluster(t=1)
    cluster.credit = 64 * 1024
    world = World(cluster, batch_bytes=16 * 1024, compression="none").connect()
    world.finish(world.publish(b"first"))
    world.stalled = True
    for _ in range(200):
        world.publish(b"x" * 1000)
        world.settle()
        wire = next(iter(world.links))
        assert wire.unanswered <= 64 * 1024
    world.stalled = False
    world.settle()
    assert len(cluster.values("t")) == 201


def test_without_acks_a_record_counts_as_done_when_it_is_sent() -> None:
    world = World(acks="none").connect()
    batch = world.publish(b"x")
    world.finish(batch)
    assert batch.receipt(0).offset == -1
    assert world.cluster.values("t") == [b"x"]


def test_without_idempotence_a_resend_may_repeat_but_not_lose() -> None:
    world = World(idempotent=False).connect()
    world.finish(world.publish(b"first"))
    world.cut_after = 10
    world.finish(world.publish(b"second"))
    assert world.cluster.values("t") == [b"first", b"second", b"second"]


# ----- the end


def test_flush_waits_for_everything_accepted() -> None:
    world = World().connect()
    for value in numbered(100):
        world.publish(value)
    world.run(world.core.producer.flush())
    assert world.cluster.values("t") == numbered(100)
    assert world.core.producer.buffered_bytes == 0


def test_closing_flushes_and_then_refuses() -> None:
    world = World().connect()
    batch = world.publish(b"x")
    world.run(world.core.close(5.0))
    assert batch.receipt(0).offset == 0
    with pytest.raises(ClientClosed):
        world.publish(b"y")


def test_closing_gives_up_after_its_time() -> None:
    world = World().connect()
    world.finish(world.publish(b"first"))
    world.cluster.deaf.add(PUBLISH)
    batch = world.publish(b"x")
    started = world.now
    world.run(world.core.close(5.0))
    assert world.now - started < 5.1
    with pytest.raises(ClientClosed):
        batch.result()


def test_connecting_to_nothing_says_where_and_why() -> None:
    world = World(request_timeout=3.0)
    world.refusing.add("node1:7400")
    with pytest.raises(ConnectionLost, match=r"node1:7400 \(node1:7400 refuses\)"):
        world.connect()
