"""Peers that ask for more than their share, or do not take what they asked for."""

from __future__ import annotations

import pytest

from penstock.protocol import frames
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import Metadata
from penstock_broker.node.receiving import PUT_OFF, REQUESTS_PER_READ_MAX
from penstock_broker.node.session import (
    OUTPUT_BYTES_MAX,
    OUTPUT_BYTES_PER_ROUND,
    OUTPUT_BYTES_TOTAL_MAX,
)
from penstock_broker.simulation.memory_files import MemoryFile
from tests.node.harness import Client, Harness


def hand_over(client: Client, data: bytes) -> tuple[int, int]:
    return client.harness.node.receive(client.session, memoryview(data), len(data), False)


def test_one_connection_gets_few_requests_answered_before_others_have_their_turn() -> None:
    client = Harness().client()
    request = encode_message(Metadata(), 1)
    used, left = hand_over(client, request * (REQUESTS_PER_READ_MAX + 1))
    assert (used, left) == (len(request) * REQUESTS_PER_READ_MAX, PUT_OFF)
    assert hand_over(client, request) == (len(request), 0)


def test_requests_wait_while_the_peer_does_not_take_its_replies() -> None:
    node = Harness()
    client = node.client()
    node.node.sent(client.session, OUTPUT_BYTES_MAX)
    request = encode_message(Metadata(), 1)
    assert hand_over(client, request) == (0, PUT_OFF)
    assert not client.session.readable
    node.node.sent(client.session, OUTPUT_BYTES_MAX - 1)
    assert hand_over(client, request) == (len(request), 0)


def test_requests_wait_while_all_peers_together_leave_too_much() -> None:
    node = Harness()
    client = node.client()
    slow = [node.client() for _ in range(OUTPUT_BYTES_TOTAL_MAX // OUTPUT_BYTES_MAX)]
    for other in slow:
        node.node.sent(other.session, OUTPUT_BYTES_MAX)
    request = encode_message(Metadata(), 1)
    assert hand_over(client, request) == (0, PUT_OFF)
    node.node.disconnected(slow[0].session)
    node.node.now(node.wall_us, node.clock)
    assert hand_over(client, request) == (len(request), 0)


def test_publishes_go_on_while_replies_wait() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    node.node.sent(client.session, OUTPUT_BYTES_MAX)
    assert client.publish(group, b"a") == (0, False)


@pytest.mark.parametrize("cached", [True, False])
def test_a_flood_of_fetches_of_old_records_reads_only_what_may_be_sent(
    monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if not cached:
        monkeypatch.setattr(MemoryFile, "try_pread", lambda *_: None)
    node = Harness(tail_bytes_max=4096, segment_bytes=1 << 20, write_bytes=1024)
    (group,) = node.topic()
    client = node.client()
    for _ in range(20):
        client.publish(group, b"x" * 1000)
    node.node.sent(client.session, OUTPUT_BYTES_MAX - 8000)
    request = frames.fetch_request(1, group, 0, 1 << 20, 1, 0)
    used, left = hand_over(client, request * 20)
    assert left == PUT_OFF
    assert used < 3 * len(request)
    node.pump()
    assert 0 < node.node.output_bytes < OUTPUT_BYTES_MAX + 50_000
    node.node.disconnected(client.session)
    assert node.node.output_bytes < 10_000


def test_long_polls_of_a_peer_that_takes_nothing_are_answered_when_it_does() -> None:
    node = Harness()
    (group,) = node.topic()
    reader, writer = node.client(), node.client()
    reader.fetch_nowait(group, 0, wait_ms=1000)
    node.node.sent(reader.session, OUTPUT_BYTES_MAX)
    writer.publish(group, b"a")
    node.advance(2)
    assert not reader.session.out
    node.node.sent(reader.session, 0)
    node.advance(0.1)
    assert reader.fetched() == [b"a"]


def test_long_polls_end_with_their_connection() -> None:
    node = Harness()
    (group,) = node.topic()
    reader = node.client()
    for _ in range(500):
        reader.fetch_nowait(group, 0, wait_ms=60_000)
    polls = node.node.partitions[group].polls
    assert len(polls) == 500
    node.node.disconnected(reader.session)
    assert len(polls) == 0
    assert len(polls._by_position) < 100


def test_the_polls_of_one_partition_are_answered_in_the_order_of_what_they_wait_for() -> None:
    node = Harness()
    (group,) = node.topic()
    writer = node.client()
    readers = {size: node.client() for size in (1, 400, 900)}
    for size, reader in readers.items():
        reader.fetch_nowait(group, 0, wait_ms=1000, min_bytes=size)
    answered = []
    for _ in range(4):
        writer.publish(group, b"x" * 200)
        answered += [size for size, reader in readers.items() if reader.session.out]
        for reader in readers.values():
            reader.take()
    assert answered == [1, 400, 900]


def test_what_is_left_of_a_peer_that_has_gone_is_not_counted() -> None:
    node = Harness()
    client = node.client()
    before = node.node.output_bytes
    hand_over(client, encode_message(Metadata(), 1))
    assert node.node.output_bytes > before
    node.node.disconnected(client.session)
    node.node.reply(client.session, 1, Metadata())
    assert node.node.output_bytes == before


def test_requests_wait_for_the_next_round_when_the_replies_of_this_one_are_much() -> None:
    node = Harness()
    client, other = node.client(), node.client()
    node.node.now(node.wall_us, node.clock)
    node.node.sent(other.session, OUTPUT_BYTES_PER_ROUND)
    request = encode_message(Metadata(), 1)
    assert hand_over(client, request) == (0, PUT_OFF)
    node.node.now(node.wall_us, node.clock)
    assert hand_over(client, request) == (len(request), 0)
