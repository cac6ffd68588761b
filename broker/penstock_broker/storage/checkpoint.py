"""The control checkpoint: per group, the state from which recovery starts.

One append-only file; a group's newest record counts. It is rewritten as a new file when most of it
is out of date, and the old one goes when the new one is durable. Invariants: a record is written
after the segments it vouches for were synced; bytes that the header or a mark in the WAL vouches
for are never cut away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.checkpoint_format import (
    APPEND_BYTES,
    Record,
    blob_is_intact,
    file_header,
    pack_append,
    pack_record,
    parse_append,
    parse_file_header,
    parse_record,
)
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.files import Files, sync_file, sync_names


class Update(NamedTuple):
    """A record to be written; without a blob the group keeps the one it has."""

    record: Record
    blob: bytes | None


@dataclass(slots=True)
class Checkpoint:
    """The newest checkpoint file and what is in it."""

    number: int = 0
    """0: there is no file yet."""
    length: int = 0
    """Where the next append goes."""
    records: dict[int, Record] = field(default_factory=dict)
    blobs: dict[int, bytes] = field(default_factory=dict)
    """Filled by loading, for recovery to hand out."""
    torn: bool = False

    @property
    def live_bytes(self) -> int:
        return sum(256 + record.blob_length for record in self.records.values())


def load_checkpoint(files: Files, mark: tuple[int, int] | None) -> Checkpoint:
    """Read the newest checkpoint file; `mark` is what the WAL vouches for.

    Raises:
        CorruptData: bytes that must be there are damaged; the message names them.
    """
    numbers = layout.checkpoint_numbers(files.list(layout.CHECKPOINT))
    newest = numbers[-1] if numbers else 0
    if mark is not None and newest < mark[0]:
        path = layout.checkpoint_file(mark[0])
        raise CorruptData(f"{path} is missing", file=path, position=0, length=mark[1])
    if not newest:
        return Checkpoint()
    path = layout.checkpoint_file(newest)
    file = files.open(path)
    sync_file(file, path)
    return parse_checkpoint(newest, file.pread(file.size(), 0), mark)


def parse_checkpoint(number: int, data: bytes, mark: tuple[int, int] | None) -> Checkpoint:
    """What the bytes of a checkpoint file say; errors as for `load_checkpoint`."""
    path = layout.checkpoint_file(number)
    vouched = parse_file_header(data, number)
    if vouched is None:
        raise _damaged(path, 0, BLOCK)
    if mark is not None and mark[0] == number:
        vouched = max(vouched, mark[1])
    return _parse(path, data, number, vouched)


def _damaged(path: str, position: int, length: int) -> CorruptData:
    return CorruptData(
        f"{path}: {length} bytes at {position} are damaged",
        file=path,
        position=position,
        length=length,
    )


def _parse(path: str, data: bytes, number: int, vouched: int) -> Checkpoint:
    found = Checkpoint(number, BLOCK)
    while found.length < len(data):
        at = found.length
        records, stop = _parse_append(data, at, number)
        if records is None or (at >= vouched and not all(_blob_ok(data, one) for one in records)):
            if at < vouched:
                raise _damaged(path, stop, vouched - stop)
            break
        for record in records:
            found.records[record.gid] = merge(found.records.get(record.gid), record)
        found.length = stop + -stop % BLOCK
    if found.length < vouched:
        raise _damaged(path, found.length, vouched - found.length)
    for gid, record in found.records.items():
        if not _blob_ok(data, record):
            raise _damaged(path, record.blob_at, record.blob_length)
        if record.blob_at:
            found.blobs[gid] = data[record.blob_at : record.blob_at + record.blob_length]
    found.torn = len(data) > found.length  # the next append goes over it
    return found


def _parse_append(data: bytes, at: int, number: int) -> tuple[list[Record] | None, int]:
    """The records of an append and where they end; None, and where they cease to make sense."""
    head = parse_append(data, at, number)
    if head is None:
        return None, at
    end = at + APPEND_BYTES + head[1]
    at += APPEND_BYTES
    records: list[Record] = []
    for _ in range(head[0]):
        parsed = parse_record(data, at, number)
        if parsed is None:
            return None, at
        records.append(parsed[0])
        at = parsed[1]
    return (records, at) if at == end else (None, at)


def _blob_ok(data: bytes, record: Record) -> bool:
    return not record.blob_at or blob_is_intact(data, record)


def merge(old: Record | None, new: Record) -> Record:
    """A record without a blob keeps the one that the group has."""
    if new.blob_at or old is None or new.deleted or new.emptied:
        return new
    return new._replace(blob_at=old.blob_at, blob_length=old.blob_length, blob_crc=old.blob_crc)


class Write(NamedTuple):
    """The outcome of writing: the file, where the next append goes, and the new records."""

    number: int
    length: int
    records: dict[int, Record]


def append_records(files: Files, number: int, length: int, updates: Iterable[Update]) -> Write:
    """Append to a checkpoint file and sync it; blocks.

    Raises:
        OSError: a write failed.
        StorageFailure: the sync failed.
    """
    path = layout.checkpoint_file(number)
    file = files.open(path)
    data, records = _encode(updates, number, length)
    file.pwrite([data], length)
    sync_file(file, path)
    return Write(number, length + len(data), records)


def rewrite_records(files: Files, number: int, updates: Iterable[Update]) -> Write:
    """Write a whole checkpoint file under a new number; it takes its name when it is durable."""
    new = layout.checkpoint_new(number)
    file = files.open(new, create=True)
    file.truncate(0)
    data, records = _encode(updates, number, BLOCK)
    length = BLOCK + len(data)
    file.pwrite([file_header(number, length), data], 0)
    sync_file(file, new)
    files.rename(new, layout.checkpoint_file(number))
    sync_names(files, layout.CHECKPOINT)
    return Write(number, length, records)


def _encode(updates: Iterable[Update], number: int, start: int) -> tuple[bytes, dict[int, Record]]:
    parts: list[bytes] = []
    records: dict[int, Record] = {}
    at = start + APPEND_BYTES
    for record, blob in updates:
        packed = pack_record(record, blob, number, at)
        parts.append(packed)
        if blob is not None:
            blob_at = at + len(packed) - len(blob)
            record = record._replace(blob_at=blob_at, blob_length=len(blob), blob_crc=crc32c(blob))
        records[record.gid] = record
        at += len(packed)
    head = pack_append(len(parts), at - start - APPEND_BYTES, number, start)
    return b"".join((head, *parts, bytes(-at % BLOCK))), records


def read_blobs(files: Files, checkpoint: Mapping[int, Record], number: int) -> dict[int, bytes]:
    """The live blobs, for a rewrite.

    Raises:
        CorruptData: a blob is damaged; the old file stays as it is.
    """
    path = layout.checkpoint_file(number)
    file = files.open(path)
    blobs: dict[int, bytes] = {}
    for gid, record in checkpoint.items():
        if record.blob_at:
            blob = file.pread(record.blob_length, record.blob_at)
            if not blob_is_intact(blob, record._replace(blob_at=0)):
                raise _damaged(path, record.blob_at, record.blob_length)
            blobs[gid] = blob
    return blobs
