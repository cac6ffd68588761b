"""One copy goes on alone, the others being lost for ever: and what if they come back after all."""

from __future__ import annotations

from random import Random

import pytest

from penstock_broker.raft import (
    Append,
    Configuration,
    Entry,
    HardState,
    Raft,
    Role,
    VoteRequest,
)
from penstock_broker.raft.entry import CONFIG, NOOP
from tests.raft.group import RECORD, Group

LATER = 1000


def bereft(*, common: int = 3, only_there: int = 0) -> Group:
    """Of three nodes 1 and 2 are out of reach; they decided more than 3 has heard of."""
    group = Group()
    group.elect(1)
    group.propose(1, *(b"%d" % n for n in range(common)))
    group.isolate(3)
    if only_there:
        group.propose(1, *(b"there %d" % n for n in range(only_there)))
    group.tick(30, nodes=[3])
    return group


def test_the_survivor_leads_alone_and_all_that_it_has_is_decided() -> None:
    group = bereft()
    last = group[3].log.last_index
    assert group[3].recover_alone(LATER)
    group.settle()
    assert group[3].is_leader
    assert group[3].term == LATER
    assert group[3].configuration == Configuration.of([3])
    assert group[3].log.commit == last + 2
    kinds = [(entry.kind, entry.term) for entry in group.applied[3][last:]]
    assert kinds == [(CONFIG, LATER), (NOOP, LATER)]
    group.propose(3, b"new")
    assert group.data(3) == [b"0", b"1", b"2", b"new"]


def test_what_was_never_acknowledged_here_may_come_to_be() -> None:
    group = Group([1, 2])
    group.elect(1)
    group.isolate(1)
    group[1].propose([(RECORD, b"waits")])
    group.settle()
    assert group.data(1) == []
    group.tick(25, nodes=[1])
    assert group[1].recover_alone(LATER)
    group.settle()
    assert group.data(1) == [b"waits"]


def test_nothing_is_decided_before_the_new_configuration_is_durable() -> None:
    group = bereft()
    commit = group[3].log.commit
    group.stalled.add(3)
    assert group[3].recover_alone(LATER)
    group.work(3)
    group[3].propose([(RECORD, b"early")])
    group.settle()
    assert group[3].log.commit == commit
    assert group.data(3) == [b"0", b"1", b"2"]
    group.stalled.clear()
    group.flush(3)
    group.settle()
    assert group.data(3)[-1] == b"early"


def test_a_stop_before_it_is_durable_leaves_no_trace_and_it_is_done_again() -> None:
    group = bereft()
    group.stalled.add(3)
    assert group[3].recover_alone(LATER)
    group.work(3)
    group.stalled.clear()
    raft = group.restart(3)
    assert (raft.term, raft.configuration) == (1, Configuration.of([1, 2, 3]))
    assert raft.recover_alone(LATER)
    group.settle()
    assert (raft.is_leader, raft.term) == (True, LATER)


def test_a_stop_between_the_term_and_the_configuration_takes_the_next_term() -> None:
    entries = [Entry(1, 1, RECORD, b"kept")]
    raft = Raft(
        3, randomness=Random(1), configuration=Configuration.of([1, 2, 3]), entries=entries,
        hard_state=HardState(LATER, 3, 0),
    )  # fmt: skip
    assert raft.recover_alone(LATER)
    assert raft.term == LATER + 1


def test_a_stop_after_it_is_durable_finds_a_sole_voter() -> None:
    group = bereft()
    assert group[3].recover_alone(LATER)
    group.work(3)
    raft = group.restart(3)
    assert raft.configuration.is_sole_voter(3)
    group.tick(1, nodes=[3])
    assert (raft.is_leader, raft.term) == (True, LATER + 1)
    assert group.data(3) == [b"0", b"1", b"2"]


def test_a_leader_does_not_go_alone_before_everybody_here_knows_that_it_leads_no_more() -> None:
    group = Group([1, 2])
    raft = group.elect(1)
    assert not raft.recover_alone(LATER)
    group.isolate(1)
    for _ in range(20):
        raft.tick()
    assert raft.role is not Role.LEADER
    assert not raft.recover_alone(LATER), "what was proposed is to be refused first"
    group.work(1)
    assert raft.recover_alone(LATER)


def test_who_takes_a_snapshot_goes_on_when_it_is_durable() -> None:
    raft = Raft(1, randomness=Random(1), configuration=Configuration.of([1, 2]))
    raft.log.restore(9, 1)
    raft.term = 1
    assert not raft.recover_alone(LATER)


@pytest.mark.parametrize("only_there", [0, 5])
def test_an_old_replica_is_elected_by_no_vote_of_the_survivor(only_there: int) -> None:
    group = bereft(only_there=only_there)
    assert group[3].recover_alone(LATER)
    group.settle()
    group.propose(3, b"new")
    group.heal()
    raft = group.restart(3)  # for a moment it follows nobody
    for pre in (True, False):
        log = group[1].log
        raft.step(VoteRequest(1, 3, LATER + 9, log.last_index, log.last_term, pre=pre))
        assert log.last_index > raft.log.last_index or not only_there
        ready = raft.ready()
        assert ready is not None
        answers = [*ready.messages, *ready.messages_after_persist]
        assert [getattr(answer, "granted", None) for answer in answers] == [False]


def test_an_old_leader_that_comes_back_can_not_change_what_the_survivor_has() -> None:
    group = bereft(only_there=5)
    assert group[3].recover_alone(LATER)
    group.settle()
    group.propose(3, b"new")
    before = [tuple(entry) for entry in group.disks[3][1]]
    group.heal()
    group.isolate(2)
    log = group[1].log
    stale = Append(1, 3, 1, log.last_index - 1, 1, log.slice(log.last_index, log.last_index), 9)
    group[3].step(stale)
    group.tick(60)
    assert group.leaders() == [3]
    assert [tuple(entry) for entry in group.disks[3][1]][: len(before)] == before
    assert not group[1].is_leader, "it has heard the later term"


def test_a_member_that_dropped_a_longer_log_follows_and_can_be_led() -> None:
    group = bereft(only_there=9)
    assert group[3].recover_alone(LATER)
    group.settle()
    promised = group[1].log.last_term, group[1].log.last_index
    assert promised[1] > group[3].log.last_index
    group.heal()
    group.cut((2, 3), (3, 2), (2, 1), (1, 2))
    group.disks[1] = (HardState(LATER - 1, 1, 0), [])
    group.nodes[1] = Raft(
        1, randomness=Random(1), configuration=Configuration(), promised=promised,
        hard_state=HardState(LATER - 1, 1, 0),
    )  # fmt: skip
    group[3].propose_configuration([1, 3])
    group.settle()
    group.tick(5)
    assert group[1].log.last_index == group[3].log.last_index
    assert group[1].is_promotable()
    group.restart(3)
    group.tick(45)
    assert len(group.leaders()) == 1
