"""Two members of an ordered group share the partitions of a topic, in order, and commit their work.

Every partition has one owner, so the records of a key are handled one after the other. When a
member leaves, or dies, the other one takes over its partitions from the last committed offset.
"""

from __future__ import annotations

from collections import defaultdict

import trio

import penstock
from place import broker_address, text

TOPIC = "payments"
CUSTOMERS = [f"customer-{number}" for number in range(20)]
ROUNDS = 5


async def publish(client: penstock.Client) -> None:
    """Five payments of each customer; a key always goes to the same partition."""
    for number in range(ROUNDS):
        values = [f"payment {number}" for _ in CUSTOMERS]
        await client.publish_many(TOPIC, values, keys=CUSTOMERS)


async def work(
    client: penstock.Client,
    member: str,
    seen: dict[str, list[str]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read as a member of the group `ledger`, and commit after the work is done."""
    async with client.subscribe(TOPIC, group="ledger", commit="manual") as records:
        while not records.assignment():
            await records.fetch(wait=0.1)
        task_status.started()
        while True:
            batch = await records.fetch(max_records=50, wait=1.0)
            for record in batch:
                seen[text(record.key)].append(text(record.value))
            if batch:
                await records.commit()
                print(f"{member} did {len(batch)} payments")
            if sum(map(len, seen.values())) == len(CUSTOMERS) * ROUNDS:
                return


async def main(address: str) -> None:
    seen: dict[str, list[str]] = defaultdict(list)
    async with penstock.connect(address) as client:
        await client.admin.create_topic(TOPIC, partitions=4)
        async with trio.open_nursery() as nursery:
            await nursery.start(work, client, "anna", seen)
            await nursery.start(work, client, "bert", seen)
            await publish(client)
    in_order = all(payments == sorted(payments) for payments in seen.values())
    print(f"{len(seen)} customers, each one's payments in order: {in_order}")


if __name__ == "__main__":
    with broker_address() as address:
        trio.run(main, address)
