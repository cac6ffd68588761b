"""Penstock's client library: publish records, and consume them alone or as a group.

    async with penstock.connect("localhost:7400") as client:
        receipt = await client.publish("orders", b"...", key="customer-7")
        async with client.subscribe("orders", group="billing") as records:
            async for record in records:
                print(record.value)

Runs under trio and asyncio; `penstock.sync` has the same names for blocking code. Every error is in
`penstock.errors`, and says whether trying again can help and what to do.
"""

from penstock._core.events import ClientEvent
from penstock._core.outgoing import Receipt, Receipts, StoredRange
from penstock._drivers.facade import Client, Pending, Subscription, connect
from penstock._version import __version__
from penstock.errors import PenstockError
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch

__all__ = [
    "Client",
    "ClientEvent",
    "Pending",
    "PenstockError",
    "Receipt",
    "Receipts",
    "Record",
    "RecordBatch",
    "StoredRange",
    "Subscription",
    "__version__",
    "connect",
]
