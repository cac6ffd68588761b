"""Run many seeds of the broker world: `python -m penstock_broker.simulation.broker_campaign`.

With `--shared` the world has a shared group, with members that are slow, forgetful or late. A
failing seed prints the one command that replays it. With `--mutation` a rule of the broker is
broken on purpose, and the campaign tells after how many seeds that was noticed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from penstock.errors import PenstockError
from penstock_broker.simulation.broker_mutations import MUTATIONS, SHARED_MUTATIONS, mutated
from penstock_broker.simulation.broker_world import Counts, World
from penstock_broker.simulation.campaign import catch_all, chosen_seeds, parser_of, replay
from penstock_broker.simulation.shared_world import SharedCounts, SharedWorld

Say = Callable[[str], object]
SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise, or an assertion of the broker."""

    seed: int
    reason: str


def run_seed(seed: int, counts: Counts, seconds: float = SECONDS) -> Failure | None:
    """Run one seed; add what happened to `counts`, whose class says in which world."""
    world = SharedWorld(seed) if isinstance(counts, SharedCounts) else World(seed)
    try:
        world.run(seconds)
    except (AssertionError, PenstockError) as error:
        return Failure(seed, f"{type(error).__name__}: {error}")
    finally:
        counts.add(world.counts)
    return None


def run_seeds(seeds: range, counts: Counts, seconds: float = SECONDS) -> Failure | None:
    """Run seeds until one fails."""
    for seed in seeds:
        failure = run_seed(seed, counts, seconds)
        if failure is not None:
            return failure
    return None


def first_caught(mutation: str, seeds: range, seconds: float = SECONDS) -> Failure | None:
    """The first of the seeds that notices a broken rule."""
    counts = SharedCounts() if mutation in SHARED_MUTATIONS else Counts()
    with mutated(mutation):
        return run_seeds(seeds, counts, seconds)


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("broker_campaign", __doc__, 200)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="virtual time with faults (default 8)"
    )
    parser.add_argument("--shared", action="store_true", help="the world with a shared group")
    parser.add_argument("--mutation", choices=[*sorted(MUTATIONS), "all"], default="")
    return parser.parse_args(values)


def main(values: Sequence[str] | None = None, say: Say = print) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments(values)
    seeds = chosen_seeds(arguments)
    if arguments.mutation == "all":
        return catch_all(MUTATIONS, first_caught, seeds, say)
    shared = arguments.shared or arguments.mutation in SHARED_MUTATIONS
    counts = SharedCounts() if shared else Counts()
    with mutated(arguments.mutation):
        failure = run_seeds(seeds, counts, arguments.seconds)
    ran = len(seeds) if failure is None else failure.seed - seeds.start + 1
    numbers = ", ".join(f"{name} {value}" for name, value in asdict(counts).items())
    say(f"seeds {ran}, {numbers}")
    if failure is None:
        return 0
    say(f"seed {failure.seed} failed: {failure.reason}")
    options = {"seconds": arguments.seconds, "shared": shared, "mutation": arguments.mutation}
    say(replay("broker_campaign", failure.seed, **options))
    return 1


if __name__ == "__main__":
    sys.exit(main())
