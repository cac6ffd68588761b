"""The whole core: connecting, requests, metadata, events, the end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from penstock._core.events import EVENTS_MAX
from penstock.errors import (
    BadRequest,
    ClientClosed,
    ConnectionLost,
    GroupNotFound,
    LeaderUnknown,
    NotLeader,
    PartitionNotFound,
    Throttled,
    TimedOut,
    TopicExists,
    TopicNotFound,
)
from penstock.protocol.messages import (
    TYPE_OF,
    CreateTopic,
    DescribeGroup,
    Hello,
    ListOffsets,
    Metadata,
)
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


def test_every_given_server_is_tried() -> None:
    world = World(FakeCluster(nodes=3, t=1), servers="node1:7400,node2:7400,node3:7400")
    world.refusing.update({"node1:7400", "node2:7400"})
    world.connect()
    assert [wire.address for wire in world.links] == ["node3:7400"]


def test_a_reconnect_finds_nodes_that_were_not_given() -> None:
    world = World(FakeCluster(nodes=3, t=3), servers="node1:7400").connect()
    world.finish(world.publish(b"x"))
    world.refusing.add("node1:7400")
    world.cut_all()
    for partition in world.cluster.topics["t"].partitions:
        partition.leader = 3
    world.finish(world.publish(b"y"))
    assert "node3:7400" in {wire.address for wire in world.links}


def test_one_connection_serves_a_node_that_was_reached_by_the_given_address() -> None:
    world = World(FakeCluster(t=4)).connect()
    for partition in range(4):
        world.finish(world.publish(b"x", partition=partition))
    assert len(world.links) == 1


def test_connections_to_nodes_that_left_the_cluster_end() -> None:
    world = World(FakeCluster(nodes=2, t=2)).connect()
    world.finish(world.publish(b"x", partition=1))
    assert len(world.links) == 2
    world.cluster.nodes = [1]
    world.cluster.partition("t", 1).leader = 1
    world.run(world.core.metadata.ensure("t"))
    world.core.metadata.refresh("t")
    world.advance(1.0)
    assert [wire.address for wire in world.links] == ["node1:7400"]
    world.finish(world.publish(b"y", partition=1))


def test_a_topic_never_goes_back_to_the_deleted_one_of_its_name() -> None:
    world = World(FakeCluster(t=2)).connect()
    before = world.run(world.core.metadata.ensure("t"))
    deleted = world.cluster.topics.pop("t")
    made = world.cluster.create("t", 1)
    world.core.metadata.refresh("t")
    world.advance(1.0)
    assert world.core.metadata.partition("t", 0).group == made.partitions[0].group
    world.cluster.topics["t"] = deleted  # as a broker that is behind tells
    world.core.metadata.refresh("t")
    world.advance(1.0)
    assert world.core.metadata.partition("t", 0).group == made.partitions[0].group
    assert made.partitions[0].group > max(each.group for each in before.partitions)


def test_attempts_to_connect_are_paced_and_spread() -> None:
    world = World(request_timeout=60.0)
    world.refusing.add("node1:7400")
    process = world.start(world.core.connect())
    attempts = 0
    for _ in range(300):
        before = len(world.core.pool.wires)
        world.advance(0.1)
        attempts += len(world.core.pool.wires) != before
    assert not process.done
    assert world.core.pool._peers[0].turn < 60


def test_a_broker_that_never_greets_is_given_up() -> None:
    world = World(connect_timeout=2.0, request_timeout=9.0)
    world.cluster.deaf.add(TYPE_OF[Hello])
    with pytest.raises(ConnectionLost, match="does not answer"):
        world.connect()


def test_a_connection_that_is_lost_with_its_greeting_is_replaced() -> None:
    for cut in range(100, 140):
        world = World()
        world.cut_after = cut
        world.connect()
        assert all(wire in world.links for wire in world.core.pool.wires if wire.ready)
        world.finish(world.publish(b"x"))


def test_a_broker_of_another_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(request_timeout=3.0).connect()
    world.core.pool.cluster = "mine"
    world.cut_all()
    with pytest.raises(ConnectionLost, match="of another cluster"):
        world.run(world.core.admin.list_topics())


def test_a_request_survives_cuts_at_any_byte_of_its_reply() -> None:
    for cut in range(0, 120, 7):
        world = World().connect()
        world.cut_after = cut
        topics = world.run(world.core.admin.list_topics())
        assert [topic.name for topic in topics] == ["t"]


def test_an_unsafe_request_is_not_repeated() -> None:
    world = World().connect()
    world.cut_after = 5
    with pytest.raises(ConnectionLost) as caught:
        world.run(world.core.admin.create_topic("new"))
    assert caught.value.detail["outcome"] == "unknown"
    assert world.cluster.seen[TYPE_OF[CreateTopic]] == 1
    world.advance(5.0)
    world.cut_after = 5
    world.run(world.core.admin.create_topic("other", if_not_exists=True))
    assert world.cluster.seen[TYPE_OF[CreateTopic]] == 3


def test_a_refusal_is_raised_as_its_class() -> None:
    world = World().connect()
    with pytest.raises(TopicExists, match="'t'"):
        world.run(world.core.admin.create_topic("t"))


def test_passing_refusals_are_waited_out_and_the_last_one_told() -> None:
    world = World(request_timeout=3.0).connect()
    number = TYPE_OF[Metadata]
    world.cluster.refusals.extend([(number, Throttled("busy"))] * 3)
    assert world.run(world.core.admin.list_topics())
    world.cluster.refusals.extend([(number, Throttled("busy"))] * 1000)
    with pytest.raises(Throttled, match="busy"):
        world.run(world.core.admin.list_topics())


def test_a_look_at_a_group_is_given_up_soon_while_no_leader_is_known() -> None:
    world = World(request_timeout=10.0).connect()
    world.cluster.refusals.extend([(TYPE_OF[DescribeGroup], LeaderUnknown("none"))] * 1000)
    begun = world.now
    with pytest.raises(LeaderUnknown):
        world.run(world.core.admin.describe_group("g", patience=1.0))
    assert 0.5 < world.now - begun < 1.5


def test_a_request_without_an_answer_times_out() -> None:
    world = World(request_timeout=3.0).connect()
    world.cluster.deaf.add(TYPE_OF[Metadata])
    with pytest.raises((TimedOut, ConnectionLost)):
        world.run(world.core.admin.list_topics(), limit=4.0)


def test_a_created_topic_can_be_used_at_once() -> None:
    world = World().connect()
    world.run(world.core.admin.create_topic("new", partitions=3))
    before = world.cluster.seen[TYPE_OF[Metadata]]
    world.finish(world.publish(b"x", topic="new", partition=2))
    assert world.cluster.seen[TYPE_OF[Metadata]] == before


def test_offsets_are_asked_of_each_leader() -> None:
    world = World(FakeCluster(nodes=3, t=3)).connect()
    for number in range(3):
        world.finish(world.publish(b"x", partition=number))
    admin = world.core.admin
    assert world.run(admin.list_offsets("t")) == {0: 1, 1: 1, 2: 1}
    assert world.run(admin.list_offsets("t", {1: "earliest", 2: "latest"})) == {1: 0, 2: 1}
    assert world.run(admin.list_offsets("t", datetime(2026, 1, 1, tzinfo=UTC))) == {
        0: 0,
        1: 0,
        2: 0,
    }
    with pytest.raises(PartitionNotFound):
        world.run(admin.list_offsets("t", {9: "latest"}))
    with pytest.raises(TopicNotFound):
        world.run(admin.list_offsets("nowhere"))
    with pytest.raises(BadRequest):
        world.run(admin.list_offsets("t", 5))


def test_a_hint_about_the_leader_is_followed() -> None:
    world = World(FakeCluster(nodes=2, t=2)).connect()
    world.run(world.core.admin.list_offsets("t"))
    world.cluster.partition("t", 1).leader = 1
    world.cluster.refusals.append((TYPE_OF[ListOffsets], NotLeader(leader=1)))
    assert world.run(world.core.admin.list_offsets("t")) == {0: 0, 1: 0}


def test_seeking_needs_one_kind_of_target() -> None:
    world = World().connect()
    with pytest.raises(BadRequest):
        world.run(world.core.admin.seek_group("g", "t"))
    with pytest.raises(BadRequest):
        world.run(world.core.admin.seek_group("g", "t", to=0, positions={0: 0}))
    with pytest.raises(GroupNotFound):
        world.run(world.core.admin.seek_group("g", "t", positions={0: "latest"}))
    plan = world.run(world.core.admin.seek_group("g", "t", positions={0: "latest"}, create=True))
    assert plan.plan == {0: [-1, 0]}


def test_events_are_bounded_and_the_oldest_go_first() -> None:
    world = World().connect()
    log = world.core.events
    number, _ = log.after(0)
    for count in range(EVENTS_MAX + 10):
        log.add("test", count=count)
    following, found = log.after(number)
    assert len(found) == EVENTS_MAX
    assert found[0].detail == {"count": 10}
    assert log.after(following) == (following, [])


def test_operations_end_with_the_client() -> None:
    world = World().connect()
    world.cluster.deaf.add(TYPE_OF[Metadata])
    process = world.start(world.core.admin.list_topics())
    world.run(world.core.close(1.0))
    with pytest.raises(ClientClosed):
        process.result()
    with pytest.raises(ClientClosed):
        world.core.start(world.core.admin.list_topics())
    world.advance(100.0)
    assert world.links == {}


def test_a_bug_in_a_part_ends_the_client_loudly(caplog: pytest.LogCaptureFixture) -> None:
    world = World().connect()
    subscription = world.subscribe()
    subscription.share = None
    with caplog.at_level(logging.ERROR):
        world.finish(world.publish(b"x"))
    assert "a part of the client failed" in caplog.text
    assert world.core.closed
    with pytest.raises(ClientClosed, match="failed"):
        world.core.check_open()


def test_the_representation_names_the_servers() -> None:
    world = World().connect()
    assert repr(world.core) == "<node1:7400>"
    world.core.shut()
    assert repr(world.core) == "<node1:7400 closed>"
