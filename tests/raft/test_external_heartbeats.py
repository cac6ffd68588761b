"""Heartbeats that another layer packs for many groups."""

import pytest

from penstock_broker.raft import Heartbeat, Options, ReadState, Role
from tests.raft.group import Group, leading, lone, work_of

OUTSIDE = Options(external_heartbeats=True)


def led() -> Group:
    group = Group(options=OUTSIDE)
    group.elect(1)
    return group


def carry(group: Group, number: int, leader: int = 1) -> None:
    """One frame per member, and its answer."""
    raft = group[leader]
    for member, commit in raft.heartbeats(number):
        if (leader, member) in group.cuts:
            continue
        term = group[member].on_heartbeat(leader, raft.term, commit)
        raft.on_heartbeat_ack(member, term, number)
    group.settle()


def test_the_core_sends_no_heartbeats_of_its_own() -> None:
    raft = leading(lone(options=OUTSIDE), 2)
    work_of(raft)
    for _ in range(9):
        raft.tick()
    assert raft.ready() is None


def test_carried_heartbeats_keep_the_leader() -> None:
    group = led()
    for number in range(1, 60):
        group.tick()
        carry(group, number)
    assert group.leaders() == [1]


def test_without_them_the_leader_is_replaced() -> None:
    group = led()
    group.tick(40)
    assert group[1].term > 1


def test_they_carry_the_commit_as_far_as_it_is_acknowledged() -> None:
    group = led()
    group.isolate(3)
    group.propose(1, b"a")
    assert group[1].heartbeats(1) == [(2, 2), (3, 1)]


def test_only_a_leader_has_any() -> None:
    assert lone().heartbeats(1) == []


def test_a_heartbeat_of_an_older_term_is_answered_with_the_newer() -> None:
    raft = lone(term=5)
    assert raft.on_heartbeat(2, 4, 0) == 5
    assert raft.leader == 0
    old = leading(lone(2), 1)
    old.on_heartbeat_ack(1, 5, 1)
    assert (old.role, old.term) == (Role.FOLLOWER, 5)


def test_a_heartbeat_of_a_newer_term_is_followed() -> None:
    raft = lone(term=1)
    assert raft.on_heartbeat(2, 3, 0) == 3
    assert (raft.term, raft.leader) == (3, 2)


def test_a_candidate_gives_way_to_a_heartbeat_of_its_term() -> None:
    raft = lone(options=Options(pre_vote=False))
    raft.campaign()
    raft.on_heartbeat(2, 1, 0)
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 2)


def test_a_second_leader_stops_the_node() -> None:
    with pytest.raises(AssertionError, match="both lead term 1"):
        leading(lone(), 2).on_heartbeat(2, 1, 0)


def test_answers_of_an_older_term_or_to_a_follower_are_ignored() -> None:
    raft = leading(lone(term=1), 2)
    raft.on_heartbeat_ack(3, 1, 7)
    assert raft.progress[3].acked_round == 0
    lone(term=1).on_heartbeat_ack(3, 1, 7)


def test_reads_ask_for_a_round_and_are_answered_by_it() -> None:
    group = led()
    assert not group[1].heartbeat_due
    group[1].read_index("a")
    group.settle()
    assert group[1].heartbeat_due
    assert not any(isinstance(m, Heartbeat) for m in group.wire)
    carry(group, 1)
    assert not group[1].heartbeat_due
    assert group.reads[1] == [ReadState(1, "a")]


def test_rounds_never_go_back() -> None:
    group = led()
    group[1].heartbeats(5)
    with pytest.raises(AssertionError, match="round 4 after round 5"):
        group[1].heartbeats(4)


def test_a_lone_voter_with_learners_reads_without_a_round() -> None:
    group = Group([1], [2], options=OUTSIDE)
    group.elect(1)
    group[1].read_index("a")
    group.settle()
    assert group.reads[1] == [ReadState(1, "a")]


def test_lost_entries_are_sent_again_after_a_carried_heartbeat() -> None:
    group = led()
    group.isolate(3)
    group.propose(1, b"a")
    group.heal()
    carry(group, 1)
    assert group.data(3) == [b"a"]


def test_a_round_is_confirmed_when_a_quorum_answered_it() -> None:
    group = led()
    assert group[1].confirmed_round == 0
    group.isolate(3)
    carry(group, 5)
    assert group[1].confirmed_round == 5
    group.isolate(2)
    carry(group, 6)
    assert group[1].confirmed_round == 5


def test_who_is_out_of_reach_confirms_nothing_any_more() -> None:
    group = led()
    carry(group, 5)
    group[1].unreachable(2)
    assert group[1].confirmed_round == 5
    group[1].unreachable(3)
    assert group[1].confirmed_round == 0
