"""Publish a record and read it, in plain blocking code."""

from __future__ import annotations

import penstock.sync
from place import broker_address


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic("greetings-sync", if_not_exists=True)
        receipt = client.publish("greetings-sync", "hello", key="world")
        print(f"durable at partition {receipt.partition}, offset {receipt.offset}")

        with client.subscribe("greetings-sync", start=receipt.offset) as records:
            for record in records:
                print(f"read {record.value!r} with key {record.key!r}")
                break


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
