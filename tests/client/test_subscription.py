"""Consuming partitions in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._core.bulk import publish_many
from penstock._core.subscription import Subscription
from penstock.errors import (
    BadRequest,
    ClientClosed,
    CorruptBatch,
    CorruptData,
    InvalidName,
    NotLeader,
    OffsetOutOfRange,
    PartitionNotFound,
    Throttled,
    TopicNotFound,
)
from penstock.protocol.frames import FETCH
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def filled(count: int = 100, partitions: int = 1, **options: object) -> World:
    """A connected world whose topic holds `count` records in batches of ten."""
    world = World(FakeCluster(t=partitions), **options).connect()
    for at in range(0, count, 10):
        operation = publish_many(
            world.core.producer, "t", numbered(10, at), partition=at // 10 % partitions
        )
        world.run(operation)
    return world


def loop(subscription: Subscription, world: World, count: int) -> list[bytes]:
    """Take records one by one, as a `for` loop does."""
    found: list[bytes] = []
    while len(found) < count:
        for record in subscription.delivery.records:
            found.append(record.value)
            if len(found) == count:
                return found
        if not subscription.take():
            world.finish(subscription.arrival.wait())
    return found


def test_a_subscription_reads_everything_from_the_start() -> None:
    world = filled(100)
    assert world.fetch(world.subscribe(), 200) == numbered(100)


def test_a_loop_goes_on_with_what_is_published_later() -> None:
    world = filled(20)
    subscription = world.subscribe()
    assert loop(subscription, world, 20) == numbered(20)
    world.finish(world.publish(b"20"))
    assert loop(subscription, world, 1) == [b"20"]


def test_fetch_returns_nothing_when_there_is_nothing() -> None:
    world = filled(10)
    subscription = world.subscribe(start="latest")
    before = world.now
    assert world.fetch(subscription, wait=1.5) == []
    assert world.now - before == pytest.approx(1.5)


@pytest.mark.parametrize("kept", [0, 3])
def test_offsets_without_records_at_the_end_are_read_with_what_is_before_them(kept: int) -> None:
    world = filled(50)
    world.cluster.partition("t").empty(kept)
    subscription = world.subscribe()
    assert world.fetch(subscription) == numbered(kept * 10)
    assert world.fetch(subscription) == []
    assert subscription.position() == {"t": {0: 50}}
    assert subscription.lag() == {"t": {0: 0}}


@pytest.mark.parametrize("way", ["list", "loop", "batch", "nothing"])
def test_offsets_without_records_that_come_later_count_as_done_too(way: str) -> None:
    world = filled(10)
    subscription = world.subscribe(group="g", commit="manual")
    partition = world.cluster.partition("t")
    take_ten(world, subscription, way)
    world.cluster.polls.clear()  # so the next ten are not seen before they are gone
    world.finish(world.publish(b"10"))
    partition.empty(1 if way != "nothing" else 0)
    world.advance(30)
    assert subscription.lag() == {"t": {0: 0}}
    world.run(subscription.commit())
    assert world.cluster.groups.describe("g").positions["t"][0][0] == 11


def take_ten(world: World, subscription: Subscription, way: str) -> None:
    world.advance(0.1)
    if way == "list":
        assert len(world.fetch(subscription)) == 10
    elif way == "loop":
        assert len(loop(subscription, world, 10)) == 10
    elif way == "batch":
        assert len(subscription.take_batch() or ()) == 10
    else:
        world.run(subscription.seek("latest"))


def test_fetch_returns_as_soon_as_something_is_there() -> None:
    world = filled(10)
    subscription = world.subscribe(start="latest")
    process = world.start(subscription.fetch(10, 60.0))
    assert not process.done
    world.publish(b"now")
    world.settle()
    assert [record.value for record in process.result()] == [b"now"]


def test_fetch_takes_no_more_than_it_was_asked_for() -> None:
    world = filled(30)
    subscription = world.subscribe()
    assert [len(world.fetch(subscription, 7)) for _ in range(5)] == [7, 7, 7, 7, 2]


@pytest.mark.parametrize(
    ("start", "first"), [("earliest", 0), (0, 0), (37, 37), (99, 99), ("-1h", 0)]
)
def test_reading_begins_where_it_was_told(start: str | int, first: int) -> None:
    world = filled(100)
    assert world.fetch(world.subscribe(start=start), 1) == [b"%d" % first]


def test_reading_begins_at_a_time() -> None:
    world = filled(10)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert world.fetch(world.subscribe(start=moment), 1) == [b"0"]


def test_all_partitions_are_read_in_turns() -> None:
    world = filled(300, partitions=3)
    subscription = world.subscribe()
    first = world.run(subscription.fetch(30, 1.0))
    assert {record.partition for record in first} == {0, 1, 2}
    rest = world.run(subscription.fetch(300, 1.0))
    assert sorted(int(r.value) for r in first + rest) == list(range(300))


def test_only_the_named_partitions_are_read() -> None:
    world = filled(300, partitions=3)
    subscription = world.subscribe(partitions=[2])
    assert {r.partition for r in world.run(subscription.fetch(300, 1.0))} == {2}
    assert subscription.assignment() == {"t": [2]}


def test_batches_come_whole_and_after_the_rest_of_a_started_one() -> None:
    world = filled(30)
    subscription = world.subscribe()
    world.settle()
    assert loop(subscription, world, 3) == numbered(3)
    batch = subscription.take_batch()
    assert batch is not None
    assert (batch.values, list(batch.offsets)) == (numbered(7, 3), list(range(3, 10)))
    batch = subscription.take_batch()
    assert batch is not None
    assert batch.values == numbered(10, 10)
    assert subscription.position() == {"t": {0: 20}}


def test_a_new_partition_is_found_and_read_from_its_start() -> None:
    world = filled(10)
    subscription = world.subscribe(start="latest")
    world.cluster.topics["t"].partitions.extend(world.cluster.create("more", 1).partitions)
    world.advance(130.0)
    assert subscription.assignment() == {"t": [0, 1]}
    world.finish(world.publish(b"new", partition=1))
    assert world.fetch(subscription) == [b"new"]


def test_what_a_cancelled_fetch_had_found_is_handed_out_again() -> None:
    world = filled(40, partitions=2)
    subscription = world.subscribe()
    world.settle()
    first = world.run(subscription.fetch(5, 1.0))
    process = world.start(subscription.fetch(20, 1.0))
    assert len(process.result()) == 20
    subscription.fetch_cancelled()
    rest = world.run(subscription.fetch(100, 1.0)) + world.run(subscription.fetch(100, 1.0))
    places = [(record.partition, record.offset) for record in first + rest]
    assert sorted(places) == [(number, offset) for number in range(2) for offset in range(20)]
    subscription.fetch_cancelled()
    world.fetch(subscription)
    subscription.fetch_cancelled()


def test_fetches_that_are_cancelled_again_and_again_ask_the_broker_for_nothing_twice() -> None:
    world = filled(40, partitions=2)
    subscription = world.subscribe(group="g")
    world.settle()
    asked, position = world.cluster.seen[FETCH], subscription.position()
    for count in (1, 7, 30, 100) * 25:
        process = world.start(subscription.fetch(count, 1.0))
        assert len(process.result()) == min(count, 40)
        subscription.fetch_cancelled()
        assert subscription.position() == position
    assert world.cluster.seen[FETCH] == asked
    found = world.run(subscription.fetch(40, 1.0))
    assert sorted((r.partition, r.offset) for r in found) == [
        (number, offset) for number in range(2) for offset in range(20)
    ]
    world.run(subscription.close())
    assert world.cluster.seen[FETCH] <= asked + 2


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=40)
def test_what_arrives_is_each_record_once_whatever_is_cancelled(
    steps: list[tuple[int, bool]],
) -> None:
    world = filled(30)
    subscription = world.subscribe()
    world.settle()
    arrived: list[int] = []
    for count, cancelled in steps:
        process = world.start(subscription.fetch(count, 0.0))
        if cancelled:
            subscription.fetch_cancelled()
        else:
            arrived += [record.offset for record in process.result()]
        assert subscription.position() == {"t": {0: len(arrived)}}
    assert arrived == list(range(len(arrived)))
    rest = loop(subscription, world, 30 - len(arrived))
    assert rest == numbered(30 - len(arrived), len(arrived))


def test_a_partition_that_is_paused_or_sought_meanwhile_keeps_its_place() -> None:
    world = filled(30)
    subscription = world.subscribe()
    world.settle()
    world.start(subscription.fetch(5, 1.0))
    subscription.pause()
    subscription.fetch_cancelled()
    subscription.resume()
    assert world.fetch(subscription, 3) == numbered(3)
    world.start(subscription.fetch(5, 1.0))
    world.run(subscription.seek(20))
    subscription.fetch_cancelled()
    assert world.fetch(subscription) == numbered(10, 20)


# ----- positions


def test_the_position_follows_a_loop_record_by_record() -> None:
    world = filled(20)
    subscription = world.subscribe()
    assert subscription.position() == {"t": {0: 0}}
    loop(subscription, world, 7)
    assert subscription.position() == {"t": {0: 7}}
    assert subscription.lag() == {"t": {0: 13}}


@pytest.mark.parametrize(("to", "first"), [("earliest", 0), (42, 42), (3, 3)])
def test_a_seek_goes_on_elsewhere_at_once(to: str | int, first: int) -> None:
    world = filled(100)
    subscription = world.subscribe()
    loop(subscription, world, 15)
    world.run(subscription.seek(to))
    assert loop(subscription, world, 5) == numbered(5, first)


def test_a_seek_ends_the_fetch_that_waits_at_the_end() -> None:
    world = filled(10)
    subscription = world.subscribe(start="latest")
    world.advance(1.0)
    world.run(subscription.seek("earliest"))
    assert world.fetch(subscription) == numbered(10)
    world.run(subscription.seek("latest"))
    assert world.fetch(subscription) == []


def test_seeking_a_partition_that_is_not_read_is_refused() -> None:
    world = filled(10)
    with pytest.raises(PartitionNotFound):
        world.run(world.subscribe().seek(0, partition=7))


def test_a_paused_partition_keeps_its_place() -> None:
    world = filled(100, partitions=2)
    subscription = world.subscribe()
    world.settle()
    loop(subscription, world, 3)
    subscription.pause(partition=0)
    without = world.run(subscription.fetch(100, 1.0))
    assert {record.partition for record in without} == {1}
    subscription.resume(partition=0)
    rest = world.run(subscription.fetch(100, 1.0))
    assert [r.offset for r in rest if r.partition == 0] == list(range(3, 50))


# ----- faults


@given(
    cuts=st.lists(st.integers(0, 3000), max_size=5),
    chunk=st.integers(1, 400),
    partitions=st.integers(1, 3),
)
def test_any_cuts_and_pieces_leave_every_record_once_and_in_order(
    cuts: list[int], chunk: int, partitions: int
) -> None:
    world = filled(120, partitions)
    world.chunk = chunk
    subscription = world.subscribe()
    found: list[tuple[int, int, bytes]] = []
    for cut in cuts:
        world.cut_after = cut
        records = world.run(subscription.fetch(17, 0.5))
        found.extend((r.partition, r.offset, r.value) for r in records)
    for _ in range(40):
        records = world.run(subscription.fetch(1000, 2.0))
        found.extend((r.partition, r.offset, r.value) for r in records)
        if len(found) >= 120:
            break
    for number, partition in enumerate(world.cluster.topics["t"].partitions):
        mine = [(offset, value) for p, offset, value in found if p == number]
        assert mine == list(enumerate(partition.values()))


@pytest.mark.parametrize("error", [NotLeader(), Throttled()])
def test_a_passing_refusal_is_waited_out(error: Exception) -> None:
    world = filled(10)
    world.cluster.refusals.extend([(FETCH, error)] * 3)
    assert world.fetch(world.subscribe(), wait=20.0) == numbered(10)


def test_a_moved_leader_is_followed() -> None:
    world = World(FakeCluster(nodes=2, t=1)).connect()
    world.finish(world.publish(b"a"))
    subscription = world.subscribe()
    assert world.fetch(subscription) == [b"a"]
    world.cluster.partition("t").leader = 2
    world.cut_all()
    world.finish(world.publish(b"b"))
    assert world.fetch(subscription, wait=20.0) == [b"b"]


@pytest.mark.parametrize(("policy", "first"), [("earliest", 50), ("latest", 100)])
def test_deleted_records_are_passed_as_the_policy_says(policy: str, first: int) -> None:
    world = filled(100)
    world.cluster.partition("t").start = 50
    subscription = world.subscribe(start=20, on_out_of_range=policy)
    world.settle()
    world.finish(world.publish(b"100"))
    assert world.fetch(subscription, 1) == [b"%d" % first]
    assert world.events("offset_reset")[0]["offset"] == 20


def test_deleted_records_are_an_error_if_the_policy_says_so() -> None:
    world = filled(100)
    world.cluster.partition("t").start = 50
    subscription = world.subscribe(start=20, on_out_of_range="error")
    with pytest.raises(OffsetOutOfRange):
        world.fetch(subscription)
    with pytest.raises(OffsetOutOfRange):
        world.fetch(subscription)
    world.run(subscription.seek(60))
    assert world.fetch(subscription, 1) == [b"60"]


def test_damaged_records_are_reported_after_the_good_ones_and_never_passed() -> None:
    world = filled(30)
    world.cluster.partition("t").batches[1][-1] ^= 1
    subscription = world.subscribe()
    assert world.fetch(subscription) == numbered(10)
    for _ in range(2):
        with pytest.raises(CorruptBatch):
            world.fetch(subscription)
    world.run(subscription.seek(20))
    assert world.fetch(subscription) == numbered(10, 20)


def test_a_broker_that_answers_with_old_records_is_not_believed() -> None:
    world = filled(20)
    world.cluster.partition("t").end = 30
    world.cluster.answers_everything = True
    with pytest.raises(CorruptData):
        world.fetch(world.subscribe(start=25))


def test_a_broker_that_answers_with_nothing_is_not_asked_without_pause() -> None:
    world = filled(20)
    world.cluster.partition("t").end = 30
    world.subscribe(start=20)
    before = world.cluster.seen[FETCH]
    world.advance(10.0)
    assert world.cluster.seen[FETCH] - before < 40


def test_a_deleted_topic_ends_the_subscription_with_an_error() -> None:
    world = filled(10)
    subscription = world.subscribe()
    assert len(world.fetch(subscription)) == 10
    del world.cluster.topics["t"]
    world.cut_all()
    with pytest.raises(TopicNotFound):
        world.fetch(subscription, wait=30.0)


# ----- bounds and ends


def test_what_is_fetched_ahead_is_bounded() -> None:
    world = World(FakeCluster(t=2), compression="none").connect()
    for number in range(2):
        operation = publish_many(world.core.producer, "t", [b"x" * 1000] * 1000, partition=number)
        world.run(operation)
    subscription = world.subscribe(max_bytes=256 * 1024)
    world.advance(10.0)
    kept = [reader.kept_bytes for reader in subscription.readers.values()]
    assert all(0 < size <= 256 * 1024 for size in kept)
    assert len(loop(subscription, world, 2000)) == 2000


def test_a_closed_subscription_hands_out_nothing() -> None:
    world = filled(10)
    subscription = world.subscribe()
    world.run(subscription.close())
    assert subscription.ended
    with pytest.raises(ClientClosed):
        subscription.take()


def test_closing_the_client_ends_a_waiting_fetch() -> None:
    world = filled(10)
    subscription = world.subscribe(start="latest")
    process = world.start(subscription.fetch(10, 60.0))
    world.run(world.core.close(1.0))
    with pytest.raises(ClientClosed):
        process.result()


@pytest.mark.parametrize(
    ("topics", "options", "error"),
    [
        ([], {}, BadRequest),
        (["a b"], {}, InvalidName),
        (["t"], {"mode": "shared"}, BadRequest),
        (["t"], {"group": "g", "partitions": [0]}, BadRequest),
        (["t"], {"partitions": []}, BadRequest),
        (["t"], {"start": "yesterday"}, BadRequest),
        (["t"], {"start": -5}, BadRequest),
        (["t"], {"commit": "never"}, BadRequest),
        (["t"], {"max_bytes": 1}, BadRequest),
        (["t"], {"on_out_of_range": "guess"}, BadRequest),
    ],
)
def test_a_subscription_that_can_not_be_is_refused(
    topics: list[str], options: dict, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Subscription(World().core, topics, **options)


def test_subscribing_to_what_does_not_exist_fails() -> None:
    world = World().connect()
    with pytest.raises(TopicNotFound):
        world.run(Subscription(world.core, ["nowhere"]).open())
    with pytest.raises(PartitionNotFound):
        world.run(Subscription(world.core, ["t"], partitions=[5]).open())
    with pytest.raises(BadRequest, match="group"):
        world.run(world.subscribe().commit())


def test_a_subscription_that_was_not_entered_refuses() -> None:
    world = filled(10)
    subscription = Subscription(world.core, ["t"])
    with pytest.raises(ClientClosed, match="not open"):
        world.run(subscription.fetch(1, 1.0))
    with pytest.raises(ClientClosed, match="not open"):
        subscription.take_batch()


def test_a_subscription_is_entered_once() -> None:
    world = filled(10)
    subscription = world.subscribe()
    with pytest.raises(ClientClosed, match="once"):
        world.run(subscription.open())
    assert world.fetch(subscription) == numbered(10)
