"""What the tests on real processes share: brokers in a folder, and whether one is well."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ops.faults.broker import BrokerProcess, StartError, wait_until
from ops.faults.ledger import Ledger, audit
from penstock import sync

__all__ = ["BrokerProcess", "Ledger", "Sabotaged", "StartError", "audit", "healthy", "ping",
           "wait_until"]  # fmt: skip

HEALTHY_SECONDS = 5.0
"""Even beside an attack on a busy machine."""


class Sabotaged(BrokerProcess):
    """A broker whose operating system fails on demand; see `ops.faults.saboteur`."""

    def __init__(self, folder: Path, **options: Path) -> None:
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        program = ("-m", "ops.faults.saboteur", str(self.control))
        super().__init__(folder, program=program, **options)

    def begin(self, fault: str, text: str = "") -> None:
        """From now on it happens."""
        new = self.control / f".{fault}"
        new.write_text(text)
        new.rename(self.control / fault)

    def end(self, fault: str) -> None:
        """It happens no more."""
        (self.control / fault).unlink()


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
