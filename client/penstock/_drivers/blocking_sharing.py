"""Shared groups in blocking programs: the same names, without `await`.

Records may be settled in any thread; a subscription is taken from by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self

from penstock._core.options import Duration
from penstock._core.sharing import shared_record, shared_subscription
from penstock._core.times import Delay
from penstock._drivers.blocking import BlockingDriver
from penstock._drivers.outcomes import settle_failed


def hand_over(driver: BlockingDriver, function: Callable[[], None]) -> None:
    """Call into the core, and carry out what comes of it if anything is to be sent."""
    with driver.lock:
        function()
        if driver.core.scheduler.turn_wanted:
            driver.turn()


class SharedRecord(shared_record.SharedRecord, frozen=False, eq=False, gc=False):  # type: ignore[misc] # a mutable struct may well inherit from a frozen one
    """A record under a lease of this member, for `with`, or to be settled by hand, in any thread.

    Leaving the block normally acks it. An exception fails the attempt, `penstock.Retry` and
    `penstock.Reject` do what they say; Ctrl-C gives the record back untouched.
    """

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

    def ack(self) -> None:
        """It is done with."""
        self._share.subscription.guard(super().ack)

    def nack(
        self,
        delay: Delay | None = None,
        *,
        at: datetime | None = None,
        reason: str = "",
        error: str = "",
    ) -> None:
        """It failed: deliver it again, when the group's policy says or at a time given here."""
        verb = partial(super().nack, delay, at=at, reason=reason, error=error)
        self._share.subscription.guard(verb)

    def reject(self, reason: str = "rejected", error: str = "") -> None:
        """It can't be worked on: move it to the dead letters now."""
        self._share.subscription.guard(partial(super().reject, reason, error))

    def release(self) -> None:
        """Give it back untouched: no attempt is counted."""
        self._share.subscription.guard(super().release)

    def extend(self, time: Delay) -> None:
        """Ask for a lease that ends so much later than now, also beyond the group's `hold_max_ms`.

        It covers all records that came with the same lease.
        """
        self._share.subscription.guard(partial(super().extend, time))


class SharedBatch(shared_record.SharedBatch):
    """Records under a lease as columns, with one verdict for all; a context as a record is one."""

    __slots__ = ()

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
        return settle_failed(self, self.share, error)

    def ack(self) -> None:
        """All of them are done with."""
        self.share.subscription.guard(super().ack)

    def nack(
        self,
        delay: Delay | None = None,
        *,
        at: datetime | None = None,
        reason: str = "",
        error: str = "",
    ) -> None:
        """They failed: deliver them again, when the group's policy says or at a time given here."""
        verb = partial(super().nack, delay, at=at, reason=reason, error=error)
        self.share.subscription.guard(verb)

    def reject(self, reason: str = "rejected", error: str = "") -> None:
        """They can't be worked on: move them to the dead letters now."""
        self.share.subscription.guard(partial(super().reject, reason, error))

    def release(self) -> None:
        """Give them back untouched: no attempt is counted."""
        self.share.subscription.guard(super().release)

    def extend(self, time: Delay) -> None:
        """Ask for a lease that ends so much later than now."""
        self.share.subscription.guard(partial(super().extend, time))


class SharedSubscription:
    """A member of a shared group, for one `with` block.

    Leaving the block stops taking, waits up to `drain_timeout` for records that were handed out,
    gives back what was not, and sends all verdicts.
    """

    __slots__ = ("_core", "_driver", "_handout")

    def __init__(
        self, driver: BlockingDriver, core: shared_subscription.SharedSubscription
    ) -> None:
        self._driver = driver
        self._core = core
        self._handout = core.handout
        core.touch = driver.touch
        core.guard = partial(hand_over, driver)

    def __repr__(self) -> str:
        return f"<penstock.sync.SharedSubscription {self._core!r}>"

    def __enter__(self) -> Self:
        self._driver.run(self._core.open())
        self._driver.renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._core.closed:
            self._driver.run(self._core.close(in_error=error is not None))

    @property
    def member(self) -> str:
        """The name of this member, as the group's description shows it."""
        return self._core.member

    @property
    def in_flight(self) -> int:
        """Records that are with this member and have no verdict yet, as of the last look."""
        return self._core.credits.held

    # ----- taking records

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SharedRecord:
        for record in self._handout.records:
            return record  # type: ignore[return-value] # of the class that the core was told
        while True:
            if self._core.ended:
                raise StopIteration
            if self._driver.call(self._core.take):
                for record in self._handout.records:
                    return record  # type: ignore[return-value] # as above
            else:
                self._wait()

    def batches(self) -> Iterator[SharedBatch]:
        """Iterate over parts of batches: columns `values`, `keys`, `offsets`, and one verdict."""
        while not self._core.ended:
            batch = self._driver.call(self._core.take_batch)
            if batch is None:
                self._wait()
            else:
                yield batch  # type: ignore[misc] # as above

    def fetch(self, max_records: int = 500, wait: Duration = 1.0) -> list[SharedRecord]:
        """Up to `max_records` as soon as there are any; an empty list after `wait` seconds."""
        limit = wait.total_seconds() if isinstance(wait, timedelta) else wait
        found: list[shared_record.SharedRecord] = []
        try:
            self._driver.run(self._core.fetch(max_records, limit, found))
        except BaseException:
            self._driver.call(self._core.fetch_cancelled, found)
            raise
        return found  # type: ignore[return-value] # as above

    # ----- verdicts

    def ack_many(self, records: Sequence[SharedRecord | SharedBatch]) -> None:
        """Ack records or batches."""
        for record in records:
            record.ack()

    def flush(self) -> None:
        """Wait until every verdict that was handed over is durable.

        Raises:
            LeaseLost: in a strict group a verdict came too late.
            PenstockError: the broker refused verdicts; the first failure since the last flush.
        """
        self._driver.run(self._core.flush())

    def _wait(self) -> None:
        self._driver.wait(self._driver.call(self._core.arrival.wait))
