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

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.checkpoint_format import (
    Record,
    blob_is_intact,
    file_header,
    pack_record,
    parse_file_header,
    parse_record,
)
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.files import File, Files, sync_file, sync_names


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
    data = file.pread(file.size(), 0)
    vouched = parse_file_header(data, newest)
    if vouched is None:
        raise _damaged(path, 0, BLOCK)
    if mark is not None and mark[0] == newest:
        vouched = max(vouched, mark[1])
    return _parse(path, data, newest, vouched, file)


def _damaged(path: str, position: int, length: int) -> CorruptData:
    return CorruptData(
        f"{path}: {length} bytes at {position} are damaged",
        file=path,
        position=position,
        length=length,
    )


def _parse(path: str, data: bytes, number: int, vouched: int, file: File) -> Checkpoint:
    found = Checkpoint(number, BLOCK)
    at = end = BLOCK
    while at < len(data):
        padding = -at % BLOCK
        if padding and not any(data[at : at + min(padding, 4)]):
            at += padding  # of an append; it may be shorter than a record's magic
            continue
        parsed = parse_record(data, at)
        if parsed is None or (at >= vouched and not _blob_ok(data, parsed[0])):
            break
        _take(found, parsed[0])
        at = end = parsed[1]
        found.length = at + -at % BLOCK
    if found.length < vouched:
        raise _damaged(path, at, vouched - at)
    for gid, record in found.records.items():
        if not _blob_ok(data, record):
            raise _damaged(path, record.blob_at, record.blob_length)
        if record.blob_at:
            found.blobs[gid] = data[record.blob_at : record.blob_at + record.blob_length]
    if any(data[end:]):
        found.torn = True
        file.truncate(end)  # nothing of a torn append may be read after the next one
    return found


def _blob_ok(data: bytes, record: Record) -> bool:
    return not record.blob_at or blob_is_intact(data, record)


def _take(found: Checkpoint, record: Record) -> None:
    found.records[record.gid] = merge(found.records.get(record.gid), record)


def merge(old: Record | None, new: Record) -> Record:
    """A record without a blob keeps the one that the group has."""
    if new.blob_at or old is None or new.deleted:
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
    if file.size() > length:
        file.truncate(length)  # left by an append that met a full disk
    data, records = _encode(updates, length)
    file.pwrite([data], length)
    sync_file(file, path)
    return Write(number, length + len(data), records)


def rewrite_records(files: Files, number: int, updates: Iterable[Update]) -> Write:
    """Write a whole checkpoint file under a new number; it takes its name when it is durable."""
    new = layout.checkpoint_new(number)
    file = files.open(new, create=True)
    file.truncate(0)
    data, records = _encode(updates, BLOCK)
    length = BLOCK + len(data)
    file.pwrite([file_header(number, length), data], 0)
    sync_file(file, new)
    files.rename(new, layout.checkpoint_file(number))
    sync_names(files, layout.CHECKPOINT)
    return Write(number, length, records)


def _encode(updates: Iterable[Update], start: int) -> tuple[bytes, dict[int, Record]]:
    parts: list[bytes] = []
    records: dict[int, Record] = {}
    at = start
    for update in updates:
        packed = pack_record(update.record, update.blob)
        parsed = parse_record(packed, 0)
        assert parsed is not None, "a packed record parses"
        record = parsed[0]
        if record.blob_at:
            record = record._replace(blob_at=record.blob_at + at)
        records[record.gid] = record
        parts.append(packed)
        at += len(packed)
    parts.append(bytes(-at % BLOCK))
    return b"".join(parts), records


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
