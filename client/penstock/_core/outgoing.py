"""One batch on its way to a partition, and the receipts that come back.

A batch is a ticket: whoever published a record of it waits for the batch. Invariants: once it was
encoded its records do not change; it is settled once; after a time-out it may still be in flight,
since only its answer tells what became of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, overload

import msgspec

from penstock._core.positions import datetime_of
from penstock._core.scheduler import Ticket, renewed
from penstock._core.wire import Wire
from penstock.errors import PenstockError, RemoteProtocolError, TimedOut
from penstock.protocol.frames import FLAG_DUPLICATE, PUBLISH, PUBLISH_REPLY, REPLY_BYTES, Frame

if TYPE_CHECKING:
    from penstock._core.lane import Lane

OFFSET_UNKNOWN_WIRE: Final = (1 << 64) - 1
OFFSET_UNKNOWN: Final = -1
RECORD_OVERHEAD_BYTES: Final = 8

Value = bytes | None
Headers = Mapping[str, bytes]


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Where a record is now: durable, as `acks` asked for.

    `offset` is -1 when it can't be known: with acks="none", or for a duplicate of long ago.
    """

    topic: str
    partition: int
    offset: int
    timestamp_us: int
    """When the leader appended it, microseconds since 1970."""
    duplicate: bool = False
    """It was stored before; this is the place of the first copy."""
    scheduled: bool = False
    """It waits for its time; the offset is its id for cancelling, not a place in the topic."""

    @property
    def timestamp(self) -> datetime:
        """The append time as an aware datetime in UTC."""
        return datetime_of(self.timestamp_us)


class Outgoing(Ticket["Outgoing"]):
    """A batch of records for one partition."""

    __slots__ = (
        "append_ts_us",
        "base_offset",
        "deadline",
        "dedup_id",
        "deliver_at_us",
        "duplicate",
        "encoded",
        "expires",
        "headers",
        "keys",
        "lane",
        "maybe_stored",
        "partial",
        "partition",
        "sent_bytes",
        "sequence",
        "size",
        "target",
        "timestamps",
        "topic",
        "values",
        "wire",
    )

    def __init__(self, topic: str, values: list[Value] | None = None) -> None:
        super().__init__()
        self.topic = topic
        self.partition = -1
        self.values: list[Value] = [] if values is None else values
        self.keys: list[bytes | None] | None = None
        self.headers: list[Headers | None] | None = None
        self.timestamps: list[int] | None = None
        self.dedup_id: bytes | None = None
        self.deliver_at_us: int | None = None
        """Not before this time; then `target` is where to."""
        self.target = ""
        self.size = 0
        self.lane: Lane | None = None
        self.partial: list[int] | None = None
        """The counter of unfilled batches in flight that this one is part of."""
        self.expires = 0.0
        """Monotonic time of the delivery time-out; 0: not running yet."""
        self.sequence = 0
        self.encoded: bytearray | None = None
        self.sent_bytes = 0
        self.wire: Wire | None = None
        """Where it is in flight now."""
        self.deadline = 0.0
        """When the present request is given up, see `wire.Call`."""
        self.maybe_stored = False
        """A request that carried it ended without an answer."""
        self.base_offset = OFFSET_UNKNOWN
        self.append_ts_us = 0
        self.duplicate = False

    # ----- filling

    def add(self, value: Value, key: bytes | None, headers: Headers | None, size: int) -> None:
        """Append one record of that many bytes."""
        if key is not None and self.keys is None:
            self.keys = [None] * len(self.values)
        if headers is not None and self.headers is None:
            self.headers = [None] * len(self.values)
        self.values.append(value)
        if self.keys is not None:
            self.keys.append(key)
        if self.headers is not None:
            self.headers.append(headers)
        self.size += size

    # ----- being a call

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """The broker stored it, or found that it had."""
        if frame.type != PUBLISH or frame.end - frame.start != REPLY_BYTES:
            raise RemoteProtocolError("a publish was answered by something else")
        offset, self.append_ts_us = PUBLISH_REPLY.unpack_from(buffer, frame.start)[6:]
        self.base_offset = OFFSET_UNKNOWN if offset == OFFSET_UNKNOWN_WIRE else offset
        self.duplicate = bool(frame.flags & FLAG_DUPLICATE)
        self._landed().acked(self)

    def refused(self, error: PenstockError) -> None:
        """The broker did not store it this time."""
        self._landed().refused(self, error)

    def lost(self, error: PenstockError) -> None:
        """No answer will come."""
        self.maybe_stored = True
        self._landed().unanswered(self)

    def expired(self) -> None:
        """No answer came in the time of one request."""
        self.lost(TimedOut())

    def _landed(self) -> Lane:
        lane, wire = self.lane, self.wire
        assert lane is not None
        assert wire is not None
        wire.unanswered = max(0, wire.unanswered - self.sent_bytes)
        self.wire = None
        return lane

    # ----- results

    def receipt(self, index: int) -> Receipt:
        """The receipt of one record.

        Raises:
            PenstockError: why the batch is not stored, or not known to be.
        """
        if self.error is not None:
            raise renewed(self.error)
        base = self.base_offset
        offset = base + index if base >= 0 else OFFSET_UNKNOWN
        if self.deliver_at_us is None:
            return Receipt(self.topic, self.partition, offset, self.append_ts_us, self.duplicate)
        return Receipt(
            self.target, self.partition, offset, self.append_ts_us, self.duplicate, scheduled=True
        )


