"""Beyond the paper: pre-vote, check-quorum, loyalty, transfer of the lead, reads (Raft thesis)."""

import pytest

from penstock_broker.raft import (
    AppendResponse,
    Configuration,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    NotLeader,
    Options,
    ReadState,
    Refused,
    Role,
    Snapshot,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from tests.raft.group import RECORD, Group, entries_of, leading, lone, work_of

# pre-vote: thesis 9.6


def test_a_pre_candidate_changes_neither_term_nor_vote() -> None:
    raft = lone(term=3, vote=2)
    raft.campaign()
    assert (raft.role, raft.term, raft.vote) == (Role.PRE_CANDIDATE, 3, 2)
    ready = work_of(raft)
    assert ready.hard_state is None
    assert ready.messages == [VoteRequest(1, n, 4, 0, 0, pre=True) for n in (2, 3)]


def test_answering_a_pre_vote_changes_nothing_and_needs_no_disk() -> None:
    raft = lone(term=3, vote=2)
    raft.step(VoteRequest(3, 1, 4, 0, 0, pre=True))
    ready = work_of(raft)
    assert ready.messages == [VoteResponse(1, 3, 4, True, pre=True)]
    assert (ready.hard_state, raft.term, raft.vote) == (None, 3, 2)


def test_a_majority_of_pre_votes_starts_the_election() -> None:
    raft = lone(term=3)
    raft.campaign()
    raft.step(VoteResponse(2, 1, 4, True, pre=True))
    assert (raft.role, raft.term) == (Role.CANDIDATE, 4)


def test_a_majority_of_refused_pre_votes_ends_it() -> None:
    raft = lone(term=3)
    raft.campaign()
    raft.step(VoteResponse(2, 1, 3, False, pre=True))
    raft.step(VoteResponse(3, 1, 3, False, pre=True))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 3)


def test_answers_of_the_other_kind_of_vote_are_ignored() -> None:
    raft = lone(term=3)
    raft.campaign()
    raft.step(VoteResponse(2, 1, 3, True))
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(VoteResponse(2, 1, 4, True, pre=True))
    raft.step(VoteResponse(2, 1, 5, True, pre=True))
    assert raft.role is Role.CANDIDATE


def test_an_isolated_node_comes_back_without_disturbing_anyone() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.tick(100)
    group.heal()
    group.tick(10)
    assert group.leaders() == [1]
    assert {raft.term for raft in group.nodes.values()} == {1}


def test_a_pre_candidate_with_an_older_term_learns_the_newer_one() -> None:  # etcd#8243
    raft = lone(term=7)
    raft.step(VoteRequest(2, 1, 4, 9, 9, pre=True))
    (refusal,) = work_of(raft).messages_after_persist
    assert refusal == VoteResponse(1, 2, 7, False, pre=True)
    asking = lone(2, term=3)
    asking.campaign()
    asking.step(refusal)
    assert (asking.role, asking.term) == (Role.FOLLOWER, 7)


def test_a_pre_vote_is_refused_to_a_log_that_is_behind() -> None:
    raft = lone(term=2, entries=entries_of(1, 2))
    raft.step(VoteRequest(3, 1, 3, 1, 1, pre=True))
    assert work_of(raft).messages == [VoteResponse(1, 3, 2, False, pre=True)]


# check-quorum and loyalty: thesis 6.2, 4.2.3


def test_a_leader_that_hears_no_quorum_steps_down() -> None:
    group = Group()
    group.elect(1)
    group.isolate(1)
    group.tick(19, [1])
    assert group[1].role is Role.LEADER
    group.tick(1, [1])
    assert (group[1].role, group[1].term) == (Role.FOLLOWER, 1)


def test_a_leader_whose_messages_leave_but_whose_answers_do_not_come_steps_down() -> None:
    group = Group()
    group.elect(1)
    group.cut((2, 1), (3, 1))
    group.tick(20, [1])
    assert group.leaders() == []
    group.tick(30)
    assert group.leaders() in ([2], [3])


def test_a_leader_with_a_quorum_stays() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.tick(60, [1, 2])
    assert group.leaders() == [1]


def test_without_check_quorum_a_leader_stays_for_ever() -> None:
    group = Group(options=Options(check_quorum=False))
    group.elect(1)
    group.isolate(1)
    group.tick(100, [1])
    assert group[1].is_leader


