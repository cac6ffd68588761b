"""Reading the records of a batch: lazily, column by column.

Owns the view of a batch as records. Invariants: nothing is decoded before it is asked for, every
column is decoded at most once, and whatever a batch claims is checked against its bytes before
memory is taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import ge

from penstock.errors import CorruptBatch
from penstock.protocol import columns
from penstock.protocol.batch import (
    CODEC_BITS,
    CODEC_ZSTD,
    FLAG_COMPACTED,
    BatchHeader,
    Buffer,
    Kind,
    check_records,
    extensions,
    iterate,
    next_offset,
    parse_header,
    payload_start,
)
from penstock.protocol.batch import (
    verify as verify_batch,
)
from penstock.protocol.compression import decompress
from penstock.protocol.record import NO_HEADERS, Record
from penstock.protocol.slots import read_slots


class RecordBatch:
    """One batch of records over the buffer that holds it.

    With `verify` both checksums are compared first, which a batch that the leader has not stamped
    yet can't pass. The buffer must not change while the batch is in use. All columns have one item
    per record.

    Raises:
        CorruptBatch: here or at the first use of a column: the batch is damaged or malformed.
    """

    __slots__ = (
        "_buffer",
        "_headers",
        "_keys",
        "_offsets",
        "_parts",
        "_skip",
        "_timestamps",
        "_values",
        "header",
        "next_offset",
        "partition",
        "topic",
    )

    def __init__(
        self, buffer: Buffer, verify: bool = True, *, topic: str = "", partition: int = 0
    ) -> None:
        self.header: BatchHeader = verify_batch(buffer) if verify else parse_header(buffer)
        check_records(buffer, self.header)
        self.next_offset: int = next_offset(buffer, self.header)
        self.topic = topic
        self.partition = partition
        self._buffer = memoryview(buffer)
        self._skip = 0
        self._parts: dict[int, memoryview] | None = None
        self._values: list[bytes | None] | None = None
        self._keys: list[bytes | None] | None = None
        self._headers: list[Mapping[str, bytes]] | None = None
        self._offsets: Sequence[int] | None = None
        self._timestamps: list[int] | None = None

    @property
    def base_offset(self) -> int:
        """The first offset that the batch covers."""
        return self.header.base_offset

    @property
    def record_count(self) -> int:
        """How many records there are, without those that `skip_below` left out."""
        return self.header.record_count - self._skip

    def __len__(self) -> int:
        return self.header.record_count - self._skip

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records())

    def __repr__(self) -> str:
        size = self.header.length
        return f"RecordBatch({len(self)} records, {size} bytes, at {self.base_offset})"

    def records(self, topic: str | None = None, partition: int | None = None) -> list[Record]:
        """Make an object of every record."""
        parts = self._columns()
        return list(
            map(
                Record,
                repeat(self.topic if topic is None else topic),
                repeat(self.partition if partition is None else partition),
                self.offsets,
                self.timestamps_us if columns.TIMESTAMPS in parts else repeat(self._time()),
                self.values,
                self.keys if columns.KEYS in parts else repeat(None),
                self.headers if columns.HEADERS in parts else repeat(NO_HEADERS),
            )
        )

    def skip_below(self, offset: int) -> None:
        """Leave out just the records below an offset: a fetch answers with whole batches."""
        if offset <= self.base_offset and not self._skip:
            return
        if self.header.flags & FLAG_COMPACTED:
            skip = sum(each < offset for each in self._all_offsets())
        else:
            skip = min(max(offset - self.base_offset, 0), self.header.record_count)
        self._skip = skip
        self._values = self._keys = self._headers = self._offsets = self._timestamps = None

    @property
    def values(self) -> list[bytes | None]:
        """The values; None is a tombstone."""
        found = self._values
        if found is None:
            found = self._values = self._array(columns.VALUES, columns.BYTES_DECODER)
        return found

    @property
    def keys(self) -> list[bytes | None]:
        """The keys."""
        found = self._keys
        if found is None:
            if columns.KEYS in self._columns():
                found = self._array(columns.KEYS, columns.BYTES_DECODER)
            else:
                found = [None] * len(self)
            self._keys = found
        return found

    @property
    def headers(self) -> list[Mapping[str, bytes]]:
        """The headers."""
        found = self._headers
        if found is None:
            if columns.HEADERS in self._columns():
                decoded = self._array(columns.HEADERS, columns.HEADERS_DECODER)
                found = [each or NO_HEADERS for each in decoded]
            else:
                found = [NO_HEADERS] * len(self)
            self._headers = found
        return found

    @property
    def timestamps_us(self) -> list[int]:
        """The records' times in us since 1970: the producer's, else when they were appended."""
        found = self._timestamps
        if found is None:
            data = self._columns().get(columns.TIMESTAMPS)
            if data is None:
                found = [self._time()] * len(self)
            else:
                base = self.header.base_ts_us
                deltas = columns.decode_u32(data, self.header.record_count)
                found = [base + delta * 1000 for delta in deltas[self._skip :]]
            self._timestamps = found
        return found

    @property
    def offsets(self) -> Sequence[int]:
        """The offsets, ascending; with gaps if the batch was compacted."""
        found = self._offsets
        if found is None:
            found = self._all_offsets()
            if self._skip:
                found = found[self._skip :]
            self._offsets = found
        return found

    @property
    def key_slots(self) -> array[int] | None:
        """The key slots, if the producer sent them."""
        found = read_slots(self._buffer, self.header)[0]
        return None if found is None else found[self._skip :]

    @property
    def tenant_slots(self) -> array[int] | None:
        """The tenant slots, if the producer sent them."""
        found = read_slots(self._buffer, self.header)[1]
        return None if found is None else found[self._skip :]

    @property
    def extensions(self) -> dict[int, bytes]:
        """The extension fields: type -> bytes."""
        return extensions(self._buffer, self.header)

    def copy(self) -> RecordBatch:
        """The same batch on bytes of its own, so that the run it came in can be let go."""
        found = RecordBatch(
            bytes(self._buffer), verify=False, topic=self.topic, partition=self.partition
        )
        found._skip = self._skip
        return found

    def column_ids(self) -> frozenset[int]:
        """The ids of the columns that the payload has."""
        return frozenset(self._columns())

    def raw_payload(self) -> Buffer:
        """The payload's columns, decompressed."""
        payload = self._buffer[payload_start(self.header) :]
        if self.header.codec & CODEC_BITS == CODEC_ZSTD:
            return decompress(payload, self.header.raw_len)
        return payload

    def _time(self) -> int:
        header = self.header
        return header.append_ts_us if header.kind == Kind.DATA else header.base_ts_us

    def _columns(self) -> dict[int, memoryview]:
        if self._parts is None:
            parts = columns.split(self.raw_payload())
            if columns.VALUES not in parts:
                raise CorruptBatch("the batch has no values")
            if (columns.OFFSETS in parts) != bool(self.header.flags & FLAG_COMPACTED):
                raise CorruptBatch("a batch has offsets if and only if it was compacted")
            self._parts = parts
        return self._parts

    def _array(self, column: int, decoder: columns.ArrayDecoder[columns.T]) -> list[columns.T]:
        items = columns.decode_array(self._columns()[column], self.header.record_count, decoder)
        return items[self._skip :] if self._skip else items

    def _all_offsets(self) -> Sequence[int]:
        header = self.header
        if not header.flags & FLAG_COMPACTED:
            return range(header.base_offset, header.base_offset + header.record_count)
        deltas = columns.decode_u32(self._columns()[columns.OFFSETS], header.record_count)
        span = self.next_offset - header.base_offset
        if any(map(ge, deltas, [*deltas[1:], span])):
            raise CorruptBatch("the offsets of a compacted batch are out of order or its span")
        return [header.base_offset + delta for delta in deltas]


def read_batches(
    run: Buffer, verify: bool = True, *, topic: str = "", partition: int = 0, from_offset: int = 0
) -> Iterator[RecordBatch]:
    """The batches of records in a run of whole batches, from an offset on.

    Batches of other kinds and those without a record left are passed over; a cut last batch ends
    the run.

    Raises:
        CorruptBatch: the run or a batch is damaged.
    """
    view = memoryview(run)
    for at, header in iterate(view):
        if header.kind != Kind.DATA:
            continue
        batch = RecordBatch(view[at : at + header.length], verify, topic=topic, partition=partition)
        batch.skip_below(from_offset)
        if len(batch):
            yield batch
