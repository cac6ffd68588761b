"""Programs that work on a cluster while it is hurt, and write down a history of what happened."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from zlib import crc32

from ops.faults.ledger import parse, read_partition, value_of
from ops.history.form import Writer
from penstock import sync
from penstock.errors import PenstockError

PATIENCE_SECONDS: Final = 60.0
DELIVERY_SECONDS: Final = 120.0
"""How long a producer tries to get a record through: longer than any outage."""
WINDOW: Final = 64
ENDS_EVERY: Final = 0.1
"""Seconds between two linearizable questions."""
FINAL_RECORDS: Final = 5000
"""Records in one line of the final partition."""

Read = Literal["leader", "linearizable", "nearest"]


def digest_of(value: bytes) -> str:
    """What tells one record's bytes from another's."""
    return f"{crc32(value):08x}"


@dataclass
class ClusterLoad:
    """Producers and readers of one topic, each in a thread of its own."""

    address: str
    topic: str
    partitions: int
    history: Writer
    stopping: threading.Event = field(default_factory=threading.Event)
    errors: list[str] = field(default_factory=list)
    rest: float = 0.002
    """Seconds for which a producer stops when half of its window was acknowledged."""
    acknowledged: int = 0
    ends: int = 0
    """Linearizable answers."""
    longest_pause: float = 0.0
    """Seconds in which nothing was acknowledged to anybody."""
    _last_ack: float = 0.0
    _threads: list[threading.Thread] = field(default_factory=list)
    _producers: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, producers: int, size: int) -> None:
        """Let everybody begin; records have about `size` bytes."""
        self._last_ack = time.monotonic()
        for number in range(producers):
            self.run(lambda name=f"p{number}": self._produce(name, size))  # type: ignore[misc]  # the default
        self._producers = list(self._threads)
        for partition in range(self.partitions):
            self.run(lambda at=partition: self._read(at))  # type: ignore[misc]  # as above
        self.run(self._ask_ends)

    def run(self, program: Callable[[], None]) -> None:
        """Have a program run in a thread, and what it fails with become an error."""

        def guarded() -> None:
            try:
                program()
            except BaseException as error:
                self.errors.append(f"a program of the load ended with {error!r}")

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Begin nothing new, and wait until all that was handed over is acknowledged."""
        self.stopping.set()
        self._join(self._producers)

    def join(self) -> None:
        """Wait until everything has ended by itself."""
        self._join(self._threads)

    def _join(self, threads: list[threading.Thread]) -> None:
        give_up = time.monotonic() + DELIVERY_SECONDS + 30.0
        for thread in threads:
            thread.join(max(give_up - time.monotonic(), 0.0))
            if thread.is_alive():
                self.errors.append(f"{thread.name} hangs")

    # ----- producers

    def _produce(self, name: str, size: int) -> None:
        waiting: deque[tuple[int, int, str, float, sync.Pending]] = deque()
        options = {"name": name, "delivery_timeout": DELIVERY_SECONDS}
        with sync.connect(self.address, **options) as client:  # type: ignore[arg-type]  # mixed
            number = 0
            while not self.stopping.is_set():
                partition, value = number % self.partitions, value_of(name, number, size)
                start = time.monotonic()
                sent = client.publish_nowait(self.topic, value, partition=partition)
                waiting.append((partition, number, digest_of(value), start, sent))
                number += 1
                if len(waiting) >= WINDOW:
                    self._settle(name, waiting, WINDOW // 2)
                    time.sleep(self.rest)
            self._settle(name, waiting, 0)

    def _settle(
        self,
        name: str,
        waiting: deque[tuple[int, int, str, float, sync.Pending]],
        down_to: int,
    ) -> None:
        while len(waiting) > down_to:
            partition, number, digest, start, pending = waiting.popleft()
            outcome, offset = "ok", -1
            end: float | None = None
            try:
                offset = pending.wait().offset
                end = time.monotonic()
                self._acked(end)
            except PenstockError as error:
                outcome = "unknown"
                self.errors.append(f"{name}/{number} failed: {error!r}")
            self.history.note(
                "publish",
                name,
                (self.topic, partition),
                (start, end),
                outcome,
                producer=name,
                sequence=number,
                digests=[digest],
                offset=offset,
            )

    def _acked(self, now: float) -> None:
        with self._lock:
            self.acknowledged += 1
            self.longest_pause = max(self.longest_pause, now - self._last_ack)
            self._last_ack = now

    # ----- readers

    def _ask_ends(self) -> None:
        """Ask for the ends of the log by linearizable reads."""
        with sync.connect(self.address, name="ends", request_timeout=PATIENCE_SECONDS) as client:
            while not self.stopping.wait(ENDS_EVERY):
                start = time.monotonic()
                try:
                    found = client.admin.list_offsets(self.topic, "latest", read="linearizable")
                except PenstockError as error:
                    if not error.retriable:
                        raise
                    continue
                end = time.monotonic()
                for partition, offset in found.items():
                    self.ends += 1
                    more: dict[str, Any] = {"offset": offset, "linearizable": True}
                    self.history.note("end", "ends", (self.topic, partition), (start, end), **more)

    def _read(self, partition: int) -> None:
        options: dict[str, Any] = {"name": f"r{partition}", "request_timeout": PATIENCE_SECONDS}
        how: Read = get_args(Read)[partition % 3]
        where: dict[str, Any] = {"partitions": [partition], "start": "earliest", "read": how}
        with (
            sync.connect(self.address, **options) as client,
            client.subscribe(self.topic, **where) as records,
        ):
            while not self.stopping.is_set():
                start = time.monotonic()
                try:
                    found = records.fetch(max_records=2000, wait=0.2)
                except PenstockError as error:
                    if not error.retriable:
                        raise
                    continue
                if found:
                    rows = [row_of(record.offset, bytes(record.value or b"")) for record in found]
                    self.history.note(
                        "read",
                        f"r{partition}",
                        (self.topic, partition),
                        (start, time.monotonic()),
                        offset=rows[0][0],
                        records=rows,
                        linearizable=False,
                    )

    def read_back(self) -> dict[int, int]:
        """Write the final partitions into the history; returns where each one ends."""
        ends = {}
        options: dict[str, Any] = {"name": "auditor", "request_timeout": PATIENCE_SECONDS}
        with sync.connect(self.address, **options) as client:
            for partition in range(self.partitions):
                start = time.monotonic()
                records = read_partition(client, self.topic, partition)
                rows = [row_of(offset, value) for offset, value in records]
                for first in range(0, max(len(rows), 1), FINAL_RECORDS):
                    part = rows[first : first + FINAL_RECORDS]
                    self.history.note(
                        "final",
                        "auditor",
                        (self.topic, partition),
                        (start, time.monotonic()),
                        offset=part[0][0] if part else 0,
                        records=part,
                    )
                ends[partition] = len(rows)
        return ends


def row_of(offset: int, value: bytes) -> list[object]:
    """A record as the history has it."""
    producer, number = parse(value)
    return [offset, producer, number, digest_of(value)]