class StoredRange(NamedTuple):
    """Records that follow each other in one partition."""

    partition: int
    base_offset: int
    count: int  # type: ignore[assignment] # the tuple method of that name gives way


class Receipts(Sequence[Receipt]):
    """What `publish_many` brought: a receipt per record, made when it is looked at.

    Attributes:
        topic: where the records went.
    """

    __slots__ = ("_batches", "_order", "_starts", "topic")

    def __init__(
        self,
        topic: str,
        batches: Sequence[Outgoing],
        order: Sequence[tuple[Outgoing, int]] | None = None,
    ) -> None:
        self.topic = topic
        self._batches = batches
        self._order = order
        """Per record (batch, index) where keys scattered them; None: in the order of batches."""
        starts, at = [], 0
        for batch in batches:
            starts.append(at)
            at += len(batch.values)
        self._starts = [*starts, at]

    @property
    def ranges(self) -> list[StoredRange]:
        """The stored runs of records; without keys in the order in which they were given."""
        return [
            StoredRange(each.partition, each.base_offset, len(each.values))
            for each in self._batches
            if each.error is None
        ]

    @property
    def errors(self) -> dict[int, BaseException]:
        """Position of a record -> why it is not stored, or not known to be; empty if all are."""
        if all(batch.error is None for batch in self._batches):
            return {}
        found = {}
        for position in range(len(self)):
            error = self._place(position)[0].error
            if error is not None:
                found[position] = error
        return found

    @property
    def scheduled(self) -> bool:
        """Whether the records wait for their time."""
        return bool(self._batches) and self._batches[0].deliver_at_us is not None

    def __len__(self) -> int:
        """How many records were handed over to the broker."""
        return self._starts[-1]

    @overload
    def __getitem__(self, position: int) -> Receipt: ...
    @overload
    def __getitem__(self, position: slice) -> list[Receipt]: ...

    def __getitem__(self, position: int | slice) -> Receipt | list[Receipt]:
        if isinstance(position, slice):
            return [self._receipt(each) for each in range(*position.indices(len(self)))]
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError("there are fewer receipts")
        return self._receipt(position)

    def __iter__(self) -> Iterator[Receipt]:
        return map(self._receipt, range(len(self)))

    def __repr__(self) -> str:
        return f"Receipts({len(self)} records in {len(self._batches)} batches of {self.topic!r})"

    def _receipt(self, position: int) -> Receipt:
        batch, index = self._place(position)
        return batch.receipt(index)

    def _place(self, position: int) -> tuple[Outgoing, int]:
        if self._order is not None:
            return self._order[position]
        number = bisect_right(self._starts, position) - 1
        return self._batches[number], position - self._starts[number]
