"""The bytes of a WAL file.

A file starts with two equal header blocks of 4096 bytes (two, so that one damaged block costs
nothing), then flushes, each on a 4096-byte boundary and padded with zeros:

    file header   magic, version, file number, nonce, crc
    flush         magic, crc of all that follows, nonce, sequence, oldest sequence still needed,
                  crc of the previous flush, number of runs, payload bytes | run | run | ...
    run           group, flags, hard state (term, vote, commit), first index, entries,
                  bytes, origin | entry batches, verbatim

A nonce is drawn for each use of a file, so what an earlier use left behind is never taken for a
flush. A run with fewer entries than the group had, starting at a lower index, truncates. A run that
was copied from a retired file names the sequence of its first flush as `origin` and takes its place
there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from crc32c import crc32c

from penstock.protocol.batch import HEADER
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.entries import StoredEntry
from penstock_broker.storage.files import Buffer

FIRST_FLUSH: Final = 2 * BLOCK
FLUSH_MAGIC: Final = 0x4C465350  # "PSFL"
_FILE_MAGIC: Final = b"PSWALFIL"
_VERSION: Final = 1

RUN_MARK: Final = 1
"""Not a group's entries: says how much of which checkpoint file is durable."""

_FILE: Final = struct.Struct("<8sIIQQ")
FLUSH: Final = struct.Struct("<IIQQQIIQ16x")
_U32: Final = struct.Struct("<I")


class FileHeader(NamedTuple):
    """Identity of one use of a WAL file."""

    number: int
    nonce: int


class FlushHeader(NamedTuple):
    """A valid flush and where it lies."""

    sequence: int
    oldest: int
    """The first sequence that recovery needs, as of this flush."""
    crc: int
    previous_crc: int
    runs: int
    position: int
    end: int
    """Position after the padding."""


class RunHeader(NamedTuple):
    """One group's part of a flush."""

    gid: int
    flags: int
    zero: int
    term: int
    vote: int
    commit: int
    first: int
    entry_count: int
    zero2: int
    length: int
    origin: int


RUN: Final = struct.Struct("<IHHQQQQIIQQ")
assert FLUSH.size == RUN.size == 64


def aligned(length: int) -> int:
    """Length rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


def file_header(number: int, nonce: int) -> bytes:
    """Both header blocks."""
    body = _FILE.pack(_FILE_MAGIC, _VERSION, 0, number, nonce)
    block = (body + _U32.pack(crc32c(body))).ljust(BLOCK, b"\0")
    return block + block


def parse_file_header(data: Buffer, number: int) -> FileHeader | None:
    """The header of file `number`, from whichever copy is intact; None when neither is."""
    for at in (0, BLOCK):
        body = bytes(data[at : at + _FILE.size])
        crc = bytes(data[at + _FILE.size : at + _FILE.size + 4])
        if len(crc) == 4 and _U32.unpack(crc)[0] == crc32c(body):
            magic, version, _, found, nonce = _FILE.unpack(body)
            if magic == _FILE_MAGIC and version == _VERSION and found == number:
                return FileHeader(number, nonce)
    return None


def pack_run(
    gid: int,
    flags: int,
    hard_state: tuple[int, int, int],
    first: int,
    count: int,
    length: int,
    origin: int,
) -> bytes:
    """A run header."""
    term, vote, commit = hard_state
    return RUN.pack(gid, flags, 0, term, vote, commit, first, count, 0, length, origin)


def seal_flush(
    parts: Sequence[Buffer], length: int, nonce: int, chain: tuple[int, int, int], runs: int
) -> tuple[bytes, int]:
    """The flush header over a payload, and the checksum in it.

    `chain` is (sequence, oldest sequence needed, checksum of the previous flush).
    """
    rest = FLUSH.pack(FLUSH_MAGIC, 0, nonce, *chain, runs, length)[8:]
    crc = crc32c(rest)
    for part in parts:
        crc = crc32c(part, crc)
    return struct.pack("<II", FLUSH_MAGIC, crc) + rest, crc


def parse_flush(data: Buffer, at: int, nonce: int | None) -> FlushHeader | None:
    """The flush at a position of a file's bytes, if it is whole and of this use of the file.

    Without a nonce any use will do.
    """
    if at + FLUSH.size > len(data):
        return None
    magic, crc, found, sequence, oldest, previous, runs, length = FLUSH.unpack_from(data, at)
    if magic != FLUSH_MAGIC or at + FLUSH.size + length > len(data):
        return None
    if nonce is not None and found != nonce:
        return None
    if crc32c(memoryview(data)[at + 8 : at + FLUSH.size + length]) != crc:
        return None
    end = at + aligned(FLUSH.size + length)
    return FlushHeader(sequence, oldest, crc, previous, runs, at, end)


def parse_runs(data: Buffer, flush: FlushHeader) -> list[tuple[RunHeader, int]]:
    """(header, position of its first entry) of each run; `origin` is filled in."""
    found: list[tuple[RunHeader, int]] = []
    at = flush.position + FLUSH.size
    for _ in range(flush.runs):
        run = RunHeader._make(RUN.unpack_from(data, at))
        if run.origin == 0:
            run = run._replace(origin=flush.sequence)
        found.append((run, at + RUN.size))
        at += RUN.size + run.length
    return found


def read_entries(data: Buffer, run: RunHeader, at: int, above: int) -> list[StoredEntry]:
    """Copy a run's entries with an index above `above` out of a file's bytes."""
    entries: list[StoredEntry] = []
    end = at + run.length
    while at < end:
        fields = HEADER.unpack_from(data, at)
        length = fields[1]
        if fields[6] > above:
            entries.append(
                StoredEntry(fields[6], fields[7], fields[3], bytearray(data[at : at + length]))
            )
        at += length
    return entries
