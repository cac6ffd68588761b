"""How fast records are copied follows how long clients wait."""

from __future__ import annotations

from penstock_broker.node.catchup.pace import FASTEST, SLOWEST, STEP_SECONDS, Pace


def copy(pace: Pace, seconds: float, *, wait: float | None, since: float = 10.0) -> float:
    """Copy all that may be copied, while clients wait so long; when it ended."""
    now = since
    pace.refill(now)
    while now < since + seconds:
        if wait is not None:
            pace.measured(wait, now)
        pace.refill(now)
        if pace.room > 0:
            pace.spent(pace.room)
        now += STEP_SECONDS / 4
    return now


def usual(pace: Pace, wait: float) -> None:
    for number in range(100):
        pace.measured(wait, number / 100)


def test_it_becomes_fast_when_nobody_waits() -> None:
    pace = Pace()
    copy(pace, 5.0, wait=None)
    assert pace.rate == FASTEST


def test_it_becomes_fast_when_clients_wait_as_they_always_do() -> None:
    pace = Pace()
    usual(pace, 0.005)
    copy(pace, 5.0, wait=0.006)
    assert pace.rate == FASTEST


def test_it_gives_way_to_clients_but_never_stands_still() -> None:
    pace = Pace()
    usual(pace, 0.005)
    now = copy(pace, 5.0, wait=0.006)
    copy(pace, 5.0, wait=0.012, since=now)
    assert pace.rate == SLOWEST


def test_what_clients_wait_during_a_copy_is_not_taken_for_usual() -> None:
    pace = Pace()
    usual(pace, 0.005)
    copy(pace, 60.0, wait=0.012)
    assert pace.usual == 0.005


def test_it_begins_slowly_again_after_a_rest() -> None:
    pace = Pace()
    now = copy(pace, 5.0, wait=None)
    pace.refill(now + 2.0)
    assert pace.rate == SLOWEST


def test_no_more_is_copied_than_the_rate_allows() -> None:
    pace, copied, now = Pace(), 0, 10.0
    for _ in range(9):
        pace.refill(now)
        copied += max(pace.room, 0)
        pace.spent(max(pace.room, 0))
        now += 0.01
    assert copied < SLOWEST * 0.2
