"""`python -m tests.simulation.digests`: pins anew what one seed of each simulated world does.

A digest changes whenever the brokers, or the worlds, do anything else or at another time than
before; it is the same on every machine and every supported Python. So renew the pins after a
change of behaviour that was meant, and look into it after one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from penstock_broker.simulation.broker_world import World
from penstock_broker.simulation.cluster_world import ClusterWorld
from penstock_broker.simulation.raft_world import World as RaftWorld
from penstock_broker.simulation.shared_world import SharedWorld
from penstock_broker.simulation.storage_campaign import play

PINS = Path(__file__).with_name("digests.json")


def raft() -> int:
    return RaftWorld(7).run().digest


def storage() -> int:
    counts, failure = play(5, 200)
    assert failure is None, failure
    return counts["digest"]


def broker() -> int:
    return _run(World(3))


def broker_shared() -> int:
    return _run(SharedWorld(3))


def _run(world: World) -> int:
    world.run(1.0)
    return world.counts.digest


def cluster() -> int:
    world = ClusterWorld(3, 3)
    world.run(2.0)
    return world.counts.digest


WORLDS: dict[str, Callable[[], int]] = {
    world.__name__: world for world in (raft, storage, broker, broker_shared, cluster)
}


def pinned() -> dict[str, int]:
    """The digests that were committed."""
    found: dict[str, int] = json.loads(PINS.read_text())
    return found


if __name__ == "__main__":
    PINS.write_text(json.dumps({name: run() for name, run in WORLDS.items()}, indent=2) + "\n")
