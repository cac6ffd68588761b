"""A topic as a table: compaction keeps the newest record of each key; reading it gives the state.

A record without a value deletes its key. A program that starts reads the topic once from its start
and then follows it; how long the history was does not matter.
"""

from __future__ import annotations

import penstock.sync
from place import broker_address

TOPIC = "prices"


def load_table(client: penstock.sync.Client) -> dict[str, str]:
    """Read the topic to its end and keep the last value of each key."""
    table: dict[str, str] = {}
    with client.subscribe(TOPIC, start="earliest") as records:
        while batch := records.fetch(wait=0.2):
            for record in batch:
                key = (record.key or b"").decode()
                if record.value is None:
                    table.pop(key, None)
                else:
                    table[key] = record.value.decode()
    return table


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC, config={"cleanup": "compact"})
        for product, price in [
            ("tea", "3.20"),
            ("milk", "1.10"),
            ("salt", "0.60"),
            ("tea", "3.50"),
        ]:
            client.publish(TOPIC, price, key=product)
        client.publish(TOPIC, None, key="salt")
        for product, price in load_table(client).items():
            print(f"{product}: {price}")


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
