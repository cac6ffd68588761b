"""Requests of clients are answered the same by every node, whoever leads what they are about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.errors import NotLeader, PenstockError
from penstock.protocol import messages as m
from penstock.protocol import sharing as s
from penstock.protocol.messages import CreateTopic
from tests.node.cluster import Cluster
from tests.node.harness import error_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three members; topics with replicas everywhere and in one place, groups of both kinds."""
    made = Cluster(3)
    fill(made)
    yield made
    assert not made.errors


def fill(cluster: Cluster) -> None:
    client = cluster.members[2].client()
    gids = cluster.topic("orders", partitions=5)
    cluster.topic("alone", partitions=5, replication=1)
    for gid in gids:
        publish(cluster, gid, b"one", b"two")
    ask = cluster.ask
    ask(client, s.CreateGroup(topic="orders", group="work"))
    ask(client, s.CreateGroup(topic="alone", group="work"))
    for name in ("billing", "audit", "mail", "search"):
        ask(client, m.SeekGroup(group=name, topic="orders", to=-2, create=True))
        ask(client, m.JoinGroup(group=name, member="m1", topics=["orders"], host="h1"))
    ask(client, s.EnableDelays(topic="orders"))
    cluster.advance(5.0)


def publish(cluster: Cluster, gid: int, *values: bytes) -> None:
    client = cluster.leader(gid).client()
    client.publish_nowait(gid, *values)
    cluster.run_until(lambda: client.session.out)
    client.publish_reply()


def answers(cluster: Cluster, message: m.Message) -> list[Any]:
    """What each member says; errors as their class and text."""
    found = []
    for number in cluster.members:
        try:
            found.append(cluster.ask(cluster.members[number].client(), message))
        except PenstockError as error:
            found.append((type(error), str(error)))
    return found


SAME = [
    m.Metadata(),
    m.Metadata(topics=["orders", "absent"]),
    m.DescribeTopic(name="orders"),
    m.DescribeTopic(name="alone"),
    m.DescribeTopic(name="absent"),
    m.ListOffsets(topic="orders", positions=dict.fromkeys(range(5), -1)),
    m.ListOffsets(topic="alone", positions=dict.fromkeys(range(5), -2)),
    m.ListOffsets(topic="orders", positions={9: -1}),
    m.ListOffsets(topic="absent", positions={0: -1}),
    m.TrimLog(topic="orders", partition=3, offset=1),
    m.TrimLog(topic="orders", partition=4, offset=99),
    m.ListGroups(),
    *(m.DescribeGroup(group=name) for name in ("billing", "audit", "work", "absent")),
    *(
        m.SeekGroup(group=name, topic="orders", to=-1, dry_run=True)
        for name in ("billing", "audit", "mail", "absent")
    ),
    m.SeekGroup(group="mail", topic="orders", positions={0: 1, 1: 2, 2: -2}, dry_run=True),
    m.SeekGroup(group="mail", topic="orders", positions={0: 77}),
    m.CreateTopic(name="orders"),
    m.CreateTopic(name="alone", if_not_exists=True),
    m.AlterTopic(name="orders", partitions=7, dry_run=True),
    m.DeleteTopic(name="orders", dry_run=True),
    m.DeleteTopic(name="absent"),
    m.DeleteGroup(group="billing"),
    m.DeleteGroup(group="work", topic="orders", dry_run=True),
    s.CreateGroup(topic="orders", group="more", dry_run=True),
    s.AlterGroup(topic="orders", group="work", settings={"max_attempts": 7}),
    s.RenewLeases(topic="orders", partition=2, group="work", member="x", leases=[5]),
    s.RenewLeases(topic="orders", partition=2, group="absent", member="x", leases=[5]),
    s.DescribeShared(topic="orders", group="work"),
    s.DescribeShared(topic="alone", group="work"),
    s.DescribeShared(topic="alone", group="absent"),
    *(s.ExplainRecord(topic="orders", partition=number, offset=1) for number in range(5)),
    s.ExplainRecord(topic="orders", partition=0, offset=1, group="search"),
    s.ExplainRecord(topic="orders", partition=0, offset=1, group="absent"),
    s.ExplainRecord(topic="orders", partition=0, offset=99),
    *(s.StuckRecords(topic="orders", partition=number, group="work") for number in range(3)),
    *(s.HeldRuns(topic="dead.orders.work", partition=n, group="work") for n in range(3)),
    s.Redrive(topic="dead.orders.work", partition=4, group="work", spans=[0, 1]),
    s.PurgeRecords(topic="dead.orders.work", partition=4, group="work", spans=[0, 1]),
    s.EnableDelays(topic="orders"),
    *(s.ListScheduled(topic="orders", partition=number) for number in range(3)),
    s.ListScheduled(topic="alone", partition=0),
    s.ListScheduled(topic="absent", partition=0),
    s.CancelScheduled(topic="orders", partition=4, ids=[1, 2]),
]


@pytest.mark.parametrize("message", SAME, ids=lambda each: type(each).__name__)
def test_every_node_gives_the_same_answer(cluster: Cluster, message: m.Message) -> None:
    first, *others = answers(cluster, message)
    for other in others:
        assert other == first


def test_any_node_creates_a_topic_and_every_node_knows_it_then() -> None:
    cluster = Cluster(3)
    for number, member in cluster.members.items():
        reply = cluster.ask(member.client(), CreateTopic(name=f"t{number}", partitions=2))
        assert reply.created
        for other in cluster.members.values():
            found = cluster.ask(other.client(), m.Metadata(topics=[f"t{number}"]))
            assert [topic.name for topic in found.topics] == [f"t{number}"]


@pytest.mark.parametrize("kind", ["publish", "fetch", "attach"])
def test_hot_requests_are_told_where_to_go(cluster: Cluster, kind: str) -> None:
    orders = cluster.ask(cluster.members[1].client(), m.Metadata(topics=["orders"])).topics[0]
    gids = [partition.group for partition in orders.partitions]
    leader = cluster.leader(gids[0])
    other = next(member for member in cluster.members.values() if member is not leader)
    client = other.client()
    calls = {
        "publish": lambda: client.publish(gids[0], b"x"),
        "fetch": lambda: client.fetch(gids[0], 0),
        "attach": lambda: client.ask(
            s.AttachGroup(topic="orders", partition=0, group="work", member="m")
        ),
    }
    error = error_of(calls[kind])
    assert isinstance(error, NotLeader)
    assert error.detail["leader"] == leader.node.node_id
    assert error.detail["address"] == leader.address
