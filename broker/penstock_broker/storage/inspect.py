"""What lies in a data directory: looked at from outside, changing nothing and taking no lock.

A broker may run on the directory meanwhile. So only bytes that something durable vouches for can be
damaged: what lies behind them may be a write under way, or what a stop cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from penstock.errors import CorruptData, UnsupportedFormat
from penstock.protocol.batch import Kind, iterate
from penstock_broker.storage import layout
from penstock_broker.storage.checkpoint import parse_checkpoint
from penstock_broker.storage.checkpoint_format import Record
from penstock_broker.storage.files import Buffer, Files
from penstock_broker.storage.format import read_format
from penstock_broker.storage.identity import read_identity
from penstock_broker.storage.log_recovery import LogPosition
from penstock_broker.storage.scan import Hole, walk
from penstock_broker.storage.wal_format import RUN_MARK, RunHeader
from penstock_broker.storage.wal_recovery import WalScan, chain_of, check_headers, gaps, scan_file

_ATTEMPTS: Final = 3  # a running broker may write between the reads of two WAL files

Mark = tuple[int, int]
"""(number of a checkpoint file, how much of it is durable)."""


class Fault(NamedTuple):
    """Bytes of a file that do not say what was written."""

    position: int
    end: int
    what: str


@dataclass(slots=True)
class FileReport:
    """What one file holds."""

    file: str
    """Path within the data directory."""
    kind: str
    """"format", "identity", "wal", "checkpoint" or "segment"."""
    bytes: int = 0
    batches: int = 0
    """Of records: in a WAL file also those that segments hold as well."""
    records: int = 0
    entries: int = 0
    """Raft entries in a WAL file, groups in a checkpoint."""
    first_offset: int | None = None
    end_offset: int | None = None
    first_sequence: int | None = None
    """Of the flushes in a WAL file."""
    last_sequence: int | None = None
    damage: list[Fault] = field(default_factory=list)

    def note(self, error: CorruptData) -> None:
        """Add damage that was found as an error."""
        position, length = error.detail.get("position"), error.detail.get("length")
        start = position if isinstance(position, int) else 0
        end = start + length if isinstance(length, int) else self.bytes
        self.damage.append(Fault(start, end, str(error)))


def inspect_files(files: Files, *, bodies: bool = True) -> Iterator[FileReport]:
    """Look at every file of a data directory, one after the other.

    Without `bodies` the bodies of batches in segments are not read: fast, but it does not find a
    flipped bit in a record.
    """
    yield from _heads(files)
    reports, mark = _wal(files)
    yield from reports
    groups, reports = _checkpoints(files, mark)
    yield from reports
    yield from _segments(files, groups, bodies=bodies)


def _heads(files: Files) -> Iterator[FileReport]:
    """The two small files without which a broker doesn't start."""
    for path, kind, read in (
        (layout.FORMAT, "format", read_format),
        (layout.IDENTITY, "identity", read_identity),
    ):
        if not files.exists(path):
            continue
        report = FileReport(path, kind, files.open(path).size())
        try:
            read(files)
        except (CorruptData, UnsupportedFormat) as error:
            report.damage.append(Fault(0, report.bytes, str(error)))
        yield report


# ----- WAL


def _wal(files: Files) -> tuple[list[FileReport], Mark | None]:
    reports: list[FileReport] = []
    mark: Mark | None = None
    for _ in range(_ATTEMPTS):
        reports, mark = _read_wal(files)
        if not any(report.damage for report in reports):
            break
    return reports, mark


def _read_wal(files: Files) -> tuple[list[FileReport], Mark | None]:
    reports: dict[str, FileReport] = {}
    scans: list[WalScan] = []
    for number in layout.wal_numbers(files.list(layout.WAL)):
        path = layout.wal_file(number)
        report = FileReport(path, "wal")
        try:
            scans.append(scan_file(files, number, partial(_count_run, report)))
        except FileNotFoundError:
            continue  # retired meanwhile
        except OSError as error:
            report.damage.append(_unreadable(error))
        else:
            _count_wal(report, scans[-1])
        reports[path] = report
    chain = chain_of(scans)
    for gap in gaps(chain, scans):
        reports[str(gap.detail["file"])].note(gap)
    try:
        check_headers(scans, chain[-1][0].sequence if chain else 0)
    except CorruptData as error:
        reports[str(error.detail["file"])].note(error)
    marks = [
        (run.term, run.first)
        for flush, scan in chain
        for run, _ in scan.runs[flush.position]
        if run.flags & RUN_MARK
    ]
    return list(reports.values()), marks[-1] if marks else None


def _count_wal(report: FileReport, scan: WalScan) -> None:
    report.bytes = scan.bytes.size
    if scan.flushes:
        report.first_sequence = scan.flushes[0].sequence
        report.last_sequence = scan.flushes[-1].sequence


