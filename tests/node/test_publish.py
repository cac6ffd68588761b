"""Publishing: acknowledgments, order, duplicates, refusals."""

from __future__ import annotations

import pytest

from penstock.errors import (
    CorruptBatch,
    OutOfSequence,
    RecordTooLarge,
    ShuttingDown,
    TopicNotFound,
    UnknownProducer,
)
from penstock.protocol import frames
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import TrimLog
from penstock.protocol.records import encode_batch
from tests.node.harness import START_US, Harness


def test_offsets_are_dense_from_zero() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    assert client.publish(group, b"a", b"b") == (0, False)
    assert client.publish(group, b"c") == (2, False)
    assert client.fetch(group, 0) == [b"a", b"b", b"c"]


def test_a_quorum_publish_is_answered_only_after_its_flush() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a")
    node.node.end_round()
    flush = node.node.store.take_flush()
    assert flush is not None
    flush.run()
    node.node.end_round()
    assert client.take() == []
    node.node.job_done(flush, None)
    node.node.end_round()
    assert client.publish_reply() == (0, False)


def test_a_leader_publish_is_answered_before_its_flush() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a", acks=frames.ACKS_LEADER)
    node.node.end_round()
    assert client.publish_reply() == (0, False)


def test_a_publish_without_acks_is_never_answered_but_kept() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a", acks=frames.ACKS_NONE)
    node.pump()
    assert client.take() == []
    assert client.fetch(group, 0) == [b"a"]


def test_uncommitted_bytes_return_to_zero() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a")
    assert node.node.uncommitted_bytes > 0
    assert client.session.unanswered_bytes > 0
    node.pump()
    assert node.node.uncommitted_bytes == 0
    assert client.session.unanswered_bytes == 0


def test_a_resent_batch_gets_its_first_offset() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    batch = {"producer_id": 9, "base_sequence": 0}
    assert client.publish(group, b"a", b"b", **batch) == (0, False)
    assert client.publish(group, b"a", b"b", **batch) == (0, True)
    assert client.fetch(group, 0) == [b"a", b"b"]


def test_a_batch_resent_while_in_flight_waits_for_the_first_one() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a", producer_id=9, base_sequence=0)
    client.publish_nowait(group, b"a", producer_id=9, base_sequence=0)
    node.pump()
    replies = client.take()
    assert [bool(frame.flags & frames.FLAG_DUPLICATE) for frame, _ in replies] == [False, True]
    assert client.fetch(group, 0) == [b"a"]


def test_duplicates_are_known_after_a_restart() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", producer_id=9, base_sequence=0)
    client.publish(group, b"b", producer_id=9, base_sequence=1)
    node.restart()
    client = node.client()
    assert client.publish(group, b"a", producer_id=9, base_sequence=0) == (0, True)
    assert client.publish(group, b"b", producer_id=9, base_sequence=1) == (1, True)
    assert client.publish(group, b"c", producer_id=9, base_sequence=2) == (2, False)


def test_duplicates_are_known_after_a_restart_from_a_checkpoint() -> None:
    node = Harness()
    (group,) = node.topic()
    node.client().publish(group, b"a", producer_id=9, base_sequence=0)
    node.node.drain()
    node.pump()
    assert node.node.drained
    node.restart()
    assert node.client().publish(group, b"a", producer_id=9, base_sequence=0) == (0, True)


def test_a_gap_in_the_sequence_is_refused() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", producer_id=9, base_sequence=0)
    with pytest.raises(OutOfSequence):
        client.publish(group, b"c", producer_id=9, base_sequence=2)


def test_an_unknown_producer_can_not_start_in_the_middle() -> None:
    node = Harness()
    (group,) = node.topic()
    with pytest.raises(UnknownProducer):
        node.client().publish(group, b"a", producer_id=9, base_sequence=5)


def test_a_dedup_id_is_stored_once_within_its_window() -> None:
    node = Harness()
    (group,) = node.topic(dedup_window_ms=60_000)
    client = node.client()
    assert client.publish(group, b"a", dedup_id=b"order-1") == (0, False)
    assert client.publish(group, b"again", dedup_id=b"order-1") == (0, True)
    node.advance(61)
    assert client.publish(group, b"later", dedup_id=b"order-1") == (1, False)


def test_a_damaged_batch_is_refused_and_nothing_is_stored() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    made = encode_batch([b"value"], codec=0, base_ts_us=START_US)
    made[-1] ^= 1
    client.send(frames.publish_head(5, group, 2, 0, len(made)) + bytes(made))
    node.pump()
    with pytest.raises(CorruptBatch):
        client.publish_reply()
    assert client.fetch(group, 0) == []


def test_a_batch_beyond_the_topics_limit_is_refused() -> None:
    node = Harness()
    (group,) = node.topic(max_batch_bytes=1024)
    with pytest.raises(RecordTooLarge):
        node.client().publish(group, b"x" * 2000)


def test_an_unknown_partition_is_refused() -> None:
    with pytest.raises(TopicNotFound):
        Harness().client().publish(999, b"a")


def test_a_draining_node_refuses_publishes_and_finishes_what_it_has() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a")
    node.node.drain()
    client.publish_nowait(group, b"b")
    node.pump()
    first, second = client.take()
    assert first[0].flags & frames.FLAG_ERROR
    with pytest.raises(ShuttingDown):
        client.decode(*first)
    assert not second[0].flags & frames.FLAG_ERROR
    assert node.node.drained


def test_everything_acknowledged_is_there_after_a_restart() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    for number in range(500):
        client.publish(group, b"%d" % number)
    node.restart()
    found: list[bytes] = []
    while len(found) < 500:  # a fetch ends where the file does in which it began
        found += node.client().fetch(group, len(found))
    assert found == [b"%d" % number for number in range(500)]


def test_restarts_follow_each_other_without_loss() -> None:
    node = Harness(wal_file_bytes=1 << 16)
    (group,) = node.topic()
    expected = []
    for turn in range(8):
        client = node.client()
        for number in range(40):
            value = b"%d-%d-" % (turn, number) + b"x" * 500
            client.publish(group, value)
            expected.append(value)
        node.restart()
    got: list[bytes] = []
    client = node.client()
    while len(got) < len(expected):
        got += client.fetch(group, len(got))
    assert got == expected


def test_the_node_forgets_the_waiters_of_a_closed_connection() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a")
    node.node.disconnected(client.session)
    node.pump()
    assert client.take() == []
    assert node.node.uncommitted_bytes == 0


def test_a_trim_and_a_publish_may_be_committed_together() -> None:
    node = Harness()
    (group,) = node.topic()
    client, admin = node.client(), node.client()
    client.publish(group, b"a")
    admin.send(encode_message(TrimLog(topic="orders", partition=0, offset=1), 1))
    client.publish_nowait(group, b"b")
    node.pump()
    assert client.publish_reply() == (1, False)
    assert client.publish(group, b"c") == (2, False)
    assert client.fetch(group, 1) == [b"b", b"c"]
