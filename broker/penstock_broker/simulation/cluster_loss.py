"""One broker of three or more is away, and nothing else is wrong: all goes on without it.

While faults strike nobody can say who must get on. Here it is known: as soon as the others have
noticed, everything is published, and linearizable reads are answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock_broker.simulation.cluster_clients import Producer, StrictReader

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

NOTICED_SECONDS: Final = 2.0
"""What counts as answered after that was answered by the others."""
LOST_SECONDS: Final = 12.0
_BROKERS_MIN: Final = 3


def lose_one(world: ClusterWorld) -> None:
    """Let one broker die in a cluster that is well; the work must go on.

    Raises:
        AssertionError: somebody waits, though most brokers are there.
    """
    if len(world.hosts) < _BROKERS_MIN:
        return
    lost = world.random.choice(world.hosts)
    lost.died(power=False, down=LOST_SECONDS)
    clients = [one for one in world.clients if isinstance(one, (Producer, StrictReader))]
    for client in clients:
        if isinstance(client, Producer):
            client.publish_everywhere()
    world.advance(lambda: False, NOTICED_SECONDS)
    goes_on = world.advance(
        lambda: all(client.idle for client in clients), LOST_SECONDS - 2 * NOTICED_SECONDS
    )
    waiting = "; ".join(str(client) for client in clients if not client.idle)
    assert goes_on, f"{lost} is away, and these wait: {waiting}"
    lost.start()
