"""Shared subscriptions in virtual time: credits, verdicts, lost leases, moved leaders, leaving."""

import math

import pytest

from penstock._core.sharing.shared_record import SharedBatch, SharedRecord
from penstock._core.sharing.shared_subscription import SharedSubscription
from penstock.errors import (
    BadRequest,
    ClientClosed,
    LeaseLost,
    NotLeader,
    StorageFull,
)
from penstock.protocol.leases import ACK, ACQUIRE, NACK, RELEASE, SETTLE
from penstock.protocol.messages import TYPE_OF
from penstock.protocol.sharing import AttachGroup
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def world(partitions: int = 1, records: int = 10, **options: object) -> World:
    """A connected world whose topic `t` has records in one batch each of ten."""
    made = World(FakeCluster(t=partitions, **options)).connect()
    for first in range(0, records, 10):
        for number in range(first, min(first + 10, records)):
            made.publish(b"%d" % number)
        made.advance(0.01)
    return made


def states(world: World, partition: int = 0, topic: str = "t") -> list[str]:
    group = world.cluster.shared[(topic, "g", partition)]
    return [group.state(offset) for offset in range(group.partition.end)]


def test_records_are_acquired_and_acked_in_one_run():
    there = world()
    shared = there.share()
    records = there.take(shared)
    assert [record.value for record in records] == [b"%d" % n for n in range(10)]
    assert [(r.offset, r.attempt, r.delivered) for r in records[:2]] == [(0, 1, 1), (1, 1, 1)]
    for record in records:
        record.ack()
    there.run(shared.flush())
    assert states(there) == ["done"] * 10
    assert there.cluster.settled_entries == [1]
    assert shared.credits.held == 0


def test_acks_out_of_order_are_sent_as_few_runs():
    there = world()
    shared = there.share()
    records = there.take(shared)
    for position in (7, 3, 5, 4, 6, 9, 0, 1):
        records[position].ack()
    there.run(shared.flush())
    assert there.cluster.settled_entries == [3]
    assert states(there) == [*["done"] * 2, "leased", *["done"] * 5, "leased", "done"]


def test_no_more_than_max_in_flight_are_with_a_member():
    there = world(records=100)
    shared = there.share(max_in_flight=7)
    seen = []
    for _ in range(40):
        records = there.take(shared, 3)
        assert states(there).count("leased") <= 7
        seen += records
        for record in records:
            record.ack()
    assert sorted(r.offset for r in seen) == list(range(100))


def test_each_verb_reaches_the_broker():
    there = world()
    shared = there.share()
    records = there.take(shared)
    records[0].nack(reason="Busy", error="later")
    records[1].nack(delay=60.0)
    records[2].reject("bad")
    records[3].release()
    there.run(shared.flush())
    group = there.cluster.shared[("t", "g", 0)]
    assert group.reasons == [(0, "Busy", "later"), (1, "", ""), (2, "bad", "")]
    assert (group.state(1), group.state(2)) == ("delayed", "held")
    assert 0 <= group.ready_us[1] - 1_700_000_060_000_000 <= 100_000
    again = there.take(shared)
    assert [(r.offset, r.attempt, r.delivered) for r in again] == [(0, 2, 2), (3, 1, 1)]


def test_the_first_verdict_on_a_record_counts():
    there = world(records=1)
    shared = there.share()
    [record] = there.take(shared)
    record.ack()
    record.nack()
    record.reject()
    record.release()
    record.ack()
    there.run(shared.flush())
    assert there.cluster.shared[("t", "g", 0)].verdicts == [(0, ACK)]
    assert record.settled


def test_texts_of_a_verdict_are_cut_to_what_a_frame_takes():
    there = world(records=1)
    shared = there.share()
    [record] = there.take(shared)
    record.nack(reason="r" * 500, error="e" * 5000 + "the end")
    there.run(shared.flush())
    [(_, reason, error)] = there.cluster.shared[("t", "g", 0)].reasons
    assert (len(reason), len(error)) == (200, 2000)
    assert error.endswith("the end")


