from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    CorruptData,
    Fenced,
    GroupNotEmpty,
    GroupNotFound,
    InvalidName,
    LimitExceeded,
    MemberUnknown,
    OffsetOutOfRange,
    PartitionNotFound,
    PreconditionFailed,
    TopicNotFound,
    UnsupportedFormat,
)
from penstock_broker.machine import groups
from penstock_broker.machine.commands import (
    Bundle,
    Commit,
    DeleteGroup,
    Expire,
    ExpireGroup,
    Join,
    Leave,
    Refused,
    Release,
    Seek,
    TopicChanged,
    TopicRef,
    Trim,
)
from penstock_broker.machine.effects import (
    AssignmentChanged,
    GroupForgotten,
    SessionEnded,
    SessionStarted,
)
from penstock_broker.machine.group_views import MemberView, Session
from tests.machine.coordinator import ANEW, GONE, MORE, ORDERS, Coordinator, commit, seek
from tests.machine.replicas import SECOND

# ----- assignment


def test_the_first_member_gets_all_at_once(coordinator: Coordinator) -> None:
    view = coordinator.join("a")
    assert view == MemberView(1, {"orders": [0, 1, 2, 3]}, {}, {})
    assert coordinator.effects == [
        SessionStarted("billing", "a", 1, 10_000),
        AssignmentChanged("billing", 1),
    ]


def test_a_partition_moves_only_after_its_owner_released_it(coordinator: Coordinator) -> None:
    coordinator.join("a")
    assert coordinator.join("b").owned == {}
    view = coordinator.heartbeat("a", 1)
    assert (view.owned, view.revoked) == ({"orders": [0, 1]}, {"orders": [2, 3]})
    after = coordinator.release("a", view.generation, 2)
    assert after.revoked == {"orders": [3]}
    assert coordinator.heartbeat("b", 2).owned == {"orders": [2]}


def test_releasing_again_or_what_is_not_owned_changes_nothing(pair: Coordinator) -> None:
    generation = pair.generation
    assert pair.release("a", 3, 2, 3, 99).owned == {"orders": [0, 1]}
    assert pair.effects == []
    assert pair.generation == generation


def test_a_late_release_does_not_take_what_was_given_anew(pair: Coordinator) -> None:
    pair.apply(Leave(group="billing", member="b"))
    assert pair.heartbeat("a", 3).owned == {"orders": [0, 1, 2, 3]}
    pair.release("a", 3, 2, 3)
    assert pair.heartbeat("a", 3).owned == {"orders": [0, 1, 2, 3]}


def test_a_voluntary_release_gives_the_partition_back_under_a_new_generation(
    pair: Coordinator,
) -> None:
    pair.apply(commit("a", 3, {0: 5}))
    view = pair.release("a", 3, 0, 0)
    assert view.owned == {"orders": [0, 1]}
    assert view.offsets == {"orders": {0: 5}}
    assert pair.refuse(commit("a", 3, {0: 6})) is Fenced


@pytest.mark.parametrize("how", ["leave", "expire"])
def test_what_a_gone_member_owned_goes_on_at_once(pair: Coordinator, how: str) -> None:
    if how == "leave":
        pair.apply(Leave(group="billing", member="b", generation=3))
    else:
        pair.apply(Expire(group="billing", member="b", joined=2))
    assert pair.effects == [SessionEnded("billing", "b"), AssignmentChanged("billing", 4)]
    assert pair.heartbeat("a", 3).owned == {"orders": [0, 1, 2, 3]}
    assert pair.refuse(commit("b", 3, {2: 1})) is MemberUnknown


def test_a_move_that_was_not_made_is_taken_back(coordinator: Coordinator) -> None:
    coordinator.join("a")
    coordinator.join("b")
    coordinator.apply(Leave(group="billing", member="b"))
    assert coordinator.heartbeat("a", 1).revoked == {}
    assert coordinator.heartbeat("a", 1).owned == {"orders": [0, 1, 2, 3]}


def test_a_member_that_joins_again_fences_its_earlier_instance(pair: Coordinator) -> None:
    pair.apply(commit("b", 3, {2: 7}))
    view = pair.join("b")
    assert view == MemberView(4, {"orders": [2, 3]}, {}, {"orders": {2: 7}})
    assert pair.refuse(commit("b", 3, {2: 8})) is Fenced
    assert isinstance(pair.machine.heartbeat("billing", "b", 3), Refused)
    assert pair.refuse(Leave(group="billing", member="b", generation=3)) is Fenced
    assert pair.refuse(Expire(group="billing", member="b", joined=2)) is Fenced
    refused = Release(group="billing", member="b", generation=3, partitions={"orders": [2]})
    assert pair.refuse(refused) is Fenced
    pair.apply(commit("b", 4, {2: 8}))


