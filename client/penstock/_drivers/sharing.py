"""Shared groups in async programs: records under leases, the same under trio and asyncio.

A loop takes records from an iterator that the core has prepared; leaving a record's block only
hands a verdict over. Neither waits, so a record costs no more than a few calls.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from penstock._core.options import Duration
from penstock._core.sharing import shared_record, shared_subscription
from penstock._drivers.consuming import RECORDS_PER_CHECKPOINT, wait_for
from penstock._drivers.outcomes import settle_failed

if TYPE_CHECKING:
    from penstock._drivers.facade import Driver


class SharedRecord(shared_record.SharedRecord, frozen=False, eq=False, gc=False):  # type: ignore[misc] # a mutable struct may well inherit from a frozen one
    """A record under a lease of this member, for `async with` or `with`, or to be settled by hand.

    Leaving the block normally acks it. An exception fails the attempt, `penstock.Retry` and
    `penstock.Reject` do what they say; a cancellation gives the record back untouched.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self.ack()
            return False
        return settle_failed(self, self._share, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self.ack()
            return False
        return settle_failed(self, self._share, error)


class SharedBatch(shared_record.SharedBatch):
    """Records under a lease as columns, with one verdict for all; a context as a record is one."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self.ack()
            return False
        return settle_failed(self, self.share, error)


class SharedSubscription:
    """A member of a shared group, for one `async with` block; any number of tasks may take from it.

    Leaving the block stops taking, waits up to `drain_timeout` for records that were handed out,
    gives back what was not, and sends all verdicts.
    """

    __slots__ = ("_core", "_driver", "_handout", "_since_checkpoint")

    def __init__(self, driver: Driver, core: shared_subscription.SharedSubscription) -> None:
        self._driver = driver
        self._core = core
        self._handout = core.handout
        self._since_checkpoint = 0
        core.touch = driver.touch

    def __repr__(self) -> str:
        return f"<penstock.SharedSubscription {self._core!r}>"

    async def __aenter__(self) -> Self:
        await self._driver.run(self._core.open())
        self._driver.renewer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._core.closed:
            await self._driver.finish(self._core.close(in_error=error is not None))

    @property
    def member(self) -> str:
        """The name of this member, as the group's description shows it."""
        return self._core.member

    @property
    def in_flight(self) -> int:
        """Records that are with this member and have no verdict yet, as of the last look."""
        return self._core.credits.held

    # ----- taking records

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SharedRecord:
        for record in self._handout.records:
            return record  # type: ignore[return-value] # of the class that the core was told
        return await self._next_run()

    async def _next_run(self) -> SharedRecord:
        core = self._core
        while True:
            if core.ended:
                raise StopAsyncIteration
            if core.take():
                await self._breathe()
                for record in self._handout.records:
                    self._since_checkpoint += self._handout.run_size
                    return record  # type: ignore[return-value] # as above
            else:
                await self._wait()

    def batches(self) -> SharedBatches:
        """Iterate over parts of batches: columns `values`, `keys`, `offsets`, and one verdict."""
        return SharedBatches(self)

    async def _next_batch(self) -> SharedBatch:
        while not self._core.ended:
            # Before taking: what is taken must not be lost to a cancellation.
            await self._breathe()
            batch = self._core.take_batch()
            if batch is not None:
                self._since_checkpoint += len(batch)
                return batch  # type: ignore[return-value] # as above
            await self._wait()
        raise StopAsyncIteration

    async def fetch(self, max_records: int = 500, wait: Duration = 1.0) -> list[SharedRecord]:
        """Up to `max_records` as soon as there are any; an empty list after `wait` seconds."""
        limit = wait.total_seconds() if isinstance(wait, timedelta) else wait
        found: list[shared_record.SharedRecord] = []
        try:
            await self._driver.run(self._core.fetch(max_records, limit, found))
        except BaseException:
            self._driver.touch()
            self._core.fetch_cancelled(found)
            raise
        return found  # type: ignore[return-value] # as above

    # ----- verdicts

    def ack_many(self, records: Sequence[SharedRecord | SharedBatch]) -> None:
        """Ack records or batches."""
        self._core.ack_many(records)

    async def flush(self) -> None:
        """Wait until every verdict that was handed over is durable.

        Raises:
            LeaseLost: in a strict group a verdict came too late.
            PenstockError: the broker refused verdicts; the first failure since the last flush.
        """
        await self._driver.run(self._core.flush())

    async def _wait(self) -> None:
        self._since_checkpoint = 0
        await wait_for(self._driver, self._core.arrival)

    async def _breathe(self) -> None:
        """Let others run once in a while, however much is there."""
        if self._since_checkpoint >= RECORDS_PER_CHECKPOINT:
            self._since_checkpoint = 0
            await self._driver.checkpoint()


class SharedBatches:
    """The batches of a shared subscription."""

    __slots__ = ("_subscription",)

    def __init__(self, subscription: SharedSubscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, SharedBatch]:
        return self._subscription._next_batch()
