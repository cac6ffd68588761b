"""A real broker for tests: started in a thread of the test process, in memory, in milliseconds.

`with broker() as running:` works in plain code and `async with broker()` under trio and asyncio;
`penstock.testing.plugin` gives the same as pytest fixtures, and `cluster(3)` gives several brokers
that form a cluster. The broker is the one that runs in production, over a store in memory, if
wanted with a `VirtualClock` that the test moves by `advance("1h")`; it is found through the entry
point group `penstock.broker`, so this part of the client knows only its name.
"""

from penstock.testing.brokers import RunningBroker, broker
from penstock.testing.clock import VirtualClock
from penstock.testing.clusters import RunningCluster, cluster
from penstock.testing.crash import crash

__all__ = ["RunningBroker", "RunningCluster", "VirtualClock", "broker", "cluster", "crash"]
