"""Dead letters: what can't be handled is set aside with its history, and comes back on request.

A redrive gives records back to the group that failed on them and to no other one, whenever the
handler, or the data, has been put right.
"""

from __future__ import annotations

from collections.abc import Callable

import penstock.sync
from place import broker_address, text

TOPIC = "incoming-payments"
GROUP = "ledger"
POLICY = {"attempts_max": 2, "retry_min_ms": "50ms", "jitter": "none"}


def book(payment: str) -> int:
    """Read an amount in cents, as the first version of the program does."""
    euros, cents = payment.split(".")
    return int(euros) * 100 + int(cents)


def book_better(payment: str) -> int:
    """Read it also without cents, and in words that people use."""
    return round(float(payment.replace("EUR", "").replace(",", ".")) * 100)


def work(client: penstock.sync.Client, handler: Callable[[str], int]) -> int:
    """Handle all payments that are there; returns their sum in cents."""
    total = 0
    with client.subscribe(TOPIC, group=GROUP, mode="shared", create=POLICY) as records:
        while batch := records.fetch(max_records=10, wait=0.5):
            for record in batch:
                with record:
                    total += handler(text(record.value))
    return total


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC)
        client.publish_many(TOPIC, ["12.50", "8", "3,20 EUR", "0.99"])
        print(f"booked {work(client, book)} cents")

        for letter in client.admin.dead_letters(TOPIC, GROUP):
            print(f"{letter.value!r} failed {letter.failed} times: {letter.attempts[-1].reason}")
            for attempt in letter.attempts:
                print(f"  {attempt.kind} on {attempt.host}: {attempt.error.splitlines()[-1]}")

        # The program is put right, and gets them again.
        plan = client.admin.redrive(TOPIC, GROUP, dry_run=True)
        print(f"{plan.matched} payments would be redriven")
        client.admin.redrive(TOPIC, GROUP)
        print(f"booked {work(client, book_better)} cents")
        print(f"{len(list(client.admin.dead_letters(TOPIC, GROUP)))} dead letters are left")


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
