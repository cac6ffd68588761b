"""Judging the spans of an op."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from penstock.errors import BadRequest, LimitExceeded
from penstock_broker.machine.commands import Refused, refuse
from penstock_broker.machine.sharing.ops import RECORDS_MAX, SPANS_MAX, Spans

OFFSET_MAX: Final = 1 << 62


def pairs(spans: Spans) -> Iterator[tuple[int, int]]:
    """First offset and end of each span."""
    for at in range(0, len(spans), 2):
        yield spans[at], spans[at] + spans[at + 1]


def check_spans(spans: Spans, end: int = OFFSET_MAX, one_by_one: bool = False) -> Refused | None:
    """Refuse spans that are no spans, reach beyond an end, or are too many.

    With `one_by_one` the records are limited too, since the op looks at each of them.
    """
    if len(spans) % 2:
        return refuse(BadRequest, "spans are pairs of a first offset and a count")
    if len(spans) > 2 * SPANS_MAX:
        return refuse(LimitExceeded, f"an op has at most {SPANS_MAX} spans")
    after = 0
    for at in range(0, len(spans), 2):
        first, count = spans[at], spans[at + 1]
        if first < after or count <= 0:
            return refuse(BadRequest, "spans are ascending and disjoint, none of them empty")
        after = first + count
    if after > end:
        return refuse(BadRequest, f"offset {after - 1} is beyond {end - 1}, the last known one")
    if one_by_one and sum(spans[1::2]) > RECORDS_MAX:
        return refuse(LimitExceeded, f"an op of this kind has at most {RECORDS_MAX} records")
    return None
