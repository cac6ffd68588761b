"""Reading the WAL back after a stop of any kind.

A flush counts when it is whole and belongs to this use of its file. Flushes form a chain of
sequences; the last one says from where on the chain is needed. A sequence missing inside that range
is damage of acknowledged bytes: it is named and nothing is cut. What follows the last flush was
never acknowledged and is dropped: a torn tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.entries import HardState, StoredEntry, later_hard_state
from penstock_broker.storage.files import Buffer, Files, sync_file
from penstock_broker.storage.wal_bytes import WalBytes
from penstock_broker.storage.wal_files import WalFile
from penstock_broker.storage.wal_format import (
    FIRST_FLUSH,
    FLUSH,
    FLUSH_MAGIC,
    RUN_MARK,
    FlushHeader,
    RunHeader,
    parse_file_header,
    parse_flush,
    parse_runs,
    read_entries,
)


class Base(NamedTuple):
    """What the checkpoint holds of a group: the WAL is needed only beyond it."""

    applied: int
    floor: int = 0
    """Flushes before this sequence are void: the group's log was replaced by a snapshot."""
    deleted: bool = False


_NOTHING = Base(0)


@dataclass(slots=True)
class ReplayedGroup:
    """A group's Raft log above its checkpoint."""

    hard_state: HardState = (0, 0, 0)
    entries: list[StoredEntry] = field(default_factory=list)
    truncations: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Replay:
    """All that the WAL says."""

    groups: dict[int, ReplayedGroup] = field(default_factory=dict)
    used: list[WalFile] = field(default_factory=list)
    """Files that hold needed flushes, in order of their sequences."""
    unused: list[WalFile] = field(default_factory=list)
    sequence: int = 0
    """Of the last flush."""
    oldest: int = 0
    crc: int = 0
    sealed: bool = True
    """Whether the last flush is an empty one, or there is none."""
    torn: tuple[str, int] | None = None
    """File and position of a flush that was cut off by the stop."""


class WalScan(NamedTuple):
    """One file as it was found."""

    file: WalFile
    bytes: WalBytes
    flushes: list[FlushHeader]
    runs: dict[int, list[tuple[RunHeader, int]]]
    """Flush's position -> header of each of its runs, and the position of that one's entries."""
    readable: bool


class WalImage:
    """All WAL files as they were found, checked to be complete.

    Raises:
        CorruptData: acknowledged bytes are damaged or missing; the file, position and length are
            in the message.
        OSError: a file can't be read.
    """

    def __init__(self, files: Files) -> None:
        numbers = layout.wal_numbers(files.list(layout.WAL))
        self._scans = scans = [_scan_durable(files, number) for number in numbers]
        self._chain = chain_of(scans)
        self.last = self._chain[-1][0] if self._chain else None
        _check_chain(self._chain, scans)
        check_headers(scans, self.last.sequence if self.last else 0)
        self.mark: tuple[int, int] | None = None
        """(checkpoint file number, bytes of it that were durable)."""
        self._runs: list[tuple[RunHeader, int, WalScan]] = []
        self._read_runs()

    def _read_runs(self) -> None:
        for flush, scan in self._chain:
            for header, at in scan.runs[flush.position]:
                if header.flags & RUN_MARK:
                    self.mark = header.term, header.first
                    continue
                self._runs.append((header, at, scan))
                last = header.first + header.entry_count - 1 if header.entry_count else 0
                groups = scan.file.groups
                groups[header.gid] = max(groups.get(header.gid, 0), last)

    def replay(self, bases: Mapping[int, Base]) -> Replay:
        """The Raft log of each group above its checkpoint.

        Raises:
            CorruptData: entries that should be there are not.
        """
        replay = Replay()
        if self.last is not None:
            replay.sequence, replay.oldest = self.last.sequence, self.last.oldest
            replay.crc, replay.sealed = self.last.crc, not self.last.runs
        replay.torn = _find_torn(self._scans, replay.sequence + 1)
        _sort_files(replay, self._scans, self._chain)
        steps: dict[tuple[int, int], _Step] = {}
        for header, at, scan in self._runs:
            base = bases.get(header.gid, _NOTHING)
            if not base.deleted and header.origin >= base.floor:
                step = steps.setdefault((header.gid, header.origin), _Step())
                step.add(header, _entries(scan, header, at, base.applied))
        for gid, origin in sorted(steps):
            group = replay.groups.setdefault(gid, ReplayedGroup())
            steps[gid, origin].apply(group, origin)
        for gid, group in replay.groups.items():
            _check_entries(gid, group, bases.get(gid, _NOTHING).applied)
        return replay


