"""Records of a shared group on their way into the application.

What acquires brought waits as portions; a loop takes from an iterator over some of them made into
objects, without asking anybody. Invariants: records are handed out in the order in which they came;
nothing of a lost lease is made or left in the iterator; a damaged portion fails as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import Final

from penstock._core.events import EventLog
from penstock._core.sharing.portions import DAMAGED, DAMAGED_TEXT
from penstock._core.sharing.shared_record import Portion, SharedBatch, SharedRecord
from penstock._core.sharing.verdicts import Grant
from penstock.errors import CorruptBatch, PenstockError
from penstock.protocol.leases import NACK

RUN_RECORDS: Final = 512
"""How many records are made at once for a loop."""
NOTHING: Iterator[SharedRecord] = iter(())


class Handout:
    """The records that are with this member and were not handed out.

    Attributes:
        records: the iterator that the application's loop takes from; exhausted: ask for more.
        run_size: how many records were made for it last.
    """

    __slots__ = (
        "_batch_kind",
        "_check",
        "_events",
        "_iterator",
        "_kind",
        "_portions",
        "_waiting",
        "records",
        "run_size",
    )

    def __init__(
        self,
        kind: type[SharedRecord],
        batch_kind: type[SharedBatch],
        events: EventLog,
        check: Callable[[], None],
    ) -> None:
        self.records: Iterator[SharedRecord] = NOTHING
        self.run_size = 0
        self._kind = kind
        self._batch_kind = batch_kind
        self._events = events
        self._check = check
        """Raises if there will never be more."""
        self._iterator: Iterator[SharedRecord] = NOTHING
        self._portions: deque[Portion] = deque()
        self._waiting = 0
        """How many records the portions have."""

    @property
    def queued(self) -> int:
        """How many records were not handed out yet."""
        return self._waiting + length_hint(self._iterator)

    # ----- coming in, and going without having been handed out

    def arrived(self, portions: Sequence[Portion]) -> None:
        """Records came."""
        self._portions.extend(portions)
        self._waiting += sum(portion.count for portion in portions)

    def drop(self, grant: Grant) -> int:
        """Hand out nothing more of a lease; returns how many records that were."""
        before = self.queued
        self._portions = deque(each for each in self._portions if each.grant is not grant)
        self._waiting = sum(each.count for each in self._portions)
        rest = [record for record in self._iterator if record._grant is not grant]
        self.records = self._iterator = iter(rest)
        return before - self.queued

    def interrupt(self) -> None:
        """Have the loop come back before the next record; may be called in another thread."""
        self.records = NOTHING

    def give_back(self) -> None:
        """Release everything."""
        self._give_back_run()
        while self._portions:
            self._portions.popleft().give_back()
        self._waiting = 0

    def clear(self) -> None:
        """Forget everything."""
        self._portions.clear()
        self._waiting = 0
        self.records = self._iterator = NOTHING

    # ----- going out

    def load(self) -> bool:
        """Make the next records, if the present ones are used up; False: there are none."""
        if length_hint(self._iterator):
            self.records = self._iterator
            return True
        made: list[SharedRecord] = []
        while len(made) < RUN_RECORDS and (self._portions or not made):
            portion = self._next()
            if portion is None:
                break
            try:
                made.extend(portion.records(self._kind))
            except CorruptBatch:
                self._damaged(portion)
        self.records = self._iterator = iter(made)
        self.run_size = len(made)
        return bool(made)

    def take_batch(self) -> SharedBatch | None:
        """The next records of one batch; what a loop left of a run goes back."""
        self._give_back_run()
        while (portion := self._next()) is not None:
            try:
                portion.values  # noqa: B018 - decoded here, where damage can still be told
            except CorruptBatch:
                self._damaged(portion)
            else:
                return self._batch_kind(portion)
        return None

    def gather(self, count: int, found: list[SharedRecord]) -> None:
        """Put up to so many records into a list."""
        found.extend(islice(self._iterator, count))
        try:
            while len(found) < count and self.load():
                found.extend(islice(self._iterator, count - len(found)))
        except PenstockError:
            # What is there comes first; the failure is still there the next time.
            if not found:
                raise

    def put_first(self, records: Sequence[SharedRecord]) -> None:
        """Hand these out next."""
        self.records = self._iterator = iter([*records, *self._iterator])

    # ----- inside

    def _next(self) -> Portion | None:
        if self._portions:
            portion = self._portions.popleft()
            self._waiting -= portion.count
            return portion
        self._check()
        return None

    def _give_back_run(self) -> None:
        for record in self._iterator:
            # Not the driver's own release: that may take a lock which is held already.
            SharedRecord.release(record)
        self.records = self._iterator = NOTHING

    def _damaged(self, portion: Portion) -> None:
        end = portion.first + portion.count
        portion.grant.ledger.add(portion.grant, portion.first, end, NACK, 0, DAMAGED, DAMAGED_TEXT)
        self._events.add(
            "records_unreadable",
            topic=portion.topic,
            partition=portion.partition,
            missing=0,
            damaged=portion.count,
        )
