"""Who votes in group 0."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.node.controller.voters import Candidate, choose_voters


def nodes(
    *hosts: str, dead: tuple[int, ...] = (), draining: tuple[int, ...] = ()
) -> list[Candidate]:
    return [
        Candidate(node, host, node not in dead, node in draining)
        for node, host in enumerate(hosts, 1)
    ]


def test_one_three_or_five_vote() -> None:
    chosen = [choose_voters(nodes(*"abcdefgh"[:count]), (1,), 1) for count in range(1, 8)]
    assert [len(voters) for voters in chosen] == [1, 1, 3, 3, 5, 5, 5]


def test_the_leader_of_two_nodes_votes_alone() -> None:
    assert choose_voters(nodes("a", "b"), (2,), 2) == (2,)


def test_voters_are_on_different_hosts_if_they_can_be() -> None:
    assert choose_voters(nodes(*"aabbc"[:4] + "c"), (1,), 1)[0] == 1
    assert choose_voters(nodes("a", "a", "b", "c"), (1, 2, 3), 2) == (2, 3, 4)


def test_who_votes_goes_on_voting() -> None:
    assert choose_voters(nodes(*"abcd"), (2, 3, 4), 3) == (2, 3, 4)


def test_a_dead_voter_is_replaced_if_there_is_somebody() -> None:
    assert choose_voters(nodes(*"abcd", dead=(2,)), (1, 2, 3), 1) == (1, 3, 4)
    assert choose_voters(nodes(*"abc", dead=(2,)), (1, 2, 3), 1) == (1, 2, 3)


def test_the_dead_are_never_made_voters() -> None:
    assert choose_voters(nodes(*"abc", dead=(3,)), (1,), 1) == (1,)


def test_five_become_three_when_two_of_five_are_dead() -> None:
    assert choose_voters(nodes(*"abcde", dead=(1,)), (1, 2, 3, 4, 5), 2) == (1, 2, 3, 4, 5)
    assert choose_voters(nodes(*"abcde", dead=(1, 2)), (1, 2, 3, 4, 5), 3) == (3, 4, 5)


def test_who_dies_one_after_the_other_leaves_nobody_to_decide_alone() -> None:
    """Consul 5922: the dead were removed one by one, until the last one was a majority."""
    for leader in range(1, 6):
        voters: tuple[int, ...] = (1, 2, 3, 4, 5)
        gone: tuple[int, ...] = ()
        for dead in [node for node in (1, 2, 3, 4, 5) if node != leader]:
            gone = (*gone, dead)
            voters = choose_voters(nodes(*"abcde", dead=gone), voters, leader)
            assert len(voters) >= 3
        assert 2 * len(set(voters) - set(gone)) < len(voters)


def test_a_draining_node_votes_only_while_it_is_needed() -> None:
    assert choose_voters(nodes(*"abcd", draining=(1,)), (1, 2, 3), 1) == (2, 3, 4)
    assert choose_voters(nodes(*"abc", draining=(1,)), (1, 2, 3), 1) == (1, 2, 3)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), max_size=8),
    st.sets(st.integers(1, 9)),
)
def test_choosing_again_changes_nothing(
    others: list[tuple[str, bool, bool]], current: set[int]
) -> None:
    candidates = [Candidate(1, "a", True)]  # the leader, which is alive
    candidates += [Candidate(node, *rest) for node, rest in enumerate(others, 2)]
    current = {1} | (current & {c.node for c in candidates})
    chosen = choose_voters(candidates, current, 1)
    assert len(chosen) in (1, 3, 5)
    live = {c.node for c in candidates if c.live}
    assert set(chosen) <= live | current
    assert choose_voters(candidates, chosen, 1) == chosen
