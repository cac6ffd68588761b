"""What the tests on real processes share: brokers in a folder, and whether one is well."""

from __future__ import annotations

import os
import re
import time

from ops.faults.broker import BrokerProcess, StartError, wait_until
from ops.faults.campaign import Sabotaged
from ops.faults.ledger import Ledger, audit
from penstock import sync
from tests.source.tree import ROOT, SOURCE_ROOTS

__all__ = ["ENVIRONMENT", "BrokerProcess", "Ledger", "Sabotaged", "StartError", "audit", "healthy",
           "ping", "wait_until"]  # fmt: skip

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS),
}
"""For a Python that is to find the project also where it is not installed."""

HEALTHY_SECONDS = 30.0
"""Even beside an attack on a busy machine: what is stuck takes longer."""


def ping(address: str, topic: str = "ping") -> float:
    """Publish and read back one record over a new connection; how many seconds that took."""
    began = time.monotonic()
    with sync.connect(address, name="ping", delivery_timeout=20.0) as client:
        client.admin.create_topic(topic, if_not_exists=True)
        receipt = client.publish(topic, b"here")
        with client.subscribe(topic, start=receipt.offset, partitions=[0]) as records:
            assert [record.value for record in records.fetch(1, wait=10.0)] == [b"here"]
    return time.monotonic() - began


def healthy(broker: BrokerProcess) -> None:
    """It runs, serves and has not logged a fault of its own."""
    assert broker.running, broker.log()
    took = ping(broker.address)
    assert took < HEALTHY_SECONDS, f"a publish and a fetch took {took:.1f} s"
    assert not re.search("Traceback|fault of its own|critical", broker.log()), broker.log()
