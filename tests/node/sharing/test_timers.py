"""The timer wheel: on time, never early, in little memory."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_broker.machine.sharing.state import DELAYED
from penstock_broker.machine.sharing.window import Window
from penstock_broker.node.sharing import timers as timers_
from penstock_broker.node.sharing.timers import GRAIN_US, Timers, take_in

START = 1_700_000_000_000_000


def test_nothing_fires_early_and_nothing_late() -> None:
    timers = Timers(START)
    timers.add(7, START + 1_000_000)
    assert timers.due(START + 999_999) == []
    assert timers.due(START + 1_000_000 + GRAIN_US) == [7]
    assert len(timers) == 0
    assert timers.next_us is None


def test_a_time_in_the_past_fires_at_the_next_look() -> None:
    timers = Timers(START)
    timers.add(1, START - 5_000_000)
    timers.add(2, 0)
    assert sorted(timers.due(START)) == [1, 2]


def test_far_times_are_dealt_out_when_they_come_near() -> None:
    timers = Timers(START)
    year = 365 * 86_400 * 1_000_000
    timers.add(1, START + year)
    timers.add(2, START + 40 * year)
    assert timers.due(START + year - 1) == []
    assert timers.due(START + year + GRAIN_US) == [1]
    assert timers.due(START + 40 * year + GRAIN_US) == [2]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-(10**7), 10**12), max_size=30),
    st.lists(st.integers(0, 10**11), max_size=30),
)
def test_every_entry_fires_once_between_its_time_and_a_grain_later(
    delays: list[int], steps: list[int]
) -> None:
    timers, now = Timers(START), START
    waiting = {offset: START + delay for offset, delay in enumerate(delays)}
    for offset, at in waiting.items():
        timers.add(offset, at)
    for step in [*steps, 2 * 10**12]:
        now += step
        for offset in timers.due(now):
            assert waiting.pop(offset) <= now
        assert all(at > now - GRAIN_US for at in waiting.values())
    assert not waiting


def test_half_a_million_entries_take_thirteen_mebibytes() -> None:
    timers, random = Timers(START), Random(1)
    for offset in range(500_000):
        timers.add(offset, START + random.randrange(12 * 3_600 * 1_000_000))
    buckets = timers._buckets.values()
    assert sum(map(sys.getsizeof, buckets)) < 13 * 1024 * 1024
    assert len(buckets) < 1000


def test_without_a_grain_an_entry_fires_exactly_then() -> None:
    timers = Timers(START, grain_bits=0)
    for number, at_us in enumerate((START + 1, START + 7_000_001, START + 90_000_000_003)):
        timers.add(number, at_us)
        while (next_us := timers.next_us) is not None and next_us < at_us:
            assert timers.due(next_us) == []
        assert timers.next_us == at_us
        assert timers.due(at_us) == [number]


def test_offsets_of_one_time_are_one_entry() -> None:
    timers = Timers(START)
    timers.add(10, START + 90_000_000, 1_000)
    timers.add(5, START + 1_000_000)
    assert len(timers) == 1_001
    assert sum(map(sys.getsizeof, timers._buckets.values())) < 400
    assert [offset for _, offset in timers.upcoming(0)] == [5, *range(10, 1_010)]
    assert timers.due(START + 89_000_000) == [5]
    assert timers.due(START + 90_000_000 + GRAIN_US) == list(range(10, 1_010))
    assert len(timers) == 0


def test_many_records_are_taken_in_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers_, "TAKEN_AT_ONCE", 10)
    window, wheel, first = Window(), Timers(START), 0
    for number in range(1, 36):
        window.extend(number, DELAYED, START + number)
    window.extend(1_000, DELAYED, START + 99)
    looks = 0
    while first < window.end:
        first, looks = take_in(wheel, window, first, window.end), looks + 1
    assert 4 <= looks < 15
    assert sorted(wheel.due(START + 100 + GRAIN_US)) == list(range(1_000))
