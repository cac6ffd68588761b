"""Log replication and safety: one test per claim of the Raft paper, sections 5.3, 5.4 and 8."""

import pytest

from penstock_broker.raft import (
    NOOP,
    Append,
    AppendResponse,
    Entry,
    Heartbeat,
    NotLeader,
    Options,
    Raft,
    VoteRequest,
    VoteResponse,
)
from tests.raft.group import RECORD, Group, entries_of, leading, lone, work_of

EMPTY = Entry(1, 1, NOOP, b"")


def test_a_leader_opens_its_term_with_an_empty_entry() -> None:  # 8
    raft = leading(lone(), 2)
    assert list(work_of(raft).entries) == [EMPTY]


def test_a_leader_sends_proposals_to_everyone_before_its_own_disk_answers() -> None:  # 5.3
    group = Group()
    group.elect(1)
    group.stalled.add(1)
    group[1].propose([(RECORD, b"a")])
    group.work(1)
    assert [(m.to, m.prev_index) for m in group.wire if isinstance(m, Append)] == [(2, 1), (3, 1)]


def test_an_entry_is_committed_once_a_majority_holds_it() -> None:  # 5.3
    raft = leading(lone(voters=(1, 2, 3, 4, 5)), 2, 3)
    work_of(raft)
    raft.persisted(1, 1)
    raft.step(AppendResponse(2, 1, 1, 1))
    raft.ready()
    assert raft.log.commit == 0
    raft.step(AppendResponse(3, 1, 1, 1))
    assert list(work_of(raft).committed) == [EMPTY]


def test_followers_learn_the_commit_and_apply_in_order() -> None:  # 5.3
    group = Group()
    group.elect(1)
    group.propose(1, b"a", b"b")
    group.propose(1, b"c")
    assert [group.data(node) for node in (1, 2, 3)] == [[b"a", b"b", b"c"]] * 3
    assert [entry.index for entry in group.applied[2]] == [1, 2, 3, 4]


def test_a_slow_member_does_not_delay_the_others() -> None:  # 5.3
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    assert group.data(1) == group.data(2) == [b"a"]
    assert group.data(3) == []


def test_a_leader_sends_again_until_everyone_has_everything() -> None:  # 5.3
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    group.heal()
    group.tick(3)
    assert group.data(3) == [b"a"]


def test_a_follower_rejects_entries_that_do_not_follow_its_log() -> None:  # 5.3
    raft = lone(term=2, entries=entries_of(1, 1))
    raft.step(Append(2, 1, 2, 5, 2, entries_of(2, first=6), 0))
    (answer,) = work_of(raft).messages_after_persist
    assert answer == AppendResponse(1, 2, 2, 5, True, hint_index=2, hint_term=1)
    assert raft.log.last_index == 2


@pytest.mark.parametrize(
    ("mine", "prev", "sent", "result"),
    [
        ((1, 2), (2, 2), (3,), [1, 2, 3]),  # follows
        ((1, 2), (1, 1), (3, 4), [1, 3, 4]),  # conflicts
        ((1, 2), (1, 1), (2,), [1, 2]),  # repeats
        ((1, 2, 2), (1, 1), (2,), [1, 2, 2]),  # repeats the middle: nothing is cut off
        ((1, 2), (1, 1), (2, 3), [1, 2, 3]),  # overlaps
        ((), (0, 0), (1,), [1]),
        ((1, 1), (0, 0), (2,), [2]),
    ],
)
def test_a_follower_makes_its_log_equal_to_the_leaders(
    mine: tuple[int, ...], prev: tuple[int, int], sent: tuple[int, ...], result: list[int]
) -> None:  # 5.3
    raft = lone(term=4, entries=entries_of(*mine))
    raft.step(Append(2, 1, 4, *prev, entries_of(*sent, first=prev[0] + 1), 0))
    log = raft.log
    assert [entry.term for entry in log.slice(1, log.last_index)] == result
    (answer,) = work_of(raft).messages_after_persist
    assert answer == AppendResponse(1, 2, 4, prev[0] + len(sent))


def test_every_divergence_of_figure_7_is_repaired() -> None:  # 5.3, figure 7
    leader_terms = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    for follower_terms in (
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ):
        group = Group(options=Options(pre_vote=False))
        group.nodes[1] = lone(term=8, entries=entries_of(*leader_terms))
        group.nodes[2] = lone(2, term=7, entries=entries_of(*follower_terms))
        group.isolate(2)
        group.elect(1)
        group.heal()
        group.tick(4)
        assert group.terms(2) == [*leader_terms, 9]
        assert group.applied[2] == group.applied[1]


def test_conflict_hints_skip_whole_terms() -> None:  # 5.3, end
    group = Group()
    group.nodes[1] = lone(term=8, entries=entries_of(*[1] * 3, *[6] * 40))
    group.nodes[2] = lone(2, term=8, entries=entries_of(*[1] * 3, *[2] * 20, *[3] * 20))
    group.isolate(2)
    group.elect(1)
    group.heal()
    group[1].tick()
    group[1].tick()
    probes = 0
    for _ in range(30):
        group.work(1)
        probes += sum(isinstance(m, Append) and m.to == 2 for m in group.wire)
        group.step()
        if group[2].log.last_index == group[1].log.last_index:
            break
    assert group.terms(2) == group.terms(1)
    assert probes <= 3


