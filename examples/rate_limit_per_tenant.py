"""Limits for each tenant, over all workers: a busy customer can't take everybody's turn.

The tenant is the part of a record's key before the separator. The broker counts, so the limits hold
however many workers there are, and whichever of them die.
"""

from __future__ import annotations

import time
from collections import Counter

import trio

import penstock
from place import broker_address, text

TOPIC = "exports"
LIMITS = {"limit_by": "tenant", "fair_by": "tenant", "concurrency": 2, "rate_per_second": 20}
BUSY, QUIET = 20, 4


class Meter:
    """What is under way, and what is done when."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {"busy": [], "quiet": []}
        self.finished = trio.Event()

    async def run(self, tenant: str) -> None:
        """One export."""
        self.running[tenant] += 1
        self.most[tenant] = max(self.most[tenant], self.running[tenant])
        await trio.sleep(0.01)
        self.running[tenant] -= 1
        self.times[tenant].append(time.monotonic() - self.began)
        if sum(map(len, self.times.values())) == BUSY + QUIET:
            self.finished.set()


async def run_worker(client: penstock.Client, meter: Meter) -> None:
    """A worker that would do ten at a time, if it got them."""
    async with (
        client.subscribe(
            TOPIC, group="exporters", mode="shared", create=LIMITS, max_in_flight=10
        ) as records,
        trio.open_nursery() as nursery,
    ):
        async for record in records:
            nursery.start_soon(handle, record, meter)


async def handle(record: penstock.SharedRecord, meter: Meter) -> None:
    """Handle one record beside others."""
    async with record:
        await meter.run(text(record.key).partition(":")[0])


async def main(address: str) -> None:
    async with penstock.connect(address) as client:
        await client.admin.create_topic(TOPIC, config={"tenant_separator": ":"})
        keys = [f"busy:{number}" for number in range(BUSY)]
        keys += [f"quiet:{number}" for number in range(QUIET)]
        await client.publish_many(TOPIC, ["an export"] * len(keys), keys=keys)
        meter = Meter()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(run_worker, client, meter)
            await meter.finished.wait()
            nursery.cancel_scope.cancel()
    print(f"never more than two exports of a tenant at once: {max(meter.most.values()) <= 2}")
    waited = max(meter.times["quiet"]) < max(meter.times["busy"])
    print(f"the quiet tenant, who came last, was done first: {waited}")


if __name__ == "__main__":
    with broker_address() as address:
        trio.run(main, address)
