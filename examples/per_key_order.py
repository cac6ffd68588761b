"""Order for each key with any number of workers: one record of a key is under way at a time.

Other keys do not wait for it, and a record that fails holds up its own key only, until it is done
or set aside as a dead letter.
"""

from __future__ import annotations

from collections import defaultdict

import trio

import penstock
from place import broker_address, text

TOPIC = "accounts"
CUSTOMERS = [f"customer-{number}" for number in range(8)]
ROUNDS = 6


class Work:
    """What was done for each customer, and how much at once."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = defaultdict(list)
        self.under_way = 0
        self.most = 0
        self.failed = False
        self.finished = trio.Event()

    async def do(self, customer: str, step: int) -> None:
        """Do a step; one of them fails the first time."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await trio.sleep(0.01)
        self.under_way -= 1
        if (customer, step) == ("customer-3", 2) and not self.failed:
            self.failed = True
            raise ConnectionError("try again")
        self.steps[customer].append(step)
        if sum(map(len, self.steps.values())) == len(CUSTOMERS) * ROUNDS:
            self.finished.set()


async def run_worker(client: penstock.Client, work: Work) -> None:
    """One of many workers; each handles four records at a time."""
    policy = {"order_by": "key", "retry_min_ms": "50ms"}
    async with (
        client.subscribe(
            TOPIC, group="bookings", mode="shared", create=policy, max_in_flight=4
        ) as records,
        trio.open_nursery() as nursery,
    ):
        async for record in records:
            nursery.start_soon(handle, record, work)


async def handle(record: penstock.SharedRecord, work: Work) -> None:
    """Handle one record beside others."""
    async with record:
        await work.do(text(record.key), int(record.value or 0))


async def main(address: str) -> None:
    work = Work()
    async with penstock.connect(address) as client:
        # With this setting clients write beside each record a hash of its key, for brokers to see.
        await client.admin.create_topic(TOPIC, config={"key_slots": "key"})
        for number in range(ROUNDS):
            await client.publish_many(TOPIC, [str(number)] * len(CUSTOMERS), keys=CUSTOMERS)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(run_worker, client, work)
            await work.finished.wait()
            nursery.cancel_scope.cancel()
    in_order = all(steps == list(range(ROUNDS)) for steps in work.steps.values())
    print(f"one partition, three workers, several steps at once: {work.most > 1}")
    print(f"each customer's steps were done in order: {in_order}")
    print(f"a step failed, was tried again, and held up its own customer only: {work.failed}")


if __name__ == "__main__":
    with broker_address() as address:
        trio.run(main, address)