def _entries(scan: WalScan, run: RunHeader, at: int, above: int) -> list[StoredEntry]:
    """A run's entries above an index; what lies below it is not read at all."""
    if run.first + run.entry_count <= above + 1:
        return []
    return read_entries(scan.bytes.piece(at, run.length), run, 0, above)


class _Step:
    """What one flush said of one group, put together from the flush and from copies of it.

    A copy may be a part, and the rest may lie elsewhere; within one step nothing truncates.
    """

    __slots__ = ("entries", "first", "hard_state")

    def __init__(self) -> None:
        self.hard_state: HardState = (0, 0, 0)
        self.first = 0
        self.entries: dict[int, StoredEntry] = {}

    def add(self, header: RunHeader, entries: list[StoredEntry]) -> None:
        state = header.term, header.vote, header.commit
        self.hard_state = later_hard_state(self.hard_state, state)
        if header.entry_count:
            self.first = min(self.first or header.first, header.first)
            self.entries.update((entry.index, entry) for entry in entries)

    def apply(self, group: ReplayedGroup, origin: int) -> None:
        """What starts at or below an index that the group has replaces the rest."""
        group.hard_state = later_hard_state(group.hard_state, self.hard_state)
        if not self.first:
            return
        if group.entries and group.entries[-1].index >= self.first:
            group.truncations.append((origin, self.first))
        while group.entries and group.entries[-1].index >= self.first:
            group.entries.pop()
        group.entries += [self.entries[index] for index in sorted(self.entries)]


def _scan_durable(files: Files, number: int) -> WalScan:
    """Scan after a sync, which makes sure that what is read now stays."""
    path = layout.wal_file(number)
    sync_file(files.open(path), path)
    return scan_file(files, number)


def scan_file(
    files: Files, number: int, each: Callable[[RunHeader, Buffer], None] | None = None
) -> WalScan:
    """Find every valid flush, reading piece by piece.

    Args:
        files: the data directory.
        number: the file's.
        each: told of every run, and of the bytes of its entries, which are valid meanwhile.

    Raises:
        OSError: the file can't be read.
    """
    handle = files.open(layout.wal_file(number))
    found = WalBytes(handle)
    header = parse_file_header(found.piece(0, FIRST_FLUSH), number)
    file = WalFile(files, number, header.nonce if header else 0, found.size)
    file.handle = handle
    file.prepared = header is not None
    scan = WalScan(file, found, [], {}, header is not None)
    at = FIRST_FLUSH
    while at < found.size:
        data = found.flush(at, header.nonce if header else None)
        flush = parse_flush(data, 0, header.nonce if header else None)
        if flush is None:
            at += BLOCK
            continue
        runs = parse_runs(data, flush)
        if each is not None:
            for run, begin in runs:
                each(run, data[begin : begin + run.length])
        scan.flushes.append(flush._replace(position=at, end=at + flush.end))
        scan.runs[at] = [(run, at + begin) for run, begin in runs]
        at += flush.end
    return scan


def chain_of(scans: Iterable[WalScan]) -> list[tuple[FlushHeader, WalScan]]:
    """The flushes that are still needed, in order, with the file of each."""
    found = [(flush, scan) for scan in scans if scan.readable for flush in scan.flushes]
    found.sort(key=lambda each: each[0].sequence)
    oldest = found[-1][0].oldest if found else 0
    return [each for each in found if each[0].sequence >= oldest]


def gaps(chain: list[tuple[FlushHeader, WalScan]], scans: list[WalScan]) -> Iterator[CorruptData]:
    """Where needed flushes are missing."""
    if not chain:
        return
    if chain[0][0].sequence != chain[-1][0].oldest:
        yield _missing(None, chain[0], scans)
    for before, after in pairwise(chain):
        follows = after[0].sequence == before[0].sequence + 1
        if not follows or after[0].previous_crc != before[0].crc:
            yield _missing(before, after, scans)


def _check_chain(chain: list[tuple[FlushHeader, WalScan]], scans: list[WalScan]) -> None:
    for gap in gaps(chain, scans):
        raise gap


