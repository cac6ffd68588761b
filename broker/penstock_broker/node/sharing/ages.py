"""When records were appended, without opening them."""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptData
from penstock_broker.node.sharing.spans import Spans

if TYPE_CHECKING:
    from penstock_broker.storage import PartitionLog

_APPENDED_AT: Final = struct.Struct("<40xQ").unpack_from
"""The append time in a stamped batch's header."""


def appended_us(log: PartitionLog, offset: int) -> int:
    """When a record was appended; 0: it is not in the log, or its time is not known.

    Exact for what is in RAM; else a moment earlier, by at most an interval of the segment's index.
    """
    if not log.start_offset <= offset < log.end_offset:
        return 0
    tail = log.tail
    if len(tail) and offset >= tail.first_offset:
        return int(_APPENDED_AT(tail.buffers[bisect_right(tail.offsets, offset) - 1])[0])
    at = bisect_right(log.bases, offset) - 1
    if at < 0:
        return 0
    segment = log.segments[at]
    try:
        index = log.index_of(segment)
    except CorruptData:
        return 0
    row = bisect_right(index.offsets, offset) - 1
    time_us = index.times[row] if row >= 0 else 0
    return time_us or segment.first_time_us


def tail_ages(log: PartitionLog, spans: Spans, now_us: int) -> list[tuple[int, int]]:
    """(age in microseconds, records) of ascending spans, about batch by batch; exact in RAM."""
    offsets, buffers = log.tail.offsets, log.tail.buffers
    warm = log.tail.first_offset if len(log.tail) else log.end_offset
    found: list[tuple[int, int]] = []
    following, age_us, records = -1, 0, 0
    for first, count in spans:
        stop = first + count
        while first < stop:
            if first >= following:  # in another batch than the records before
                if records:
                    found.append((age_us, records))
                if first < warm:
                    age_us, following = now_us - appended_us(log, first), min(stop, warm)
                else:
                    at = bisect_right(offsets, first)
                    age_us = now_us - int(_APPENDED_AT(buffers[at - 1])[0])
                    following = offsets[at] if at < len(offsets) else log.end_offset
                records = 0
            records += min(stop, following) - first
            first = following
    if records:
        found.append((age_us, records))
    return found
