"""Shared groups as a whole: created, altered, listed, described, deleted; limits of connections."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    GroupExists,
    GroupNotFound,
    InvalidConfig,
    LimitExceeded,
    PartitionNotFound,
    TopicNotFound,
)
from penstock.protocol import leases
from penstock.protocol.messages import (
    AlterTopic,
    DeleteGroup,
    DescribeGroup,
    JoinGroup,
    ListGroups,
)
from penstock.protocol.sharing import AlterGroup, AttachGroup, CreateGroup
from penstock_broker.node.sharing import acquire
from tests.node.harness import Harness
from tests.node.sharing.members import GROUP, Member, alter, create, offsets
from tests.node.sharing.test_delivery import prepared, publish


def test_a_group_is_there_when_its_creation_is_answered() -> None:
    node = Harness()
    gids = node.topic(partitions=3)
    made = create(node, lease_ms="5s")
    assert (made.topic, made.group, made.dead_topic) == ("orders", GROUP, "dead.orders.billing")
    assert made.settings == {"lease_ms": 5000}
    assert all(GROUP in node.node.partitions[gid].shared.dispatchers for gid in gids)
    dead = node.node.groups.metadata.machine.topics[made.dead_topic]
    assert len(dead.partitions) == 3


def test_a_group_is_created_once() -> None:
    node, _ = prepared()
    with pytest.raises(GroupExists):
        create(node)
    again = CreateGroup(topic="orders", group=GROUP, if_not_exists=True)
    assert not node.client().ask(again).created


def test_a_dry_run_changes_nothing() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    assert client.ask(CreateGroup(topic="orders", group=GROUP, dry_run=True)).created
    create(node)
    asked = AlterGroup(topic="orders", group=GROUP, settings={"lease_ms": 5000}, dry_run=True)
    assert client.ask(asked).group.settings == {"lease_ms": 5000}
    client.ask(DeleteGroup(group=GROUP, topic="orders", dry_run=True))
    assert Member(node).attached.lease_ms == 30_000


@pytest.mark.parametrize(
    ("topic", "settings", "error"),
    [
        ("other", {}, TopicNotFound),
        ("orders", {"lease_ms": 1}, InvalidConfig),
        ("orders", {"nonsense": 1}, InvalidConfig),
        ("orders", {"lease_ms": [1]}, InvalidConfig),
    ],
)
def test_an_impossible_group_is_refused(
    topic: str, settings: dict[str, object], error: type[Exception]
) -> None:
    node = Harness()
    node.topic()
    with pytest.raises(error):
        node.client().ask(CreateGroup(topic=topic, group=GROUP, settings=settings))


def test_altering_a_group_reaches_every_partition() -> None:
    node = Harness()
    gids = node.topic(partitions=2)
    create(node)
    assert alter(node, strict="yes", lease_ms=2000).settings == {"lease_ms": 2000, "strict": "yes"}
    for gid in gids:
        assert node.node.partitions[gid].machine.sharing.groups[GROUP].settings.lease_ms == 2000
    assert alter(node, lease_ms=None).settings == {"strict": "yes"}
    with pytest.raises(GroupNotFound):
        node.client().ask(AlterGroup(topic="orders", group="other", settings={}))


def test_partitions_that_are_added_know_the_group() -> None:
    node, _ = prepared()
    node.client().ask(AlterTopic(name="orders", partitions=2))
    asked = AttachGroup(topic="orders", partition=1, group=GROUP, member="m")
    assert node.client().ask(asked).handle == 1


def test_groups_of_both_modes_are_listed() -> None:
    node, gid = prepared(5)
    client = node.client()
    client.ask(JoinGroup(group="ordered", member="m", topics=["orders"]))
    member = Member(node)
    member.settle(member.acquire(3).lease, [(0, 2)])
    publish(node, gid, 1)
    found = [
        (group.group, group.mode, group.members, group.topics, group.lag)
        for group in client.ask(ListGroups()).groups
    ]
    assert found == [
        (GROUP, "shared", 1, ["orders"], 4),
        ("ordered", "ordered", 1, ["orders"], 6),
    ]


def test_a_shared_group_is_described() -> None:
    node, _ = prepared(5)
    member = Member(node)
    member.settle(member.acquire(3).lease, [(0, 2)])
    reply = node.client().ask(DescribeGroup(group=GROUP))
    assert reply.mode == "shared"
    assert [(info.member, info.host, info.owned) for info in reply.members] == [
        ("m1", "here", {"orders": [0]})
    ]
    (row,) = reply.partitions
    assert (row.committed, row.high_watermark, row.lag) == (2, 5, 3)
    with pytest.raises(GroupNotFound):
        node.client().ask(DescribeGroup(group="other"))


def test_deleting_a_group_forgets_its_state_also_after_a_restart() -> None:
    node, gid = prepared(5)
    node.client().ask(DeleteGroup(group=GROUP, topic="orders"))
    assert not node.node.partitions[gid].machine.sharing.groups
    node.restart()
    assert not node.node.partitions[gid].machine.sharing.groups
    with pytest.raises(GroupNotFound):
        node.client().ask(DeleteGroup(group=GROUP, topic="orders"))


def test_a_member_without_a_name_or_room_is_refused() -> None:
    node, _ = prepared()
    client = node.client()
    with pytest.raises(BadRequest):
        client.ask(AttachGroup(topic="orders", partition=0, group=GROUP, member=""))
    asked = AttachGroup(topic="orders", partition=0, group=GROUP, member="m", max_in_flight=0)
    with pytest.raises(BadRequest):
        client.ask(asked)
    with pytest.raises(PartitionNotFound):
        client.ask(AttachGroup(topic="orders", partition=1, group=GROUP, member="m"))


def test_a_connection_has_a_limited_number_of_waiting_acquires(monkeypatch: Any) -> None:
    monkeypatch.setattr(acquire, "ACQUIRES_MAX", 2)
    node, _ = prepared()
    member = Member(node)
    member.ask(1, wait_ms=1000)
    member.ask(1, wait_ms=1000)
    with pytest.raises(LimitExceeded):
        member.acquire(1, wait_ms=1000)


def test_malformed_frames_are_refused() -> None:
    node, _ = prepared(5)
    member = Member(node)
    member.client.send(leases.acquire_request(1, member.gid, leases.Acquire(1, 0, 1, 0)))
    with pytest.raises(BadRequest):
        member.acquired()
    member.client.send(leases.settle_request(1, member.gid, member.handle, []))
    with pytest.raises(BadRequest):
        member.settled()


def test_overlapping_verdicts_count_each_record_once() -> None:
    node, _ = prepared(5)
    member = Member(node)
    got = member.acquire()
    assert member.settle(got.lease, [(0, 3), (2, 3)]).accepted == 5
    assert offsets(member.acquire()) == []
