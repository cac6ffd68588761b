"""Random histories of a partition's producers against a naive model: a list of all batches.

The leader appends, entries are committed in order, leaders change (what was in flight is committed
or lost), brokers restart from a snapshot, and producers resend whatever they like.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.errors import BadRequest, Fenced, OutOfSequence, UnknownProducer
from penstock.protocol.batch import HEADER_BYTES, PublishHeader, parse_header, seal, stamp
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.producers import RING_BATCHES, UNKNOWN_OFFSET, Duplicate

ids = st.sampled_from([11, 12])
counts = st.integers(1, 3)


class Entry(NamedTuple):
    at: int
    """Its Raft index."""
    producer: int
    epoch: int
    sequence: int
    records: int
    offset: int
    time_us: int

    @property
    def head(self) -> PublishHeader:
        return (self.records, self.producer, self.epoch, self.sequence, 0)


class PartitionHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.leader = PartitionMachine()
        self.follower = PartitionMachine()
        self.log: list[Entry] = []
        self.applied = 0
        self.now_us = 1_000

    # ----- the model

    def of(self, producer: int, entries: list[Entry] | None = None) -> list[Entry]:
        chosen = self.log if entries is None else entries
        return [entry for entry in chosen if entry.producer == producer]

    def epoch(self, producer: int) -> int:
        return max((entry.epoch for entry in self.of(producer)), default=0)

    def next_sequence(self, producer: int, epoch: int) -> int:
        mine = [entry for entry in self.of(producer) if entry.epoch == epoch]
        return mine[-1].sequence + mine[-1].records if mine else 0

    def expected(self, head: PublishHeader) -> Duplicate | type[Exception] | None:
        count, producer, epoch, sequence, _ = head
        mine = self.of(producer)
        if not mine:
            return UnknownProducer if sequence else None
        if epoch < self.epoch(producer):
            return Fenced
        end = self.next_sequence(producer, epoch)
        if sequence == end:
            return None
        if sequence > end:
            return OutOfSequence
        if sequence + count > end:
            return BadRequest
        for entry in mine:
            same = (entry.epoch, entry.sequence, entry.records) == (epoch, sequence, count)
            if same and entry.at <= self.applied:
                return Duplicate(entry.offset, entry.time_us, 0)
            if same:
                return Duplicate(entry.offset, entry.time_us, entry.at)
        return Duplicate(UNKNOWN_OFFSET, 0, 0)

    def check(self, head: PublishHeader) -> None:
        expected = self.expected(head)
        if isinstance(expected, type):
            with pytest.raises(expected):
                self.leader.check(head, b"")
            return
        verdict = self.leader.check(head, b"")
        if expected is None or verdict is None:
            assert verdict is expected
        elif expected.base_offset != UNKNOWN_OFFSET and verdict.base_offset == UNKNOWN_OFFSET:
            assert self.is_old(expected), "only what is long ago may be forgotten"
        elif expected.base_offset != UNKNOWN_OFFSET:
            assert verdict == expected

    def is_old(self, expected: Duplicate) -> bool:
        (entry,) = [entry for entry in self.log if entry.offset == expected.base_offset]
        later = [e for e in self.of(entry.producer) if entry.at < e.at <= self.applied]
        return entry.at <= self.applied and len(later) >= RING_BATCHES

    # ----- producers

    @rule(producer=ids, counted=st.lists(counts, min_size=1, max_size=12))
    def publish(self, producer: int, counted: list[int]) -> None:
        for count in counted:
            epoch = self.epoch(producer)
            self.append((count, producer, epoch, self.next_sequence(producer, epoch), 0))

    @rule(producer=ids, count=counts)
    def begin_an_epoch(self, producer: int, count: int) -> None:
        self.append((count, producer, self.epoch(producer) + 1, 0, 0))

    def append(self, head: PublishHeader) -> None:
        self.check(head)
        self.now_us += 10
        index = len(self.log) + 1
        offset = self.log[-1].offset + self.log[-1].records if self.log else 0
        count, producer, epoch, sequence, _ = head
        self.log.append(Entry(index, producer, epoch, sequence, count, offset, self.now_us))
        self.leader.note_appended(head, index, offset, self.now_us)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        self.check(data.draw(st.sampled_from(self.log)).head)

    @rule(producer=ids, count=counts, sequence=st.integers(0, 60), epoch=st.integers(0, 2))
    def send_anything(self, producer: int, count: int, sequence: int, epoch: int) -> None:
        self.check((count, producer, epoch, sequence, 0))

    # ----- brokers

    @rule(many=st.integers(1, 20))
    def commit(self, many: int) -> None:
        for entry in self.log[self.applied : self.applied + many]:
            self.leader.apply_appended(entry.head, entry.at, entry.offset, entry.time_us, b"")
            self.follow(entry)
            self.applied += 1

    def follow(self, entry: Entry) -> None:
        buffer = bytearray(HEADER_BYTES)
        seal(
            buffer,
            count=entry.records,
            producer_id=entry.producer,
            producer_epoch=entry.epoch,
            base_sequence=entry.sequence,
        )
        stamp(buffer, 1, entry.at, 1, 1, entry.offset, entry.time_us)
        self.follower.apply_batch(parse_header(buffer), buffer)

    @rule(survivors=st.integers(0, 3))
    def change_leader(self, survivors: int) -> None:
        """The follower leads once what reached it is committed; the rest is lost."""
        self.leader.drop_overlay()
        del self.log[self.applied + survivors :]
        self.commit(survivors)
        self.leader, self.follower = self.follower, self.leader

    @rule()
    def restart_the_follower(self) -> None:
        blob = self.follower.snapshot()
        self.follower = PartitionMachine()
        self.follower.restore(blob)

    @invariant()
    def replicas_are_equal(self) -> None:
        assert self.leader.snapshot() == self.follower.snapshot()


TestPartitionHistory = PartitionHistory.TestCase
TestPartitionHistory.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