def test_learners_are_no_quorum() -> None:
    group = Group((1, 2, 3), [4, 5])
    group.elect(1)
    group.isolate(1, 4, 5)
    group.tick(40, [1])
    assert not group[1].is_leader


def test_a_node_that_hears_a_leader_ignores_who_stands() -> None:
    raft = lone(term=1)
    raft.step(Heartbeat(2, 1, 1, 0, 1))
    work_of(raft)
    for pre in (True, False):
        raft.step(VoteRequest(3, 1, 2, 9, 9, pre=pre))
    assert raft.ready() is None
    assert raft.term == 1


def test_loyalty_ends_after_an_election_time_of_silence() -> None:
    raft = lone(3, term=1)
    raft.step(Heartbeat(2, 3, 1, 0, 1))
    for _ in range(10):
        raft.tick()
    raft.step(VoteRequest(1, 3, 2, 9, 9))
    assert raft.vote == 1


def test_a_leader_is_loyal_to_itself() -> None:
    raft = leading(lone(), 2)
    raft.step(VoteRequest(3, 1, 9, 99, 99))
    assert raft.is_leader


def test_without_check_quorum_nobody_is_loyal() -> None:
    raft = lone(term=1, options=Options(check_quorum=False))
    raft.step(Heartbeat(2, 1, 1, 0, 1))
    raft.step(VoteRequest(3, 1, 2, 9, 9))
    assert raft.vote == 3


def test_a_node_stuck_at_a_higher_term_is_freed() -> None:
    """It can't win, and it can't follow: its answer makes the leader come to its term."""
    group = Group(options=Options(pre_vote=False))
    group.elect(1)
    group.propose(1, b"a")
    group.isolate(3)
    group.tick(40, [3])
    assert group[3].term > 1
    group.heal()
    group.tick(60)
    assert len(group.leaders()) == 1
    assert len({raft.term for raft in group.nodes.values()}) == 1


# transfer: thesis 3.10


def test_the_lead_goes_to_a_member_that_has_everything_at_once() -> None:
    group = Group()
    group.elect(1)
    group[1].transfer(3)
    group.settle()
    assert group.leaders() == [3]
    assert group[3].term == 2


def test_the_lead_goes_to_a_member_that_has_to_catch_up_first() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a", b"b")
    group.heal()
    group[1].transfer(3)
    group.settle()
    assert not group[3].is_leader
    group.tick(3)
    assert group.leaders() == [3]
    assert group.data(3) == [b"a", b"b"]


def test_nothing_is_proposed_while_the_lead_is_handed_over() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    group[1].transfer(3)
    with pytest.raises(Refused, match="on its way to 3"):
        group[1].propose([(RECORD, b"b")])


def test_a_hand_over_that_takes_too_long_is_given_up() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    group[1].transfer(3)
    group.tick(10, [1, 2])
    group.propose(1, b"b")
    assert group.leaders() == [1]


def test_a_successor_that_stands_after_it_was_given_up_is_not_elected() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a")
    group.isolate(3)
    group[1].transfer(3)
    group.tick(10, [1, 2])
    assert (group.leaders(), group[1].term) == ([1], 2)
    group.propose(1, b"b")
    group[3].step(TimeoutNow(1, 3, 1))  # it was late
    assert (group[3].role, group[3].term) == (Role.CANDIDATE, 2)
    group.heal()
    group.tick(3)
    assert (group.leaders(), group[1].term) == ([1], 2)
    assert group.data(3) == [b"a", b"b"]


@pytest.mark.parametrize("to", [1, 4, 9])
def test_the_lead_goes_only_to_another_voter(to: int) -> None:
    group = Group(learners=[4])
    group.elect(1)
    with pytest.raises(Refused, match="not another voter"):
        group[1].transfer(to)


def test_only_the_leader_hands_over() -> None:
    with pytest.raises(NotLeader):
        lone().transfer(2)


def test_a_successor_skips_the_pre_vote_and_loyalty() -> None:
    raft = lone(2, term=1)
    raft.step(Heartbeat(1, 2, 1, 0, 1))
    raft.step(TimeoutNow(1, 2, 1))
    assert raft.role is Role.CANDIDATE
    ready = work_of(raft)
    assert VoteRequest(2, 3, 2, 0, 0, transfer=True) in ready.messages_after_persist


def test_a_leader_asked_to_stand_stays() -> None:
    raft = leading(lone(), 2)
    raft.step(TimeoutNow(2, 1, 1))
    assert raft.is_leader


# reads: thesis 6.4