def test_a_new_instance_does_not_wait_for_what_the_old_one_should_release(
    coordinator: Coordinator,
) -> None:
    coordinator.join("a")
    coordinator.join("b")
    assert coordinator.join("a").owned == {"orders": [0, 1]}
    assert coordinator.heartbeat("b", 2).owned == {"orders": [2, 3]}


def test_a_generation_from_the_future_is_fenced(pair: Coordinator) -> None:
    assert pair.refuse(commit("a", 99, {0: 1})) is Fenced


def test_members_get_only_what_they_want(coordinator: Coordinator) -> None:
    events = TopicRef(name="events", id="events-1", partitions=2, revision=5)
    coordinator.join("a", topics=["orders", "events", "orders"], refs=[ORDERS, events])
    view = coordinator.join("b", topics=["events"], refs=[])
    assert view.owned == {}
    revoked = coordinator.heartbeat("a", 1).revoked
    assert set(revoked) == {"events"}


def test_a_topic_may_come_after_its_members(coordinator: Coordinator) -> None:
    assert coordinator.join("a", refs=[]).owned == {}
    coordinator.apply(TopicChanged(topic=ORDERS))
    assert coordinator.effects == [AssignmentChanged("billing", 2)]
    assert coordinator.heartbeat("a", 1).owned == {"orders": [0, 1, 2, 3]}


# ----- topics


def test_added_partitions_are_assigned(pair: Coordinator) -> None:
    pair.apply(TopicChanged(topic=MORE))
    assert pair.effects == [AssignmentChanged("billing", 4)]
    assert pair.heartbeat("a", 3).owned == {"orders": [0, 1, 4]}
    assert pair.heartbeat("b", 3).owned == {"orders": [2, 3, 5]}


def test_an_older_revision_changes_nothing(pair: Coordinator) -> None:
    pair.apply(TopicChanged(topic=MORE))
    before = pair.machine.snapshot()
    pair.apply(TopicChanged(topic=ORDERS))
    pair.apply(TopicChanged(topic=MORE))
    assert pair.machine.snapshot() == before


def test_a_deleted_topic_takes_its_offsets_along(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 5}))
    pair.apply(TopicChanged(topic=GONE))
    assert pair.heartbeat("a", 3) == MemberView(4, {}, {}, {})
    assert pair.positions() == {}
    assert pair.refuse(commit("a", 4, {0: 6})) is Fenced
    assert pair.refuse(seek({0: 1})) is TopicNotFound


def test_a_topic_made_anew_begins_anew(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 5}))
    pair.join("c", refs=[ANEW])
    assert pair.positions() == {}
    assert pair.refuse(commit("a", 3, {0: 6})) is Fenced


def test_topics_that_nobody_uses_are_not_kept(pair: Coordinator) -> None:
    other = TopicRef(name="other", id="other-1", partitions=2, revision=14)
    pair.apply(TopicChanged(topic=other))
    assert list(pair.machine.topics) == ["orders"]
    pair.apply(Leave(group="billing", member="a"))
    pair.apply(Leave(group="billing", member="b"))
    pair.apply(TopicChanged(topic=GONE))
    assert not pair.machine.topics


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (seek({4: 1}), PartitionNotFound),
        (seek({0: -1}), OffsetOutOfRange),
        (seek({0: 1}, GONE), TopicNotFound),
        (Seek(group="a b", topic=ORDERS, positions={}), InvalidName),
        (Trim(offset=1), BadRequest),
        (TopicChanged(topic=TopicRef(name="x", id="y", partitions=-1, revision=1)), BadRequest),
        (DeleteGroup(group="billing"), GroupNotFound),
        (Leave(group="billing", member="a"), MemberUnknown),
    ],
)
def test_what_can_not_be_is_refused(
    coordinator: Coordinator, command: Any, error: type[Exception]
) -> None:
    assert coordinator.refuse(command) is error


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"group": ""}, InvalidName),
        ({"member": "a b"}, InvalidName),
        ({"topics": [".."]}, InvalidName),
        ({"refs": [TopicRef(name="x", id="y", partitions=10_001, revision=1)]}, InvalidName),
        ({"host": "h" * 256}, BadRequest),
        ({"topics": []}, LimitExceeded),
        ({"topics": ["t"] * 101}, LimitExceeded),
        ({"session_timeout_ms": 99}, BadRequest),
        ({"session_timeout_ms": 3_600_001}, BadRequest),
    ],
)
def test_a_malformed_join_is_refused(
    coordinator: Coordinator, fields: dict[str, Any], error: type[Exception]
) -> None:
    good: dict[str, Any] = {
        "group": "billing",
        "member": "a",
        "topics": ["orders"],
        "session_timeout_ms": 10_000,
    }
    assert coordinator.refuse(Join(**(good | fields))) is error


