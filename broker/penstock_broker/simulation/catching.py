"""Campaigns against broken rules: how soon each planted bug is noticed, told in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol


class Caught(Protocol):
    """A seed that noticed something."""

    @property
    def seed(self) -> int:
        """Which one."""

    @property
    def reason(self) -> str:
        """What it noticed."""


def catch_all(
    mutations: Iterable[str],
    first_caught: Callable[[str, range], Caught | None],
    seeds: range,
    say: Callable[[str], object],
    reason_characters: int = 120,
) -> int:
    """Break every rule in turn; the exit code is 1 if one of them was not noticed."""
    missed = 0
    for name in sorted(mutations):
        failure = first_caught(name, seeds)
        if failure is None:
            missed += 1
            say(f"{name}: not caught in {len(seeds)} seeds")
        else:
            count = failure.seed - seeds.start + 1
            say(f"{name}: caught after {count} seeds: {failure.reason[:reason_characters]}")
    return 1 if missed else 0
