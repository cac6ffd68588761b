"""Configurations as values: their bytes, and that neighbours never have disjoint quorums."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_broker.raft import Configuration
from penstock_broker.raft.configuration import ConfigurationHistory


@st.composite
def plain(draw: st.DrawFn) -> Configuration:
    voters = draw(st.sets(st.integers(1, 7), min_size=1, max_size=5))
    learners = draw(st.sets(st.integers(1, 9), max_size=3)) - voters
    return Configuration.of(voters, learners)


def quorums(configuration: Configuration) -> list[set[int]]:
    """Every smallest set of nodes that may decide."""

    def majorities(voters: tuple[int, ...]) -> list[set[int]]:
        return [set(some) for some in combinations(voters, len(voters) // 2 + 1)]

    if not configuration.outgoing:
        return majorities(configuration.voters)
    return [
        one | other
        for one in majorities(configuration.voters)
        for other in majorities(configuration.outgoing)
    ]


@given(plain(), plain())
def test_every_step_of_a_change_overlaps_with_the_one_before(
    before: Configuration, wanted: Configuration
) -> None:
    step = before.changed_to(wanted.voters, wanted.learners)
    steps = [before, step, step.left()] if step.is_joint else [before, step]
    assert steps[-1] == wanted
    for one, other in pairwise(steps):
        assert all(a & b for a in quorums(one) for b in quorums(other))


@given(plain(), plain())
def test_nobody_is_voter_and_learner_at_once(before: Configuration, wanted: Configuration) -> None:
    step = before.changed_to(wanted.voters, wanted.learners)
    assert not set(step.electors) & set(step.learners)
    assert set(step.learners_next) <= set(step.outgoing)
    assert set(step.members) == {*step.electors, *step.learners}


@given(plain(), plain())
def test_bytes_carry_every_configuration(before: Configuration, wanted: Configuration) -> None:
    for configuration in (before, before.changed_to(wanted.voters, wanted.learners)):
        assert Configuration.decode(configuration.encode()) == configuration
        assert Configuration.decode(bytearray(configuration.encode())) == configuration


def test_the_bytes_of_a_configuration_do_not_change() -> None:
    joint = Configuration((1, 2), (9,), (2, 3), (3,))
    assert joint.encode().hex() == (
        "010200010002000100"
        "01000000000000000200000000000000" "0900000000000000"
        "02000000000000000300000000000000" "0300000000000000"
    )  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"\x01\x00", b"\x02" + bytes(8), b"\x01\x01" + bytes(7)])
def test_other_bytes_are_no_configuration(data: bytes) -> None:
    with pytest.raises(ValueError, match="configuration"):
        Configuration.decode(data)


def test_a_joint_configuration_is_left_before_it_is_changed() -> None:
    with pytest.raises(AssertionError, match="change of a joint configuration"):
        Configuration((1,), (), (2,)).changed_to([1, 2], [])


def test_the_history_follows_the_log() -> None:
    history = ConfigurationHistory(0, Configuration.of([1]))
    history.push(5, Configuration.of([1, 2]))
    assert (history.index, history.current.voters) == (5, (1, 2))
    assert not history.truncate(5)
    assert history.truncate(4)
    assert (history.index, history.at(3).voters) == (0, (1,))
    with pytest.raises(AssertionError, match="configuration at 0 after one at 0"):
        history.push(0, Configuration.of([3]))


def test_the_first_configuration_is_never_undone() -> None:
    history = ConfigurationHistory(7, Configuration.of([1]))
    with pytest.raises(AssertionError, match="truncated the configurations to 6"):
        history.truncate(6)
