"""Read again what was published since a moment: a log keeps records after they were read."""

from __future__ import annotations

from datetime import UTC, datetime

import penstock.sync
from place import broker_address

TOPIC = "readings"


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC)
        client.publish_many(TOPIC, [f"before {number}" for number in range(3)])
        moment = datetime.now(UTC)
        client.publish_many(TOPIC, [f"after {number}" for number in range(3)])

        with client.subscribe(TOPIC, start=moment) as records:
            for record in records.fetch(max_records=10, wait=5.0):
                print(f"offset {record.offset}, {record.timestamp:%H:%M:%S.%f}: {record.value!r}")


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
