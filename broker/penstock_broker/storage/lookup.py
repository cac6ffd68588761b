"""From a time to an offset: bisect the segments, then one interval of a sparse index."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptData
from penstock.protocol.batch import iterate, next_offset
from penstock_broker.storage import layout
from penstock_broker.storage.files import Buffer
from penstock_broker.storage.reads import Memory, unreadable

if TYPE_CHECKING:
    from penstock_broker.storage.log import PartitionLog
    from penstock_broker.storage.segment import Segment

_READ_BYTES: Final = 64 * 1024


def offset_at(log: PartitionLog, time_us: int) -> int:
    """See `PartitionLog.offset_at`."""
    at = bisect_left(log.segments, time_us, key=lambda segment: _newest(log, segment))
    if at == len(log.segments):
        return log.end_offset
    segment = log.segments[at]
    index = log.index_of(segment)
    offset = segment.base_offset
    if len(index):
        row = max(bisect_left(index.times, time_us) - 1, 0)
        offset = index.offsets[row]
    return _first_since(log, max(offset, log.start_offset), time_us)


def _newest(log: PartitionLog, segment: Segment) -> int:
    if not segment.sealed:
        return log.last_append_ts_us
    if not segment.max_time_us:
        log.index_of(segment)  # loads the segment's times
    return segment.max_time_us


def _first_since(log: PartitionLog, offset: int, time_us: int) -> int:
    while offset < log.end_offset:
        try:
            buffers = read_now(log, offset, _READ_BYTES)
        except CorruptData as error:
            following = error.detail.get("end_offset")
            if not isinstance(following, int):
                raise
            offset = following
            continue
        for buffer in buffers:
            for at, header in iterate(buffer):
                if header.append_ts_us >= time_us:
                    return max(header.base_offset, log.start_offset)
                whole = memoryview(buffer)[at : at + header.length]
                offset = max(offset, next_offset(whole, header))
    return log.end_offset


def read_now(log: PartitionLog, offset: int, max_bytes: int) -> list[Buffer]:
    """Read from RAM or, blocking, from the segment; errors as for `PartitionLog.read`."""
    found = log.read(offset, max_bytes)
    if isinstance(found, Memory):
        return found.buffers
    try:
        data = found.file.pread(found.length, found.position)
    except OSError as error:
        raise unreadable(layout.segment_file(log.gid, found.base_offset), error) from error
    return log.finish_read(found, data, offset, max_bytes)