def test_a_delay_that_is_none_leaves_the_record_unsettled():
    there = world(records=1)
    shared = there.share()
    [record] = there.take(shared)
    with pytest.raises(BadRequest):
        record.nack(delay=-1.0)
    with pytest.raises(BadRequest):
        record.nack(delay="soon")
    assert not record.settled


def test_all_partitions_are_read_in_turn_and_a_busy_one_gets_most_of_the_credit():
    there = world(partitions=4, records=0)
    shared = there.share(max_in_flight=40)
    for number in range(200):
        there.publish(b"%d" % number, partition=2)
    there.publish(b"other", partition=1)
    there.advance(1.0)
    assert shared.credits.held >= 30
    assert there.cluster.shared[("t", "g", 1)].state(0) == "leased"


def test_fewer_credits_than_partitions_still_reach_all():
    there = world(partitions=8, records=0)
    shared = there.share(max_in_flight=2)
    for number in range(8):
        there.publish(b"%d" % number, partition=number)
    seen = set()
    for _ in range(8):
        [record] = there.take(shared, 1, 5.0)
        record.ack()
        seen.add(record.partition)
    assert seen == set(range(8))


def test_one_record_at_a_time_is_not_held_up_by_partitions_without_any():
    there = world()
    shared = there.share(max_in_flight=1)
    began = there.now
    for _ in range(10):
        [record] = there.take(shared)
        record.ack()
    assert there.now - began < 1.0


def test_one_busy_partition_among_many_is_not_held_up_by_the_quiet_ones():
    there = world(partitions=8, records=0)
    shared = there.share(max_in_flight=2)
    for number in range(100):
        there.publish(b"%d" % number, partition=5)
    there.advance(0.1)
    began, seen = there.now, 0
    while seen < 100:
        for record in there.take(shared, 2):
            record.ack()
            seen += 1
    assert there.now - began < 3.0


def test_batches_are_handed_out_as_columns_with_one_verdict():
    there = world(records=30)
    shared = there.share()
    there.advance(0.1)
    found = []
    while (batch := shared.take_batch()) is not None:
        assert isinstance(batch, SharedBatch)
        assert list(batch.values) == [b"%d" % offset for offset in batch.offsets]
        assert len(batch.keys) == len(batch.headers) == len(batch.timestamps_us) == len(batch)
        found += batch.offsets
        batch.ack()
        batch.nack()
    there.run(shared.flush())
    assert found == list(range(30))
    assert states(there) == ["done"] * 30


def test_a_kept_batch_is_not_sent_again():
    there = World(FakeCluster(t=1)).connect()
    value = b"x" * 10_000
    for _ in range(20):
        there.publish(value)
    there.advance(0.1)
    assert len(there.cluster.partition("t").batches) <= 2
    shared = there.share(max_in_flight=1)
    for _ in range(20):
        [record] = there.take(shared)
        assert record.value == value
        record.ack()
    assert there.cluster.granted_bytes < 25_000


def test_a_lost_connection_sends_verdicts_again_and_keeps_leases():
    there = world()
    shared = there.share()
    records = there.take(shared)
    there.cluster.silent.add(SETTLE)
    for record in records[:5]:
        record.ack()
    there.advance(0.01)
    there.cut_all()
    there.cluster.silent.clear()
    for record in records[5:]:
        record.ack()
    there.run(shared.flush())
    group = there.cluster.shared[("t", "g", 0)]
    assert states(there) == ["done"] * 10
    assert group.delivered[0] == 1
    assert group.verdicts.count((0, ACK)) == 2


def test_a_moved_leader_is_followed():
    there = World(FakeCluster(nodes=2, t=1), servers="node1:7400,node2:7400").connect()
    for number in range(10):
        there.publish(b"%d" % number)
    shared = there.share()
    records = there.take(shared)
    there.cluster.partition("t").leader = 2
    for record in records:
        record.ack()
    there.run(shared.flush())
    assert states(there) == ["done"] * 10
    there.publish(b"more")
    assert [r.value for r in there.take(shared)] == [b"more"]


