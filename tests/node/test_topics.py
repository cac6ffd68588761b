"""Topics and the connection: hello, create, alter, describe, delete."""

from __future__ import annotations

import pytest

from penstock.errors import (
    InvalidConfig,
    InvalidName,
    PartitionNotFound,
    PreconditionFailed,
    RemoteProtocolError,
    TopicExists,
    TopicNotFound,
    UnsupportedVersion,
)
from penstock.protocol import frames
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import (
    AlterTopic,
    BrokerStatus,
    CreateTopic,
    DeleteTopic,
    DescribeTopic,
    Hello,
    ListOffsets,
    Metadata,
)
from tests.node.harness import Client, Harness


def test_the_hello_names_the_limits() -> None:
    client = Client(Harness(), hello=False)
    reply = client.ask(Hello(magic="penstock", version_min=1, version_max=9))
    assert (reply.version, reply.node, reply.cluster) == (1, 1, "cluster")
    assert reply.credit_bytes > 0


def test_an_unknown_version_is_refused_and_the_connection_closed() -> None:
    client = Client(Harness(), hello=False)
    with pytest.raises(UnsupportedVersion):
        client.ask(Hello(magic="penstock", version_min=7, version_max=9))
    assert client.session.closing


def test_anything_before_the_hello_breaks_the_connection() -> None:
    client = Client(Harness(), hello=False)
    with pytest.raises(RemoteProtocolError):
        client.send(encode_message(Metadata(), 1))


@pytest.mark.parametrize("type_", [frames.PUBLISH, frames.FETCH, 0x01, 0x7F])
def test_a_malformed_first_frame_breaks_the_connection_and_nothing_else(type_: int) -> None:
    client = Client(Harness(), hello=False)
    with pytest.raises(RemoteProtocolError):
        client.send(frames.frame(type_, 0, 1, b"rubbish"))


def test_a_frame_beyond_the_limit_breaks_the_connection() -> None:
    client = Harness().client()
    head = frames.FRAME_HEADER.pack(1 << 31, frames.PUBLISH, 0, 0, 1, 1)
    with pytest.raises(RemoteProtocolError):
        client.send(head)


def test_a_silent_connection_is_closed() -> None:
    node = Harness()
    client = Client(node, hello=False)
    node.advance(6)
    assert client.session.closing


def test_a_created_topic_can_be_used_at_once() -> None:
    node = Harness()
    groups = node.topic("orders", partitions=3)
    assert len(set(groups)) == 3
    (topic,) = node.metadata().topics
    assert [partition.leader for partition in topic.partitions] == [1, 1, 1]


def test_internal_topics_are_not_shown() -> None:
    assert Harness().metadata().topics == []


def test_creating_twice_is_refused_unless_allowed() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    with pytest.raises(TopicExists):
        client.ask(CreateTopic(name="orders"))
    assert not client.ask(CreateTopic(name="orders", if_not_exists=True)).created


def test_bad_names_and_settings_are_refused() -> None:
    client = Harness().client()
    with pytest.raises(InvalidName):
        client.ask(CreateTopic(name="../etc"))
    with pytest.raises(InvalidConfig):
        client.ask(CreateTopic(name="a", config={"colour": "red"}))
    with pytest.raises(InvalidConfig):
        client.ask(CreateTopic(name="a", config={"retention_ms": [1]}))
    with pytest.raises(PreconditionFailed):
        client.ask(CreateTopic(name="a", replication=3))


def test_a_dry_run_changes_nothing() -> None:
    node = Harness()
    reply = node.client().ask(CreateTopic(name="orders", partitions=2, dry_run=True))
    assert len(reply.topic.partitions) == 2
    assert node.metadata().topics == []


def test_altering_changes_settings_and_adds_partitions() -> None:
    node = Harness()
    node.topic()
    reply = node.client().ask(
        AlterTopic(name="orders", config={"retention_ms": "2d"}, partitions=2)
    )
    assert reply.topic.config["retention_ms"] == 2 * 86_400_000
    assert len(reply.topic.partitions) == 2
    assert node.client().publish(reply.topic.partitions[1].group, b"a") == (0, False)


def test_topics_survive_a_restart() -> None:
    node = Harness()
    node.topic("orders", partitions=2, retention_bytes=1 << 20)
    before = node.metadata()
    node.restart()
    after = node.metadata()
    assert [t.name for t in after.topics] == ["orders"]
    assert after.topics[0].config == before.topics[0].config
    assert after.cluster == before.cluster


def test_a_deleted_topic_is_gone_and_its_group_never_comes_back() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"old")
    client.ask(DeleteTopic(name="orders"))
    with pytest.raises(TopicNotFound):
        client.publish(group, b"a")
    (again,) = node.topic()
    assert again != group
    assert client.fetch(again, 0) == []
    node.restart()
    assert node.client().fetch(again, 0) == []


def test_describe_tells_what_a_partition_holds() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b", producer_id=4, base_sequence=0)
    (figures,) = client.ask(DescribeTopic(name="orders")).partitions
    assert (figures.log_start_offset, figures.high_watermark, figures.producers) == (0, 2, 1)
    assert figures.size_bytes > 0
    assert figures.damaged == []


def test_unknown_topics_and_partitions_get_clear_errors() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    with pytest.raises(TopicNotFound):
        client.ask(DescribeTopic(name="nothing"))
    with pytest.raises(PartitionNotFound):
        client.ask(ListOffsets(topic="orders", positions={4: -1}))


def test_the_status_counts() -> None:
    node = Harness()
    node.topic("orders", partitions=4)
    reply = node.client().ask(BrokerStatus())
    assert reply.figures["partitions"] == 4


def test_partitions_deleted_in_the_round_of_their_creation_never_stand_for_election() -> None:
    node = Harness()
    client = node.client()
    client.send(encode_message(CreateTopic(name="orders", partitions=3), 8))
    client.send(encode_message(DeleteTopic(name="orders"), 9))
    node.pump()
    node.advance(5.0)
    before = node.node.store.wal.sequence
    node.advance(30.0)
    assert node.node.store.wal.sequence == before