def test_a_log_never_holds_two_entries_at_one_place() -> None:  # 5.3
    raft = leading(lone(), 2)
    first = raft.propose([(RECORD, b"a"), (RECORD, b"b")])
    second = raft.propose([(RECORD, b"c")])
    assert (first, second, raft.next_index) == (2, 4, 5)


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:  # 5.4.2, figure 8
    raft = lone(term=4, entries=entries_of(1, 2))
    leading(raft, 2)
    raft.ready()
    raft.persisted(3, 5)
    raft.step(AppendResponse(2, 1, 5, 2))  # a majority holds the entry of term 2
    raft.ready()
    assert raft.log.commit == 0
    raft.step(AppendResponse(2, 1, 5, 3))  # and now the one of this term: all are committed
    raft.ready()
    assert raft.log.commit == 3


def test_a_leader_never_overwrites_its_own_log() -> None:  # 5.3, leader append-only
    group = Group()
    group.elect(1)
    group.isolate(1)
    group.propose(1, b"lost")
    before = group.terms(1)
    group.tick(1)
    assert group.terms(1) == before


def test_what_is_uncommitted_may_be_replaced_by_a_new_leader() -> None:  # 5.3
    group = Group()
    group.elect(1)
    group.isolate(1)
    group.propose(1, b"lost")
    group.elect(2)
    group.propose(2, b"kept")
    group.heal()
    group.tick(4)
    assert [group.data(node) for node in (1, 2, 3)] == [[b"kept"]] * 3


def test_what_is_committed_survives_every_change_of_leader() -> None:  # 5.4.3
    group = Group((1, 2, 3, 4, 5))
    kept = []
    for turn, node in enumerate((1, 2, 3, 4, 5, 1)):
        group.heal()
        group.tick(4)
        if not group[node].is_leader:
            group.elect(node)
        group.isolate(*({1, 2, 3, 4, 5} - {node, node % 5 + 1, (node + 1) % 5 + 1}))
        group.propose(node, b"%d" % turn)
        kept.append(b"%d" % turn)
        assert group.data(node) == kept


def test_an_append_that_begins_before_the_commit_is_taken_from_there() -> None:
    raft = lone(term=2, commit=2, entries=entries_of(1, 1))
    raft.step(Append(2, 1, 2, 0, 0, entries_of(1, 1, 2), 0))
    assert raft.log.last_index == 3
    assert work_of(raft).messages_after_persist == [AppendResponse(1, 2, 2, 3)]


def test_an_append_wholly_before_the_commit_is_acknowledged_up_to_there() -> None:
    raft = lone(term=2, commit=3, entries=entries_of(1, 1, 1))
    raft.step(Append(2, 1, 2, 0, 0, entries_of(1), 0))
    assert work_of(raft).messages_after_persist == [AppendResponse(1, 2, 2, 3)]


def test_a_leader_that_contradicts_the_commit_stops_the_node() -> None:
    raft = lone(term=3, commit=2, entries=entries_of(1, 1))
    with pytest.raises(AssertionError, match="committed entry 2 has term 1 here, 2 at the leader"):
        raft.step(Append(2, 1, 3, 0, 0, entries_of(1, 2, 3), 0))


def test_commit_never_passes_what_the_append_has_shown_to_match() -> None:  # 5.3
    raft = lone(term=2, entries=entries_of(1, 1, 1))
    raft.step(Append(2, 1, 2, 1, 1, [], 3))
    assert raft.log.commit == 1


def test_only_the_leader_takes_proposals() -> None:  # 8
    raft = lone(term=1)
    with pytest.raises(NotLeader) as caught:
        raft.propose([(RECORD, b"a")])
    assert caught.value.leader == 0
    raft.step(Heartbeat(3, 1, 1, 0, 1))
    with pytest.raises(NotLeader, match="the leader is 3"):
        raft.propose([(RECORD, b"a")])


def committed_group() -> Group:
    group = Group()
    group.elect(1)
    group.propose(1, b"a")
    return group


def test_a_restarted_node_keeps_term_vote_and_log() -> None:  # 5.5, figure 2
    group = committed_group()
    raft = group.restart(2)
    assert (raft.term, raft.vote, raft.log.last_index) == (1, 1, 2)
    raft.step(VoteRequest(3, 2, 1, 9, 9))
    (answer,) = work_of(raft).messages_after_persist
    assert isinstance(answer, VoteResponse)
    assert not answer.granted


def test_a_restarted_node_applies_from_the_start_of_its_log() -> None:  # 5.5
    group = committed_group()
    group.restart(2)
    group.tick(4)
    assert group.data(2) == [b"a"]


def test_the_same_message_twice_does_no_harm() -> None:  # 5.5
    raft = lone(term=1)
    message = Append(2, 1, 1, 0, 0, entries_of(1, 1), 1)
    raft.step(message)
    raft.step(message)
    assert raft.log.last_index == 2
    assert raft.log.commit == 1


def lagging_leader() -> Raft:
    raft = leading(lone(), 2)
    work_of(raft)
    return raft


def test_an_answer_beyond_the_log_is_a_bug_that_stops_the_node() -> None:
    with pytest.raises(AssertionError, match="member 2 acknowledged 7, the log ends at 1"):
        lagging_leader().step(AppendResponse(2, 1, 1, 7))


def test_answers_of_strangers_are_ignored() -> None:
    raft = lagging_leader()
    raft.step(AppendResponse(9, 1, 1, 1))
    assert 9 not in raft.progress
