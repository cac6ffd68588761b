"""Run many seeds of the Raft world: `python -m penstock_broker.simulation.raft_campaign`.

A failing seed prints the one command that replays it. With `--mutation` a rule of Raft is broken
on purpose, and the campaign tells after how many seeds that was noticed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from penstock_broker.raft import json_lines
from penstock_broker.simulation.campaign import catch_all, chosen_seeds, parser_of, replay
from penstock_broker.simulation.raft_mutations import MUTATIONS, mutated
from penstock_broker.simulation.raft_swarm import MIXES, Mix, any_mix
from penstock_broker.simulation.raft_world import Counts, World

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise, or an assertion of the core."""

    seed: int
    reason: str


def run_seed(seed: int, counts: Counts, mix: Mix = any_mix) -> Failure | None:
    """Run one seed; add what happened to `counts`."""
    world = World(seed, mix=mix)
    try:
        world.run()
    except AssertionError as error:
        return Failure(seed, f"{type(error).__name__}: {error}")
    finally:
        counts.add(world.counts)
    return None


def run_seeds(seeds: range, counts: Counts, mix: Mix = any_mix) -> Failure | None:
    """Run seeds until one fails."""
    for seed in seeds:
        failure = run_seed(seed, counts, mix)
        if failure is not None:
            return failure
    return None


def first_caught(name: str, seeds: range) -> Failure | None:
    """Return the first of the seeds that notices a broken rule, in the mix that suits it."""
    with mutated(name):
        return run_seeds(seeds, Counts(), MUTATIONS[name].mix)


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("raft_campaign", __doc__, 200)
    parser.add_argument("--mix", choices=sorted(MIXES), default="any", help="kind of trouble")
    parser.add_argument("--mutation", choices=[*sorted(MUTATIONS), "all"], default="")
    parser.add_argument("--trace", help="with --seed: write the transitions to this file")
    return parser.parse_args(values)


def main(values: Sequence[str] | None = None, say: Say = print) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments(values)
    if arguments.seed is not None and arguments.trace:
        return _write_down(arguments, say)
    seeds = chosen_seeds(arguments)
    if arguments.mutation == "all":
        return catch_all(MUTATIONS, first_caught, seeds, say, reason_characters=160)
    counts = Counts()
    with mutated(arguments.mutation):
        failure = run_seeds(seeds, counts, MIXES[arguments.mix])
    ran = len(seeds) if failure is None else failure.seed - seeds.start + 1
    _say_counts(ran, counts, say)
    if failure is None:
        return 0
    say(f"seed {failure.seed} failed: {failure.reason}")
    mix = "" if arguments.mix == "any" else arguments.mix
    say(replay("raft_campaign", failure.seed, mix=mix, mutation=arguments.mutation))
    return 1


def _say_counts(seeds: int, counts: Counts, say: Say) -> None:
    numbers = ", ".join(f"{field.name} {getattr(counts, field.name)}" for field in fields(Counts))
    say(f"seeds {seeds}, {numbers}")


def _write_down(arguments: argparse.Namespace, say: Say) -> int:
    """Run one seed and write its transitions down."""
    with open(arguments.trace, "w", encoding="ascii") as file, mutated(arguments.mutation):
        trace = json_lines(file.write)
        world = World(arguments.seed, mix=MIXES[arguments.mix], trace_to=trace)
        try:
            world.run()
        except AssertionError as error:
            say(f"seed {world.seed} fails at {world.now}: {error}")
            return 1
    say(f"seed {world.seed} passes; digest {world.counts.digest:08x}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