def test_a_broker_that_forgot_the_handle_is_attached_to_again():
    there = world()
    shared = there.share()
    records = there.take(shared)
    for link in there.links.values():
        link.handles.clear()
    for record in records:
        record.ack()
    there.run(shared.flush())
    assert states(there) == ["done"] * 10


def test_records_of_a_lost_lease_are_not_handed_out():
    there = world()
    shared = there.share()
    [first] = there.take(shared, 1)
    there.cluster.shared[("t", "g", 0)].expire()
    there.cut_all()
    there.advance(2.0)
    assert first.lease_lost
    assert there.events("lease_lost")[0]["dropped"] == 9
    records = there.take(shared)
    assert {record.offset for record in records} == set(range(10))
    assert min(record.delivered for record in records) >= 2
    assert shared.credits.held == 11
    first.ack()
    there.run(shared.flush())
    assert states(there)[0] == "done"


def test_a_late_ack_in_a_strict_group_is_told_by_flush():
    there = world(records=2)
    shared = there.share()
    there.cluster.shared[("t", "g", 0)].strict = True
    there.cut_all()
    there.advance(1.0)
    records = there.take(shared)
    there.cluster.shared[("t", "g", 0)].expire()
    records[0].ack()
    with pytest.raises(LeaseLost):
        there.run(shared.flush())
    there.run(shared.flush())
    assert there.events("verdicts_lost") == [
        {"topic": "t", "partition": 0, "spans": [0, 1], "strict": True}
    ]


def test_refused_verdicts_are_told_and_do_not_stop_the_others():
    there = world()
    shared = there.share()
    records = there.take(shared)
    there.cluster.refusals.append((SETTLE, BadRequest("beyond the end")))
    records[0].ack()
    with pytest.raises(BadRequest, match="beyond"):
        there.run(shared.flush())
    for record in records[1:]:
        record.ack()
    there.run(shared.flush())
    assert states(there) == ["leased", *["done"] * 9]


@pytest.mark.parametrize("error", [StorageFull(), NotLeader()])
def test_retriable_refusals_are_overcome(error):
    there = world()
    shared = there.share()
    there.cluster.refusals.append((ACQUIRE, error))
    there.cut_all()
    records = there.take(shared)
    there.cluster.refusals.append((SETTLE, type(error)()))
    for record in records:
        record.ack()
    there.run(shared.flush())
    assert states(there) == ["done"] * 10


def test_leaving_gives_back_what_was_not_handed_out():
    there = world()
    shared = there.share()
    records = there.take(shared, 3)
    for record in records:
        record.ack()
    there.run(shared.close())
    group = there.cluster.shared[("t", "g", 0)]
    assert states(there) == [*["done"] * 3, *["free"] * 7]
    assert group.delivered[5] == 0
    assert group.detached == [shared.member]
    assert group.verdicts[-1][1] == RELEASE


def test_leaving_takes_no_longer_than_the_broker_to_answer():
    there = world()
    shared = there.share()
    for record in there.take(shared):
        record.ack()
    there.advance(1.0)
    began = there.now
    there.run(shared.close())
    assert there.now - began < 0.01
    assert there.cluster.shared[("t", "g", 0)].detached == [shared.member]


def test_leaving_waits_for_handlers_and_not_for_ever():
    there = world()
    shared = there.share(drain_timeout=5.0)
    records = there.take(shared)
    leaving = there.start(shared.close())
    there.advance(2.0)
    assert not leaving.done
    for record in records[:9]:
        record.ack()
    there.advance(2.0)
    assert not leaving.done
    began = there.now
    there.finish(leaving)
    assert there.now - began < 2.0
    assert states(there) == [*["done"] * 9, "free"]


def test_leaving_after_an_error_does_not_wait_for_handlers():
    there = world()
    shared = there.share()
    there.take(shared)
    began = there.now
    there.run(shared.close(in_error=True))
    assert there.now - began < 0.5
    assert states(there) == ["free"] * 10


def test_verdicts_of_handlers_that_end_after_the_subscription_harm_nothing():
    there = world()
    shared = there.share(drain_timeout=0.0)
    records = there.take(shared)
    there.run(shared.close())
    for record in records:
        record.ack()
    with pytest.raises(ClientClosed):
        shared.take()
    assert shared.ended


