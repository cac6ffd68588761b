"""Building the batches that carry moved records: whole batches unopened, others record by record.

Values, keys, headers, times and slots stay as they were. A record without a time of its own gets
the one at which it is appended again, unless the batch says otherwise (`Item.time_ms`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from penstock.protocol.batch import (
    CODEC_BITS,
    EXT_DELIVER_AT,
    EXT_TRACE_ID,
    HEADER_BYTES,
    Buffer,
    extensions,
    parse_header,
    seal,
)
from penstock.protocol.encoding import TIMESTAMP_SPAN_MS_MAX, encode_batch
from penstock.protocol.extensions import pack_extensions
from penstock.protocol.records import RecordBatch

RECORDS_MAX: Final = 1_000
BYTES_MAX: Final = 1 << 20

_KEY_SLOTS: Final = attrgetter("key_slots")
_TENANT_SLOTS: Final = attrgetter("tenant_slots")


class Item(NamedTuple):
    """A record to be moved, and what is added to it."""

    sequence: int
    batch: RecordBatch | None
    """None: it can't be read any more; what is added goes alone."""
    place: int
    """Of the record in the batch."""
    buffer: Buffer
    """The batch's bytes."""
    time_ms: int = -1
    """Its time; -1: it has none of its own."""
    headers: Mapping[str, bytes] = {}
    """Added to the record's own."""
    deliver_at_us: int = 0
    """Until when it is to wait where it goes; 0: it is not."""

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        added = sum(map(len, self.headers.values()))
        return len(self.buffer) // (len(self.batch) if self.batch else 1) + added + 32

    @property
    def shape(self) -> tuple[bool, int, bool, int]:
        """What must be equal for all records of a batch: columns, and whether there is a record."""
        flags = self.batch.header.flags if self.batch is not None else 0
        return self.time_ms >= 0, flags, self.batch is not None, self.deliver_at_us


class Load:
    """Items that go into one batch: alike, of sequence numbers that follow one another."""

    __slots__ = ("_earliest", "_latest", "items", "size", "target")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.target = 0
        self.size = 0
        self._earliest = self._latest = 0

    def take(self, item: Item, target: int) -> bool:
        """Add an item for a target; False: it does not go with the others."""
        items, time_ms = self.items, max(item.time_ms, 0)
        if not items:
            self.target = target
            self._earliest = self._latest = time_ms
        elif (
            len(items) >= RECORDS_MAX
            or self.target != target
            or self.size + item.size > BYTES_MAX
            or items[-1].sequence + 1 != item.sequence
            or items[-1].shape != item.shape
        ):
            return False
        earliest, latest = min(self._earliest, time_ms), max(self._latest, time_ms)
        if latest - earliest > TIMESTAMP_SPAN_MS_MAX:
            return False
        self._earliest, self._latest = earliest, latest
        items.append(item)
        self.size += item.size
        return True


def compose(items: Sequence[Item], producer_id: int) -> bytearray:
    """One unstamped batch of items that go together.

    Raises:
        RecordTooLarge: it would be larger than a batch can be.
    """
    first = items[0].batch
    whole = first is not None and len(items) == first.header.record_count
    if whole and all(
        item.batch is first and item.place == place and not item.headers
        for place, item in enumerate(items)
    ):
        return forward(items[0].buffer, producer_id, items[0].sequence, items[0].deliver_at_us)
    batches = [item.batch for item in items]
    codecs = [batch.header.codec & CODEC_BITS for batch in batches if batch is not None]
    return encode_batch(
        [item.batch.values[item.place] if item.batch is not None else None for item in items],
        [item.batch.keys[item.place] if item.batch is not None else None for item in items],
        [item.time_ms for item in items] if items[0].time_ms >= 0 else None,
        [
            {**item.batch.headers[item.place], **item.headers} if item.batch else item.headers
            for item in items
        ],
        codec=max(codecs, default=0),
        producer_id=producer_id,
        base_sequence=items[0].sequence,
        deliver_at_us=items[0].deliver_at_us or None,
        key_slots=_slots(items, _KEY_SLOTS),
        tenant_slots=_slots(items, _TENANT_SLOTS),
        trusted_headers=True,
    )


def forward(
    buffer: Buffer, producer_id: int, base_sequence: int, deliver_at_us: int = 0
) -> bytearray:
    """A batch as it was, under another producer; of its extension fields the trace id stays."""
    header = parse_header(buffer)
    trace_id = extensions(buffer, header).get(EXT_TRACE_ID)
    made = bytearray(HEADER_BYTES)
    if deliver_at_us:
        made += pack_extensions([(EXT_DELIVER_AT, deliver_at_us.to_bytes(8, "little"))])
    if trace_id is not None:
        made += pack_extensions([(EXT_TRACE_ID, trace_id)])
    ext_len = len(made) - HEADER_BYTES
    made += memoryview(buffer)[HEADER_BYTES + header.ext_len :]
    seal(
        made,
        count=header.record_count,
        codec=header.codec & CODEC_BITS,
        flags=header.flags,
        ext_len=ext_len,
        raw_len=header.raw_len,
        producer_id=producer_id,
        base_sequence=base_sequence,
        base_ts_us=header.base_ts_us,
        max_ts_delta_ms=header.max_ts_delta_ms,
    )
    return made


def _slots(
    items: Sequence[Item], column: Callable[[RecordBatch], Sequence[int] | None]
) -> list[int] | None:
    """The slots of all records; None: they have none."""
    found: list[int] = []
    last: RecordBatch | None = None
    slots: Sequence[int] | None = None
    for item in items:
        if item.batch is None:
            return None
        if item.batch is not last:
            last, slots = item.batch, column(item.batch)
        if slots is None:
            return None
        found.append(slots[item.place])
    return found
