"""A store with one partition that is compacted, and what it should hold, kept in a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from penstock.protocol import batch
from penstock.protocol.record_batch import RecordBatch
from penstock.protocol.records import encode_batch
from penstock_broker.storage import Memory, PartitionLog, StorageConfig, StoredEntry
from penstock_broker.storage.files import Files
from penstock_broker.storage.lookup import read_now
from tests.storage.helpers import checkpoint, flush, open_store, settle

GID = 1
STATE = b"state"
TABLE = StorageConfig(
    wal_file_bytes=64 * 1024,
    flush_bytes_max=16 * 1024,
    segment_bytes=4 * 1024,
    index_interval_bytes=300,
    tail_bytes_max=2 * 1024,
    write_bytes=1024,
    reserve_bytes=0,
    scrub_bytes=1024,
)


@dataclass(frozen=True)
class Settings:
    """A topic's settings, as a log takes them."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 1 << 40
    cleanup: str = "compact"
    delete_retention_ms: int = 1


class Item(NamedTuple):
    """A record."""

    offset: int
    key: bytes | None
    value: bytes | None
    time_us: int


def fold(items: list[Item]) -> dict[bytes, bytes]:
    """The table that the records make."""
    table: dict[bytes, bytes] = {}
    for item in items:
        if item.key is None:
            continue
        if item.value is None:
            table.pop(item.key, None)
        else:
            table[item.key] = item.value
    return table


class Table:
    """A store, and all that was ever put into it."""

    def __init__(
        self, files: Files, config: StorageConfig = TABLE, settings: Settings | None = None
    ) -> None:
        self.files = files
        self.config = config
        self.settings = settings or Settings()
        self.items: list[Item] = []
        self.time_us = 1_000_000
        self.applied = 0
        self.open()

    def open(self) -> None:
        """Start on what is on the disk, as a node does."""
        self.store = open_store(self.files, self.config)
        self.log: PartitionLog = self.store.create_log(GID)
        self.log.configure(self.settings)
        group = self.store.recovered.get(GID)
        for entry in group.entries if group is not None else ():
            self.log.append(entry.data, batch.parse_header(entry.data))

    def reopen(self) -> None:
        """Stop without a word and start again."""
        self.store.close()
        self.open()

    def put(self, *pairs: tuple[bytes | None, bytes | None], codec: int = 0) -> None:
        """Append one batch of (key, value), durably."""
        keys = [key for key, _ in pairs]
        self.put_batch(encode_batch([value for _, value in pairs], keys, codec=codec), *pairs)

    def put_batch(self, data: bytearray, *pairs: tuple[bytes | None, bytes | None]) -> None:
        """Append a batch that was made by hand."""
        self.time_us += 1000
        index = self.store.wal.group(GID).next_index or 1
        offset = self.log.end_offset
        batch.stamp(data, batch.Kind.DATA, index, 1, 1, offset, self.time_us)
        self.store.append(GID, [StoredEntry(index, 1, 1, data)], None, index)
        flush(self.store)
        self.log.append(data, batch.parse_header(data))
        for at, (key, value) in enumerate(pairs):
            self.items.append(Item(offset + at, key, value, self.time_us))

    def save(self) -> None:
        """Have a checkpoint vouch for the log: only what lies before it is compacted."""
        checkpoint(self.store, [GID], STATE)
        flush(self.store)

    def work(self, ticks: int = 20) -> None:
        """Let time pass until what can wait was done."""
        for _ in range(ticks):
            self.store.tick()
            settle(self.store)

    def compact(self) -> None:
        """Seal what there is, and compact it."""
        self.save()
        self.work()

    def stored(self, from_offset: int | None = None) -> list[Item]:
        """All records that a reader gets, in order; the reads must follow each other."""
        offset = self.log.start_offset if from_offset is None else from_offset
        found: list[Item] = []
        while offset < self.log.end_offset:
            before = offset
            for each in self.batches_at(offset, 700):
                assert each.base_offset <= offset < each.next_offset
                each.skip_below(offset)
                times = each.timestamps_us
                found += map(Item, each.offsets, each.keys, each.values, times)
                offset = each.next_offset
            assert offset > before
        return found

    def batches_at(self, offset: int, max_bytes: int) -> list[RecordBatch]:
        """What one read brings."""
        return [
            RecordBatch(memoryview(buffer)[at : at + header.length])
            for buffer in read_now(self.log, offset, max_bytes)
            for at, header in batch.iterate(buffer)
        ]

    @property
    def compacted(self) -> list[Item]:
        """The stored records of segments that no longer change."""
        return [item for item in self.stored() if item.offset < self.log.durable_base]

    def check(self) -> None:
        """Nothing was invented, and the records still make the table that they made."""
        stored = self.stored()
        assert stored == sorted(stored)
        assert set(stored) <= set(self.items)
        live = [item for item in self.items if item.offset >= self.log.start_offset]
        assert fold(stored) == fold(live)
        assert [i for i in stored if i.key is None] == [i for i in live if i.key is None]
        assert not self.log.damages

    def segment_bytes(self) -> int:
        """Bytes of all segments."""
        assert isinstance(self.log.read(self.log.end_offset, 1), Memory)
        return self.log.size_bytes
