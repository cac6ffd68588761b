"""Programs that work on a broker while it is hurt, each in a thread of its own.

Producers use every driver; a member of a group commits as it reads. All of them write down what
they were told, and nothing that they were not told.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import trio

import penstock
from ops.faults.ledger import Ledger, value_of
from penstock import Receipt, sync
from penstock.errors import PenstockError

PATIENCE_SECONDS: Final = 120.0
"""How long a producer tries to get a record through: longer than any outage."""
RUN_RECORDS: Final = 20
"""So many records go to one partition before the next is taken."""


@dataclass(frozen=True)
class Style:
    """How a producer works."""

    driver: str = "blocking"
    partitions: int = 2
    window: int = 256
    value_bytes: int = 0
    pause: float = 0.0
    """Seconds between two windows, so that the machine has time for others."""
    compression: str = "zstd"


@dataclass
class Load:
    """Producers and group members on one topic; use it in a `with`, which ends and joins them."""

    address: str
    ledger: Ledger
    stopping: threading.Event = field(default_factory=threading.Event)
    errors: list[str] = field(default_factory=list)
    """Errors that a program met, and that it should never meet."""
    commits: dict[int, int] = field(default_factory=dict)
    """Partition -> the group's last position whose commit was answered."""
    attempts: dict[int, int] = field(default_factory=dict)
    """Partition -> the highest position that a commit was sent for."""
    _threads: list[threading.Thread] = field(default_factory=list)

    def produce(self, name: str, style: Style) -> None:
        """Start a producer; `name` is its own for ever."""
        programs: dict[str, Callable[[str, Style], None]] = {
            "blocking": self._blocking,
            "trio": lambda name, style: trio.run(self._trio, name, style),
            "asyncio": lambda name, style: asyncio.run(self._asyncio(name, style)),
        }
        self._start(programs[style.driver], name, style)

    def consume(self, group: str) -> None:
        """Start a member of a group that commits what it has read."""
        self._start(self._member, group)

    def _start(self, program: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                program(*arguments)
            except BaseException as error:
                self.errors.append(f"{program}{arguments}: {error!r}")

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds_max: float = PATIENCE_SECONDS) -> None:
        """Have everything end by itself: all that was handed over is settled."""
        self.stopping.set()
        give_up = time.monotonic() + seconds_max
        for thread in self._threads:
            thread.join(max(give_up - time.monotonic(), 0.0))
            if thread.is_alive():
                self.errors.append(f"{thread.name} hangs")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.join(PATIENCE_SECONDS if error is None else 1.0)

    # ----- producers

    def _records(self, name: str, style: Style) -> Iterator[tuple[int, int, bytes]]:
        """(number, partition, value), for ever until the load is to stop."""
        number = 0
        while not self.stopping.is_set():
            self.ledger.sent[name] = number + 1
            partition = number // RUN_RECORDS % style.partitions
            yield number, partition, value_of(name, number, style.value_bytes)
            number += 1

    @staticmethod
    def _options(name: str, style: Style) -> dict[str, object]:
        patience = PATIENCE_SECONDS
        return {"name": name, "delivery_timeout": patience, "compression": style.compression}

    def _note(self, name: str, number: int, receipt: Receipt) -> None:
        self.ledger.acked[name][number] = receipt.partition, receipt.offset
        self.ledger.duplicates += receipt.duplicate

    def _failed(self, name: str, number: int, error: PenstockError) -> None:
        self.errors.append(f"{name}/{number} failed: {error!r}")

    def _blocking(self, name: str, style: Style) -> None:
        self.ledger.book(name)
        waiting: deque[tuple[int, sync.Pending]] = deque()

        def settle(down_to: int) -> None:
            while len(waiting) > down_to:
                number, pending = waiting.popleft()
                try:
                    self._note(name, number, pending.wait())
                except PenstockError as error:
                    self._failed(name, number, error)

        options = self._options(name, style)
        with sync.connect(self.address, **options) as client:  # type: ignore[arg-type]  # mixed
            for number, partition, value in self._records(name, style):
                sent = client.publish_nowait(self.ledger.topic, value, partition=partition)
                waiting.append((number, sent))
                if len(waiting) >= style.window:
                    settle(style.window // 2)
                    time.sleep(style.pause)
            settle(0)

    async def _trio(self, name: str, style: Style) -> None:
        await self._publish(name, style, trio.sleep)

    async def _asyncio(self, name: str, style: Style) -> None:
        await self._publish(name, style, asyncio.sleep)

    async def _publish(self, name: str, style: Style, sleep: Callable[..., object]) -> None:
        self.ledger.book(name)
        waiting: deque[tuple[int, penstock.Pending]] = deque()

        async def settle(down_to: int) -> None:
            while len(waiting) > down_to:
                number, pending = waiting.popleft()
                try:
                    self._note(name, number, await pending)
                except PenstockError as error:
                    self._failed(name, number, error)

        options = self._options(name, style)
        async with penstock.connect(self.address, **options) as client:  # type: ignore[arg-type]  # options of several types
            for number, partition, value in self._records(name, style):
                sent = client.publish_nowait(self.ledger.topic, value, partition=partition)
                waiting.append((number, sent))
                if len(waiting) >= style.window:
                    await settle(style.window // 2)
                    await sleep(style.pause)  # type: ignore[misc]  # trio's or asyncio's
            await settle(0)

    # ----- consumers

    def _member(self, group: str) -> None:
        topic = self.ledger.topic
        with (
            sync.connect(self.address, name=group) as client,
            client.subscribe(topic, group=group, commit="manual", session_timeout=30.0) as records,
        ):
            while not self.stopping.is_set():
                found = records.fetch(max_records=500, wait=0.2)
                if not found:
                    continue
                positions = {record.partition: record.offset + 1 for record in found}
                self.attempts.update(positions)
                try:
                    records.commit({topic: positions})
                except PenstockError as error:
                    if not error.retriable:
                        self.errors.append(f"{group}: a commit failed: {error!r}")
                    continue
                self.commits.update(positions)


def check_commits(load: Load, group: str) -> list[str]:
    """Hold the group's committed offsets against what was answered and what was sent."""
    breaches = []
    with sync.connect(load.address, name="auditor") as client:
        rows = client.admin.describe_group(group).partitions
    committed = {row.partition: row.committed for row in rows}
    ends = {row.partition: row.high_watermark for row in rows}
    for partition, offset in load.commits.items():
        found = committed.get(partition, -1)
        if not offset <= found <= load.attempts[partition]:
            breaches.append(
                f"group {group}, partition {partition}: committed {offset}, "
                f"at most {load.attempts[partition]}, found {found}"
            )
        if found > ends.get(partition, 0):
            breaches.append(f"group {group}, partition {partition}: {found} is beyond the end")
    return breaches