def test_a_read_is_answered_when_a_quorum_has_answered_a_later_round() -> None:
    raft = leading(lone(), 2)
    work_of(raft)
    raft.persisted(1, 1)
    raft.step(AppendResponse(2, 1, 1, 1))
    work_of(raft)
    raft.read_index("a")
    ready = work_of(raft)
    (number,) = {m.round for m in ready.messages if isinstance(m, Heartbeat)}
    assert ready.read_states == []
    raft.step(HeartbeatResponse(2, 1, 1, number - 1))
    assert raft.ready() is None
    raft.step(HeartbeatResponse(2, 1, 1, number))
    assert work_of(raft).read_states == [ReadState(1, "a")]


def test_a_read_waits_for_the_first_commit_of_the_term() -> None:
    raft = leading(lone(), 2)
    raft.read_index("a")
    assert not any(isinstance(m, Heartbeat) for m in work_of(raft).messages)
    for _ in range(2):
        raft.tick()  # rounds that leave before the commit answer no reads
    assert any(isinstance(m, Heartbeat) for m in work_of(raft).messages)
    raft.step(HeartbeatResponse(2, 1, 1, 1))
    raft.persisted(1, 1)
    raft.step(AppendResponse(2, 1, 1, 1))
    (number,) = {m.round for m in work_of(raft).messages if isinstance(m, Heartbeat)}
    raft.step(HeartbeatResponse(2, 1, 1, number))
    assert work_of(raft).read_states == [ReadState(1, "a")]


def test_reads_that_wait_together_share_a_round() -> None:
    group = Group()
    group.elect(1)
    for context in range(100):
        group[1].read_index(context)
    group.work(1)
    assert sum(isinstance(m, Heartbeat) for m in group.wire) == 2
    group[1].read_index("later")
    group.settle()
    group.tick(3)
    assert [read.context for read in group.reads[1]] == [*range(100), "later"]


def test_a_lone_voter_answers_reads_at_once() -> None:
    group = Group([1], [2])
    group.elect(1)
    group[1].read_index("a")
    group.work(1)
    assert group.reads[1] == [ReadState(1, "a")]


def test_a_deposed_leader_answers_no_reads() -> None:
    group = Group()
    group.elect(1)
    group.isolate(1)
    group[1].read_index("a")
    group.elect(2)
    group.propose(2, b"a")
    group.heal()
    group.tick(40)
    assert group.reads[1] == []
    with pytest.raises(NotLeader):
        group[1].read_index("b")


def test_a_round_lost_on_the_way_is_followed_by_another() -> None:
    group = Group()
    group.elect(1)
    group.isolate(1)
    group[1].read_index("a")
    group.settle()
    group.heal()
    group.tick(3)
    assert group.reads[1] == [ReadState(1, "a")]


def test_reads_in_a_joint_configuration_need_both_halves() -> None:
    group = Group(strangers=[4, 5])
    group.elect(1)
    group.isolate(1, 2, 3)
    group[1].propose_configuration([1, 4, 5])
    group[1].read_index("a")
    group.settle()
    assert group.reads[1] == []
    group.heal()
    group.tick(3)
    assert [read.context for read in group.reads[1]] == ["a"]


def test_too_many_reads_are_refused() -> None:
    group = Group(options=Options(reads_max=2))
    group.elect(1)
    group.isolate(1)
    group[1].read_index(1)
    group[1].read_index(2)
    with pytest.raises(Refused, match="2 reads wait"):
        group[1].read_index(3)
    group.heal()
    group.tick(3)
    group[1].read_index(4)


def test_messages_for_another_role_are_ignored() -> None:
    for message in (AppendResponse(2, 1, 1, 0), HeartbeatResponse(2, 1, 1, 1)):
        raft = lone(term=1)
        raft.step(message)
        assert raft.ready() is None
    raft = leading(lone(), 2)
    raft.step(HeartbeatResponse(9, 1, 1, 1))
    assert 9 not in raft.progress


def test_a_message_for_another_node_is_a_bug_that_stops_the_node() -> None:
    with pytest.raises(AssertionError, match="message to 2 stepped into 1"):
        lone().step(Heartbeat(3, 2, 1, 0, 1))


def test_a_snapshot_of_a_second_leader_stops_the_node() -> None:
    raft = leading(lone(), 2)
    with pytest.raises(AssertionError, match="both lead"):
        raft.step(InstallSnapshot(2, 1, 1, Snapshot(1, 1, Configuration.of([1, 2, 3]), b"")))
