"""Messages that promise something about the disk leave when it has come."""

from __future__ import annotations

from penstock_broker.node.held import Held
from penstock_broker.raft import AppendResponse, VoteResponse


def answer(index: int, term: int = 1) -> AppendResponse:
    return AppendResponse(2, 1, term, index)


VOTE = VoteResponse(2, 3, 2, granted=True)


def test_they_wait_for_their_flush_and_for_all_of_their_entries() -> None:
    held = Held(0)
    held.add(5, 10, [answer(10)])
    assert held.take(4, 10) == []
    assert held.take(5, 7) == []
    assert held.take(6, 10) == [answer(10)]


def test_they_leave_in_their_order() -> None:
    held = Held(0)
    held.add(5, 10, [answer(10)])
    held.add(6, 12, [answer(12)])
    assert held.take(6, 10) == [answer(10)]
    assert held.take(7, 12) == [answer(12)]


def test_what_was_promised_of_entries_that_were_replaced_is_not_sent() -> None:
    held = Held(0)
    held.add(5, 10, [answer(10), VOTE])
    held.truncated(8)
    held.add(6, 9, [answer(9, 2)])
    assert held.take(6, 9) == [VOTE, answer(9, 2)]


def test_a_snapshot_takes_votes_along_and_drops_acknowledgements() -> None:
    held = Held(10)
    held.add(5, 10, [answer(10), VOTE])
    held.installing(20, [answer(20)])
    held.add(6, 20, [answer(20, 2)])
    assert held.take(7, 10) == []
    assert held.installed(20) == [VOTE, answer(20), answer(20, 2)]
    assert held.clean


def test_what_was_written_behind_a_snapshot_waits_for_a_flush_of_its_own() -> None:
    held = Held(10)
    held.installing(20, [answer(20)])
    held.logged, held.sequence = 21, 8
    held.add(8, 21, [answer(21)])
    assert held.installed(20) == [answer(20)]
    assert not held.clean
    assert held.take(8, 21) == [answer(21)]


def test_a_vote_after_a_snapshot_needs_no_entries_behind_it() -> None:
    held = Held(2)
    held.installing(20, [answer(20)])
    assert held.installed(20) == [answer(20)]
    held.sequence, held.clean = 8, False  # a hard state was handed over
    held.add(8, 20, [VOTE])
    assert held.take(8, 2) == [VOTE]  # 2: the last entry that a flush brought
