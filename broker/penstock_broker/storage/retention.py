"""Which segments are past their time or too many.

Whole segments only, except that a log whose newest batch is past its time goes as a whole: the last
segment's file then stays until the log grows again, but nobody reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_broker.storage.log import PartitionLog


def by_time(log: PartitionLog, oldest_us: int) -> int:
    """The offset up to which all batches were appended before a time."""
    point = 0
    for segment in log.segments:
        if segment.sealed and not segment.max_time_us:
            log.index_of(segment)  # loads the segment's times
        newest = segment.max_time_us if segment.sealed else log.last_append_ts_us
        if newest >= oldest_us:
            break
        point = segment.end_offset
    return point


def by_size(log: PartitionLog, limit: int) -> int:
    """The offset from which on the log has at least `limit` bytes, and no segment too many."""
    left, point = log.size_bytes, 0
    for segment in log.segments[:-1]:
        left -= segment.size
        if left < limit:
            break
        point = segment.end_offset
    return point
