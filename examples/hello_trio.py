"""Publish a record and read it, under trio."""

from __future__ import annotations

import trio

import penstock
from place import broker_address


async def main(address: str) -> None:
    async with penstock.connect(address) as client:
        await client.admin.create_topic("greetings-trio", if_not_exists=True)
        receipt = await client.publish("greetings-trio", "hello", key="world")
        print(f"durable at partition {receipt.partition}, offset {receipt.offset}")

        async with client.subscribe("greetings-trio", start=receipt.offset) as records:
            async for record in records:
                print(f"read {record.value!r} with key {record.key!r}")
                break


if __name__ == "__main__":
    with broker_address() as address:
        trio.run(main, address)
