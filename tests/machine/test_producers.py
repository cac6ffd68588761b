from __future__ import annotations

import pytest

from penstock.errors import BadRequest, Fenced, OutOfSequence, UnknownProducer
from penstock.protocol.batch import SYSTEM_PRODUCERS
from penstock_broker.machine import producers
from penstock_broker.machine.producers import (
    EXPIRY_US,
    RING_BATCHES,
    UNKNOWN_OFFSET,
    Duplicate,
    Producers,
)

ONE = 77


class Log:
    """Appends and applies batches of two records as a partition does."""

    def __init__(self) -> None:
        self.producers = Producers()
        self.index = 0
        self.now_us = 1_000

    def append(self, sequence: int, epoch: int = 0, id_: int = ONE, count: int = 2) -> None:
        head = (count, id_, epoch, sequence, 0)
        assert self.producers.check(head) is None
        self.index += 1
        self.producers.note_appended(head, self.index, self.index * 10, self.now_us)

    def commit(self, sequence: int, epoch: int = 0, id_: int = ONE, count: int = 2) -> None:
        """Append and apply, or apply as a follower does."""
        self.append(sequence, epoch, id_, count)
        self.land(self.index, sequence, epoch, id_, count)

    def land(
        self, index: int, sequence: int, epoch: int = 0, id_: int = ONE, count: int = 2
    ) -> None:
        head = (count, id_, epoch, sequence, 0)
        self.producers.apply(head, index, index * 10, self.now_us)

    def check(
        self, sequence: int, epoch: int = 0, id_: int = ONE, count: int = 2
    ) -> Duplicate | None:
        return self.producers.check((count, id_, epoch, sequence, 0))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_producer_begins_at_zero(log: Log) -> None:
    assert log.check(0) is None
    with pytest.raises(UnknownProducer):
        log.check(2)


def test_a_gap_is_out_of_sequence_committed_or_in_flight(log: Log) -> None:
    log.append(0)
    with pytest.raises(OutOfSequence) as caught:
        log.check(4)
    assert caught.value.detail == {"producer": ONE, "expected": 2}
    log.land(1, 0)
    with pytest.raises(OutOfSequence):
        log.check(4)
    assert log.check(2) is None


def test_a_committed_duplicate_gets_its_offset(log: Log) -> None:
    log.commit(0)
    log.commit(2)
    assert log.check(0) == Duplicate(10, 1_000, 0)
    assert log.check(2) == Duplicate(20, 1_000, 0)


def test_a_duplicate_in_flight_gets_the_index_to_wait_for(log: Log) -> None:
    log.append(0)
    log.append(2)
    assert log.check(0) == Duplicate(10, 1_000, 1)
    assert log.check(2) == Duplicate(20, 1_000, 2)


def test_producers_do_not_disturb_each_other(log: Log) -> None:
    log.append(0, id_=1)
    log.commit(0, id_=2)
    log.land(3, 0, id_=3)
    assert log.check(0, id_=1) == Duplicate(10, 1_000, 1)
    assert log.check(0, id_=2) == Duplicate(20, 1_000, 0)


def test_a_part_of_a_batch_is_found_within_it(log: Log) -> None:
    log.commit(0, count=6)
    log.append(6, count=4)
    assert log.check(3, count=2) == Duplicate(13, 1_000, 0)
    assert log.check(7, count=2) == Duplicate(21, 1_000, 2)


def test_a_duplicate_across_batches_has_no_single_offset(log: Log) -> None:
    log.commit(0)
    log.commit(2)
    assert log.check(1) == Duplicate(UNKNOWN_OFFSET, 0, 0)
    log.append(4)
    assert log.check(3) == Duplicate(UNKNOWN_OFFSET, 0, 3)
    assert log.check(1) == Duplicate(UNKNOWN_OFFSET, 0, 0)


def test_what_repeats_and_continues_is_refused(log: Log) -> None:
    log.commit(0)
    with pytest.raises(BadRequest):
        log.check(1, count=5)


def test_a_duplicate_older_than_the_ring_has_no_offset(log: Log) -> None:
    for number in range(100):
        log.commit(number * 2)
    assert log.check(0) == Duplicate(UNKNOWN_OFFSET, 0, 0)
    for number in range(100 - RING_BATCHES, 100):
        assert log.check(number * 2) == Duplicate(number * 10 + 10, 1_000, 0)


def test_a_new_epoch_begins_at_zero_and_fences_the_old(log: Log) -> None:
    log.commit(0)
    with pytest.raises(OutOfSequence):
        log.check(2, epoch=1)
    log.append(0, epoch=1)
    with pytest.raises(Fenced):
        log.check(2, epoch=0)
    assert log.check(0, epoch=1) == Duplicate(20, 1_000, 2)
    log.land(2, 0, epoch=1)
    assert log.check(0, epoch=1) == Duplicate(20, 1_000, 0)
    with pytest.raises(Fenced):
        log.check(0, epoch=0)


def test_flights_of_an_old_epoch_answer_for_no_new_one(log: Log) -> None:
    log.append(0)
    log.append(2)
    log.append(0, epoch=1)
    assert log.check(0, epoch=1) == Duplicate(30, 1_000, 3)


