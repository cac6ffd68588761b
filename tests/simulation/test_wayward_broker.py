"""Under faults, a broker whose machine decides otherwise ends, again and again, and no other."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from unittest.mock import patch

import pytest

from penstock.errors import MetadataDiverged
from penstock_broker.simulation import cluster_faults
from penstock_broker.simulation.cluster_checks import Checks, Watched
from penstock_broker.simulation.cluster_host import Host
from penstock_broker.simulation.cluster_mutations import ODD_HOST, mutated
from penstock_broker.simulation.cluster_swarm import draw
from penstock_broker.simulation.cluster_world import ClusterWorld


@pytest.mark.no_cover
def test_the_odd_one_ends_and_nobody_else_is_ever_accused_for_sure() -> None:
    ended: list[str] = []

    def look(checks: Checks, host: Host, node: Watched) -> None:
        world = checks._world
        odd = {id_ for id_, place in world.places.items() if place == ODD_HOST}
        accused = {id_ for id_, parted in node.agreement.parted.items() if parted.proven}
        assert accused <= odd, f"{host} accuses {accused}, of which only {odd} did wrong"
        if isinstance(node.membership.removed, MetadataDiverged):
            assert host.number == ODD_HOST, f"{host} ends: {node.membership.removed}"
            ended.append(str(node.membership.removed))
            world.after(0.0, lambda: host.died(power=False) if host.node is node else None)

    with patch.object(Checks, "look", look), mutated("metadata-parts"):
        swarm = replace(draw(Random(318), 3), faults=("kill", "power", "isolate", "wipe"), shared=0)
        world = ClusterWorld(318, 3, swarm)
        with world.checks.watching():
            world.form()
            world.faulty = True
            world.after(0.0, lambda: cluster_faults.strike(world))
            world.advance(lambda: False, 12.0)
    assert len(ended) > 1
