"""Changing the members: Raft 6, thesis chapter 4."""

from typing import Any

import pytest

from penstock_broker.raft import (
    CONFIG,
    Append,
    AppendResponse,
    Configuration,
    Entry,
    NotLeader,
    Options,
    Raft,
    Refused,
    Role,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.simulation.raft_mutations import mutated
from tests.raft.group import RECORD, Group, entries_of, leading, lone, work_of


def led_by(node: int = 1, **kwargs: Any) -> Group:
    group = Group(**kwargs)
    group.elect(node)
    return group


def test_one_more_voter_takes_one_entry() -> None:  # thesis 4.1
    group = led_by(strangers=[4])
    index = group[1].propose_configuration([1, 2, 3, 4])
    group.settle()
    assert group[1].history.index == index == 2
    assert all(group[n].configuration == Configuration.of([1, 2, 3, 4]) for n in (1, 2, 3, 4))


def test_a_configuration_is_in_force_as_soon_as_it_is_appended() -> None:  # 6
    group = led_by()
    group.isolate(1)
    group[1].propose_configuration([1, 2])
    assert group[1].configuration.voters == (1, 2)
    assert group[1].log.commit == 1


def test_truncation_brings_the_old_configuration_back() -> None:  # 6
    group = led_by(strangers=[4])
    group.isolate(1, 4)
    group[1].propose_configuration([1, 2, 3, 4])
    group.settle()
    assert group[4].configuration.voters == (1, 2, 3, 4)
    group.elect(2)
    group.heal()
    group.tick(6)
    assert group[1].configuration == group.first
    assert 4 not in group[1].progress


def test_many_changes_at_once_go_through_a_joint_configuration() -> None:  # 6
    group = led_by(strangers=[4, 5])
    group.isolate(1, 4, 5)
    group[1].propose_configuration([1, 4, 5])
    group.settle()
    joint = group[1].configuration
    assert (joint.voters, joint.outgoing) == ((1, 4, 5), (1, 2, 3))
    assert group[1].log.commit == 1  # the new half alone decides nothing
    group.heal()
    group.tick(4)
    assert group[1].configuration == Configuration.of([1, 4, 5])
    assert group[1].log.commit == group[1].log.last_index == 3


def test_the_old_half_alone_decides_nothing() -> None:  # 6
    group = led_by(strangers=[4, 5])
    group.isolate(4)
    group.isolate(5)
    group[1].propose_configuration([1, 4, 5])
    group.settle()
    group[1].propose([(RECORD, b"a")])
    group.settle()
    assert group[1].log.commit == 1
    assert group[1].configuration.is_joint


def test_elections_in_a_joint_configuration_need_both_halves() -> None:  # 6
    joint = Configuration((1, 4, 5), (), (1, 2, 3))
    entries = [Entry(1, 1, CONFIG, joint.encode())]
    group = Group(strangers=[4, 5], options=Options(pre_vote=False))
    for node in (1, 2, 3, 4, 5):
        group.nodes[node] = lone(node, term=1, entries=entries, options=group.options)
    group.isolate(1, 4, 5)
    group[1].campaign()
    group.settle()
    assert group[1].role is Role.CANDIDATE
    group.heal()
    group.cut((2, 1), (1, 2))
    group.elect(1)


def test_a_new_leader_leaves_the_joint_configuration() -> None:  # 6
    group = led_by(strangers=[4, 5])
    group[1].propose_configuration([1, 4, 5])
    group.work(1)
    for _ in range(2):
        group.step()
    group.isolate(1)
    group.nodes[1] = lone(1)
    group.wire.clear()
    joint = [n for n in (2, 3, 4, 5) if group[n].configuration.is_joint]
    assert joint
    group.tick(60, [2, 3, 4, 5])
    (leader,) = [n for n in (2, 3, 4, 5) if group[n].is_leader]
    assert group[leader].configuration == Configuration.of([1, 4, 5])


def test_one_change_at_a_time() -> None:  # thesis 4.1
    group = led_by(strangers=[4, 5])
    group.isolate(1)
    group[1].propose_configuration([1, 2, 3, 4])
    with pytest.raises(Refused, match="the change at 2 is not committed yet"):
        group[1].propose_configuration([1, 2, 3, 4, 5])


def test_no_change_before_something_is_committed_in_the_term() -> None:  # the bug found in 2015
    raft = leading(lone(), 2)
    with pytest.raises(Refused, match="nothing is committed in term 1"):
        raft.propose_configuration([1, 2])


def elect_beyond_a_lost_change(group: Group) -> None:
    """Leader 1 has added 5, unheard; 2 leads now by the votes of 3 and 4, and 4 is cut off."""
    group.elect(1)
    group.isolate(1)
    group[1].propose_configuration([1, 2, 3, 4, 5])
    group.settle()
    group[2].campaign()
    while not group[2].is_leader:
        group.step()
    group.isolate(4)


def test_a_change_before_that_could_be_undone_by_another_leader() -> None:  # 2015
    """Were it not refused, two quorums that do not overlap would decide."""
    options = Options(pre_vote=False, check_quorum=False)
    group = Group((1, 2, 3, 4), strangers=[5], options=options)
    elect_beyond_a_lost_change(group)
    with pytest.raises(Refused, match="nothing is committed in term 2"):
        group[2].propose_configuration([2, 3, 4])
    with mutated("change-before-commit"):
        group[2].propose_configuration([2, 3, 4])
    group.settle()
    group.heal()
    group.isolate(2, 3)
    group.tick(2, [1])  # the answer of 4 ends its old term
    group.elect(1)
    assert group.leaders() == [1, 2]
    assert group.applied[1][1] != group.applied[2][1]


def test_only_the_leader_changes_members() -> None:
    with pytest.raises(NotLeader):
        lone().propose_configuration([1, 2])


@pytest.mark.parametrize(
    ("voters", "learners", "reason"),
    [
        ([], [], "at least one voter"),
        ([1, 2, 2], [], "listed twice"),
        ([1, 2], [2], "listed twice"),
        ([0, 1], [], "positive"),
        ([1, 2, 3], [], "these members already"),
        ([1], range(2, 5000), "at most 4096"),
    ],
)
def test_members_that_make_no_sense_are_refused(
    voters: list[int], learners: list[int], reason: str
) -> None:
    group = led_by()
    with pytest.raises(Refused, match=reason):
        group[1].propose_configuration(voters, learners)


def test_a_removed_leader_goes_on_until_its_removal_is_committed() -> None:  # thesis 4.2.2
    group = led_by()
    group.isolate(1)
    group[1].propose_configuration([2, 3])
    group.settle()
    assert group[1].is_leader
    group.heal()
    group.tick(4)
    assert not group[1].is_leader


def test_a_removed_leader_does_not_count_itself() -> None:  # thesis 4.2.2
    group = led_by()
    group.isolate(3)
    group[1].propose_configuration([2, 3])
    group.settle()
    assert group[1].log.commit == 1
    assert group[2].log.last_index == 2


def test_a_departing_leader_lets_the_best_other_voter_stand_at_once() -> None:
    group = led_by()
    group[1].propose_configuration([2, 3])
    group.settle()
    assert group.leaders() in ([2], [3])
    assert group.applied[2][-1].kind != RECORD


def test_a_lone_leader_is_replaced_by_another_node() -> None:  # thesis 4.2.2
    group = led_by(voters=[1], strangers=[2])
    group[1].propose_configuration([2])
    group.settle()
    group.tick(3)
    assert group.leaders() == [2]
    assert group[2].configuration == Configuration.of([2])


def test_a_voter_removed_by_an_uncommitted_change_still_stands() -> None:  # thesis 4.2.2
    """Its log may be the only one that can bring the change to its end."""
    group = Group([1], strangers=[2], options=Options(pre_vote=False))
    joint, after = Configuration((2,), (), (1,)), Configuration((2,))
    both = [Entry(1, 1, CONFIG, joint.encode())]
    group.nodes[2] = Raft(
        2, randomness=group[1].randomness, configuration=Configuration(), entries=both,
        hard_state=group.disks[2][0]._replace(term=1),
    )  # fmt: skip
    group.nodes[1] = lone(
        1, voters=[1], term=1, commit=1, entries=[*both, Entry(2, 1, CONFIG, after.encode())]
    )
    assert group[1].configuration.electors != (1,)
    group.tick(40)
    assert group.leaders() == [2]
    assert group[2].configuration == after


def test_a_removed_voter_that_knows_it_does_not_stand() -> None:
    after = Configuration((2, 3))
    raft = lone(term=1, commit=1, entries=[Entry(1, 1, CONFIG, after.encode())])
    for _ in range(50):
        raft.tick()
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


def test_a_removed_voter_does_not_disturb_the_others() -> None:  # thesis 4.2.3
    group = led_by(voters=(1, 2, 3, 4))
    group.isolate(4)
    group[1].propose_configuration([1, 2, 3])
    group.settle()
    group.heal()
    group.tick(100)
    assert group.leaders() == [1]
    assert group[1].term == 1


def test_progress_of_a_removed_member_is_dropped_and_a_new_one_is_fed() -> None:
    group = led_by(strangers=[4])
    group.propose(1, b"a")
    group[1].propose_configuration([1, 2, 4])
    group.settle()
    group.propose(1, b"b")
    assert [node for node, _ in group[1].peers] == [2, 4]
    assert group.data(4) == [b"a", b"b"]
    assert group.data(3) == [b"a"]


def test_a_shrunk_group_commits_what_waited_for_the_removed() -> None:
    group = led_by(voters=(1, 2))
    group.isolate(2)
    group[1].propose_configuration([1])
    group.settle()
    assert group[1].log.commit == 2
    assert group[1].is_leader


# learners: thesis 4.2.1


def test_a_learner_receives_everything_and_decides_nothing() -> None:
    group = led_by(voters=(1, 2), learners=[3])
    group.propose(1, b"a")
    assert group.data(3) == [b"a"]
    group.isolate(2)
    group.propose(1, b"b")
    assert group[1].log.commit == 2
    assert group[3].log.last_index == 3


def test_a_learner_never_stands() -> None:
    raft = lone(3, voters=(1, 2), learners=[3], term=1)
    raft.leader = 1
    for _ in range(50):
        raft.tick()
    raft.step(TimeoutNow(1, 3, 1))
    raft.campaign()
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 0)