def test_groups_and_members_have_limits(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "GROUPS_MAX", 1)
    monkeypatch.setattr(groups, "MEMBERS_MAX", 1)
    coordinator.join("a")
    more: dict[str, Any] = {"topics": ["orders"], "session_timeout_ms": 1_000}
    assert coordinator.refuse(Join(group="billing", member="b", **more)) is LimitExceeded
    assert coordinator.refuse(Join(group="audit", member="b", **more)) is LimitExceeded
    assert coordinator.refuse(Commit(group="audit", offsets={})) is LimitExceeded
    refused = Seek(group="audit", topic=ORDERS, positions={})
    assert coordinator.refuse(refused) is LimitExceeded
    coordinator.join("a")


# ----- life of a group


def test_a_group_is_deleted_only_without_members(pair: Coordinator) -> None:
    assert pair.refuse(DeleteGroup(group="billing")) is GroupNotEmpty
    pair.apply(Leave(group="billing", member="a"))
    pair.apply(Leave(group="billing", member="b"))
    pair.apply(DeleteGroup(group="billing"))
    assert pair.effects == [GroupForgotten("billing")]
    assert pair.machine.describe("billing") is None


def test_a_group_made_anew_does_not_reach_old_generations(pair: Coordinator) -> None:
    last = pair.generation
    pair.apply(Leave(group="billing", member="a"))
    pair.apply(Leave(group="billing", member="b"))
    pair.apply(DeleteGroup(group="billing"))
    assert pair.join("a").generation > last
    assert pair.refuse(commit("a", last, {0: 1})) is Fenced


def test_a_group_expires_when_it_is_empty_and_unused(pair: Coordinator) -> None:
    day = 86_400 * SECOND
    assert pair.machine.idle_groups(pair.now_us + 9 * day, 7 * day) == []
    pair.apply(Leave(group="billing", member="a"))
    pair.apply(Leave(group="billing", member="b"))
    assert pair.machine.idle_groups(pair.now_us + 7 * day, 7 * day) == []
    (expire,) = pair.machine.idle_groups(pair.now_us + 7 * day + 1, 7 * day)
    assert expire == ExpireGroup(group="billing", touched_us=pair.now_us)
    pair.now_us += day
    pair.apply(seek({0: 1}))
    assert pair.refuse(expire) is PreconditionFailed
    pair.apply(ExpireGroup(group="billing", touched_us=pair.now_us))
    assert pair.machine.list_groups() == []


def test_a_bundle_is_its_commands_in_order(coordinator: Coordinator) -> None:
    bundle = Bundle(
        commands=[
            Join(
                group="billing",
                member="a",
                topics=["orders"],
                session_timeout_ms=1_000,
                refs=[ORDERS],
            ),
            commit("a", 1, {0: 5}),
            commit("a", 2, {0: 6}),
        ]
    )
    replies = coordinator.apply(bundle).replies
    assert [type(reply).__name__ for reply in replies] == [
        "MemberView",
        "OffsetsCommitted",
        "Refused",
    ]
    assert [type(effect) for effect in coordinator.effects] == [SessionStarted, AssignmentChanged]
    assert coordinator.positions() == {0: 5}


def test_descriptions_tell_the_whole_story(pair: Coordinator) -> None:
    pair.join("c", host="worker-3")
    described = pair.machine.describe("billing")
    assert described is not None
    assert [member.id for member in described.members] == ["a", "b", "c"]
    assert described.members[2].host == "worker-3"
    assert described.owners == {"orders": {0: "a", 1: "a", 2: "b", 3: "b"}}
    assert described.targets != described.owners
    (summary,) = pair.machine.list_groups()
    assert (summary.group, summary.members, summary.topics) == ("billing", 3, ["orders"])
    assert pair.machine.sessions() == [
        Session("billing", "a", 1, 10_000),
        Session("billing", "b", 2, 10_000),
        Session("billing", "c", 4, 10_000),
    ]


def test_a_snapshot_of_another_version_or_damaged_is_refused(pair: Coordinator) -> None:
    blob = pair.machine.snapshot()
    with pytest.raises(UnsupportedFormat):
        pair.machine.restore(b"\x09" + blob[1:])
    with pytest.raises(CorruptData):
        pair.machine.restore(blob[:-1])
    assert pair.machine.snapshot() == blob
