"""Delayed records: published and durable now, delivered later; until then they can be cancelled."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import penstock.sync
from place import broker_address, text

TOPIC = "reminders"


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC)
        began = time.monotonic()
        client.publish(TOPIC, "tea is ready", delay="1s")
        client.publish(TOPIC, "eggs are ready", delay="500ms")
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        receipt = client.publish(TOPIC, "water the plants", at=tomorrow)
        client.publish(TOPIC, "kitchen timer started")

        waiting = client.admin.list_scheduled(TOPIC)
        print(f"{waiting.total} records wait for their time")
        client.admin.cancel_scheduled(TOPIC, receipt.partition, [receipt.offset])
        print(f"{client.admin.list_scheduled(TOPIC).total} are left: no plants tomorrow")

        # A delayed record gets its place in the log when its time has come: any reader sees it.
        with client.subscribe(TOPIC, start="earliest") as records:
            for record in records:
                print(f"{time.monotonic() - began:.1f} s: {text(record.value)}")
                if record.offset == 2:
                    break


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