def test_a_cancelled_fetch_hands_out_its_records_again():
    there = world()
    shared = there.share()
    there.advance(0.1)
    shared.fetch_cancelled(there.take(shared, 4))
    assert [r.offset for r in there.take(shared)] == list(range(10))


def test_records_brought_back_from_the_dead_letters_come_too():
    there = world(records=0)
    shared = there.share()
    header = {"penstock-dead": b'{"topic":"t","partition":0,"offset":41,"x":1}'}
    there.publish(b"dead", "dead.t.g", headers=header)
    there.advance(1.0)
    assert there.take(shared, 1, 0.0) == []
    there.cluster.shared[("dead.t.g", "g", 0)].states[0] = "free"
    there.cluster.wake()
    [record] = there.take(shared)
    assert (record.value, record.topic) == (b"dead", "dead.t.g")
    assert record.origin == ("t", 0, 41)
    record.ack()
    there.run(shared.flush())
    assert states(there, topic="dead.t.g") == ["done"]


def test_new_partitions_are_read():
    there = world(records=0)
    shared = there.share()
    topic = there.cluster.topics["t"]
    topic.partitions.append(there.cluster.create("spare", 1).partitions[0])
    there.cluster.define("t", "g")
    there.advance(61.0)
    there.publish(b"new", partition=1)
    assert [r.partition for r in there.take(shared)] == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"group": None},
        {"max_in_flight": 0},
        {"max_in_flight": 1_000_000},
        {"start": 5},
        {"start": "whenever"},
        {"on_error": "ignore"},
        {"drain_timeout": -1.0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(BadRequest):
        SharedSubscription(
            World().core, ["t"], SharedRecord, SharedBatch, **{"group": "g", **options}
        )


def test_a_damaged_batch_fails_its_records():
    there = world(records=3)
    batch = there.cluster.partition("t").batches[0]
    batch[-1] ^= 1
    shared = there.share()
    there.advance(1.0)
    reasons = {reason for _, reason, _ in there.cluster.shared[("t", "g", 0)].reasons}
    assert reasons == {"CorruptBatch"}
    assert there.events("records_unreadable")[0]["damaged"] == 3
    assert there.take(shared, 1, 0.1) == []


def test_attaching_names_the_leases_that_are_held():
    there = world()
    shared = there.share()
    records = there.take(shared)
    there.cut_all()
    there.advance(2.0)
    assert there.cluster.seen[TYPE_OF[AttachGroup]] >= 2
    assert states(there) == ["leased"] * 10
    assert not any(record.lease_lost for record in records)


def test_each_attach_is_later_than_all_before_it_also_those_of_another_process():
    there = world()
    before = there.share()
    epochs = [before.next_epoch(), before.next_epoch()]
    there.advance(1.0)
    epochs.append(there.share().next_epoch())
    assert epochs == sorted(set(epochs))


def test_extending_names_the_lease():
    there = world()
    shared = there.share()
    [record, *_] = there.take(shared)
    record.extend(90.0)
    there.advance(0.1)
    assert there.cluster.shared[("t", "g", 0)].extended_ms == [90_000]


@pytest.mark.parametrize("time", [0, -5, 0.0001, math.nan, math.inf, 1e300, "13h", "soon"])
def test_a_lease_is_extended_by_some_time_that_brokers_allow(time):
    there = world()
    shared = there.share()
    [record, *_] = there.take(shared)
    with pytest.raises(BadRequest):
        record.extend(time)
    record.extend("12h")
    there.advance(0.1)
    assert there.cluster.shared[("t", "g", 0)].extended_ms == [12 * 3_600_000]


def test_a_nack_of_a_batch_is_one_entry():
    there = world()
    shared = there.share()
    there.advance(0.1)
    batch = shared.take_batch()
    batch.nack(reason="Busy")
    there.run(shared.flush())
    assert there.cluster.settled_entries == [1]
    assert there.cluster.shared[("t", "g", 0)].verdicts == [(n, NACK) for n in range(10)]