def _count_run(report: FileReport, run: RunHeader, data: Buffer) -> None:
    if run.flags & RUN_MARK:
        return
    report.entries += run.entry_count
    for _, header in iterate(memoryview(data)):
        if header.kind == Kind.DATA:
            report.batches += 1
            report.records += header.record_count


# ----- checkpoint


def _checkpoints(files: Files, mark: Mark | None) -> tuple[Mapping[int, Record], list[FileReport]]:
    """The groups of the newest checkpoint file, and a report of each file."""
    groups: Mapping[int, Record] = {}
    reports: list[FileReport] = []
    numbers = layout.checkpoint_numbers(files.list(layout.CHECKPOINT))
    for number in numbers:
        report = FileReport(layout.checkpoint_file(number), "checkpoint")
        try:
            file = files.open(report.file)
            data = file.pread(file.size(), 0)
            report.bytes = len(data)
            if number == numbers[-1]:  # an older one is about to be removed
                groups = parse_checkpoint(number, data, mark).records
                report.entries = len(groups)
        except FileNotFoundError:
            continue
        except OSError as error:
            report.damage.append(_unreadable(error))
        except CorruptData as error:
            report.note(error)
        reports.append(report)
    if mark is not None and mark[0] > max(numbers, default=0):
        path = layout.checkpoint_file(mark[0])
        reports.append(FileReport(path, "checkpoint", damage=[Fault(0, mark[1], "missing")]))
    return groups, reports


# ----- segments


def _segments(files: Files, groups: Mapping[int, Record], *, bodies: bool) -> Iterator[FileReport]:
    found = layout.group_ids(files.list(layout.PARTITIONS))
    known = [gid for gid, record in groups.items() if record.has_log]
    for gid in sorted({*found, *known}):
        record = groups.get(gid, Record(gid))
        if not record.deleted:
            yield from _partition(files, gid, record.durable, bodies=bodies)


def _partition(
    files: Files, gid: int, durable: LogPosition, *, bodies: bool
) -> Iterator[FileReport]:
    bases = layout.segment_bases(files.list(layout.partition(gid)))
    if durable.segment_bytes and durable.segment_base not in bases:
        bases = sorted([*bases, durable.segment_base])
    for base, following in zip(bases, [*bases, None][1:], strict=True):
        if base < durable.segment_base:
            vouched, end_offset = None, following
        else:
            at = base == durable.segment_base
            vouched, end_offset = (durable.segment_bytes, durable.end_offset) if at else (0, None)
        if end_offset is not None and end_offset <= durable.start_offset:
            vouched, end_offset = 0, None  # trimmed: the file is about to go
        report = _segment(files, gid, base, vouched, end_offset, bodies=bodies)
        if report is not None:
            yield report


def _segment(
    files: Files,
    gid: int,
    base: int,
    vouched: int | None,
    end_offset: int | None,
    *,
    bodies: bool,
) -> FileReport | None:
    """Walk a segment; the first `vouched` bytes must be intact (None: all) up to `end_offset`."""
    report = FileReport(layout.segment_file(gid, base), "segment")
    try:
        offset = _walk_segment(files, report, base, vouched, end_offset, bodies=bodies)
    except FileNotFoundError:
        if not vouched:
            return None  # removed meanwhile
        report.damage.append(Fault(0, vouched, "the file is missing"))
        return report
    except OSError as error:
        report.damage.append(_unreadable(error))
        return report
    report.first_offset, report.end_offset = base, offset
    if end_offset is not None and offset < end_offset and not report.damage:
        what = f"offsets {offset} to {end_offset - 1} are missing"
        report.damage.append(Fault(report.bytes, report.bytes, what))
    return report


def _walk_segment(
    files: Files,
    report: FileReport,
    base: int,
    vouched: int | None,
    end_offset: int | None,
    *,
    bodies: bool,
) -> int:
    """Count what a segment holds, note what is damaged; returns the offset at which it ends."""
    file = files.open(report.file)
    report.bytes = size = file.size()
    limit = size if vouched is None else vouched
    if size < limit:
        report.damage.append(Fault(size, limit, f"{limit - size} bytes are missing"))
    offset = base
    for piece in walk(file, 0, size, base, bodies=bodies):
        if isinstance(piece, Hole):
            if piece.position < limit:
                report.damage.append(_fault(piece, end_offset))
            offset = piece.next_offset if piece.next_offset is not None else offset
            continue
        report.batches += 1
        report.records += piece.records
        offset = piece.next_offset
    return offset


def _fault(hole: Hole, end_offset: int | None) -> Fault:
    following = hole.next_offset if hole.next_offset is not None else end_offset
    last = "" if following is None else f" to {following - 1}"
    return Fault(hole.position, hole.end, f"offsets {hole.base_offset}{last} can't be read")


def _unreadable(error: OSError) -> Fault:
    return Fault(0, 0, f"the file can't be read: {error}")
