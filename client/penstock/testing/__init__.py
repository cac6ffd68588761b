"""A real broker for tests: started in a thread of the test process, in memory, in milliseconds.

`with broker() as running:` works in plain code and `async with broker()` under trio and asyncio;
`penstock.testing.plugin` gives the same as pytest fixtures. The broker is the one that runs in
production, over a store in memory; it is found through the entry point group `penstock.broker`,
so this part of the client knows only its name.
"""

from penstock.testing.brokers import RunningBroker, broker

__all__ = ["RunningBroker", "broker"]