def test_a_learner_votes_when_it_is_asked() -> None:
    """It may be a voter since an entry that it has not received yet."""
    raft = lone(3, voters=(1, 2), learners=[3])
    raft.step(VoteRequest(1, 3, 1, 0, 0))
    (answer,) = work_of(raft).messages_after_persist
    assert isinstance(answer, VoteResponse)
    assert answer.granted


def test_a_learner_is_promoted_by_one_entry_and_then_counts() -> None:
    group = led_by(voters=(1, 2), learners=[3])
    group[1].propose_configuration([1, 2, 3])
    group.settle()
    group.isolate(2)
    group.propose(1, b"a")
    assert group.data(1) == [b"a"]


def test_a_demoted_voter_is_a_learner_when_the_joint_phase_ends() -> None:
    group = led_by(strangers=[4])
    index = group[1].propose_configuration([1, 4], [2, 3])
    joint = group[1].history.at(index)
    assert (joint.outgoing, joint.learners, joint.learners_next) == ((1, 2, 3), (), (2, 3))
    group.settle()
    assert group[1].configuration == Configuration.of([1, 4], [2, 3])


def test_a_leader_demoted_to_learner_steps_down() -> None:
    group = led_by()
    group[1].propose_configuration([2, 3], [1])
    group.settle()
    assert group.leaders() in ([2], [3])
    group.propose(group.leaders()[0], b"a")
    assert group.data(1) == [b"a"]


