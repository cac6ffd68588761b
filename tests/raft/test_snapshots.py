"""Compaction, and members that need what is compacted away (Raft 7)."""

from typing import Any

import pytest

from penstock_broker.raft import (
    Append,
    AppendResponse,
    Configuration,
    Flow,
    Heartbeat,
    InstallSnapshot,
    NotLeader,
    Options,
    Raft,
    Refused,
    Role,
    Snapshot,
)
from penstock_broker.raft.configuration import ConfigurationHistory
from tests.raft.group import Fixed, Group, entries_of, lone, work_of

MEMBERS = Configuration.of([1, 2, 3])


def with_one_behind(**options: Any) -> Group:
    """Node 3 was away; what it lacks is compacted away on the leader."""
    group = Group(options=Options(**options))
    group.elect(1)
    group.isolate(3)
    group.propose(1, *[b"%d" % n for n in range(8)])
    group[1].compact(7)
    group.heal()
    return group


def supplied(group: Group) -> bool:
    raft = group[1]
    return raft.send_snapshot(3, raft.log.handed, "state")


def test_compaction_drops_entries_and_keeps_their_last_term() -> None:
    raft = lone(term=2, commit=3, entries=entries_of(1, 1, 2))
    work_of(raft)
    raft.compact(2)
    assert (raft.log.base_index, raft.log.base_term, raft.log.last_index) == (2, 1, 3)
    raft.compact(1)
    assert raft.log.base_index == 2


def test_only_what_is_applied_is_compacted() -> None:
    raft = lone(term=1, commit=1, entries=entries_of(1, 1))
    work_of(raft)
    with pytest.raises(AssertionError, match="compaction to 2 past applied and durable 1"):
        raft.compact(2)


def test_a_member_behind_the_base_is_to_get_a_snapshot() -> None:
    group = with_one_behind()
    group.tick(3)
    assert group.requests[1] == [3]
    assert group[1].progress[3].flow is Flow.SNAPSHOT


def test_it_is_asked_for_once() -> None:
    group = with_one_behind()
    group.tick(15)
    group.propose(1, b"more")
    assert group.requests[1] == [3]


def test_a_snapshot_brings_log_machine_and_members() -> None:
    group = with_one_behind()
    group.tick(3)
    assert supplied(group)
    group.settle()
    assert group.snapshots[3] == [Snapshot(9, 1, group.first, "state")]
    group.propose(1, b"next")
    assert group.data(3) == [b"next"]
    assert group[1].progress[3].flow is Flow.REPLICATE


def test_an_acknowledged_snapshot_is_durable_first() -> None:
    group = with_one_behind()
    group.tick(3)
    group.stalled.add(3)
    supplied(group)
    group.settle()
    assert group[1].progress[3].match < 9
    group.flush(3)
    group.settle()
    assert group[1].progress[3].match == 9


def test_a_node_that_installs_a_snapshot_does_not_stand() -> None:
    raft = lone(term=1)
    raft.step(InstallSnapshot(2, 1, 1, Snapshot(5, 1, MEMBERS, "state")))
    ready = work_of(raft)
    assert ready.must_sync
    for _ in range(40):
        raft.tick()
    assert raft.role is Role.FOLLOWER
    raft.persisted(5, 1)
    raft.tick()
    assert raft.role is Role.PRE_CANDIDATE


def test_entries_after_a_snapshot_wait_for_it() -> None:
    raft = lone(term=1)
    raft.step(InstallSnapshot(2, 1, 1, Snapshot(5, 1, MEMBERS, "state")))
    raft.step(Append(2, 1, 1, 5, 1, entries_of(1, first=6), 6))
    ready = work_of(raft)
    assert ready.snapshot is not None
    assert [entry.index for entry in ready.entries] == [6]
    assert ready.committed == []
    raft.persisted(6, 1)
    assert [entry.index for entry in work_of(raft).committed] == [6]


def test_a_snapshot_behind_the_commit_is_ignored() -> None:
    raft = lone(term=2, commit=3, entries=entries_of(1, 1, 1))
    raft.step(InstallSnapshot(2, 1, 2, Snapshot(2, 1, MEMBERS, "state")))
    ready = work_of(raft)
    assert ready.snapshot is None
    assert ready.messages_after_persist == [AppendResponse(1, 2, 2, 3)]


def test_a_snapshot_of_what_the_log_holds_only_commits() -> None:
    raft = lone(term=2, entries=entries_of(1, 1, 1))
    raft.step(InstallSnapshot(2, 1, 2, Snapshot(2, 1, MEMBERS, "state")))
    ready = work_of(raft)
    assert ready.snapshot is None
    assert (raft.log.commit, raft.log.last_index) == (2, 3)
    assert ready.messages_after_persist == [AppendResponse(1, 2, 2, 2)]


def test_a_snapshot_replaces_a_log_that_differs() -> None:
    raft = lone(term=3, entries=entries_of(1, 1, 1))
    raft.step(InstallSnapshot(2, 1, 3, Snapshot(2, 3, MEMBERS, "state")))
    assert (raft.log.base_index, raft.log.last_index, raft.log.commit) == (2, 2, 2)
    assert work_of(raft).entries == []


def test_a_snapshot_brings_its_configuration() -> None:
    raft = Raft(4, randomness=Fixed(), configuration=Configuration())
    members = Configuration.of([1, 4])
    raft.step(InstallSnapshot(1, 4, 2, Snapshot(7, 2, members, "state")))
    assert raft.configuration == members


