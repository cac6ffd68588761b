"""One record under a lease, as an application sees it, and several of them as columns.

The verdict verbs only hand a verdict over: it is sent with the next turn, together with all others
of that moment. Invariant: a record has at most one verdict; the first one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from penstock._core.sharing.verdicts import Grant
from penstock._core.times import Delay
from penstock.protocol.leases import NACK, REJECT, RELEASE
from penstock.protocol.record import Record

if TYPE_CHECKING:
    from penstock._core.sharing.share import Share
    from penstock.protocol.record_batch import RecordBatch

DEAD_HEADER: Final = "penstock-dead"


class Origin(NamedTuple):
    """Where a dead letter lay first."""

    topic: str
    partition: int
    offset: int


class _Place(msgspec.Struct):
    topic: str
    partition: int
    offset: int


_PLACE: Final = msgspec.json.Decoder(_Place)


def origin_of(headers: Mapping[str, bytes]) -> Origin | None:
    """The first place of a dead letter; None: it is none, or its header can't be read."""
    header = headers.get(DEAD_HEADER)
    if header is None:
        return None
    try:
        found = _PLACE.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Origin(found.topic, found.partition, found.offset)


class SharedRecord(Record, frozen=False, eq=False, gc=False):  # type: ignore[misc] # as it may
    """A record that this member works on: settle it by a verb, or use it as a context.

    Counters are as of this delivery: how often it was handed to anyone, how many attempts failed,
    how many ran out of time, and how often it was brought back from the dead letters.
    """

    delivered: int = 1
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    _share: Share = None  # type: ignore[assignment] # always given; a default must follow defaults
    _grant: Grant = None  # type: ignore[assignment] # as above
    _settled: bool = False

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1: releases do not count."""
        return self.failed + self.timed_out + 1

    @property
    def settled(self) -> bool:
        """Whether a verdict was handed over."""
        return self._settled

    @property
    def lease_lost(self) -> bool:
        """Whether the lease is known to be over: others may work on the record now."""
        return self._grant.lost

    @property
    def origin(self) -> Origin | None:
        """Where it lay before it became a dead letter and was brought back; None: right here."""
        return origin_of(self.headers)

    def ack(self) -> None:
        """It is done with."""
        if self._settled:
            return
        self._settled = True
        grant = self._grant
        run = grant.ledger.tail
        if run.end == self.offset and run.grant is grant:
            run.end += 1
        else:
            grant.ledger.ack(grant, self.offset, self.offset + 1)

    def nack(
        self,
        delay: Delay | None = None,
        *,
        at: datetime | None = None,
        reason: str = "",
        error: str = "",
    ) -> None:
        """It failed: deliver it again, when the group's policy says or at a time given here."""
        if not self._settled:
            ready_at_us = self._share.ready_at(delay, at)
            self._settled = True
            self._add(NACK, ready_at_us, reason, error)

    def reject(self, reason: str = "rejected", error: str = "") -> None:
        """It can't be worked on: move it to the dead letters now."""
        if not self._settled:
            self._settled = True
            self._add(REJECT, 0, reason, error)

    def release(self) -> None:
        """Give it back untouched: no attempt is counted."""
        if not self._settled:
            self._settled = True
            self._add(RELEASE)

    def extend(self, time: Delay) -> None:
        """Ask for a lease that ends so much later than now, also beyond the group's `hold_max_ms`.

        It covers all records that came with the same lease.
        """
        self._share.extend(self._grant, time)

    def _add(self, verdict: int, ready_at_us: int = 0, reason: str = "", error: str = "") -> None:
        grant, offset = self._grant, self.offset
        grant.ledger.add(grant, offset, offset + 1, verdict, ready_at_us, reason, error)

    def __repr__(self) -> str:
        return f"Shared{super().__repr__()[:-1]}, attempt={self.attempt})"