def _missing(
    before: tuple[FlushHeader, WalScan] | None,
    after: tuple[FlushHeader, WalScan],
    scans: list[WalScan],
) -> CorruptData:
    """Name the bytes where flushes between two valid ones should be."""
    since = before[0].sequence + 1 if before else after[0].oldest
    places = _places(before, after, scans)
    crc = after[0].previous_crc  # tells a lost flush from a torn one that was made again
    place = max(places, key=lambda place: _likeness(place, since, crc))
    path, position, length = place.path, place.start, place.end - place.start
    return CorruptData(
        f"{path}: {length} bytes at {position} are damaged: acknowledged flushes from "
        f"{since} to {after[0].sequence - 1} can't be read",
        file=path,
        position=position,
        length=length,
        others=[(one.path, one.start, one.end - one.start) for one in places],
    )


class _Place(NamedTuple):
    """A range of bytes where missing flushes may have been; no scan: a file that is not there."""

    path: str
    start: int
    end: int
    scan: WalScan | None


def _places(
    before: tuple[FlushHeader, WalScan] | None,
    after: tuple[FlushHeader, WalScan],
    scans: list[WalScan],
) -> list[_Place]:
    """Where flushes between two valid ones may have been; the likelier first."""
    if before is not None and before[1] is after[1]:
        return [_place(after[1], before[0].end, after[0].position)]
    places: list[_Place] = []
    if after[0].position > FIRST_FLUSH:
        places.append(_place(after[1], FIRST_FLUSH, after[0].position))
    known = {scan.file.number for scan in scans}
    last = after[1].file.number
    first = before[1].file.number if before is not None else last - 2
    gone = [number for number in range(first + 1, last) if number > 0 and number not in known]
    places += [_Place(layout.wal_file(number), 0, FIRST_FLUSH, None) for number in gone]
    places += [_place(scan, 0, FIRST_FLUSH) for scan in scans if not scan.readable]
    if before is not None and before[0].end < before[1].file.size:
        places.append(_place(before[1], before[0].end, before[1].file.size))
    empty = [scan for scan in scans if scan.readable and not scan.flushes]
    places += [_place(scan, FIRST_FLUSH, scan.file.size) for scan in empty]
    if not places and before is not None:  # cut off exactly behind it
        return [_place(before[1], before[0].end, before[0].end + BLOCK)]
    return places or [_place(after[1], 0, FIRST_FLUSH)]


def _place(scan: WalScan, start: int, end: int) -> _Place:
    return _Place(scan.file.path, start, end, scan)


def _likeness(place: _Place, sequence: int, crc: int) -> int:
    """How much of a flush's header still looks as it should."""
    scan, at = place.scan, place.start
    if scan is None or at + FLUSH.size > scan.bytes.size:
        return 0
    magic, found_crc, nonce, found, *_ = FLUSH.unpack(scan.bytes.piece(at, FLUSH.size))
    marks = (magic == FLUSH_MAGIC, found_crc == crc, nonce == scan.file.nonce, found == sequence)
    return marks.count(True)


def check_headers(scans: list[WalScan], last_sequence: int) -> None:
    """A file without a header was never used, unless it holds a flush newer than all others."""
    for scan in scans:
        if not scan.readable and any(flush.sequence > last_sequence for flush in scan.flushes):
            raise CorruptData(
                f"{scan.file.path}: both copies of the header at 0 are damaged",
                file=scan.file.path,
                position=0,
                length=FIRST_FLUSH,
            )


def _find_torn(scans: list[WalScan], sequence: int) -> tuple[str, int] | None:
    """Where the flush `sequence` was begun, if its first bytes are there."""
    for scan in scans:
        if scan.readable:
            at = scan.flushes[-1].end if scan.flushes else FIRST_FLUSH
            head = scan.bytes.piece(at + 8, 16)
            if head == scan.file.nonce.to_bytes(8, "little") + sequence.to_bytes(8, "little"):
                return scan.file.path, at
    return None


def _sort_files(
    replay: Replay, scans: list[WalScan], chain: list[tuple[FlushHeader, WalScan]]
) -> None:
    for flush, scan in chain:
        if not scan.file.first_sequence:
            scan.file.first_sequence = flush.sequence
            replay.used.append(scan.file)
        scan.file.last_sequence = flush.sequence
        scan.file.position = flush.end
    replay.unused = [scan.file for scan in scans if not scan.file.first_sequence]


def _check_entries(gid: int, group: ReplayedGroup, applied: int) -> None:
    """Void entries may leave gaps on the way; none is left in the end."""
    for expected, entry in enumerate(group.entries, applied + 1):
        if entry.index != expected:
            raise CorruptData(
                f"group {gid}: entries {expected} to {entry.index - 1} are missing", group=gid
            )