def test_a_stranger_learns_the_members_with_the_entry_that_names_it() -> None:
    raft = Raft(9, randomness=lone().randomness, configuration=Configuration())
    for _ in range(30):
        raft.tick()
    assert raft.role is Role.FOLLOWER
    members = Configuration.of([1, 9])
    entries = [*entries_of(1), Entry(2, 1, CONFIG, members.encode())]
    raft.step(Append(1, 9, 1, 0, 0, entries, 0))
    assert raft.configuration == members


def test_a_change_during_the_hand_over_of_the_lead_is_refused() -> None:
    group = led_by()
    group.isolate(2)
    group.propose(1, b"a")
    group[1].transfer(2)
    with pytest.raises(Refused, match="on its way to 2"):
        group[1].propose_configuration([1, 2])


def test_a_hand_over_goes_on_while_the_joint_phase_ends() -> None:
    group = led_by(strangers=[4, 5])
    group[1].propose_configuration([1, 4, 5])
    group[1].transfer(4)
    group.settle()
    group.tick(3)
    assert group.leaders() == [4]
    assert group[4].configuration == Configuration.of([1, 4, 5])


def test_configurations_restart_with_the_log() -> None:
    change = Configuration.of([1, 2])
    raft = lone(term=1, entries=[*entries_of(1), Entry(2, 1, CONFIG, change.encode())])
    assert raft.configuration == change
    raft.step(Append(2, 1, 2, 1, 1, entries_of(2, first=2), 0))
    assert raft.configuration == Configuration.of([1, 2, 3])


def test_answers_count_by_the_configuration_in_force() -> None:
    group = led_by()
    group.isolate(2)
    group.isolate(3)
    group[1].propose_configuration([1, 2])
    group.work(1)
    group[1].step(AppendResponse(3, 1, 1, 2))  # of a member that was removed
    group.work(1)
    assert group[1].log.commit == 1
