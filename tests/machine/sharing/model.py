"""Random ops against the naive model: `python -m tests.machine.sharing.model --operations 1000000`.

A failure prints the seed that repeats it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from penstock_broker.machine.sharing import window
from tests.machine.sharing.world import World

STEPS_OF_A_WORLD = 2_000


@contextmanager
def small_fronts() -> Iterator[None]:
    """Windows of a few hundred records cut their front often."""
    before = window.FRONT_MIN
    window.FRONT_MIN = 16
    try:
        yield
    finally:
        window.FRONT_MIN = before


def run(operations: int, seed: int) -> Counter[str]:
    """Run so many steps, world after world; the seed of a world is told if it fails."""
    counts: Counter[str] = Counter()
    for number in range(-(-operations // STEPS_OF_A_WORLD)):
        world = World(seed + number)
        try:
            with small_fronts():
                for _ in range(STEPS_OF_A_WORLD):
                    world.step()
                world.restart()
                world.compare_all()
        except AssertionError as error:
            raise AssertionError(f"seed {seed + number}, {world.entry} entries: {error}") from error
        counts += world.counts
        counts.update(" ".join(pair) for pair in world.went)
        for name, group in world.groups.items():
            counts.update({f"{name}.{key}": value for key, value in group.counters.items()})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    counts = run(chosen.operations, chosen.seed)
    print("\n".join(f"{key:>40} {value:>12,}" for key, value in sorted(counts.items())))


if __name__ == "__main__":
    main()
