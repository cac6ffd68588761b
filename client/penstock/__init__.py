"""Penstock's client library: publish records, and consume them alone or as a group.

    async with penstock.connect("localhost:7400") as client:
        receipt = await client.publish("orders", b"...", key="customer-7")
        async with client.subscribe("orders", group="billing") as records:
            async for record in records:
                print(record.value)

Runs under trio and asyncio; `penstock.sync` has the same names for blocking code. Every error is in
`penstock.errors`, and says whether trying again can help and what to do.

The names are imported when they are first used: the command line and `penstock.errors` start
without them.
"""

import importlib
import typing

from penstock._version import __version__

if typing.TYPE_CHECKING:
    from penstock._core.events import ClientEvent
    from penstock._core.outgoing import Receipt, Receipts, StoredRange
    from penstock._core.sharing.letters import DeadLetter, DeadLetterPage, RedriveReport
    from penstock._core.sharing.signals import Reject, Retry
    from penstock._drivers.consuming import Subscription
    from penstock._drivers.facade import Client, Pending, connect
    from penstock._drivers.sharing import SharedBatch, SharedRecord, SharedSubscription
    from penstock.errors import PenstockError
    from penstock.protocol.record import Record
    from penstock.protocol.record_batch import RecordBatch

__all__ = [
    "Client",
    "ClientEvent",
    "DeadLetter",
    "DeadLetterPage",
    "Pending",
    "PenstockError",
    "Receipt",
    "Receipts",
    "Record",
    "RecordBatch",
    "RedriveReport",
    "Reject",
    "Retry",
    "SharedBatch",
    "SharedRecord",
    "SharedSubscription",
    "StoredRange",
    "Subscription",
    "__version__",
    "connect",
]

_HOMES = {
    "Client": "penstock._drivers.facade",
    "ClientEvent": "penstock._core.events",
    "DeadLetter": "penstock._core.sharing.letters",
    "DeadLetterPage": "penstock._core.sharing.letters",
    "Pending": "penstock._drivers.facade",
    "PenstockError": "penstock.errors",
    "Receipt": "penstock._core.outgoing",
    "Receipts": "penstock._core.outgoing",
    "Record": "penstock.protocol.record",
    "RecordBatch": "penstock.protocol.record_batch",
    "RedriveReport": "penstock._core.sharing.letters",
    "Reject": "penstock._core.sharing.signals",
    "Retry": "penstock._core.sharing.signals",
    "SharedBatch": "penstock._drivers.sharing",
    "SharedRecord": "penstock._drivers.sharing",
    "SharedSubscription": "penstock._drivers.sharing",
    "StoredRange": "penstock._core.outgoing",
    "Subscription": "penstock._drivers.consuming",
    "connect": "penstock._drivers.facade",
}


if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'penstock' has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value
