"""Counting majorities, against a naive twin."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.raft.quorum import (
    Outcome,
    majority_outcome,
    majority_value,
    quorum_outcome,
    quorum_value,
)

VALUES = st.lists(st.integers(0, 8), min_size=1, max_size=7)
VOTERS = st.lists(st.integers(1, 9), min_size=1, max_size=7, unique=True)
VOTES = st.dictionaries(st.integers(1, 9), st.booleans(), max_size=9)


def naive_value(values: list[int]) -> int:
    """The highest number that all of some majority have reached."""
    need = len(values) // 2 + 1
    return max(min(some) for some in combinations(values, need))


def naive_outcome(voters: list[int], votes: dict[int, bool]) -> Outcome:
    """Won if decided so for every way in which the open votes may go; lost likewise."""
    waiting = [voter for voter in voters if voter not in votes]
    results = set()
    for count in range(len(waiting) + 1):
        granted = sum(votes.get(voter, False) for voter in voters) + count
        results.add(2 * granted > len(voters))
    if results == {True}:
        return Outcome.WON
    return Outcome.LOST if results == {False} else Outcome.PENDING


@given(VALUES)
def test_a_majority_has_reached_what_the_naive_twin_says(values: list[int]) -> None:
    before = list(values)
    assert majority_value(values) == naive_value(values)
    assert values == before


@given(VALUES, st.one_of(st.just([]), VALUES))
def test_a_joint_quorum_has_reached_what_both_halves_have(
    incoming: list[int], outgoing: list[int]
) -> None:
    halves = [naive_value(half) for half in (incoming, outgoing) if half]
    assert quorum_value(incoming, outgoing) == min(halves)


@given(VOTERS, VOTES)
def test_a_vote_stands_as_the_naive_twin_says(voters: list[int], votes: dict[int, bool]) -> None:
    assert majority_outcome(voters, votes) is naive_outcome(voters, votes)


@given(VOTERS, st.one_of(st.just([]), VOTERS), VOTES)
def test_a_joint_vote_is_won_by_both_halves_and_lost_by_one(
    incoming: list[int], outgoing: list[int], votes: dict[int, bool]
) -> None:
    halves = {naive_outcome(half, votes) for half in (incoming, outgoing) if half}
    expected = Outcome.PENDING
    if halves == {Outcome.WON}:
        expected = Outcome.WON
    elif Outcome.LOST in halves:
        expected = Outcome.LOST
    assert quorum_outcome(incoming, outgoing, votes) is expected


@given(VOTERS, VOTES)
def test_votes_of_strangers_do_not_count(voters: list[int], votes: dict[int, bool]) -> None:
    known = {voter: vote for voter, vote in votes.items() if voter in voters}
    assert majority_outcome(voters, votes) is majority_outcome(voters, known)
