"""Fetching: from RAM, from segments, long polls, refusals."""

from __future__ import annotations

import pytest

from penstock.errors import BadRequest, OffsetOutOfRange, TopicNotFound
from penstock.protocol import frames
from penstock.protocol.messages import DeleteTopic, ListOffsets, TrimLog
from tests.node.harness import Harness


def test_a_fetch_in_the_middle_of_a_batch_gets_the_whole_batch() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b", b"c")
    assert client.fetch(group, 1) == [b"b", b"c"]


def test_a_fetch_at_the_end_is_empty() -> None:
    node = Harness()
    (group,) = node.topic()
    assert node.client().fetch(group, 0) == []


def test_a_fetch_beyond_the_end_is_refused() -> None:
    node = Harness()
    (group,) = node.topic()
    with pytest.raises(OffsetOutOfRange):
        node.client().fetch(group, 1)


def test_a_long_poll_is_answered_by_the_next_record() -> None:
    node = Harness()
    (group,) = node.topic()
    reader, writer = node.client(), node.client()
    reader.fetch_nowait(group, 0, wait_ms=1000)
    node.pump()
    assert reader.take() == []
    writer.publish(group, b"a")
    assert reader.fetched() == [b"a"]
    assert not reader.session.polls


def test_a_long_poll_ends_with_nothing_after_its_time() -> None:
    node = Harness()
    (group,) = node.topic()
    reader = node.client()
    reader.fetch_nowait(group, 0, wait_ms=1000)
    node.advance(0.9)
    assert reader.take() == []
    node.advance(0.2)
    assert reader.fetched() == []


def test_a_long_poll_waits_for_its_min_bytes_or_its_time() -> None:
    node = Harness()
    (group,) = node.topic()
    reader, writer = node.client(), node.client()
    reader.fetch_nowait(group, 0, wait_ms=1000, min_bytes=5000)
    writer.publish(group, b"a")
    assert reader.take() == []
    node.advance(1.1)
    assert reader.fetched() == [b"a"]


def test_uncommitted_records_are_not_served() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish_nowait(group, b"a")
    client.fetch_nowait(group, 0)
    node.node.end_round()
    ((frame, data),) = client.take()
    assert (frame.type, len(data)) == (frames.FETCH, frames.REPLY_BYTES)


def test_old_records_come_from_segments() -> None:
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (group,) = node.topic()
    client = node.client()
    values = [b"%04d" % number + b"x" * 400 for number in range(100)]
    for value in values:
        client.publish(group, value)
    got: list[bytes] = []
    while len(got) < 100:
        got += client.fetch(group, len(got), max_bytes=3000)
    assert got == values


def test_a_trimmed_offset_is_out_of_range() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b", b"c")
    assert client.ask(TrimLog(topic="orders", partition=0, offset=2)).log_start_offset == 2
    with pytest.raises(OffsetOutOfRange):
        client.fetch(group, 1)
    assert client.fetch(group, 2) == [b"c"]
    assert client.ask(ListOffsets(topic="orders", positions={0: -2})).offsets == {0: 2}
    node.restart()
    with pytest.raises(OffsetOutOfRange):
        node.client().fetch(group, 1)


def test_offsets_are_found_by_time() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    times = []
    for number in range(5):
        node.advance(1.0)
        times.append(node.wall_us)
        client.publish(group, b"%d" % number)
    assert client.ask(ListOffsets(topic="orders", positions={0: times[3]})).offsets == {0: 3}
    assert client.ask(ListOffsets(topic="orders", positions={0: times[4] + 1})).offsets == {0: 5}


def test_a_deleted_topic_ends_its_long_polls() -> None:
    node = Harness()
    (group,) = node.topic()
    reader = node.client()
    reader.fetch_nowait(group, 0, wait_ms=60_000)
    node.pump()
    node.client().ask(DeleteTopic(name="orders"))
    with pytest.raises(TopicNotFound):
        reader.fetched()


def test_a_malformed_fetch_is_refused() -> None:
    client = Harness().client()
    client.send(frames.frame(frames.FETCH, 0, 3, b"short"))
    client.harness.pump()
    with pytest.raises(BadRequest):
        client.fetched()


def test_retention_by_time_moves_the_log_start() -> None:
    node = Harness(segment_bytes=4096)
    (group,) = node.topic(retention_ms=60_000, segment_bytes=1 << 20)
    client = node.client()
    for number in range(40):
        client.publish(group, b"%d" % number + b"x" * 500)
    node.advance(120)
    client.publish(group, b"new")
    node.advance(30)
    start = client.ask(ListOffsets(topic="orders", positions={0: -2})).offsets[0]
    assert start > 0
    assert client.fetch(group, 40) == [b"new"]


def test_retention_by_size_keeps_the_newest() -> None:
    node = Harness(segment_bytes=4096)
    (group,) = node.topic(retention_bytes=8192)
    client = node.client()
    for number in range(60):
        client.publish(group, b"%d" % number + b"x" * 500)
    node.advance(30)
    start = client.ask(ListOffsets(topic="orders", positions={0: -2})).offsets[0]
    assert 30 < start < 60