def test_a_failed_snapshot_is_asked_for_again() -> None:
    group = with_one_behind()
    group.tick(3)
    group[1].snapshot_failed(3)
    group.tick(3)
    assert group.requests[1] == [3, 3]
    group[1].snapshot_failed(2)
    assert group[1].progress[2].flow is Flow.REPLICATE


def test_a_snapshot_that_never_arrives_is_asked_for_again() -> None:
    group = with_one_behind(snapshot_periods=2)
    group.tick(3)
    group.tick(35)
    assert group.requests[1] == [3, 3]


def test_word_that_a_snapshot_is_there_is_asked_for_when_it_is_lost() -> None:
    group = with_one_behind(snapshot_periods=1000)
    group.tick(3)
    group.cut((3, 1))
    assert supplied(group)
    group.settle()
    assert [one.index for one in group.snapshots[3]] == [9]
    group.heal()
    assert group[1].progress[3].flow is Flow.SNAPSHOT
    group.tick(12)
    assert group[1].progress[3].flow is Flow.REPLICATE
    group.isolate(2)
    group.propose(1, b"next")
    assert group.data(3) == [b"next"]


def test_a_snapshot_on_its_way_is_asked_for_in_vain() -> None:
    group = with_one_behind(snapshot_periods=1000)
    group.tick(3)
    group.cut((1, 3))
    assert supplied(group)
    group.settle()
    group.heal()
    group.tick(30)
    assert group.requests[1] == [3]
    assert group[1].progress[3].flow is Flow.SNAPSHOT
    assert group[3].log.last_index < 9


def test_a_member_that_does_not_answer_gets_no_snapshot() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a", b"b")
    group.tick(30)
    group.propose(1, b"c")
    group[1].compact(4)
    group.cut((3, 1))
    group.tick(10)
    assert group.requests[1] == []


def test_an_append_beyond_the_window_of_a_compacted_member_asks_for_a_snapshot() -> None:
    group = Group(options=Options(append_entries_max=1, window_messages_max=1))
    group.elect(1)
    group.cut((3, 1))
    group.propose(1, b"a", b"b", b"c", b"d")
    group[1].compact(5)
    group.heal()
    group.tick(2)
    assert group.requests[1] == [3]


def test_a_member_that_catches_up_needs_its_snapshot_no_more() -> None:
    group = with_one_behind()
    group.tick(3)
    group[1].step(AppendResponse(3, 1, 1, 8))
    assert group[1].progress[3].flow is Flow.REPLICATE
    assert not supplied(group)
    assert not group[1].send_snapshot(7, 9, "state")


def test_an_answer_below_the_base_does_not_end_the_wait() -> None:
    group = with_one_behind()
    group.tick(3)
    group[1].step(AppendResponse(3, 1, 1, 3))
    assert group[1].progress[3].flow is Flow.SNAPSHOT
    group[1].step(AppendResponse(3, 1, 1, 3, rejected=True))
    assert group[1].progress[3].flow is Flow.SNAPSHOT


@pytest.mark.parametrize("index", [6, 99])
def test_a_snapshot_is_of_an_index_between_base_and_applied(index: int) -> None:
    group = with_one_behind()
    group.tick(3)
    with pytest.raises(Refused, match=f"snapshot at {index} outside of 7..9"):
        group[1].send_snapshot(3, index, "state")


def test_only_the_leader_sends_snapshots() -> None:
    with pytest.raises(NotLeader):
        lone().send_snapshot(2, 0, "state")


def test_a_snapshot_carries_the_members_of_its_index() -> None:
    group = with_one_behind()
    index = group[1].log.handed
    group.tick(3)
    group[1].propose_configuration([1, 2, 3], [4])
    group.nodes[4] = lone(4)
    group.work(1)
    group[1].send_snapshot(3, index, "state")
    (message,) = [m for m in group[1].messages if isinstance(m, InstallSnapshot)]
    assert message.snapshot.configuration == group.first


def test_members_of_the_base_are_kept_and_older_ones_forgotten() -> None:
    history = ConfigurationHistory(0, MEMBERS)
    changed = [Configuration.of([1, 2, node]) for node in (4, 5, 6)]
    for index, configuration in enumerate(changed, 1):
        history.push(10 * index, configuration)
    history.compact(25)
    assert history.at(25) == changed[1]
    assert history.current == changed[2]
    with pytest.raises(AssertionError, match="no configuration kept for 15, first 20"):
        history.at(15)


def test_a_hint_below_the_base_leads_to_a_snapshot() -> None:
    raft = lone(2, term=5, commit=6, entries=entries_of(1, 1, 3, 3, 3, 3))
    work_of(raft)
    raft.compact(5)
    assert raft.log.last_at_most(6, 2) == (4, 0)
    assert raft.log.last_at_most(3, 9) == (4, 0)
    assert raft.log.last_at_most(9, 9) == (6, 3)


def test_a_heartbeat_never_commits_past_what_a_member_acknowledged() -> None:
    group = with_one_behind()
    group[1].tick()
    group[1].tick()
    group.work(1)
    beats = [m for m in group.wire if isinstance(m, Heartbeat) and m.to == 3]
    assert [beat.commit for beat in beats] == [1]
