"""The cluster's simulation: a few seeds in every run, and that it notices broken rules."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from penstock_broker.simulation.cluster_campaign import first_caught, main
from penstock_broker.simulation.cluster_mutations import MUTATIONS

SEEDS = 4
CAUGHT_WITHIN = 12
LONG = ("dropped-replica-forgets-vote", "learner-in-quorum")
"""Noticed in large clusters, which take long: by the campaign, `--mutation all`."""


@pytest.mark.no_cover
def test_seeds_pass(tell: Callable[[str], None]) -> None:
    said: list[str] = []
    code = main(["--seeds", str(SEEDS), "--seconds", "6"], said.append)
    assert code == 0, said
    tell(f"cluster simulation: {said[-1]}; {said[0]}")


_TRACE = """
from dataclasses import replace
from random import Random
from penstock_broker.simulation.cluster_swarm import draw
from penstock_broker.simulation.cluster_world import ClusterWorld
swarm = replace(draw(Random(4), 3), shared=2, topics=True, members=2, operate_every=0.5)
world = ClusterWorld(4, 3, swarm)
world.run(1.0)
print(world.counts)
"""


def test_nothing_depends_on_the_order_of_hashes() -> None:
    """What is under way in two processes with other hashes of strings is the same, byte by byte."""
    paths = os.pathsep.join(path for path in sys.path if path)
    found = {
        subprocess.run(
            [sys.executable, "-c", _TRACE],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1, found


@pytest.mark.no_cover
@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS).difference(LONG)))
def test_a_broken_rule_is_noticed(mutation: str) -> None:
    assert first_caught(mutation, range(CAUGHT_WITHIN))


def test_a_failure_says_how_to_play_it_again() -> None:
    said: list[str] = []
    assert main(["--seed", "0", "--nodes", "3", "--mutation", "ack-before-sync"], said.append) == 1
    assert "--seed 0 --nodes 3" in said[-1]
