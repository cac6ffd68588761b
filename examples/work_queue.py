"""A work queue: any number of workers share a topic, and each record goes to one of them.

There are no partitions to own: add workers as you like. A worker that is cancelled hands back at
once what it holds; what a crashed one held is given to another within seconds.
"""

from __future__ import annotations

from collections import Counter

import trio

import penstock
from place import broker_address, text

TOPIC = "images"
COUNT = 60


class Shop:
    """Which images were resized, and by whom."""

    def __init__(self) -> None:
        self.done: Counter[tuple[str, str]] = Counter()
        self.finished = trio.Event()

    def add(self, worker: str, image: str) -> None:
        """An image is ready."""
        self.done[worker, image] += 1
        if self.done.total() == COUNT:
            self.finished.set()


async def work(client: penstock.Client, worker: str, shop: Shop) -> None:
    """Resize images for ever."""
    async with client.subscribe(TOPIC, group="resizers", mode="shared", max_in_flight=4) as records:
        async for record in records:
            # Left in order: acknowledged. Left by an error: tried again later. Cancelled: handed
            # back, for somebody else to do now.
            async with record:
                await trio.sleep(0.005)  # this is where the work is done
                shop.add(worker, text(record.value))


async def main(address: str) -> None:
    shop = Shop()
    async with penstock.connect(address) as client:
        await client.admin.create_topic(TOPIC)
        await client.publish_many(TOPIC, [f"image {number}" for number in range(COUNT)])
        async with trio.open_nursery() as nursery:
            for worker in ("anna", "bert", "carl"):
                nursery.start_soon(work, client, worker, shop)
            await shop.finished.wait()
            nursery.cancel_scope.cancel()
    for worker in ("anna", "bert", "carl"):
        print(f"{worker} resized {sum(name == worker for name, _ in shop.done)} images")
    images = {image for _, image in shop.done}
    print(f"{len(images)} images, each one resized {max(shop.done.values())} time")


if __name__ == "__main__":
    with broker_address() as address:
        trio.run(main, address)
