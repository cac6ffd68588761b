"""The contract with the driver: what leaves when, what is handed out once, what is refused."""

from typing import Any

import pytest

from penstock_broker.raft import (
    CONFIG,
    NOOP,
    Append,
    AppendResponse,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    Options,
    Raft,
    Refused,
    Role,
    SoftState,
    VoteRequest,
    VoteResponse,
)
from tests.raft.group import RECORD, Fixed, Group, entries_of, leading, lone, work_of


def test_a_node_at_rest_wants_nothing() -> None:
    assert lone().ready() is None


def test_a_tick_tells_whether_there_is_something_to_do() -> None:
    follower = lone(term=1)
    assert [follower.tick() for _ in range(10)] == [False] * 9 + [True]
    alone = Group([1])
    alone.elect(1)
    assert not any(alone[1].tick() for _ in range(30))
    leader = leading(lone(options=Options(heartbeat_ticks=3)), 2)
    work_of(leader)
    assert [leader.tick() for _ in range(3)] == [False, False, True]
    carried = leading(lone(options=Options(external_heartbeats=True)), 2)
    work_of(carried)
    assert [carried.tick() for _ in range(20)].index(True) == 19  # hears no quorum: steps down


def test_everything_is_handed_out_once() -> None:
    raft = lone(term=1)
    raft.step(Append(2, 1, 1, 0, 0, entries_of(1, 1), 1))
    first = work_of(raft)
    assert [entry.index for entry in first.entries] == [1, 2]
    assert first.messages_after_persist == [AppendResponse(1, 2, 1, 2)]
    assert first.soft_state == SoftState(Role.FOLLOWER, 2)
    assert raft.ready() is None


def test_what_was_handed_out_does_not_change_afterwards() -> None:
    raft = lone(term=1)
    raft.step(Heartbeat(2, 1, 1, 0, 1))
    ready = work_of(raft)
    raft.step(Append(2, 1, 1, 0, 0, entries_of(1), 0))
    assert ready.messages_after_persist == []
    assert ready.entries == []


def test_votes_wait_for_the_disk() -> None:
    raft = lone(term=1)
    raft.step(VoteRequest(2, 1, 2, 0, 0))
    ready = work_of(raft)
    assert ready.hard_state == HardState(2, 2, 0)
    assert ready.must_sync
    assert ready.messages == []
    assert ready.messages_after_persist == [VoteResponse(1, 2, 2, True)]


def test_a_candidate_asks_only_when_its_term_is_durable() -> None:
    raft = lone(options=Options(pre_vote=False))
    raft.campaign()
    ready = work_of(raft)
    assert (ready.messages, ready.must_sync) == ([], True)
    assert [m.to for m in ready.messages_after_persist] == [1, 2, 3]


def test_a_lone_voter_leads_only_what_its_disk_knows() -> None:
    raft = lone(voters=[1])
    raft.tick()
    (own,) = work_of(raft).messages_after_persist
    assert not raft.is_leader
    raft.step(own)
    assert raft.is_leader


def test_heartbeats_are_answered_without_the_disk() -> None:
    raft = lone(term=1)
    raft.step(Heartbeat(2, 1, 1, 0, 5))
    assert work_of(raft).messages == [HeartbeatResponse(1, 2, 1, 5)]


def test_a_new_commit_alone_needs_no_sync() -> None:
    raft = lone(term=1, entries=entries_of(1))
    raft.step(Heartbeat(2, 1, 1, 1, 1))
    ready = work_of(raft)
    assert ready.hard_state == HardState(1, 0, 1)
    assert not ready.must_sync


def test_nothing_is_applied_before_it_is_durable_here() -> None:
    raft = lone(term=1)
    raft.step(Append(2, 1, 1, 0, 0, entries_of(1, 1), 2))
    ready = work_of(raft)
    assert raft.log.commit == 2
    assert ready.committed == []
    assert ready.hard_state is None  # the commit told is never ahead of the disk
    raft.persisted(1, 1)
    assert [entry.index for entry in work_of(raft).committed] == [1]
    raft.persisted(2, 1)
    assert [entry.index for entry in work_of(raft).committed] == [2]


