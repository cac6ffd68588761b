"""Machines whose wall clock jumps: leases are durations, delays are times of the clock."""

from __future__ import annotations

from math import inf

import pytest

from penstock_broker.node import due
from penstock_broker.node.sharing.timers import GRAIN_US
from tests.node.harness import Harness
from tests.node.sharing.members import Member, offsets
from tests.node.sharing.test_delayed import World
from tests.node.sharing.test_delivery import prepared

HOUR_US = 3_600_000_000


def put_back(node: Harness, by_us: int = HOUR_US) -> None:
    """Somebody sets the clock; the next round of the broker sees it."""
    node.wall_us -= by_us
    node.node.now(node.wall_us, node.clock)


def test_wall_time_never_goes_back_and_goes_on_slowly_until_the_clock_has_caught_up() -> None:
    node = Harness()
    before = node.node.wall_us
    put_back(node, 1_000_000)
    assert node.node.wall_us == before
    node.advance(5.0)
    assert node.node.wall_us == pytest.approx(before + 4_500_000, abs=100)
    node.advance(6.0)
    assert node.node.wall_us == node.wall_us


def test_a_lease_runs_out_also_when_the_clock_was_put_back() -> None:
    node, _ = prepared(1, lease_ms=2000, retry_min_ms=0)
    member, other = Member(node), Member(node, "b")
    member.acquire()
    put_back(node)
    node.advance(2.5)
    assert offsets(other.acquire()) == [0]


def test_a_lease_from_before_the_clock_was_put_back_ends_soon_after_a_restart() -> None:
    node, _ = prepared(1, lease_ms=2000, retry_min_ms=0)
    Member(node).acquire()
    node.wall_us -= HOUR_US
    node.restart()
    other = Member(node, "b")
    assert offsets(other.acquire()) == []
    node.advance(5.5)
    assert offsets(other.acquire()) == [0]


def test_a_lease_that_was_extended_ends_soon_after_a_restart_unless_its_member_comes_back() -> None:
    node, _ = prepared(2, lease_ms=2000, retry_min_ms=0)
    gone, back = Member(node, "gone"), Member(node, "back")
    gone.renew(gone.acquire(1).lease, extend_ms=3_600_000)
    kept = back.acquire(1).lease
    back.renew(kept, extend_ms=3_600_000)
    node.restart()
    again, other = Member(node, "back", held=[kept]), Member(node, "other")
    for _ in range(6):
        node.advance(1.0)
        again.renew(kept)
    assert offsets(other.acquire()) == [0]


def test_a_delayed_record_is_not_early_when_the_clock_was_put_back() -> None:
    world = World()
    world.publish(60.0, b"a")
    put_back(world.node, 30_000_000)
    world.node.advance(70.0)
    assert world.values() == []
    world.node.advance(21.0)
    assert world.values() == [b"a"]


def test_a_lease_runs_out_also_when_the_clock_leaps_while_its_grant_is_under_way() -> None:
    node, _ = prepared(1, lease_ms=2000, retry_min_ms=0)
    member = Member(node)
    member.ask()
    node.node.end_round()  # the grant is proposed, and not durable yet
    node.wall_us += 3_000_000
    node.node.tick(node.wall_us, node.clock)
    node.pump()
    assert offsets(member.acquired()) == [0]
    node.advance(1.5)
    assert offsets(Member(node, "other").acquire()) == [0]


def test_the_runtime_is_told_of_what_is_due_before_its_usual_tick() -> None:
    node, _ = prepared(2, lease_ms=2000, retry_min_ms=0)
    assert due.seconds_to_shared(node.node) == inf
    member = Member(node)
    member.acquire(1)
    assert due.seconds_to_shared(node.node) == pytest.approx(2.0, abs=0.3)  # looked at anew by then
    node.advance(1.99)
    assert 0 < due.seconds_to_shared(node.node) <= 0.01 + GRAIN_US / 1_000_000


def test_with_very_many_partitions_nobody_looks_when_the_next_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, _ = prepared(1, lease_ms=2000)
    Member(node).acquire()
    assert due.seconds_to_shared(node.node) < inf
    monkeypatch.setattr(due, "LOOKED_AT_MAX", len(node.node.sharing) - 1)
    assert due.seconds_to_shared(node.node) == inf, "the usual rhythm has to do"
