"""Retries: a handler that fails gets the record again, after pauses that grow.

The group says how long to wait and how often to try. A handler that knows better when to come back
raises `penstock.Retry`, and one that knows that it never will raises `penstock.Reject`.
"""

from __future__ import annotations

import time

import penstock.sync
from place import broker_address

TOPIC = "mails"
POLICY = {
    "attempts_max": 5,
    "retry_min_ms": "100ms",  # the first pause ...
    "retry_factor": 200,  # ... then twice as long each time ...
    "retry_max_ms": "10s",  # ... up to this
    "jitter": "none",  # only so that this example prints the same each time
}


def send(mail: bytes | None, attempt: int) -> None:
    """Send a mail by a server that is down at first."""
    if attempt <= 2:
        raise ConnectionError("the mail server is down")
    if attempt == 3:
        raise penstock.Retry(delay="500ms")  # the server said when it would like to be asked again


def main(address: str) -> None:
    with penstock.sync.connect(address) as client:
        client.admin.create_topic(TOPIC)
        client.publish(TOPIC, "dear customer")
        with client.subscribe(TOPIC, group="mailer", mode="shared", create=POLICY) as records:
            began = time.monotonic()
            for record in records:
                print(f"attempt {record.attempt} after {time.monotonic() - began:.1f} s")
                with record:
                    send(record.value, record.attempt)
                    break
    print("sent")


if __name__ == "__main__":
    with broker_address() as address:
        main(address)
