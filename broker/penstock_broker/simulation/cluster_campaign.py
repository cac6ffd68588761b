"""Many seeds of the cluster's world: `python -m penstock_broker.simulation.cluster_campaign`.

A failing seed prints the one command that replays it. With `--mutation` a rule is broken on
purpose, and the campaign tells after how many seeds that was noticed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random

from penstock.errors import PenstockError
from penstock_broker.simulation.campaign import catch_all, chosen_seeds, parser_of, replay
from penstock_broker.simulation.cluster_mutations import (
    MUTATIONS,
    NODES_FOR,
    SOONEST,
    mutated,
)
from penstock_broker.simulation.cluster_swarm import draw
from penstock_broker.simulation.cluster_world import ClusterCounts, ClusterWorld

Say = Callable[[str], object]
SECONDS = 20.0
NODES = (1, 3, 5)
SPOKEN_EVERY = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise, or an assertion of a broker."""

    seed: int
    nodes: int
    reason: str


def run_seed(
    seed: int,
    counts: ClusterCounts,
    seconds: float = SECONDS,
    nodes: Sequence[int] = NODES,
    changes: Mapping[str, object] | None = None,
) -> Failure | None:
    """Run one seed, which says how many of `nodes` there are; add what happened to `counts`.

    Args:
        seed: everything follows from it.
        counts: where numbers are summed up.
        seconds: virtual time with faults.
        nodes: sizes of clusters, in turn.
        changes: of what the seed draws (`Swarm`).
    """
    size = nodes[seed % len(nodes)]
    swarm = draw(Random(seed), size)
    changed = replace(swarm, **changes) if changes else None  # type: ignore[arg-type]  # several kinds
    world = ClusterWorld(seed, size, changed)
    try:
        world.run(seconds)
    except (AssertionError, PenstockError, KeyError, IndexError, ValueError) as error:
        return Failure(seed, size, f"at {world.now:.3f} s: {type(error).__name__}: {error}")
    finally:
        counts.add(world.counts)
    return None


def run_seeds(
    seeds: range,
    counts: ClusterCounts,
    seconds: float = SECONDS,
    nodes: Sequence[int] = NODES,
    say: Say | None = None,
) -> Failure | None:
    """Run seeds until one fails."""
    for number, seed in enumerate(seeds, 1):
        failure = run_seed(seed, counts, seconds, nodes)
        if failure is not None:
            return failure
        if say is not None and number % SPOKEN_EVERY == 0:
            say(f"{number} seeds, {counts.simulated_seconds / 60:.0f} simulated minutes")
    return None


def first_caught(mutation: str, seeds: range, nodes: Sequence[int] = (3,)) -> Failure | None:
    """The first of the seeds that notices a broken rule."""
    changes = SOONEST.get(mutation, {})
    nodes = NODES_FOR.get(mutation, nodes)
    with mutated(mutation):
        for seed in seeds:
            failure = run_seed(seed, ClusterCounts(), nodes=nodes, changes=changes)
            if failure is not None:
                return failure
    return None


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("cluster_campaign", __doc__, 100)
    parser.add_argument(
        "--nodes", type=_sizes, default=NODES, help="sizes of clusters, in turn (default 1,3,5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="virtual time with faults (default 20)"
    )
    parser.add_argument("--mutation", choices=[*sorted(MUTATIONS), "all"], default="")
    return parser.parse_args(values)


def main(values: Sequence[str] | None = None, say: Say = print) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _arguments(values)
    seeds = chosen_seeds(arguments)
    if arguments.mutation == "all":
        return catch_all(MUTATIONS, first_caught, seeds, say)
    counts = ClusterCounts()
    began = time.process_time()
    with mutated(arguments.mutation):
        failure = run_seeds(seeds, counts, arguments.seconds, arguments.nodes, say)
    spent = time.process_time() - began
    ran = len(seeds) if failure is None else failure.seed - seeds.start + 1
    say(f"seeds {ran}, {render(counts)}")
    minutes = counts.simulated_seconds / 60
    say(f"{minutes:.1f} simulated minutes, {minutes * 60 / spent:.0f} in one of a core")
    if failure is None:
        return 0
    say(f"seed {failure.seed} failed: {failure.reason}")
    options = {"seconds": arguments.seconds, "mutation": arguments.mutation}
    say(replay("cluster_campaign", failure.seed, nodes=failure.nodes, **options))
    return 1


def render(counts: ClusterCounts) -> str:
    """What happened, in a line."""
    numbers = {field.name: getattr(counts, field.name) for field in fields(counts)}
    faults, failpoints = numbers.pop("faults"), numbers.pop("failpoints")
    numbers["failpoints"] = failpoints.total()
    numbers["different_failpoints"] = len(failpoints)
    numbers["simulated_seconds"] = round(numbers["simulated_seconds"])
    words = [f"{name} {value}" for name, value in numbers.items()]
    words += [f"{name} {value}" for name, value in sorted(faults.items())]
    return ", ".join(words)


if __name__ == "__main__":
    sys.exit(main())
