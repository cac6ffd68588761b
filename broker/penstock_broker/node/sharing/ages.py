"""When records were appended, without opening them."""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptData

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


def tail_ages(log: PartitionLog, first: int, end: int, now_us: int) -> list[tuple[int, int]]:
    """(age in microseconds, records) of [first, end), batch by batch; exact for what is in RAM."""
    tail = log.tail
    found: list[tuple[int, int]] = []
    if not len(tail) or first < tail.first_offset:
        warm = min(end, tail.first_offset if len(tail) else end)
        found.append((now_us - appended_us(log, first), warm - first))
        first = warm
    if first >= end:
        return found
    offsets, buffers = tail.offsets, tail.buffers
    at, last = bisect_right(offsets, first) - 1, len(offsets) - 1
    while first < end:
        following = offsets[at + 1] if at < last else end
        stop = min(following, end)
        found.append((now_us - _APPENDED_AT(buffers[at])[0], stop - first))
        first = stop
        at += 1
    return found
