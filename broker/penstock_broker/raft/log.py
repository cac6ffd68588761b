"""The log of one node: which entries it has, and how far they are handed out, durable, committed.

    base        entries up to here are in the snapshot (or the segments), no more in memory
    handed      entries up to here were given out to be applied
    commit      entries up to here are decided; never taken back
    durable     entries up to here are on this node's disk, as far as it has reported
    unstable    first entry that was not yet given out to be persisted
    last_index  the end

Invariants: base <= handed <= commit <= last_index; durable < unstable <= last_index + 1; indexes
are dense; terms never fall along the log; nothing at or before `commit` is ever truncated.
"""

from bisect import bisect_right
from itertools import accumulate
from operator import itemgetter

from penstock_broker.raft.entry import Entry

_term = itemgetter(1)
_data = itemgetter(3)


class RaftLog:
    """Entries above the base, in memory, with the five marks named above."""

    __slots__ = (
        "_entries",
        "base_index",
        "base_term",
        "commit",
        "durable",
        "handed",
        "last_index",
        "last_term",
        "unstable",
    )

    def __init__(
        self, base_index: int, base_term: int, entries: list[Entry], commit: int, applied: int
    ) -> None:
        """Start from what is durable: a base, the entries above it, and what was applied."""
        self._entries: list[Entry] = []
        self.base_index = self.last_index = base_index
        self.base_term = self.last_term = base_term
        self.handed = applied
        self.commit = max(commit, applied)
        self.unstable = base_index + 1
        if entries:
            self.append(entries)
        self.durable = self.last_index
        self.unstable = self.last_index + 1
        assert base_index <= applied, f"applied {applied} is before the base {base_index}"
        assert self.commit <= self.last_index, (
            f"commit {self.commit} is past the end of the log {self.last_index}: entries were lost"
        )

    def term_at(self, index: int) -> int:
        """Return the term of the entry at `index`, or -1 if it is not here to look at."""
        if index == self.last_index:
            return self.last_term
        if index > self.last_index or index < self.base_index:
            return -1
        if index == self.base_index:
            return self.base_term
        return self._entries[index - self.base_index - 1].term

    def append(self, entries: list[Entry]) -> None:
        """Extend the log; `entries` follow its end."""
        first, last = entries[0], entries[-1]
        assert first.index == self.last_index + 1, (
            f"entry {first.index} appended after {self.last_index}"
        )
        assert last.index == self.last_index + len(entries), (
            f"{len(entries)} entries from {first.index} end at {last.index}"
        )
        assert first.term >= self.last_term, f"term {first.term} after term {self.last_term}"
        self._entries += entries
        self.last_index = last.index
        self.last_term = last.term

    def truncate(self, index: int) -> None:
        """Drop everything after `index`: a leader has decided otherwise (Raft 5.3)."""
        assert index >= self.commit, f"truncation to {index} below the commit {self.commit}"
        assert index >= self.base_index, f"truncation to {index} below the base {self.base_index}"
        del self._entries[index - self.base_index :]
        self.last_term = self._entries[-1].term if self._entries else self.base_term
        self.last_index = index
        self.durable = min(self.durable, index)
        self.unstable = min(self.unstable, index + 1)

    def matching(self, entries: list[Entry]) -> int:
        """Return how many of `entries`, from the first, the log already holds."""
        count = 0
        for entry in entries:
            if entry.index > self.last_index or self.term_at(entry.index) != entry.term:
                break
            count += 1
        return count

    def commit_to(self, index: int) -> None:
        """Move the commit forward."""
        assert self.commit <= index <= self.last_index, (
            f"commit {index} outside of {self.commit}..{self.last_index}: was the log lost?"
        )
        self.commit = index

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`; the layers above hold what they did."""
        if index <= self.base_index:
            return
        limit = min(self.handed, self.durable)
        assert index <= limit, f"compaction to {index} past applied and durable {limit}"
        term = self.term_at(index)
        del self._entries[: index - self.base_index]
        self.base_index, self.base_term = index, term

    def restore(self, index: int, term: int) -> None:
        """Become the empty log after a snapshot that is yet to be installed."""
        assert index > self.commit, f"snapshot {index} behind the commit {self.commit}"
        self._entries.clear()
        self.base_index = self.last_index = self.commit = self.handed = index
        self.base_term = self.last_term = term
        self.durable = 0
        self.unstable = index + 1

    def slice(self, first: int, last: int) -> list[Entry]:
        """Return the entries `first`..`last`, both included; none if `first` > `last`."""
        assert first > self.base_index, f"entry {first} is not above the base {self.base_index}"
        return self._entries[first - self.base_index - 1 : last - self.base_index]

    def slice_bounded(self, first: int, count_max: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Return entries from `first` and their bytes: one at least, if there, else bounded."""
        entries = self.slice(first, min(self.last_index, first + count_max - 1))
        sizes = list(accumulate(map(len, map(_data, entries))))
        if sizes and sizes[-1] > bytes_max:
            count = max(1, bisect_right(sizes, bytes_max))
            return entries[:count], sizes[count - 1]
        return entries, sizes[-1] if sizes else 0

    def take_unstable(self) -> list[Entry]:
        """Return what is to be persisted, once."""
        entries = self._entries[self.unstable - self.base_index - 1 :]
        self.unstable = self.last_index + 1
        return entries

    def take_committed(self, count_max: int) -> list[Entry]:
        """Return what is to be applied next, once: committed, and durable here.

        Waiting for the own disk keeps the applied index from overtaking what a restart finds.
        """
        last = min(self.commit, self.durable, self.handed + count_max)
        if last <= self.handed:
            return []
        first, self.handed = self.handed + 1, last
        return self.slice(first, last)

    def last_at_most(self, index: int, term: int) -> tuple[int, int]:
        """Return the last (index, term) at or before `index` whose term is at most `term`.

        Below the base nothing is known: (base - 1, 0), a place that only a snapshot can serve.
        """
        index = min(index, self.last_index)
        count = bisect_right(self._entries, term, 0, max(0, index - self.base_index), key=_term)
        if count:
            entry = self._entries[count - 1]
            return entry.index, entry.term
        if index >= self.base_index and self.base_term <= term:
            return self.base_index, self.base_term
        return max(0, self.base_index - 1), 0
