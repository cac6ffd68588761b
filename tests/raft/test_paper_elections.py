"""Leader election: one test per claim of the Raft paper, sections 5.1, 5.2 and 5.4.1."""

import pytest

from penstock_broker.raft import (
    Append,
    AppendResponse,
    Heartbeat,
    Options,
    Role,
    VoteRequest,
    VoteResponse,
)
from tests.raft.group import Group, entries_of, leading, lone, work_of

PLAIN = Options(pre_vote=False)


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_newer_term_is_taken_over_in_every_role(role: str) -> None:  # 5.1
    raft = lone(options=PLAIN)
    if role == "candidate":
        raft.campaign()
    elif role == "leader":
        leading(raft, 2)
    raft.step(Append(2, 1, 9, 0, 0, [], 0))
    assert (raft.term, raft.role, raft.leader) == (9, Role.FOLLOWER, 2)


def test_a_message_of_an_older_term_is_rejected() -> None:  # 5.1
    raft = lone(term=3)
    raft.step(Append(2, 1, 2, 0, 0, entries_of(2), 0))
    assert raft.log.last_index == 0
    assert work_of(raft).messages_after_persist == [AppendResponse(1, 2, 3, 0, rejected=True)]


def test_a_vote_request_of_an_older_term_is_refused() -> None:  # 5.1
    raft = lone(term=3)
    raft.step(VoteRequest(2, 1, 2, 9, 9))
    assert work_of(raft).messages_after_persist == [VoteResponse(1, 2, 3, granted=False)]


def test_a_stale_answer_is_ignored() -> None:  # 5.1
    raft = leading(lone(), 2)
    raft.step(AppendResponse(2, 1, raft.term - 1, 1))
    assert raft.progress[2].match == 0


def test_a_node_starts_as_a_follower() -> None:  # 5.2
    assert lone().role is Role.FOLLOWER


def test_a_follower_stays_one_while_a_leader_is_heard() -> None:  # 5.2
    raft = lone(term=1)
    for _ in range(50):
        raft.tick()
        raft.step(Heartbeat(2, 1, 1, 0, 1))
    assert raft.role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_at_its_interval() -> None:  # 5.2
    raft = leading(lone(options=Options(heartbeat_ticks=3)), 2)
    work_of(raft)
    for _ in range(2):
        raft.tick()
    assert raft.ready() is None
    raft.tick()
    assert [m.to for m in work_of(raft).messages if isinstance(m, Heartbeat)] == [2, 3]


def test_a_follower_stands_after_an_election_timeout_in_a_new_term() -> None:  # 5.2
    raft = lone(term=4, options=PLAIN)
    for _ in range(10):
        raft.tick()
    assert (raft.role, raft.term, raft.vote) == (Role.CANDIDATE, 5, 1)
    requests = [m for m in work_of(raft).messages_after_persist if m.to != 1]
    assert requests == [VoteRequest(1, node, 5, 0, 0) for node in (2, 3)]


def test_a_candidate_stands_again_when_nobody_wins() -> None:  # 5.2
    raft = lone(options=PLAIN)
    raft.campaign()
    for _ in range(raft.timeout):
        raft.tick()
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)


@pytest.mark.parametrize(
    ("voters", "granting", "wins"),
    [(3, 1, True), (3, 0, False), (5, 2, True), (5, 1, False), (4, 2, True), (4, 1, False)],
)
def test_a_majority_of_votes_wins(voters: int, granting: int, wins: bool) -> None:  # 5.2
    raft = lone(voters=range(1, voters + 1), options=PLAIN)
    raft.campaign()
    raft.step(VoteResponse(1, 1, 1, True))
    for voter in range(2, 2 + granting):
        raft.step(VoteResponse(voter, 1, 1, True))
    assert raft.is_leader is wins


def test_a_candidate_that_a_majority_refuses_follows() -> None:  # 5.2
    raft = lone(options=PLAIN)
    raft.campaign()
    raft.step(VoteResponse(2, 1, 1, False))
    assert raft.role is Role.CANDIDATE
    raft.step(VoteResponse(3, 1, 1, False))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


def test_the_first_answer_of_a_voter_counts() -> None:  # 5.2
    raft = lone(options=PLAIN)
    raft.campaign()
    raft.step(VoteResponse(2, 1, 1, False))
    raft.step(VoteResponse(2, 1, 1, True))
    raft.step(VoteResponse(1, 1, 1, True))
    assert raft.role is Role.CANDIDATE


@pytest.mark.parametrize(
    ("vote", "asked_by", "granted"), [(0, 2, True), (2, 2, True), (3, 2, False), (1, 2, False)]
)
def test_a_node_votes_once_in_a_term_first_come_first_served(
    vote: int, asked_by: int, granted: bool
) -> None:  # 5.2
    raft = lone(term=1, vote=vote)
    raft.step(VoteRequest(asked_by, 1, 1, 0, 0))
    assert work_of(raft).messages_after_persist == [VoteResponse(1, asked_by, 1, granted)]
    assert raft.vote == (asked_by if granted else vote)


def test_a_candidate_gives_way_to_the_leader_of_its_term() -> None:  # 5.2
    for message in (Append(2, 1, 1, 0, 0, [], 0), Heartbeat(2, 1, 1, 0, 1)):
        raft = lone(options=PLAIN)
        raft.campaign()
        raft.step(message)
        assert (raft.role, raft.leader, raft.term) == (Role.FOLLOWER, 2, 1)


def test_election_timeouts_are_spread() -> None:  # 5.2
    timeouts = {lone(node).timeout for node in (1, 2, 3)}
    assert timeouts == {10, 11, 12}


def test_spread_timeouts_prevent_a_split_vote() -> None:  # 5.2
    group = Group()
    group.tick(12)
    assert group.leaders() == [1]


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 1, False), (3, 1, False), (3, 2, True), (3, 3, True), (4, 1, True), (2, 9, False)],
)
def test_a_vote_goes_only_to_a_log_that_is_as_up_to_date(
    last_term: int, last_index: int, granted: bool
) -> None:  # 5.4.1
    raft = lone(term=5, entries=entries_of(2, 3))
    raft.step(VoteRequest(2, 1, 5, last_index, last_term))
    assert work_of(raft).messages_after_persist == [VoteResponse(1, 2, 5, granted)]


def test_a_vote_puts_the_own_candidacy_off() -> None:  # 5.2
    raft = lone(term=1)
    for _ in range(9):
        raft.tick()
    raft.step(VoteRequest(2, 1, 1, 0, 0))
    raft.tick()
    assert raft.role is Role.FOLLOWER


def test_a_lone_voter_elects_itself_with_its_first_tick() -> None:
    group = Group([1])
    group.tick()
    assert group[1].is_leader
    assert group.propose(1, b"a") == 2
    assert group.data(1) == [b"a"]


def test_two_leaders_in_one_term_are_a_bug_that_stops_the_node() -> None:  # 5.2
    raft = leading(lone(), 2)
    for message in (Append(2, 1, 1, 0, 0, [], 0), Heartbeat(2, 1, 1, 0, 1)):
        with pytest.raises(AssertionError, match="both lead term 1"):
            raft.step(message)


def test_standing_while_leading_changes_nothing() -> None:
    raft = leading(lone(), 2)
    raft.campaign()
    assert raft.is_leader


def test_candidates_refuse_each_other() -> None:  # 5.2
    raft = lone(options=PLAIN)
    raft.campaign()
    work_of(raft)
    raft.step(VoteRequest(2, 1, 1, 9, 9))
    assert work_of(raft).messages_after_persist == [VoteResponse(1, 2, 1, False)]
