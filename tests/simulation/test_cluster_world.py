"""The cluster's simulation: a few seeds in every run, and that it notices broken rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock_broker.simulation.cluster_campaign import first_caught, main
from penstock_broker.simulation.cluster_mutations import MUTATIONS
from penstock_broker.simulation.cluster_world import ClusterWorld

SEEDS = 6
CAUGHT_WITHIN = 12


@pytest.mark.no_cover
def test_seeds_pass(tell: Callable[[str], None]) -> None:
    said: list[str] = []
    code = main(["--seeds", str(SEEDS), "--seconds", "8"], said.append)
    assert code == 0, said
    tell(f"cluster simulation: {said[-1]}; {said[0]}")


def test_the_same_seed_gives_the_same_history() -> None:
    found = []
    for _ in range(2):
        world = ClusterWorld(3, 3)
        world.run(2.0)
        found.append((world.counts, world.network.digest))
    assert found[0] == found[1]


@pytest.mark.no_cover
@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_a_broken_rule_is_noticed(mutation: str) -> None:
    assert first_caught(mutation, range(CAUGHT_WITHIN))


def test_a_failure_says_how_to_play_it_again() -> None:
    said: list[str] = []
    assert main(["--seed", "0", "--nodes", "3", "--mutation", "ack-before-sync"], said.append) == 1
    assert "--seed 0 --nodes 3" in said[-1]
