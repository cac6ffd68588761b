"""Batches that a broker publishes itself: exactly once, in order, never under a client's name."""

from __future__ import annotations

import pytest

from penstock.errors import BadRequest, NotLeader, OutOfSequence, PenstockError, TopicNotFound
from penstock.protocol.batch import SYSTEM_PRODUCERS
from penstock.protocol.messages import DeleteTopic
from penstock.protocol.records import encode_batch
from tests.node.harness import Harness

MOVER = SYSTEM_PRODUCERS + 7


class Deliverer:
    """Delivers batches of one record to a partition and notes what becomes of them."""

    def __init__(self, node: Harness) -> None:
        self.node = node
        (self.group,) = node.topic()
        self.ended: list[tuple[int, type[PenstockError] | None]] = []

    def deliver(self, sequence: int, value: bytes = b"v", skips_from: int = -1) -> None:
        batch = encode_batch([value], producer_id=MOVER, base_sequence=sequence)
        self.node.node.partitions[self.group].deliver(
            batch,
            lambda offset, error: self.ended.append((offset, type(error) if error else None)),
            skips_from,
        )

    def values(self) -> list[bytes]:
        return self.node.client().fetch(self.group, 0)


@pytest.fixture
def to() -> Deliverer:
    return Deliverer(Harness())


def test_a_delivery_ends_when_it_is_committed(to: Deliverer) -> None:
    to.deliver(0)
    to.deliver(1)
    assert to.ended == []
    to.node.pump()
    assert to.ended == [(0, None), (1, None)]


def test_a_repeated_delivery_is_stored_once(to: Deliverer) -> None:
    to.deliver(0, b"once")
    to.deliver(0, b"once")
    to.node.pump()
    to.deliver(0, b"once")
    assert to.ended == [(0, None)] * 3
    assert to.values() == [b"once"]


def test_a_repeated_delivery_is_recognised_after_a_restart(to: Deliverer) -> None:
    to.deliver(0, b"once")
    to.node.pump()
    to.node.restart()
    to.deliver(0, b"once")
    to.deliver(1, b"more")
    to.node.pump()
    assert to.values() == [b"once", b"more"]


def test_a_gap_is_refused_but_to_who_knows_what_it_skips(to: Deliverer) -> None:
    to.deliver(0, b"a")
    with pytest.raises(OutOfSequence) as raised:
        to.deliver(5, b"b")
    to.deliver(5, b"b", skips_from=int(str(raised.value.detail["expected"])))
    to.node.pump()
    assert to.values() == [b"a", b"b"]


def test_clients_and_deliveries_share_the_log(to: Deliverer) -> None:
    client = to.node.client()
    client.publish_nowait(to.group, b"client")
    to.deliver(0, b"broker")
    to.node.pump()
    assert client.publish_reply() == (0, False)
    assert to.ended == [(1, None)]


def test_deliveries_end_when_the_partition_is_deleted(to: Deliverer) -> None:
    to.deliver(0)
    to.node.node.partitions[to.group].deleted(TopicNotFound())
    assert [error for _, error in to.ended] != [None]


def test_nothing_is_delivered_without_the_lead(to: Deliverer) -> None:
    partition = to.node.node.partitions[to.group]
    to.node.client().ask(DeleteTopic(name="orders"))
    partition.ready_at_term = 0
    with pytest.raises(NotLeader):
        partition.deliver(encode_batch([b"v"], producer_id=MOVER), lambda *_: None)


def test_a_client_must_not_use_the_brokers_producer_ids(to: Deliverer) -> None:
    with pytest.raises(BadRequest):
        to.node.client().publish(to.group, b"x", producer_id=MOVER, base_sequence=0)