class Portion:
    """Records of one batch under one lease: positions [start, stop) of the batch, no gap between.

    Attributes:
        first: the offset of the first of them.
        count: how many there are.
    """

    __slots__ = ("_batch", "_counters", "_start", "count", "first", "grant", "share")

    def __init__(
        self,
        share: Share,
        grant: Grant,
        batch: RecordBatch,
        start: int,
        count: int,
        first: int,
        counters: tuple[int, int, int, int],
    ) -> None:
        self.share = share
        self.grant = grant
        self.first = first
        self.count = count
        self._batch = batch
        self._start = start
        self._counters = counters

    def __len__(self) -> int:
        return self.count

    @property
    def topic(self) -> str:
        """The topic that they were read from."""
        return self.share.topic

    @property
    def partition(self) -> int:
        """The partition that they were read from."""
        return self.share.partition

    @property
    def values(self) -> list[bytes | None]:
        """The values."""
        return self._batch.values[self._start : self._start + self.count]

    @property
    def keys(self) -> list[bytes | None]:
        """The keys."""
        return self._batch.keys[self._start : self._start + self.count]

    @property
    def headers(self) -> list[Mapping[str, bytes]]:
        """The headers."""
        return self._batch.headers[self._start : self._start + self.count]

    @property
    def timestamps_us(self) -> list[int]:
        """The times in microseconds since 1970."""
        return self._batch.timestamps_us[self._start : self._start + self.count]

    @property
    def offsets(self) -> Sequence[int]:
        """The offsets, which follow one another."""
        return range(self.first, self.first + self.count)

    @property
    def counters(self) -> tuple[int, int, int, int]:
        """Of each of these records: delivered, failed, timed_out, redrives."""
        return self._counters

    def records(self, kind: type[SharedRecord]) -> list[SharedRecord]:
        """Make an object of every record."""
        delivered, failed, timed_out, redrives = self._counters
        share, grant = self.share, self.grant
        return list(
            map(
                kind,
                repeat(share.topic),
                repeat(share.partition),
                range(self.first, self.first + self.count),
                self.timestamps_us,
                self.values,
                self.keys,
                self.headers,
                repeat(delivered),
                repeat(failed),
                repeat(timed_out),
                repeat(redrives),
                repeat(share),
                repeat(grant),
            )
        )

    def give_back(self) -> None:
        """Release all of them."""
        self.grant.ledger.add(self.grant, self.first, self.first + self.count, RELEASE)


class SharedBatch(Portion):
    """Records under one lease as columns, with one verdict for all of them."""

    __slots__ = ("_settled",)

    def __init__(self, portion: Portion) -> None:
        super().__init__(
            portion.share,
            portion.grant,
            portion._batch,
            portion._start,
            portion.count,
            portion.first,
            portion.counters,
        )
        self._settled = False

    def __repr__(self) -> str:
        place = f"{self.topic}/{self.partition}@{self.first}"
        return f"SharedBatch({self.count} records at {place})"

    @property
    def settled(self) -> bool:
        """Whether a verdict was handed over."""
        return self._settled

    def ack(self) -> None:
        """All of them are done with."""
        if not self._settled:
            self._settled = True
            self.grant.ledger.ack(self.grant, self.first, self.first + self.count)

    def nack(
        self,
        delay: Delay | None = None,
        *,
        at: datetime | None = None,
        reason: str = "",
        error: str = "",
    ) -> None:
        """They failed: deliver them again, when the group's policy says or at a time given here."""
        if not self._settled:
            ready_at_us = self.share.ready_at(delay, at)
            self._settle(NACK, ready_at_us, reason, error)

    def reject(self, reason: str = "rejected", error: str = "") -> None:
        """They can't be worked on: move them to the dead letters now."""
        self._settle(REJECT, 0, reason, error)

    def release(self) -> None:
        """Give them back untouched: no attempt is counted."""
        self._settle(RELEASE)

    def extend(self, time: Delay) -> None:
        """Ask for a lease that ends so much later than now."""
        self.share.extend(self.grant, time)

    def _settle(
        self, verdict: int, ready_at_us: int = 0, reason: str = "", error: str = ""
    ) -> None:
        if not self._settled:
            self._settled = True
            end = self.first + self.count
            self.grant.ledger.add(self.grant, self.first, end, verdict, ready_at_us, reason, error)