def test_a_leader_counts_itself_only_for_what_is_durable() -> None:
    raft = leading(lone(), 2)
    raft.propose([(RECORD, b"a")])
    work_of(raft)
    raft.persisted(1, 1)
    raft.step(AppendResponse(2, 1, 1, 2))
    raft.ready()
    assert raft.log.commit == 1
    raft.persisted(2, 1)
    assert [entry.index for entry in work_of(raft).committed] == [2]


def test_a_leader_with_a_slow_disk_commits_by_the_others() -> None:
    group = Group()
    group.elect(1)
    group.stalled.add(1)
    group.propose(1, b"a")
    assert group[1].log.commit == 2
    assert group.data(2) == [b"a"]
    assert group.data(1) == []
    group.flush(1)
    group.settle()
    assert group.data(1) == [b"a"]


def test_several_rounds_may_be_on_their_way() -> None:
    group = Group([1])
    group.tick()
    group.stalled.add(1)
    for item in (b"a", b"b", b"c"):
        group.propose(1, item)
    assert len(group.held[1]) == 3
    group.flush(1, 2)
    group.settle()
    assert group.data(1) == [b"a", b"b"]
    group.flush(1)
    group.settle()
    assert group.data(1) == [b"a", b"b", b"c"]


def test_a_report_about_replaced_entries_has_no_effect() -> None:
    raft = lone(term=1)
    raft.step(Append(2, 1, 1, 0, 0, entries_of(1, 1), 0))
    work_of(raft)
    raft.step(Append(3, 1, 2, 1, 1, entries_of(2, first=2), 0))
    work_of(raft)
    raft.persisted(2, 1)
    assert raft.log.durable == 0
    raft.persisted(2, 2)
    assert raft.log.durable == 2


def test_an_old_report_has_no_effect() -> None:
    raft = lone(term=1, entries=entries_of(1, 1))
    raft.persisted(1, 1)
    raft.persisted(9, 1)
    assert raft.log.durable == 2


def test_a_report_of_what_was_never_handed_out_stops_the_node() -> None:
    raft = leading(lone(), 2)
    with pytest.raises(AssertionError, match="1 is durable but 1 was not handed out"):
        raft.persisted(1, 1)


def test_replaced_entries_are_handed_out_again() -> None:
    raft = lone(term=1)
    raft.step(Append(2, 1, 1, 0, 0, entries_of(1, 1, 1), 0))
    work_of(raft)
    raft.step(Append(3, 1, 2, 1, 1, entries_of(2, first=2), 0))
    assert [entry[:2] for entry in work_of(raft).entries] == [(2, 2)]


def test_committed_entries_come_in_bounded_portions() -> None:
    raft = lone(
        term=1, commit=5, entries=entries_of(1, 1, 1, 1, 1), options=Options(committed_max=2)
    )
    portions = [[entry.index for entry in work_of(raft).committed] for _ in range(3)]
    assert portions == [[1, 2], [3, 4], [5]]


def test_proposals_know_their_place_beforehand() -> None:
    raft = leading(lone(), 2)
    index, term = raft.next_index, raft.term
    stamped = bytearray(b"%d %d" % (index, term))
    assert raft.propose([(RECORD, stamped)]) == index
    assert work_of(raft).entries[-1] == Entry(index, term, RECORD, stamped)


def test_too_many_uncommitted_entries_are_refused() -> None:
    raft = leading(lone(options=Options(uncommitted_max=3)), 2)
    raft.propose([(RECORD, b"a")] * 2)
    with pytest.raises(Refused, match="3 entries wait for their commit"):
        raft.propose([(RECORD, b"a")])


@pytest.mark.parametrize("kind", [CONFIG, NOOP])
def test_kinds_of_raft_are_not_proposed(kind: int) -> None:
    raft = leading(lone(), 2)
    with pytest.raises(AssertionError, match="a kind of raft was proposed"):
        raft.propose([(RECORD, b""), (kind, b"")])


def test_proposing_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="nothing proposed"):
        leading(lone(), 2).propose([])


def test_what_is_proposed_in_one_round_leaves_in_one_append_per_member() -> None:
    group = Group()
    group.elect(1)
    for item in (b"a", b"b", b"c"):
        group[1].propose([(RECORD, item)])
    group.work(1)
    appends = [(m.to, len(m.entries)) for m in group.wire if isinstance(m, Append)]
    assert appends == [(2, 3), (3, 3)]


