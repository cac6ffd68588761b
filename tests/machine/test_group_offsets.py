from __future__ import annotations

from penstock.errors import (
    Fenced,
    GroupNotEmpty,
    InvalidName,
    MemberUnknown,
    OffsetOutOfRange,
    PartitionNotFound,
)
from penstock_broker.machine.commands import Commit, Refused
from penstock_broker.machine.effects import AssignmentChanged
from tests.machine.coordinator import ANEW, ORDERS, Coordinator, commit, seek


def test_offsets_are_committed_with_their_time(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 5, 1: 0}))
    assert pair.effects == []
    described = pair.machine.describe("billing")
    assert described is not None
    assert described.positions == {"orders": {0: (5, pair.now_us), 1: (0, pair.now_us)}}


def test_a_commit_is_whole_or_nothing(pair: Coordinator) -> None:
    reply = pair.apply(commit("a", 3, {0: 5, 2: 5, 9: 1}))
    assert isinstance(reply, Refused)
    assert reply.code == Fenced.code
    assert reply.detail == {"generation": 3, "partitions": {"orders": [2, 9]}}
    assert pair.positions() == {}


def test_an_owner_may_commit_while_it_is_asked_to_release(coordinator: Coordinator) -> None:
    coordinator.join("a")
    coordinator.join("b")
    coordinator.apply(commit("a", 1, {3: 9}))
    coordinator.release("a", 2, 3)
    assert coordinator.refuse(commit("a", 2, {3: 10})) is Fenced
    assert coordinator.heartbeat("b", 2).offsets == {"orders": {3: 9}}


def test_a_member_that_missed_generations_still_commits_what_stayed_its_own(
    pair: Coordinator,
) -> None:
    pair.apply(commit("a", 1, {0: 5}))
    assert pair.positions() == {0: 5}


def test_no_offset_is_below_zero(pair: Coordinator) -> None:
    assert pair.refuse(commit("a", 3, {0: -1})) is OffsetOutOfRange
    assert pair.refuse(commit("a", 3, {0: 2**63})) is OffsetOutOfRange


def test_strangers_can_not_commit(pair: Coordinator) -> None:
    assert pair.refuse(commit("c", 3, {0: 1})) is MemberUnknown
    stranger = Commit(group="nothing", member="a", generation=1, offsets={})
    assert pair.refuse(stranger) is MemberUnknown
    assert pair.refuse(commit("", 0, {0: 1})) is GroupNotEmpty


def test_a_consumer_outside_any_membership_commits_while_there_are_no_members(
    coordinator: Coordinator,
) -> None:
    outside = Commit(group="billing", offsets={"orders": {0: 5}, "else": {}}, refs=[ORDERS])
    coordinator.apply(outside)
    coordinator.apply(commit("", 0, {1: 6}))
    assert coordinator.positions() == {0: 5, 1: 6}
    assert coordinator.refuse(commit("", 0, {4: 6})) is PartitionNotFound
    unknown = Commit(group="billing", offsets={"unknown": {0: 5}})
    assert coordinator.refuse(unknown) is PartitionNotFound
    assert coordinator.refuse(Commit(group="a b", offsets={})) is InvalidName
    assert coordinator.join("a").offsets == {"orders": {0: 5, 1: 6}}


def test_a_seek_on_a_live_group_fences_commits_under_way(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 50, 1: 60}))
    assert pair.apply(seek({0: 10, 2: 20})).plan == {0: [50, 10], 2: [-1, 20]}
    assert pair.effects == [AssignmentChanged("billing", 4)]
    assert pair.refuse(commit("a", 3, {0: 51})) is Fenced
    pair.apply(commit("a", 3, {1: 61}))
    assert pair.heartbeat("a", 3).offsets == {"orders": {0: 10}}
    assert pair.heartbeat("a", 4).offsets == {}
    assert pair.heartbeat("b", 3).offsets == {"orders": {2: 20}}
    pair.apply(commit("a", 4, {0: 11}))
    assert pair.positions() == {0: 11, 1: 61, 2: 20}


def test_a_seek_fences_an_owner_that_is_asked_to_release(coordinator: Coordinator) -> None:
    coordinator.join("a")
    coordinator.join("b")
    coordinator.apply(seek({3: 7}))
    assert coordinator.refuse(commit("a", 2, {3: 99})) is Fenced
    assert coordinator.release("a", 2, 3).revoked == {"orders": [2, 3]}
    coordinator.release("a", 3, 2, 3)
    assert coordinator.heartbeat("b", 2).offsets == {"orders": {3: 7}}


def test_a_seek_makes_a_group_if_there_is_none(coordinator: Coordinator) -> None:
    coordinator.apply(seek({0: 10}))
    assert coordinator.positions() == {0: 10}


def test_planning_a_seek_changes_nothing(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 50}))
    before = pair.machine.snapshot()
    plan = pair.machine.plan_seek(seek({0: 10}))
    assert pair.machine.snapshot() == before
    assert pair.apply(seek({0: 10})) == plan


def test_positions_on_an_earlier_topic_of_that_name_do_not_count(pair: Coordinator) -> None:
    pair.apply(commit("a", 3, {0: 50}))
    assert pair.apply(seek({0: 10}, ANEW)).plan == {0: [-1, 10]}
    assert pair.positions() == {0: 10}
