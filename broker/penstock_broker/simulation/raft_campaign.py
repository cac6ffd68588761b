"""Run many seeds of the Raft world: `python -m penstock_broker.simulation.raft_campaign`.

A failing seed prints the one command that replays it. With `--mutation` a rule of Raft is broken
on purpose, and the campaign tells after how many seeds that was noticed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from penstock_broker.raft import json_lines
from penstock_broker.simulation.raft_mutations import MUTATIONS, mutated
from penstock_broker.simulation.raft_world import Counts, World

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise, or an assertion of the core."""

    seed: int
    reason: str


def run_seed(seed: int, counts: Counts) -> Failure | None:
    """Run one seed; add what happened to `counts`."""
    world = World(seed)
    try:
        world.run()
    except AssertionError as error:
        return Failure(seed, f"{type(error).__name__}: {error}")
    finally:
        counts.add(world.counts)
    return None


def run_seeds(seeds: range, counts: Counts) -> Failure | None:
    """Run seeds until one fails."""
    for seed in seeds:
        failure = run_seed(seed, counts)
        if failure is not None:
            return failure
    return None


def first_caught(mutation: str, seeds: range) -> Failure | None:
    """Return the first of the seeds that notices a broken rule."""
    with mutated(mutation):
        return run_seeds(seeds, Counts())


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="raft_campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--mutation", choices=[*sorted(MUTATIONS), "all"], default="")
    parser.add_argument("--trace", help="with --seed: write the transitions to this file")
    return parser.parse_args(values)


def _replay(seed: int, trace: str, say: Say) -> int:
    with open(trace, "w", encoding="ascii") as file:
        world = World(seed, trace_to=json_lines(file.write))
        try:
            world.run()
        except AssertionError as error:
            say(f"seed {seed} fails at {world.now}: {error}")
            return 1
    say(f"seed {seed} passes; digest {world.digest:08x}; trace in {trace}")
    return 0


def _say_counts(seeds: int, counts: Counts, say: Say) -> None:
    numbers = ", ".join(f"{field.name} {getattr(counts, field.name)}" for field in fields(Counts))
    say(f"seeds {seeds}, {numbers}")


def main(values: Sequence[str] | None = None, say: Say = print) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments(values)
    if arguments.seed is not None and arguments.trace:
        return _replay(arguments.seed, arguments.trace, say)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    if arguments.mutation == "all":
        return _catch_all(seeds, say)
    counts = Counts()
    with mutated(arguments.mutation):
        failure = run_seeds(seeds, counts)
    ran = len(seeds) if failure is None else failure.seed - seeds.start + 1
    _say_counts(ran, counts, say)
    if failure is None:
        return 0
    broken = f" --mutation {arguments.mutation}" if arguments.mutation else ""
    say(f"seed {failure.seed} failed: {failure.reason}")
    say(
        "replay: python -m penstock_broker.simulation.raft_campaign "
        f"--seed {failure.seed}{broken}"
    )
    return 1


def _catch_all(seeds: range, say: Say) -> int:
    missed = 0
    for name in sorted(MUTATIONS):
        failure = first_caught(name, seeds)
        if failure is None:
            missed += 1
            say(f"{name}: not caught in {len(seeds)} seeds")
        else:
            say(f"{name}: caught by seed {failure.seed}: {failure.reason[:160]}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
