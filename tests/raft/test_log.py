"""The log, against a naive twin that is only lists."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock_broker.raft import Entry
from penstock_broker.raft.log import RaftLog


class LogTwin(RuleBasedStateMachine):
    """Every operation on both; then both must say the same about everything."""

    def __init__(self) -> None:
        super().__init__()
        self.log = RaftLog(0, 0, [], 0, 0)
        self.all: list[Entry] = []  # from index 1, compacted ones too
        self.base = 0
        self.commit = 0
        self.durable = 0
        self.told = 0  # entries up to here were handed out to be persisted
        self.applied = 0

    @property
    def term(self) -> int:
        return self.all[-1].term if self.all else 0

    @rule(count=st.integers(1, 5), later=st.integers(0, 2), size=st.integers(0, 20))
    def append(self, count: int, later: int, size: int) -> None:
        term, first = max(1, self.term + later), len(self.all) + 1
        entries = [Entry(i, term, 1, b"x" * size) for i in range(first, first + count)]
        self.log.append(entries)
        self.all += entries

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.commit, len(self.all)))
        self.log.truncate(index)
        del self.all[index:]
        self.durable = min(self.durable, index)
        self.told = min(self.told, index)

    @rule()
    def persist(self) -> None:
        entries = self.log.take_unstable()
        assert entries == self.all[self.told :]
        self.told = len(self.all)

    @precondition(lambda self: self.told > self.durable)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        self.durable = self.log.durable = data.draw(st.integers(self.durable + 1, self.told))

    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        self.commit = data.draw(st.integers(self.commit, len(self.all)))
        self.log.commit_to(self.commit)

    @rule(count_max=st.integers(1, 4))
    def apply(self, count_max: int) -> None:
        last = max(self.applied, min(self.commit, self.durable, self.applied + count_max))
        assert self.log.take_committed(count_max) == self.all[self.applied : last]
        self.applied = last

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, min(self.applied, self.durable)))
        self.log.compact(index)
        self.base = max(self.base, index)

    @rule(ahead=st.integers(1, 3), later=st.integers(0, 1))
    def restore(self, ahead: int, later: int) -> None:
        index = len(self.all) + ahead
        term = max(1, self.term + later)
        self.log.restore(index, term)
        self.all += [Entry(i, term, 1, b"") for i in range(len(self.all) + 1, index + 1)]
        self.base = self.commit = self.applied = self.told = index
        self.durable = 0

    @rule(data=st.data(), count_max=st.integers(1, 5), bytes_max=st.integers(1, 40))
    def read(self, data: st.DataObject, count_max: int, bytes_max: int) -> None:
        first = data.draw(st.integers(self.base + 1, len(self.all) + 1))
        entries, size = self.log.slice_bounded(first, count_max, bytes_max)
        expected: list[Entry] = []
        for entry in self.all[first - 1 :][:count_max]:
            if expected and sum(len(e.data) for e in expected) + len(entry.data) > bytes_max:
                break
            expected.append(entry)
        assert entries == expected
        assert size == sum(len(entry.data) for entry in expected)

    @rule(index=st.integers(0, 40), term=st.integers(0, 12))
    def hint(self, index: int, term: int) -> None:
        found, found_term = self.log.last_at_most(index, term)
        known = [(e.index, e.term) for e in self.all[self.base : index] if e.term <= term]
        if known:
            assert (found, found_term) == known[-1]
        elif index >= self.base and self.log.base_term <= term:
            assert (found, found_term) == (self.base, self.log.base_term)
        else:
            assert (found, found_term) == (max(0, self.base - 1), 0)

    @invariant()
    def both_say_the_same(self) -> None:
        log = self.log
        assert (log.base_index, log.last_index, log.last_term) == (
            self.base, len(self.all), self.term
        )  # fmt: skip
        assert (log.commit, log.durable, log.handed) == (self.commit, self.durable, self.applied)
        assert log.slice(self.base + 1, log.last_index) == self.all[self.base :]
        assert [log.term_at(i) for i in range(self.base + 1, len(self.all) + 1)] == [
            entry.term for entry in self.all[self.base :]
        ]
        assert log.term_at(len(self.all) + 1) == -1
        assert self.base == 0 or log.term_at(self.base - 1) == -1


TestLogTwin = LogTwin.TestCase
TestLogTwin.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def filled() -> RaftLog:
    return RaftLog(2, 1, [Entry(3, 1, 1, b""), Entry(4, 2, 1, b"")], 3, 2)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda log: log.append([Entry(6, 2, 1, b"")]), "entry 6 appended after 4"),
        (lambda log: log.append([Entry(5, 1, 1, b"")]), "term 1 after term 2"),
        (lambda log: log.truncate(2), "truncation to 2 below the commit 3"),
        (lambda log: log.commit_to(5), r"commit 5 outside of 3\.\.4"),
        (lambda log: log.commit_to(2), r"commit 2 outside of 3\.\.4"),
        (lambda log: log.compact(4), "compaction to 4 past applied and durable 2"),
        (lambda log: log.restore(3, 2), "snapshot 3 behind the commit 3"),
        (lambda log: log.slice(2, 3), "entry 2 is not above the base 2"),
    ],
)
def test_the_log_stops_at_what_can_not_be(act: Callable[[RaftLog], object], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        act(filled())
