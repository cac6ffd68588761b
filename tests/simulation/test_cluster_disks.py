"""What a broker of the simulated cluster may find on its disk: what it had, or what was on its way.

The first scene happened: the sync of a flush failed, with it the process, and the flush was on the
disk all the same. In it a new leader's entry took the place of four that nobody else had.
"""

from __future__ import annotations

from collections import defaultdict, deque

from penstock_broker.simulation.cluster_disks import Durable, Write, flushed, may_be

HAD = Durable(4, 3, 7, {8: 3, 9: 4, 10: 4}, 10)
VOID = Write(58, 9, (5, 0), [(9, 5), (10, 5)])
"""Of a leader of term 5, who knows nothing of 9 and 10 of term 4."""


def log(term: int, vote: int, terms: dict[int, int], base: int = 7) -> Durable:
    """What a start finds."""
    return Durable(term, vote, base, terms, max(terms, default=base))


def test_entries_may_be_replaced_by_a_write_that_nobody_had_heard_of() -> None:
    assert may_be(HAD, [VOID], log(5, 0, {8: 3, 9: 5, 10: 5}))
    assert may_be(HAD, [VOID], log(5, 0, {8: 3, 9: 5}))
    assert may_be(HAD, [VOID], HAD)


def test_durable_entries_are_not_lost_without_a_write_in_their_place() -> None:
    lost = log(4, 3, {8: 3, 9: 4})
    assert not may_be(HAD, [], lost)
    assert not may_be(HAD, [VOID], lost)
    assert not may_be(HAD, [VOID], log(5, 0, {8: 3}))


def test_entries_of_another_term_than_any_that_was_written_are_noticed() -> None:
    assert not may_be(HAD, [], log(4, 3, {8: 3, 9: 3, 10: 4}))
    assert not may_be(HAD, [VOID], log(5, 0, {8: 3, 9: 5, 10: 4}))


def test_a_vote_or_a_term_is_not_lost() -> None:
    there = {8: 3, 9: 4, 10: 4}
    assert not may_be(HAD, [], log(4, 0, there))
    assert not may_be(HAD, [], log(3, 3, there))
    assert may_be(HAD, [Write(58, 9, (5, 2), [])], log(5, 2, there))
    assert not may_be(HAD, [Write(58, 9, (5, 2), [])], log(5, 1, there))


def test_a_checkpoint_stands_for_the_entries_before_it() -> None:
    assert may_be(HAD, [], log(4, 3, {10: 4}, base=9))
    assert may_be(HAD, [], Durable(4, 3, 10, {}, 10))


def test_a_snapshot_that_nobody_had_heard_of_may_replace_the_log() -> None:
    arrived = Write(0, 9, (5, 0), [], snapshot=9)
    assert may_be(HAD, [arrived], Durable(5, 0, 9, {}, 9))
    assert may_be(HAD, [arrived], log(5, 0, HAD.terms))
    assert not may_be(HAD, [arrived], Durable(5, 0, 8, {}, 8))


def test_what_was_reported_is_not_touched_by_the_question() -> None:
    before = dict(HAD.terms)
    may_be(HAD, [VOID], HAD)
    assert HAD.terms == before


def run(start: int, end: int, term: int) -> list[tuple[int, int]]:
    """Entries of one term."""
    return [(index, term) for index in range(start, end + 1)]


def test_what_did_not_fit_into_a_flush_is_not_on_the_disk_with_it() -> None:
    disks: defaultdict[int, Durable] = defaultdict(Durable)
    writes = deque([Write(5, 9, (4, 1), run(1, 6, 4)), Write(5, 8, (4, 2), run(1, 2, 4))])
    flushed(writes, 5, {9: 4}, lambda gid: disks[gid])
    assert disks[9] == Durable(4, 1, 0, dict(run(1, 4, 4)), 4)
    assert disks[8] == Durable()
    assert list(writes) == [Write(6, 9, None, run(5, 6, 4)), Write(6, 8, (4, 2), run(1, 2, 4))]
    flushed(writes, 6, {9: 6, 8: 2}, lambda gid: disks[gid])
    assert (disks[9].last, disks[8].last, disks[8].vote) == (6, 2, 2)
    assert not writes


def test_what_was_replaced_before_it_was_flushed_never_comes_to_the_disk() -> None:
    disks: defaultdict[int, Durable] = defaultdict(Durable)
    writes = deque([Write(5, 9, (4, 1), run(1, 6, 4)), Write(5, 9, (5, 0), run(3, 4, 5))])
    flushed(writes, 5, {9: 4}, lambda gid: disks[gid])
    assert disks[9] == Durable(5, 0, 0, {1: 4, 2: 4, 3: 5, 4: 5}, 4)
    assert not writes


def test_a_hard_state_alone_is_told_by_a_flush_without_entries() -> None:
    disks: defaultdict[int, Durable] = defaultdict(Durable)
    flushed(deque([Write(5, 9, (4, 1), [])]), 5, {9: 0}, lambda gid: disks[gid])
    assert disks[9] == Durable(4, 1)
