"""The real groups against the naive model, and mistakes that the model must find."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest

from penstock_broker.machine.sharing import keeping, verdicts
from penstock_broker.machine.sharing.group import GroupRow, SharedGroup
from penstock_broker.machine.sharing.lease import Lease
from penstock_broker.machine.sharing.outcome import Outcome, add
from penstock_broker.machine.sharing.state import (
    DELAYED,
    DONE,
    FREE,
    KINDS,
    LEASED,
    NAMES,
    TRANSITIONS,
)
from penstock_broker.machine.sharing.trouble import Trouble
from penstock_broker.machine.sharing.window import Window
from tests.machine.sharing.model import run

OUTCOMES = (
    *("acked", "late_acks", "failed", "timed_out", "released", "rejected", "exhausted"),
    *("moved", "purged", "overtaken", "expired_age"),
)
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.no_cover
def test_random_ops_do_what_the_naive_model_says() -> None:
    counts = run(12_000, seed=1)
    assert counts["grant"] > 1_000
    assert counts["restarts"] > 10
    for kind in OUTCOMES:
        assert counts[f"s.{kind}"], kind
    # What happened is what the table of transitions says, and nothing of the table is missing.
    table = {
        f"{kind} {NAMES[row.source]} {NAMES[row.target]} {op}"
        for row in TRANSITIONS
        if row.source is not None
        for kind in row.kinds
        for op in row.op.split(", ")
    }
    assert {key for key in counts if key.split()[0] in KINDS} == table


def acks_apply_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verdicts._Acks._piece

    def piece(self: Any, state: int, owner: int, low: int, high: int) -> None:
        real(self, state, owner, low, high)
        if state == DONE:
            self._accepted += high - low

    monkeypatch.setattr(verdicts._Acks, "_piece", piece)


def leases_never_run_out_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    real = vars(SharedGroup)["of"].__func__

    def of(cls: type[SharedGroup], row: GroupRow) -> SharedGroup:
        made: SharedGroup = real(cls, row)
        for lease in made.leases.values():
            lease.deadline_us = 1 << 60
        return made

    monkeypatch.setattr(SharedGroup, "of", classmethod(of))


def attempts_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verdicts._judge

    def judge(policy: Any, before: Trouble, attempt: Any) -> Any:
        return real(policy, Trouble(), attempt)

    monkeypatch.setattr(verdicts, "_judge", judge)


def late_acks_free_the_lease_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verdicts.finish

    def finish(group: SharedGroup, first: int, end: int, state: int, out: Outcome) -> None:
        if state == LEASED and end - first == 2:
            group.window.change(first, end, LEASED, FREE)
            add(out.settled, first, end)
        else:
            real(group, first, end, state, out)

    monkeypatch.setattr(verdicts, "finish", finish)


def start_moves_over_delayed_records(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Window.advance

    def advance(self: Window) -> None:
        while self.start < self.end and self.state(self.start) == DELAYED:
            self.change(self.start, self.start + 1, DELAYED, DONE)
            real(self)
        real(self)

    monkeypatch.setattr(Window, "advance", advance)


def leases_forget_what_they_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(group: SharedGroup, lease: Lease, count: int, out: Outcome) -> None:
        if lease.left == count:
            lease.left = 0
            group.end_lease(lease)
            out.ended.append(lease.id)

    monkeypatch.setattr(verdicts, "leave", leave)


def redrives_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = keeping._redriven

    def redriven(before: Trouble, limit: int) -> tuple[Trouble, bool]:
        return real(before, -1)

    monkeypatch.setattr(keeping, "_redriven", redriven)


def times_of_one_nack_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verdicts._ready

    def ready(policy: Any, first: int, fates: Any, wanted_us: Any, scene: Any) -> Any:
        return real(policy, first, fates, wanted_us[::-1], scene)

    monkeypatch.setattr(verdicts, "_ready", ready)


def cutting_the_front_loses_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Window._cut

    def cut(self: Window) -> None:
        before = self._base
        real(self)
        if self._base != before and self._owners:
            self._owners = array("I", bytes(4 * len(self._owners)))

    monkeypatch.setattr(Window, "_cut", cut)


PLANTS: tuple[Plant, ...] = (
    acks_apply_twice,
    leases_never_run_out_after_a_restart,
    attempts_begin_anew,
    late_acks_free_the_lease_of_another,
    start_moves_over_delayed_records,
    leases_forget_what_they_lost,
    redrives_are_not_counted,
    times_of_one_nack_are_mixed_up,
    cutting_the_front_loses_owners,
)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_model_finds_a_planted_mistake(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        run(6_000, seed=5)
