"""Many seeds of the storage world, from the command line.

python -m penstock_broker.simulation.storage_campaign --seeds 2000
python -m penstock_broker.simulation.storage_campaign --seed 17
python -m penstock_broker.simulation.storage_campaign --mutation relog-skipped
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import NamedTuple, TextIO

from penstock_broker.simulation.campaign import chosen_seeds, parser_of, replay
from penstock_broker.simulation.storage_mutations import FOCUS, MUTATIONS, mutated
from penstock_broker.simulation.storage_world import StorageWorld

_NAME = "storage_campaign"


class Failure(NamedTuple):
    """A history in which a promise was broken."""

    seed: int
    error: BaseException
    command: str
    """Replays it."""


def play(
    seed: int, events: int, mutation: str | None = None
) -> tuple[Counter[str], Failure | None]:
    """Play one history; what happened in it, and how it failed, if it did."""
    counts: Counter[str] = Counter()
    world: StorageWorld | None = None
    failure = None
    with mutated(mutation):
        try:
            world = StorageWorld(seed, FOCUS.get(mutation or ""))
            world.run(events)
        except Exception as error:
            command = replay(_NAME, seed, events=events, mutation=mutation)
            failure = Failure(seed, error, command)
    if world is not None:
        counts.update(world.counts)
        counts.update({f"faults: {kind}": n for kind, n in world.disk.injected.items()})
    counts["seeds"] = 1
    return counts, failure


def seeds_until_caught(mutation: str, limit: int, events: int) -> int | None:
    """How many seeds it takes to notice a mutation; None when it survives them all."""
    for seed in range(limit):
        if play(seed, events, mutation)[1] is not None:
            return seed + 1
    return None


def main(arguments: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the campaign; 1 when a promise was broken."""
    parser = parser_of(_NAME, __doc__, 200)
    parser.add_argument("--events", type=int, default=300, help="events per history")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break a rule on purpose")
    options = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    failure = None
    for seed in chosen_seeds(options):
        counts, failure = play(seed, options.events, options.mutation)
        total.update(counts)
        if failure is not None:
            break
    out.writelines(f"{number:>12,} {name}\n" for name, number in sorted(total.items()))
    if failure is None:
        return 0
    out.write(f"FAILED: {type(failure.error).__name__}: {failure.error}\n{failure.command}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
