"""Shared groups, dead-letter topics and companions of delayed records in the metadata."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    GroupExists,
    GroupNotFound,
    InvalidConfig,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
    TopicExists,
    TopicNotFound,
)
from penstock_broker.machine import drafts, shared_plans
from penstock_broker.machine.commands import (
    AlterSharedGroup,
    AlterTopic,
    CreateSharedGroup,
    CreateTopic,
    DeleteSharedGroup,
    DeleteTopic,
    EnableDelays,
    SetNodeState,
)
from penstock_broker.machine.effects import (
    ConfigChanged,
    GroupCreated,
    GroupDeleted,
    SharedChanged,
    TopicRevised,
)
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import TIMER_GROUP, Topic
from tests.machine.replicas import Replicas
from tests.machine.test_metadata import create, init

Cluster = Replicas[MetadataMachine]
DEAD = "dead.orders.billing"
COMPANION = "__delayed.orders"


@pytest.fixture
def cluster() -> Cluster:
    replicas = Cluster(MetadataMachine)
    replicas.apply(init())
    replicas.apply(create(partitions=2, replication=2))
    return replicas


def share(topic: str = "orders", group: str = "billing", **more: Any) -> CreateSharedGroup:
    return CreateSharedGroup(topic=topic, group=group, **{"id": f"{group}-id", **more})


def alter(group: str = "billing", **settings: Any) -> AlterSharedGroup:
    return AlterSharedGroup(topic="orders", group=group, settings=settings)


def topic(cluster: Cluster, name: str = "orders") -> Topic:
    return cluster.machine.topics[name]


def places(cluster: Cluster, name: str) -> list[list[int]]:
    return [partition.replicas for partition in topic(cluster, name).partitions]


def test_a_shared_group_brings_its_dead_letter_topic(cluster: Cluster) -> None:
    reply = cluster.apply(share(settings={"lease_ms": "10s"}))
    assert reply.created
    assert reply.dead.name == DEAD
    definition = topic(cluster).shared["billing"]
    assert (definition.kind, definition.settings) == ("shared", {"lease_ms": 10_000})
    assert (definition.dead_topic, definition.revision) == (DEAD, cluster.index)
    dead = topic(cluster, DEAD)
    assert dead.origin == ("orders", "billing")
    assert dead.config.retention_ms == -1
    assert dead.shared["billing"].kind == "hold"
    assert dead.shared["billing"].settings == definition.settings
    assert places(cluster, DEAD) == places(cluster, "orders")


def test_everything_is_told_at_once(cluster: Cluster) -> None:
    cluster.apply(share())
    gids = [partition.group for partition in topic(cluster, DEAD).partitions]
    assert [effect.group for effect in cluster.effects_of(GroupCreated)] == gids
    assert [effect.topic for effect in cluster.effects_of(SharedChanged)] == [DEAD, "orders"]
    assert [effect.topic for effect in cluster.effects_of(TopicRevised)] == [DEAD]
    assert cluster.machine.dead_partition("orders", "billing", 1) == gids[1]
    assert cluster.machine.dead_partition("orders", "billing", 2) == 0
    assert cluster.machine.dead_partition("orders", "other", 0) == 0


def test_creating_twice_is_answered_the_same(cluster: Cluster) -> None:
    cluster.apply(share())
    again = cluster.apply(share())
    assert (again.created, again.dead.name) == (True, DEAD)
    assert not cluster.effects
    other = cluster.apply(share(id="another", if_not_exists=True))
    assert not other.created
    assert cluster.refuse(share(id="another")) is GroupExists


def test_a_dry_run_changes_nothing(cluster: Cluster) -> None:
    before = cluster.machine.snapshot()
    reply: Any = cluster.machine.preview(share(), Stamp(99, 1, 1))
    assert reply.created
    assert cluster.machine.snapshot() == before


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (share(topic="nowhere"), TopicNotFound),
        (share(topic="__groups"), InvalidName),
        (share(group="a b"), InvalidName),
        (share(group="__timer"), InvalidName),
        (share(group="g" * 195), InvalidName),
        (share(settings={"colour": "red"}), InvalidConfig),
        (share(settings={"order_by": "key"}), PreconditionFailed),
        (share(settings={"fair_by": "tenant"}), PreconditionFailed),
        (share(start=-3), BadRequest),
        (share(id=""), BadRequest),
        (share(id="x" * 201), BadRequest),
        (alter(), GroupNotFound),
        (DeleteSharedGroup(topic="orders", group="billing"), GroupNotFound),
        (EnableDelays(topic="nowhere", id="x"), TopicNotFound),
        (EnableDelays(topic="orders", id=""), BadRequest),
    ],
)
def test_what_can_not_be_is_refused(cluster: Cluster, command: Any, error: type[Exception]) -> None:
    assert cluster.refuse(command) is error


def test_shared_groups_are_limited(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_plans, "SHARED_GROUPS_MAX", 2)
    cluster.apply(share(group="a"))
    cluster.apply(share(group="b"))
    assert cluster.refuse(share(group="c")) is LimitExceeded


def test_dead_letter_topics_count_as_topics(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "TOPICS_MAX", 2)
    assert cluster.refuse(share()) is LimitExceeded
    assert cluster.apply(share(settings={"dead_letters": "drop"})).dead is None


def test_a_foreign_topic_is_not_taken_for_dead_letters(cluster: Cluster) -> None:
    cluster.apply(create(DEAD))
    assert cluster.refuse(share()) is PreconditionFailed


def test_settings_make_a_new_revision(cluster: Cluster) -> None:
    cluster.apply(share())
    cluster.apply(alter(lease_ms="1m"))
    changed = cluster.index
    assert topic(cluster).shared["billing"].revision == changed
    assert topic(cluster, DEAD).shared["billing"].settings == {"lease_ms": 60_000}
    assert [effect.topic for effect in cluster.effects_of(SharedChanged)] == [DEAD, "orders"]
    cluster.apply(alter(lease_ms="60s"))
    assert not cluster.effects
    assert topic(cluster).shared["billing"].revision == changed
    cluster.apply(alter(lease_ms=None))
    assert topic(cluster).shared["billing"].settings == {}


def test_dead_letters_may_begin_later_and_end(cluster: Cluster) -> None:
    cluster.apply(share(settings={"dead_letters": "drop"}))
    assert topic(cluster).shared["billing"].dead_topic == ""
    cluster.apply(alter(dead_letters="topic"))
    assert topic(cluster).shared["billing"].dead_topic == DEAD
    cluster.apply(alter(dead_letters="drop"))
    assert topic(cluster).shared["billing"].dead_topic == ""
    cluster.apply(DeleteTopic(name=DEAD))
    assert DEAD not in cluster.machine.topics


def test_a_group_by_key_needs_the_column(cluster: Cluster) -> None:
    cluster.apply(AlterTopic(name="orders", config={"key_slots": "key"}))
    cluster.apply(share(settings={"order_by": "key"}))
    assert topic(cluster, DEAD).config.key_slots == "key"
    assert cluster.refuse(AlterTopic(name="orders", config={"key_slots": None})) is (
        PreconditionFailed
    )
    cluster.apply(alter(order_by=None))
    cluster.apply(AlterTopic(name="orders", config={"key_slots": None}))
    assert topic(cluster, DEAD).config.key_slots == "none"


def test_added_partitions_are_added_to_what_goes_with_the_topic(cluster: Cluster) -> None:
    cluster.apply(share())
    cluster.apply(share(group="audit"))
    cluster.apply(EnableDelays(topic="orders", id="delays"))
    cluster.apply(AlterTopic(name="orders", partitions=5))
    created = cluster.effects_of(GroupCreated)
    assert [effect.group for effect in created] == sorted({effect.group for effect in created})
    assert {effect.topic for effect in created} == {
        "orders", COMPANION, DEAD, "dead.orders.audit",
    }  # fmt: skip
    for name in (COMPANION, DEAD, "dead.orders.audit"):
        assert places(cluster, name) == places(cluster, "orders")


def test_added_partitions_are_limited_all_together(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.apply(share())
    monkeypatch.setattr(drafts, "PARTITIONS_MAX", 15)
    assert cluster.refuse(AlterTopic(name="orders", partitions=4)) is LimitExceeded


# ----- deletion


def test_a_deleted_group_leaves_its_dead_letters(cluster: Cluster) -> None:
    cluster.apply(share())
    assert cluster.refuse(DeleteTopic(name=DEAD)) is PreconditionFailed
    assert cluster.refuse(DeleteSharedGroup(topic=DEAD, group="billing")) is PreconditionFailed
    cluster.apply(DeleteSharedGroup(topic="orders", group="billing"))
    assert [effect.topic for effect in cluster.effects_of(SharedChanged)] == ["orders"]
    assert not topic(cluster).shared
    assert topic(cluster, DEAD).shared["billing"].kind == "hold"
    cluster.apply(DeleteSharedGroup(topic=DEAD, group="billing"))
    cluster.apply(DeleteTopic(name=DEAD))


def test_a_group_made_again_finds_its_dead_letters(cluster: Cluster) -> None:
    cluster.apply(share())
    before = topic(cluster, DEAD).shared["billing"]
    cluster.apply(DeleteSharedGroup(topic="orders", group="billing"))
    cluster.apply(AlterTopic(name="orders", partitions=3))
    reply = cluster.apply(share(id="second", settings={"lease_ms": "2s"}))
    assert reply.dead.id == "billing-id.dead"
    assert len(reply.dead.partitions) == 3
    assert reply.dead.shared["billing"].id == before.id
    assert topic(cluster).shared["billing"].id == "second"


def test_the_group_on_a_dead_letter_topic_follows_its_origin(cluster: Cluster) -> None:
    cluster.apply(share())
    hold = AlterSharedGroup(topic=DEAD, group="billing", settings={"lease_ms": "2s"})
    assert cluster.refuse(hold) is PreconditionFailed
    assert cluster.refuse(share(topic=DEAD, group="x")) is PreconditionFailed
    assert cluster.refuse(share(topic=DEAD)) is GroupExists
    cluster.apply(share(topic=DEAD, group="x", settings={"dead_letters": "drop"}))
    assert cluster.refuse(EnableDelays(topic=DEAD, id="d")) is PreconditionFailed


def test_a_deleted_topic_takes_its_companion_and_leaves_dead_letters(cluster: Cluster) -> None:
    cluster.apply(share())
    cluster.apply(EnableDelays(topic="orders", id="delays"))
    cluster.apply(DeleteTopic(name="orders"))
    assert {effect.topic for effect in cluster.effects_of(GroupDeleted)} == {"orders", COMPANION}
    assert [effect.topic for effect in cluster.effects_of(TopicRevised)] == ["orders"]
    assert DEAD in cluster.machine.topics
    cluster.apply(DeleteTopic(name=DEAD))


# ----- delays


def test_delays_bring_a_companion_once(cluster: Cluster) -> None:
    reply = cluster.apply(EnableDelays(topic="orders", id="delays"))
    assert (reply.topic.delayed, reply.companion.name) == (COMPANION, COMPANION)
    companion = topic(cluster, COMPANION)
    assert (companion.kind, companion.config.retention_ms) == ("delayed", -1)
    assert companion.shared[TIMER_GROUP].kind == "timer"
    assert places(cluster, COMPANION) == places(cluster, "orders")
    assert [effect.kind for effect in cluster.effects_of(GroupCreated)] == ["delayed"] * 2
    again = cluster.apply(EnableDelays(topic="orders", id="others"))
    assert again == reply
    assert not cluster.effects


def test_a_companion_takes_what_its_topic_takes(cluster: Cluster) -> None:
    cluster.apply(EnableDelays(topic="orders", id="delays"))
    cluster.apply(AlterTopic(name="orders", config={"max_batch_bytes": "4MiB"}))
    assert topic(cluster, COMPANION).config.max_batch_bytes == 4 << 20
    assert [effect.topic for effect in cluster.effects_of(ConfigChanged)] == ["orders", COMPANION]


def test_what_goes_with_a_topic_begins_where_it_is_while_nodes_are_drained(
    cluster: Cluster,
) -> None:
    cluster.apply(create("all", partitions=2, replication=3))
    cluster.apply(SetNodeState(node=3, state="draining"))
    assert cluster.apply(share("all")).created
    cluster.apply(EnableDelays(topic="all", id="delayed-id"))
    cluster.apply(AlterTopic(name="all", partitions=3, config={}))
    assert [len(replicas) for replicas in places(cluster, "all")] == [3, 3, 2]
    for name in ("dead.all.billing", "__delayed.all"):
        assert topic(cluster, name).replication == 3
        assert places(cluster, name) == places(cluster, "all")
    assert cluster.refuse(create("more", replication=3)) is PreconditionFailed


def test_names_must_leave_room_for_a_companion(cluster: Cluster) -> None:
    cluster.apply(create("x" * 195))
    assert cluster.refuse(EnableDelays(topic="x" * 195, id="d")) is InvalidName


def test_brokers_topics_are_not_changed_by_hand(cluster: Cluster) -> None:
    cluster.apply(EnableDelays(topic="orders", id="delays"))
    assert cluster.refuse(DeleteTopic(name=COMPANION)) is InvalidName
    assert cluster.refuse(AlterTopic(name=COMPANION, partitions=9)) is InvalidName
    assert cluster.refuse(CreateTopic(name=COMPANION, id="x")) is InvalidName
    cluster.apply(share())
    assert cluster.refuse(create(DEAD)) is TopicExists
