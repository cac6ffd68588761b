"""What goes on in a shared group while faults happen: records, delays, a schedule, members."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ops.faults.broker import wait_until
from ops.faults.shared_ledger import SharedLedger, check_delayed, read_topic
from ops.faults.shared_members import Members
from penstock import sync
from penstock.errors import PenstockError

GROUP: Final = "work"
PATIENCE_SECONDS: Final = 60.0
"""How long a producer tries, and how long everything may take to come to rest."""
POLICY: Final[Mapping[str, object]] = {
    "lease_ms": "1s",
    "hold_max_ms": "3s",
    "attempts_max": 5,
    "retry_min_ms": 20,
    "retry_max_ms": 500,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SharedWork:
    """One topic and its group.

    Attributes:
        members: its consumers, in processes of their own.
        ledger: what they wrote down is taken into it by `check`.
        published: values that were acknowledged.
        errors: what a producer met and should never meet.
    """

    def __init__(
        self, folder: Path, address: str, topic: str, *, partitions: int = 1, **settings: object
    ) -> None:
        self.topic = topic
        self.members = Members(folder, address, topic, GROUP)
        self.ledger = SharedLedger()
        self.published: set[bytes] = set()
        self.errors: list[str] = []
        self.redriven = 0
        self._address = address
        self._stopping = threading.Event()
        self._due: dict[bytes, int] = {}
        self._delayed: set[bytes] = set()
        self._threads: list[threading.Thread] = []
        with sync.connect(address) as client:
            client.admin.create_topic(topic, partitions=partitions)
            client.admin.create_group(topic, GROUP, {**POLICY, **settings})
            client.admin.create_schedule(
                topic, "ticks", "@every 1s", value=b"tick", partition=0, catch_up="all"
            )

    # ----- producers

    def produce(self, pause: float = 0.02, many: int = 10) -> None:
        """Start publishing records, and some for later."""
        for number, program in enumerate((self._publish, self._publish_later)):
            thread = threading.Thread(target=self._guarded, args=(program, number, pause, many))
            thread.daemon = True
            self._threads.append(thread)
            thread.start()

    def _guarded(self, program: object, number: int, pause: float, many: int) -> None:
        try:
            with sync.connect(
                self._address,
                name=f"producer-{number}",
                delivery_timeout=PATIENCE_SECONDS,
                request_timeout=PATIENCE_SECONDS,
            ) as client:
                program(client, pause, many)  # type: ignore[operator]  # one of the two below
        except BaseException as error:
            self.errors.append(f"{self.topic}: producer {number}: {error!r}")

    def _publish(self, client: sync.Client, pause: float, many: int) -> None:
        number = 0
        while not self._stopping.is_set():
            values = [b"r/%d" % each for each in range(number, number + many)]
            number += many
            client.publish_many(self.topic, values)
            self.published.update(values)
            time.sleep(pause)

    def _publish_later(self, client: sync.Client, pause: float, many: int) -> None:
        chance, number = random.Random(self.topic), 0
        while not self._stopping.is_set():
            value = b"d/%d" % number
            number += 1
            due_us = time.time_ns() // 1000 + int(chance.choice((0.0, 0.05, 0.5, 3.0)) * 1e6)
            self._due[value] = due_us
            client.publish(self.topic, value, at=_EPOCH + timedelta(microseconds=due_us))
            self._delayed.add(value)
            time.sleep(pause * 2)

    def hang(self) -> None:
        """Publish a record at which a handler hangs, longer than it may hold it."""
        with sync.connect(self._address, delivery_timeout=PATIENCE_SECONDS) as client:
            client.publish(self.topic, b"hangs/0")

    def stop(self) -> None:
        """Have the producers end: what they handed over is settled."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            if thread.is_alive():
                self.errors.append(f"{self.topic}: a producer hangs")

    # ----- the end

    def settle(self, redrive: bool = False) -> None:
        """Wait until nothing is left to do; what is stuck is a breach."""
        with sync.connect(self._address, request_timeout=PATIENCE_SECONDS) as client:
            admin = client.admin
            waiting = admin.list_scheduled(self.topic).total
            if not wait_until(lambda: not admin.list_scheduled(self.topic).total, 30.0):
                self.ledger.breach(f"{self.topic}: of {waiting} delayed records some never come")
            admin.delete_schedule(self.topic, "ticks")
            self._wait(client)
            if redrive:
                self._redrive(client)
                self._wait(client)

    def _wait(self, client: sync.Client) -> None:
        if not wait_until(lambda: self._is_settled(client), PATIENCE_SECONDS):
            for partition, state in client.admin.stuck(self.topic, GROUP, 3):
                self.ledger.breach(f"{self.topic}/{partition}@{state.offset} is stuck: {state}")
            self.ledger.breach(f"{self.topic} does not come to rest")

    def _is_settled(self, client: sync.Client) -> bool:
        time.sleep(0.02)
        found = client.admin.describe_shared(self.topic, GROUP)
        dead = client.admin.describe_shared(f"dead.{self.topic}.{GROUP}", GROUP)
        if found.missing or dead.missing:
            return False
        return all(part.start == part.high_watermark for part in found.partitions) and all(
            part.ready + part.leased + part.delayed + part.moving == 0 for part in dead.partitions
        )

    def _redrive(self, client: sync.Client) -> None:
        self.redriven = client.admin.redrive(self.topic, GROUP).redriven
        dead = f"dead.{self.topic}.{GROUP}"

        def empty() -> bool:
            time.sleep(0.02)
            found = client.admin.describe_shared(dead, GROUP)
            left = (part.ready + part.leased + part.delayed for part in found.partitions)
            return not found.missing and not any(left)

        if not wait_until(empty, PATIENCE_SECONDS):
            self.ledger.breach(f"{self.topic}: redriven records are not worked on")

    def check(self) -> SharedLedger:
        """Hold everything against everything; the members are ended."""
        self.members.end()
        ledger = self.ledger
        ledger.breaches += self.errors
        ledger.take(self.members.lines())
        ledger.check_grants()
        with sync.connect(self._address, request_timeout=PATIENCE_SECONDS) as client:
            ledger.check_end(client, self.topic, GROUP)
            check_delayed(ledger, client, self.topic, self._due, self._delayed)
            values = [bytes(record.value or b"") for _, _, record in read_topic(client, self.topic)]
        published = [value for value in values if value.startswith(b"r/")]
        if len(set(published)) != len(published):
            ledger.breach(f"{self.topic}: published records came twice")
        lost = self.published - set(published)
        if lost:
            ledger.breach(f"{self.topic}: published records are lost: {sorted(lost)[:3]}")
        if "Traceback" in self.members.log():
            ledger.breach(f"{self.topic}: a member failed: {self.members.log()[-1500:]}")
        return ledger

    def remove(self) -> None:
        """Delete the topic and its dead letters."""
        with sync.connect(self._address, request_timeout=PATIENCE_SECONDS) as client:
            try:
                client.admin.delete_topic(self.topic)
                client.admin.delete_topic(f"dead.{self.topic}.{GROUP}")
            except PenstockError as error:
                self.ledger.breach(f"{self.topic} can't be deleted: {error}")
