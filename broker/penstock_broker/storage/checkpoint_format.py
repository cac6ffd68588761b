"""The bytes of a checkpoint file.

A header block, then appends, each on a 4096-byte boundary: a head that counts its records, and the
records. A record is a group's latest state (hard state, applied index, how far its log is durable)
with or without a new blob of machine state. Every checksum starts from the place where the bytes
belong. The file's header says how long it was when it was written as a whole; what was appended
later is vouched for by a mark in the WAL.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.entries import HardState
from penstock_broker.storage.log_recovery import LogPosition

_FILE: Final = struct.Struct("<8sIIQQ")
_FILE_MAGIC: Final = b"PSCHECKP"
_VERSION: Final = 2
_PLACE: Final = struct.Struct("<QQ")
_U32: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<IIIHH15QII")
_RECORD_MAGIC: Final = 0x50435350  # "PSCP"

_APPEND: Final = struct.Struct("<IIII")
_APPEND_MAGIC: Final = 0x41435350  # "PSCA"
APPEND_BYTES: Final = _APPEND.size

DELETED: Final = 1
"""Flag: the group was deleted by a committed tombstone."""
HAS_BLOB: Final = 2
EMPTIED: Final = 4
"""Flag: the replica went elsewhere. Its log and state are void, its term and vote are not."""


class Record(NamedTuple):
    """A group's state as the checkpoint knows it."""

    gid: int
    flags: int = 0
    hard_state: HardState = (0, 0, 0)
    applied_index: int = 0
    applied_term: int = 0
    floor: int = 0
    """WAL flushes before this sequence are void for the group."""
    has_log: int = 0
    durable: LogPosition = LogPosition()
    promised_term: int = 0
    promised_index: int = 0
    """Of the last entry in an earlier life of the replica; see `RecoveredGroup.promised`."""
    blob_at: int = 0
    """Position of the blob in the file; 0 when there is none."""
    blob_length: int = 0
    blob_crc: int = 0

    @property
    def deleted(self) -> bool:
        return bool(self.flags & DELETED)

    @property
    def emptied(self) -> bool:
        return bool(self.flags & EMPTIED)


def file_header(number: int, base_length: int) -> bytes:
    body = _FILE.pack(_FILE_MAGIC, _VERSION, 0, number, base_length)
    return (body + _U32.pack(crc32c(body))).ljust(BLOCK, b"\0")


def parse_file_header(data: bytes, number: int) -> int | None:
    """The base length that the header names, or None when it is damaged."""
    body = data[: _FILE.size]
    if len(data) < _FILE.size + 4 or _U32.unpack_from(data, _FILE.size)[0] != crc32c(body):
        return None
    magic, version, _, found, length = _FILE.unpack(body)
    intact = magic == _FILE_MAGIC and version == _VERSION and found == number
    return int(length) if intact else None


def pack_append(records: int, length: int, number: int, at: int) -> bytes:
    """The head of an append: how many records follow, and their bytes."""
    rest = struct.pack("<II", records, length)
    return struct.pack("<II", _APPEND_MAGIC, crc32c(rest, _place(number, at))) + rest


def parse_append(data: bytes, at: int, number: int) -> tuple[int, int] | None:
    """(records, bytes of them) of the append at a position; None when its head is not intact."""
    if at + _APPEND.size > len(data):
        return None
    magic, crc, records, length = _APPEND.unpack_from(data, at)
    if magic != _APPEND_MAGIC or crc32c(data[at + 8 : at + 16], _place(number, at)) != crc:
        return None
    return records, length


def _place(number: int, at: int) -> int:
    """What a record's checksum starts from: a record is valid only where it was written."""
    return crc32c(_PLACE.pack(number, at))


def pack_record(record: Record, blob: bytes | None, number: int, at: int) -> bytes:
    """A record and, unless it is None, a new blob; for a position of a checkpoint file."""
    flags = record.flags & ~HAS_BLOB | (HAS_BLOB if blob is not None else 0)
    blob = blob or b""
    fields = (
        record.gid,
        flags,
        0,
        *record.hard_state,
        record.applied_index,
        record.applied_term,
        record.floor,
        record.has_log,
        *record.durable,
        record.promised_term,
        record.promised_index,
        len(blob),
        crc32c(blob),
    )
    rest = _RECORD.pack(_RECORD_MAGIC, 0, *fields)[8:]
    crc = crc32c(rest, _place(number, at))
    return struct.pack("<II", _RECORD_MAGIC, crc) + rest + blob


def parse_record(data: bytes, at: int, number: int) -> tuple[Record, int] | None:
    """The record at a position of a file and where it ends; None when its header is not intact.

    The blob is only located: `blob_is_intact` checks it.
    """
    if at + _RECORD.size > len(data):
        return None
    magic, crc, gid, flags, _, *fields, length, blob_crc = _RECORD.unpack_from(data, at)
    if (
        magic != _RECORD_MAGIC
        or crc32c(data[at + 8 : at + _RECORD.size], _place(number, at)) != crc
    ):
        return None
    term, vote, commit, applied, applied_term, floor, has_log = fields[:7]
    promised_term, promised_index = fields[-2:]
    blob_at = at + _RECORD.size if flags & HAS_BLOB else 0
    record = Record(
        gid,
        flags,
        (term, vote, commit),
        applied,
        applied_term,
        floor,
        has_log,
        LogPosition._make(fields[7:-2]),
        promised_term,
        promised_index,
        blob_at,
        length,
        blob_crc,
    )
    return record, at + _RECORD.size + length


def blob_is_intact(data: bytes, record: Record) -> bool:
    blob = data[record.blob_at : record.blob_at + record.blob_length]
    return len(blob) == record.blob_length and crc32c(blob) == record.blob_crc
