"""Consuming in async programs: the same subscription under trio and asyncio.

A loop takes records from an iterator that the core has prepared, and waits only when that is used
up; now and then it lets other tasks run, however much was fetched ahead.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from penstock._core import subscription
from penstock._core.options import Duration
from penstock._core.positions import Start
from penstock._core.scheduler import Bell
from penstock._core.subscription import Offsets
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch

if TYPE_CHECKING:
    from penstock._drivers.facade import Driver

RECORDS_PER_CHECKPOINT: Final = 512


async def wait_for(driver: Driver, bell: Bell) -> None:
    """Wait for a bell; a cancelled wait leaves nothing behind."""
    ticket = bell.wait()
    try:
        await driver.wait(ticket)
    except BaseException:
        bell.forget(ticket)
        raise


class Subscription:
    """Records of some topics, for one `async with` block and one task at a time."""

    __slots__ = ("_core", "_delivery", "_driver", "_since_checkpoint")

    def __init__(self, driver: Driver, core: subscription.Subscription) -> None:
        self._driver = driver
        self._core = core
        self._delivery = core.delivery
        self._since_checkpoint = 0

    def __repr__(self) -> str:
        return f"<penstock.Subscription {self._core!r}>"

    async def __aenter__(self) -> Self:
        await self._driver.run(self._core.open())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._core.closed:
            await self._driver.finish(self._core.close(in_error=error is not None))

    # ----- taking records

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        for record in self._delivery.records:
            return record
        return await self._next_run()

    async def _next_run(self) -> Record:
        while True:
            if self._core.ended:
                raise StopAsyncIteration
            if self._core.take():
                await self._breathe()
                for record in self._delivery.records:
                    self._since_checkpoint += self._delivery.size
                    return record
            else:
                await self._wait()

    def batches(self) -> Batches:
        """Iterate over whole batches: columns `values`, `keys`, `offsets`, decoded when used."""
        return Batches(self)

    async def _next_batch(self) -> RecordBatch:
        while not self._core.ended:
            # Before taking: what is taken must not be lost to a cancellation.
            await self._breathe()
            batch = self._core.take_batch()
            if batch is not None:
                self._since_checkpoint += len(batch)
                return batch
            await self._wait()
        raise StopAsyncIteration

    async def fetch(self, max_records: int = 500, wait: Duration = 1.0) -> list[Record]:
        """Up to `max_records` as soon as there are any; an empty list after `wait` seconds."""
        limit = wait.total_seconds() if isinstance(wait, timedelta) else wait
        try:
            return await self._driver.run(self._core.fetch(max_records, limit))
        except BaseException:
            self._driver.touch()
            self._core.fetch_cancelled()
            raise

    # ----- positions

    async def commit(self, offsets: Mapping[str, Mapping[int, int]] | None = None) -> None:
        """Commit what was handed out so far, or the given topic -> partition -> next offset.

        Raises:
            Fenced, MemberUnknown: the place in the group was lost; others read on from the last
                commit.
            BadRequest: there is no group.
        """
        await self._driver.run(self._core.commit(offsets))

    async def seek(
        self, to: Start, *, topic: str | None = None, partition: int | None = None
    ) -> None:
        """Go on elsewhere, in all partitions that are read or in those named.

        Raises:
            PartitionNotFound: that partition is not read here.
            BadRequest: `to` is no position.
        """
        await self._driver.run(self._core.seek(to, topic, partition))

    def pause(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of these partitions until `resume`; membership stays."""
        self._core.pause(topic, partition)

    def resume(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out records of paused partitions again."""
        self._core.resume(topic, partition)

    def position(self) -> Offsets:
        """Topic -> partition -> the offset that comes next; -1 while it is not known."""
        return self._core.position()

    def assignment(self) -> dict[str, list[int]]:
        """Topic -> the partitions that are read now."""
        return self._core.assignment()

    def lag(self) -> Offsets:
        """Topic -> partition -> records ahead of the position, as of the last fetch."""
        return self._core.lag()

    async def _wait(self) -> None:
        self._since_checkpoint = 0
        await wait_for(self._driver, self._core.arrival)

    async def _breathe(self) -> None:
        """Let others run once in a while, however much has been fetched ahead."""
        if self._since_checkpoint >= RECORDS_PER_CHECKPOINT:
            self._since_checkpoint = 0
            await self._driver.checkpoint()


class Batches:
    """The batches of a subscription."""

    __slots__ = ("_subscription",)

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, RecordBatch]:
        return self._subscription._next_batch()