def test_without_eager_commit_followers_learn_it_with_the_next_message() -> None:
    group = Group(options=Options(eager_commit=False))
    group.elect(1)
    group.propose(1, b"a")
    assert (group.data(1), group.data(2)) == ([b"a"], [])
    group.tick(2)
    assert group.data(2) == [b"a"]


def test_appends_are_bounded_by_count_and_by_bytes() -> None:
    group = Group(options=Options(append_entries_max=3, append_bytes_max=10))
    group.elect(1)
    sizes = (4, 4, 4, 1, 1, 1, 1, 50, 1)
    group[1].propose([(RECORD, b"x" * size) for size in sizes])
    group.work(1)
    portions = [len(m.entries) for m in group.wire if isinstance(m, Append) and m.to == 2]
    assert portions == [2, 3, 2, 1, 1]


def test_a_full_window_waits_for_answers() -> None:
    group = Group([1, 2], options=Options(append_entries_max=1, window_messages_max=2))
    group.elect(1)
    group.cut((2, 1))
    group.propose(1, *[b"x"] * 5)
    assert group[2].log.last_index == 3
    group.heal()
    group.tick(2)
    assert group[2].log.last_index == 6


def test_a_window_is_full_by_bytes_too() -> None:
    group = Group([1, 2], options=Options(append_entries_max=1, window_bytes_max=10))
    group.elect(1)
    group.cut((2, 1))
    group.propose(1, *[b"x" * 4] * 5)
    assert group[2].log.last_index == 4


def test_a_lost_append_is_noticed_by_the_next_one() -> None:
    group = Group([1, 2])
    group.elect(1)
    group.cut((1, 2))
    group.propose(1, b"lost")
    group.heal()
    group.propose(1, b"b")
    assert group.data(2) == [b"lost", b"b"]


def test_a_lost_last_append_is_noticed_by_a_heartbeat() -> None:
    group = Group([1, 2])
    group.elect(1)
    group.cut((1, 2))
    group.propose(1, b"lost")
    group.heal()
    group.tick(3)
    assert group.data(2) == [b"lost"]


def test_appends_that_overtake_each_other_are_put_right() -> None:
    group = Group([1, 2], options=Options(append_entries_max=1))
    group.elect(1)
    group[1].propose([(RECORD, b"%d" % n) for n in range(4)])
    group.work(1)
    group.wire.reverse()
    group.settle()
    group.tick(3)
    assert group.data(2) == [b"0", b"1", b"2", b"3"]


def test_a_node_restarts_from_what_was_durable() -> None:
    raft = Raft(
        1,
        randomness=Fixed(),
        configuration=Configuration.of([1, 2, 3]),
        hard_state=HardState(5, 2, 4),
        base=(3, 2),
        entries=entries_of(4, 5, first=4),
        applied=3,
    )
    status = raft.status()
    assert (status.term, status.vote, status.commit_index) == (5, 2, 4)
    assert (status.base_index, status.handed_index, status.last_index) == (3, 3, 5)
    assert [entry.index for entry in work_of(raft).committed] == [4]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"hard_state": HardState(1, 0, 3)}, "commit 3 is past the end of the log 2"),
        ({"entries": entries_of(1, 2)}, "entries of term 2 without a hard state of it"),
        ({"node_id": 0}, "node ids are positive"),
        ({"base": (2, 1), "entries": []}, "applied 0 is before the base 2"),
        ({"entries": entries_of(1, first=2)}, "entry 2 appended after 0"),
        ({"entries": [*entries_of(1), *entries_of(1, first=3)]}, "2 entries from 1 end at 3"),
    ],
)
def test_a_state_that_can_not_be_stops_the_start(values: dict[str, Any], text: str) -> None:
    start: dict[str, Any] = {
        "node_id": 1,
        "randomness": Fixed(),
        "configuration": Configuration.of([1]),
        "hard_state": HardState(1, 0, 0),
        "entries": entries_of(1, 1),
    }
    with pytest.raises(AssertionError, match=text):
        Raft(**(start | values))


def test_heartbeats_must_be_more_frequent_than_elections() -> None:
    with pytest.raises(ValueError, match="heartbeats every 10 of 10"):
        Options(election_ticks=10, heartbeat_ticks=10)


def test_a_leader_tells_where_its_members_are() -> None:
    group = Group()
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    members = group[1].status().members
    assert [(m.id, m.match, m.next) for m in members] == [(2, 2, 3), (3, 1, 3)]
    assert group[2].status().members == ()
