"""How fast records are copied follows how long others wait."""

from __future__ import annotations

import pytest

from penstock_broker.node.catchup.pace import FASTEST, SLOWEST, STEP_SECONDS, Pace
from penstock_broker.node.catchup.waits import Waits


class Copying:
    """A broker that is asked for more than it may copy, and those who wait for it."""

    def __init__(self) -> None:
        self.waits = Waits()
        self.pace = Pace(self.waits, self.waits.commits, self.waits.flushes)
        self.now = 10.0
        self.copied = 0

    def live(self, *waits: float) -> None:
        """Two seconds without copies."""
        for number in range(200):
            for meter, wait in zip((self.waits.commits, self.waits.flushes), waits, strict=False):
                meter.add(wait, self.waits._weight(self.now + number / 100))
        self.now += 2.0

    def copy(self, seconds: float, *waits: float, most: float = 1e12) -> None:
        """Copy all that may be copied, or so much a second, while others wait so long."""
        self.pace.refill(self.now)
        for _ in range(int(seconds / STEP_SECONDS * 4)):
            self.now += STEP_SECONDS / 4
            for meter, wait in zip((self.waits.commits, self.waits.flushes), waits, strict=False):
                meter.add(wait, self.waits._weight(self.now))
            self.pace.refill(self.now)
            size = min(max(self.pace.room, 0), int(most * STEP_SECONDS / 4))
            self.copied += size
            self.pace.spent(size)


def test_it_becomes_fast_at_once_when_nobody_waits() -> None:
    copying = Copying()
    copying.copy(1.0)
    assert copying.pace.rate == FASTEST


def test_it_becomes_fast_when_others_wait_as_they_always_do() -> None:
    copying = Copying()
    copying.live(0.005, 0.002)
    copying.copy(3.0, 0.006, 0.003)
    assert copying.pace.rate == FASTEST


def test_it_gives_way_to_clients_but_never_stands_still() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(3.0, 0.006)
    copying.copy(2.0, 0.012)
    assert copying.pace.rate == SLOWEST
    before = copying.copied
    copying.copy(2.0, 0.012)
    assert SLOWEST * 1.8 < copying.copied - before < SLOWEST * 2.2


def test_it_gives_way_to_leaders_elsewhere_that_wait_for_its_disk() -> None:
    copying = Copying()
    copying.live(0.005, 0.002)
    copying.copy(3.0, 0.005, 0.002)
    copying.copy(2.0, 0.005, 0.009)
    assert copying.pace.rate == SLOWEST


def test_it_gives_way_to_one_who_waits_and_waits() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(3.0, 0.005)
    copying.waits.commits.since = copying.now
    copying.copy(2.0)
    assert copying.pace.rate == SLOWEST


def test_after_it_was_too_fast_it_becomes_faster_little_by_little() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(1.0, 0.005)
    copying.copy(0.3, 0.012)
    copying.copy(0.2, 0.005)
    low = copying.pace.rate
    copying.copy(1.0, 0.005)
    assert low < copying.pace.rate < low * 1.5


def test_a_pace_that_is_not_used_up_does_not_grow() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(3.0, most=4 * SLOWEST)
    assert 4 * SLOWEST <= copying.pace.rate <= 12 * SLOWEST
    copying.copy(0.2, 0.012, most=4 * SLOWEST)
    assert copying.pace.rate < 4 * SLOWEST


def test_waits_that_always_differ_much_are_not_taken_for_late() -> None:
    copying = Copying()
    for _ in range(20):
        copying.live(0.002)
        copying.live(0.010)
    copying.copy(3.0, 0.011)
    assert copying.pace.rate > SLOWEST * 4


def test_what_is_waited_during_a_quick_copy_is_not_taken_for_usual() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(3.0, 0.005)
    usual = copying.waits.commits.usual
    copying.copy(0.3, 0.012)
    assert copying.waits.commits.usual == usual


def test_the_first_who_waits_while_it_copies_quickly_is_not_taken_for_usual() -> None:
    copying = Copying()
    copying.copy(2.0)
    assert copying.pace.rate == FASTEST
    copying.copy(STEP_SECONDS * 1.5, 0.5)
    assert copying.waits.commits.usual < 0
    assert copying.pace.rate < FASTEST / 1.5
    copying.copy(3.0, 0.012)
    assert copying.waits.commits.usual == pytest.approx(0.012)


def test_what_is_waited_during_the_slowest_copy_becomes_usual_in_time() -> None:
    copying = Copying()
    copying.live(0.005)
    copying.copy(10.0, 0.012)
    assert copying.pace.rate == SLOWEST
    copying.copy(60.0, 0.012)
    assert copying.pace.rate > SLOWEST


def test_it_begins_slowly_again_after_a_rest() -> None:
    copying = Copying()
    copying.copy(5.0)
    copying.pace.refill(copying.now + 2.0)
    assert copying.pace.rate == SLOWEST


def test_no_more_is_copied_than_the_rate_allows() -> None:
    waits = Waits()
    pace, copied, now = Pace(waits, waits.commits), 0, 10.0
    for _ in range(9):
        pace.refill(now)
        copied += max(pace.room, 0)
        pace.spent(max(pace.room, 0))
        now += 0.01
    assert copied < SLOWEST * 0.2
