"""Fan-out: every group gets every record, and shares it among its own members.

Reading takes nothing away: the log keeps the records, and each group only remembers how far it is.
A group that is made later can start with what was published before it.
"""

from __future__ import annotations

import penstock.sync
from place import broker_address, text

TOPIC = "shop-orders"


def handle(client: penstock.sync.Client, group: str, what: str) -> None:
    """Take all orders as a member of a shared group."""
    with client.subscribe(TOPIC, group=group, mode="shared") as records:
        batch = records.fetch(max_records=10, wait=5.0)
        for record in batch:
            with record:
                print(f"{group}: {what} for {text(record.value)}")


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC)
        client.publish_many(TOPIC, ["two teapots", "a kettle"])
        handle(client, "billing", "an invoice")
        handle(client, "shipping", "a parcel")

        # An ordered group reads the same log: one owner for each partition, strictly in order.
        with client.subscribe(TOPIC, group="audit", mode="ordered") as records:
            for record in records.fetch(wait=5.0):
                print(f"audit: order {record.offset} is {text(record.value)}")


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
