"""A node that dropped its log when it ceased to be a member, and is a member again."""

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
    VoteResponse,
)
from tests.raft.group import Group

THREE = Configuration.of([1, 2, 3])


def come_back(entries: list[Entry] | None = None) -> Raft:
    """Its log ended at 7 of term 4 once; it voted for nobody in term 5."""
    return Raft(
        1, randomness=Random(1), configuration=THREE, hard_state=HardState(5, 0, 0),
        entries=entries or [], promised=(4, 7),
    )  # fmt: skip


def answer(raft: Raft, index: int, term: int, *, pre: bool) -> VoteResponse:
    raft.step(VoteRequest(2, 1, 6, index, term, pre=pre))
    ready = raft.ready()
    assert ready is not None
    (message,) = [*ready.messages, *ready.messages_after_persist]
    assert isinstance(message, VoteResponse)
    return message


@pytest.mark.parametrize("pre", [True, False])
def test_it_votes_as_if_it_had_its_log(pre: bool) -> None:
    assert not answer(come_back(), 6, 4, pre=pre).granted
    assert not answer(come_back(), 99, 3, pre=pre).granted
    assert answer(come_back(), 7, 4, pre=pre).granted
    assert answer(come_back(), 1, 5, pre=pre).granted


def test_it_stands_only_when_it_has_caught_up() -> None:
    entries = [Entry(index, 4, 1, b"") for index in range(1, 8)]
    behind, here = come_back(entries[:6]), come_back(entries)
    for raft in (behind, here):
        raft.campaign()
    assert (behind.role, here.role) == (Role.FOLLOWER, Role.PRE_CANDIDATE)


def test_it_follows_and_catches_up() -> None:
    raft = come_back()
    entries = [Entry(index, 5, 1, b"") for index in range(1, 3)]
    raft.step(Append(2, 1, 5, 0, 0, entries, 0))
    assert raft.log.last_index == 2


def test_a_leader_that_hears_of_it_feeds_it_from_the_start_and_keeps_what_is_committed() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a", b"b")
    group.settle()
    leader = group[1]
    commit = leader.log.commit
    assert leader.log_dropped(3)
    assert not leader.log_dropped(3)
    assert leader.progress[3].match == 0
    group.nodes[3] = Raft(
        3, randomness=Random(1), configuration=THREE, hard_state=HardState(1, 0, 0),
        promised=(1, commit),
    )  # fmt: skip
    group.isolate(2)
    group.propose(1, b"c")
    group.settle()
    assert group[3].log.last_index == leader.log.last_index == commit + 1
    assert leader.log.commit == commit + 1
    assert not group[3].log_dropped(1)
