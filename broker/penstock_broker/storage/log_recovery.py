"""Opening a partition's log from its segment files.

What the checkpoint vouches for is not read: start-up does not grow with the log. What lies behind
that is verified batch by batch and cut at the first that is not intact, since the WAL still has it.
Bytes that the checkpoint vouches for and that are not there are damage: named, refused, not cut.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock_broker.storage import layout
from penstock_broker.storage.files import File, sync_names
from penstock_broker.storage.index import SparseIndex
from penstock_broker.storage.log import LogContext, PartitionLog
from penstock_broker.storage.reads import Damage
from penstock_broker.storage.scan import Hole, walk
from penstock_broker.storage.segment import Segment


class LogPosition(NamedTuple):
    """What a checkpoint vouches for: the log up to here is synced."""

    start_offset: int = 0
    segment_base: int = 0
    segment_bytes: int = 0
    end_offset: int = 0
    last_index: int = 0
    max_time_us: int = 0
    """The newest append time."""


def open_log(gid: int, context: LogContext, durable: LogPosition | None) -> PartitionLog:
    """Recover one partition; without a checkpoint of it, all is read.

    Raises:
        OSError: a file can't be read.
    """
    durable = durable or LogPosition()
    log = PartitionLog(gid, context, durable.start_offset)
    names = context.files.list(layout.partition(gid))
    log.on_disk = bool(names)
    bases = layout.segment_bases(names)
    for base in layout.compact_bases(names):
        context.files.remove(layout.compact_file(gid, base))  # an unfinished rewrite
    sealed = [base for base in bases if base < durable.segment_base]
    tail = [base for base in bases if base >= durable.segment_base]
    following = [*sealed[1:], durable.segment_base]
    for base, end_offset in zip(sealed, following, strict=False):
        if end_offset > durable.start_offset:
            _adopt_sealed(log, context, base, end_offset)
        else:
            log.doomed.append(base)
    log.end_offset, log.last_index = durable.end_offset, durable.last_index
    log.last_append_ts_us = durable.max_time_us
    if durable.segment_bytes:
        _adopt_active(log, context, durable, present=durable.segment_base in tail)
        tail = [base for base in tail if base != durable.segment_base]
    _adopt_tail(log, context, tail)
    _check_start(log)
    log.vouched(durable.segment_base)
    return log


def _adopt_sealed(log: PartitionLog, context: LogContext, base: int, end_offset: int) -> None:
    segment = Segment(log.gid, base, 0)
    segment.size = context.files.open(segment.path).size()
    segment.end_offset = end_offset
    segment.synced = segment.size
    segment.sealed = segment.indexed = True
    segment.start = -segment.size
    log.size_bytes += segment.size
    log.adopt(segment)


def _adopt_active(
    log: PartitionLog, context: LogContext, durable: LogPosition, *, present: bool
) -> None:
    """The segment in which the checkpoint's position lies."""
    segment = Segment(log.gid, durable.segment_base, 0)
    if not present:
        context.files.make_directory(layout.partition(log.gid))
    file = context.files.open(segment.path, create=True)
    if not present:
        sync_names(context.files, layout.partition(log.gid))
    size = file.size() if present else 0
    if size < durable.segment_bytes:
        file.truncate(durable.segment_bytes)  # zeros; positions behind must stay right
    segment.file = file
    segment.index = SparseIndex()
    segment.size = segment.synced = segment.rows_from = durable.segment_bytes
    segment.next_row_at = segment.size
    segment.end_offset = durable.end_offset
    segment.last_index = durable.last_index
    segment.first_time_us = segment.max_time_us = durable.max_time_us
    log.adopt(segment)
    if size < durable.segment_bytes:
        _mark_short(log, context, segment, size)
    _read_on(log, context, segment, file)


def _mark_short(log: PartitionLog, context: LogContext, segment: Segment, size: int) -> None:
    """The file lost bytes that were durable: find out which offsets they held."""
    assert segment.file is not None, "the active segment is open"
    offset = segment.base_offset
    for piece in walk(segment.file, 0, size, offset, bodies=False):
        if isinstance(piece, Hole):
            log.mark_hole(segment, piece)
        else:
            offset = piece.next_offset
    missing = segment.size - size
    log.mark(Damage(offset, segment.end_offset, segment.path, size, missing))


def _adopt_tail(log: PartitionLog, context: LogContext, bases: list[int]) -> None:
    """Segments begun after the checkpoint, as far as they continue the log."""
    stale = False
    for base in bases:
        path = layout.segment_file(log.gid, base)
        if stale or base != log.end_offset:
            stale = True
            context.files.remove(path)
            continue
        if log.segments and not log.segments[-1].sealed:
            log.segments[-1].sealed = True
        segment = Segment(log.gid, base, 0)
        segment.index = SparseIndex()
        segment.file = context.files.open(path)
        log.names_durable = False
        log.adopt(segment)
        _read_on(log, context, segment, segment.file)
        if not segment.size:
            log.drop_newest()
            context.files.remove(path)
            stale = True


def _read_on(log: PartitionLog, context: LogContext, segment: Segment, file: File) -> None:
    """Verify what follows the durable part; cut what is not intact."""
    size = file.size()
    for piece in walk(file, segment.size, size, segment.end_offset):
        if isinstance(piece, Hole) or piece.log_index <= log.last_index:
            break
        segment.first_time_us = segment.first_time_us or piece.append_ts_us
        segment.extend(
            piece.end - piece.position,
            piece.base_offset,
            piece.next_offset,
            piece.log_index,
            piece.append_ts_us,
            context.config.index_interval_bytes,
        )
        log.last_index, log.end_offset = piece.log_index, piece.next_offset
        log.last_append_ts_us = max(log.last_append_ts_us, piece.append_ts_us)
    if segment.size < size:
        file.truncate(segment.size)
    segment.start = -segment.size
    log.size_bytes += segment.size


def _check_start(log: PartitionLog) -> None:
    """Offsets between the log's start and the first segment are missing."""
    first = log.bases[0] if log.bases else log.end_offset
    if log.start_offset < first:
        path = layout.segment_file(log.gid, log.start_offset)
        log.mark(Damage(log.start_offset, first, path, 0, 0))
