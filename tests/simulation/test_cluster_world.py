"""The cluster's simulation: a few seeds in every run, and that it notices broken rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock_broker.simulation.cluster_campaign import main
from penstock_broker.simulation.cluster_world import ClusterWorld

SEEDS = 6


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