def test_losing_the_lead_forgets_what_was_in_flight(log: Log) -> None:
    log.commit(0)
    log.append(2)
    log.producers.drop_overlay()
    assert log.check(2) is None
    with pytest.raises(OutOfSequence):
        log.check(4)


def test_a_follower_learns_from_what_is_applied(log: Log) -> None:
    log.land(1, 0)
    log.land(2, 2)
    assert log.check(2) == Duplicate(20, 1_000, 0)


def test_a_sequence_that_jumps_in_the_log_is_taken_as_it_is(log: Log) -> None:
    log.land(1, 10)
    assert log.check(12) is None
    assert log.check(8) == Duplicate(UNKNOWN_OFFSET, 0, 0)
    assert log.check(10) == Duplicate(10, 1_000, 0)


def test_silent_producers_expire_by_log_time(log: Log) -> None:
    log.commit(0, id_=1)
    log.now_us += EXPIRY_US // 2
    log.commit(0, id_=2)
    log.now_us += EXPIRY_US // 2
    log.commit(0, id_=3)
    assert len(log.producers) == 3
    log.now_us += 1
    log.commit(2, id_=3)
    assert len(log.producers) == 2
    with pytest.raises(UnknownProducer):
        log.check(2, id_=1)
    log.now_us += EXPIRY_US * 2
    log.commit(0, id_=4)
    assert len(log.producers) == 1


def test_a_clock_that_goes_back_expires_nobody(log: Log) -> None:
    log.commit(0, id_=1)
    log.now_us = 5
    log.commit(0, id_=2)
    assert log.producers.rows()[0] == 1_000
    assert len(log.producers) == 2


def test_the_longest_silent_goes_when_there_are_too_many(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "PRODUCERS_MAX", 2)
    log.commit(0, id_=1)
    log.commit(0, id_=2)
    log.commit(2, id_=1)
    log.commit(0, id_=3)
    assert [row[0] for row in log.producers.rows()[1]] == [1, 3]


def test_a_forgotten_producer_with_batches_in_flight_is_still_judged(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "PRODUCERS_MAX", 1)
    log.commit(0, id_=1)
    log.append(2, id_=1)
    log.commit(0, id_=2)
    assert log.check(0, id_=1) == Duplicate(UNKNOWN_OFFSET, 0, 2)
    log.land(2, 2, id_=1)
    assert log.check(2, id_=1) == Duplicate(20, 1_000, 0)


def test_the_table_survives_as_it_is(log: Log) -> None:
    for number in range(40):
        log.commit(number * 2, id_=1)
        log.commit(number * 2, id_=2)
    log.append(80, id_=1)
    now_us, rows = log.producers.rows()
    restored = Producers()
    restored.restore(now_us, rows)
    assert restored.rows() == (now_us, rows)
    assert restored.check((2, 1, 0, 80, 0)) is None


def test_an_empty_table_survives() -> None:
    restored = Producers()
    restored.restore(5, [])
    assert restored.rows() == (5, [])


SYSTEM = SYSTEM_PRODUCERS + 5


def test_a_producer_of_the_brokers_is_never_forgotten(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "PRODUCERS_MAX", 3)
    log.commit(0, id_=SYSTEM)
    for other in range(1, 6):
        log.commit(0, id_=other)
    log.now_us += 10 * EXPIRY_US
    log.commit(0, id_=9)
    again = Producers()
    again.restore(*log.producers.rows())
    assert again.rows() == log.producers.rows()
    for table in (log.producers, again):
        assert table.check((2, SYSTEM, 0, 0, 0)) == Duplicate(10, 1_000, 0)
        assert table.expected(SYSTEM) == 2


def test_a_producer_of_the_brokers_may_begin_anywhere(log: Log) -> None:
    log.commit(40, id_=SYSTEM)
    assert log.check(42, id_=SYSTEM) is None
    with pytest.raises(OutOfSequence):
        log.check(50, id_=SYSTEM)


def test_a_gap_is_allowed_to_who_knows_what_it_skips(log: Log) -> None:
    log.commit(40, id_=SYSTEM)
    head = (2, SYSTEM, 0, 50, 0)
    with pytest.raises(OutOfSequence) as raised:
        log.producers.check(head, skips_from=41)
    assert raised.value.detail["expected"] == 42
    assert log.producers.check(head, skips_from=42) is None
    assert log.producers.check((2, SYSTEM, 0, 40, 0), skips_from=42) == Duplicate(10, 1_000, 0)


def test_what_repeats_and_continues_is_told_what_is_expected(log: Log) -> None:
    log.commit(0, id_=SYSTEM)
    with pytest.raises(BadRequest) as raised:
        log.check(0, id_=SYSTEM, count=5)
    assert raised.value.detail["expected"] == 2


def test_a_producer_that_is_gone_for_good_is_forgotten(log: Log) -> None:
    log.commit(0, id_=SYSTEM)
    log.producers.forget(SYSTEM)
    assert (len(log.producers), log.producers.expected(SYSTEM)) == (0, None)
