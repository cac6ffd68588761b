"""What is on a host's disk for one group, and what may be there after a stop.

A write that nobody had heard of may have reached the disk all the same, as a whole or in part: the
process died between, or the sync failed. What it puts in the place of entries is then gone, rightly
so, since a leader decided otherwise. Nothing else of what was durable may be gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Durable:
    """What is on the disk of one host for one group, as flush by flush was reported."""

    term: int = 0
    vote: int = 0
    base: int = 0
    terms: dict[int, int] = field(default_factory=dict)
    """Index -> term of the entries above the base."""
    last: int = 0

    def holds(self, index: int, term: int) -> bool:
        """Whether it has an entry."""
        return index <= self.base or self.terms.get(index) == term

    def append(self, entries: Sequence[tuple[int, int]]) -> None:
        """Entries (index, term) were written over whatever was there."""
        for index in range(entries[0][0], self.last + 1):
            self.terms.pop(index, None)
        self.terms.update(entries)
        self.last = entries[-1][0]

    def install(self, index: int) -> None:
        """A snapshot replaced everything."""
        self.base = self.last = index
        self.terms.clear()

    def same_log(self, found: Durable) -> bool:
        """Whether a log that was found is this one, as far as neither has a snapshot instead."""
        above = max(self.base, found.base)
        indexes = range(above + 1, self.last + 1)
        return found.last == self.last and all(
            self.terms.get(index) == found.terms.get(index) for index in indexes
        )


@dataclass(slots=True)
class Write:
    """What one `Ready` wants on the disk."""

    flush: int
    gid: int
    hard_state: tuple[int, int] | None
    entries: list[tuple[int, int]]
    snapshot: int = 0
    """Index of the snapshot that goes before all else; 0: none."""


def flushed(
    writes: deque[Write], sequence: int, ends: Mapping[int, int], of: Callable[[int], Durable]
) -> None:
    """Take in a flush, which may hold a part of what was written, or nothing of some groups.

    Args:
        writes: of all groups of a host, in order; what is not on the disk yet stays in it.
        sequence: the flush.
        ends: group -> the last entry of it in the flush; 0: only its hard state.
        of: what is on the disk for a group.
    """
    rest: list[Write] = []
    while writes and writes[0].flush <= sequence:
        write = writes.popleft()
        end = ends.get(write.gid, -1)
        for late in rest if write.entries else ():
            if late.gid == write.gid:  # never written: replaced before
                late.entries = [entry for entry in late.entries if entry[0] < write.entries[0][0]]
        there = [entry for entry in write.entries if entry[0] <= end]
        missing = [entry for entry in write.entries if entry[0] > end]
        told = write.hard_state if end >= 0 else None
        if there:
            of(write.gid).append(there)
        if told is not None:
            of(write.gid).term, of(write.gid).vote = told
        if missing or end < 0:
            state = write.hard_state if told is None else None
            rest.append(Write(sequence + 1, write.gid, state, missing))
    writes.extendleft(reversed([write for write in rest if write.entries or write.hard_state]))


def may_be(durable: Durable, unreported: Sequence[Write], found: Durable) -> bool:
    """Whether a start may find this on the disk.

    Args:
        durable: what was reported to be there.
        unreported: writes of which nothing had been heard, in order.
        found: what is there. Hard states go ahead of the entries that they were written with.
    """
    states = [write.hard_state for write in unreported if write.hard_state is not None]
    if (found.term, found.vote) not in [(durable.term, durable.vote), *states]:
        return False
    return any(one.same_log(found) for one in _logs(durable, unreported))


def _logs(durable: Durable, unreported: Sequence[Write]) -> Iterator[Durable]:
    """The log after each entry that may have reached the disk."""
    log = replace(durable, terms=dict(durable.terms))
    yield log
    for write in unreported:
        if write.snapshot:
            log.install(write.snapshot)
            yield log
        for entry in write.entries:
            log.append([entry])
            yield log
