"""Which records `consume` and `tail` read: a span of offsets in each partition, then the records.

A span ends where the partition ended when the command began, unless the command follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from penstock.cli.positions import partitions_of, resolve
from penstock.cli.units import Position

if TYPE_CHECKING:
    from penstock import Record
    from penstock.protocol.messages import PartitionFigures
    from penstock.sync import Client

FETCH_RECORDS: Final = 1000
FETCH_SECONDS: Final = 1.0
TAIL_GROWTH: Final = 8

Choice = Callable[["Record"], bool]


@dataclass(frozen=True)
class Span:
    """Offsets of one partition: from `first` up to but without `end` (None: for ever).

    Reading begins at `first`, which lies in the partition; what is below `least` is left out.
    """

    first: int
    end: int | None
    least: int = 0


def span_of(figures: PartitionFigures, first: int, end: int | None, *, follow: bool) -> Span:
    """The span that lies in the partition; what was deleted or is still to come is left out."""
    low, high = figures.log_start_offset, figures.high_watermark
    start = min(max(first, low), high)
    if end is not None:
        return Span(start, end if follow else min(end, high), first)
    return Span(start, None if follow else high, first)


def plan(
    client: Client,
    topic: str,
    partition: int | None,
    *,
    start: Position,
    end: Position | None,
    follow: bool,
) -> dict[int, Span]:
    """Partition -> span between two positions."""
    figures = partitions_of(client, topic, partition)
    numbers = [p.partition for p in figures]
    firsts = resolve(client, topic, numbers, start)
    ends = resolve(client, topic, numbers, end) if end is not None else {}
    return {
        p.partition: span_of(p, firsts[p.partition], ends.get(p.partition), follow=follow)
        for p in figures
    }


def read(
    client: Client, topic: str, spans: Mapping[int, Span], *, most: int = FETCH_RECORDS
) -> Iterator[list[Record]]:
    """The records of the spans, in bunches of at most `most`; each partition in its order."""
    open_spans = {p: s for p, s in spans.items() if s.end is None or s.first < s.end}
    if not open_spans:
        return
    numbers = sorted(open_spans)
    first = open_spans[numbers[0]].first
    with client.subscribe(topic, partitions=numbers, start=first) as subscription:
        for number, span in open_spans.items():
            if span.first != first:
                subscription.seek(span.first, partition=number)
        while open_spans:
            bunch = subscription.fetch(max_records=most, wait=FETCH_SECONDS)
            yield [r for r in bunch if _within(spans[r.partition], r.offset)]
            position = subscription.position()[topic]
            done = [p for p, s in open_spans.items() if s.end is not None and position[p] >= s.end]
            for partition in done:
                del open_spans[partition]
                subscription.pause(partition=partition)


def _within(span: Span, offset: int) -> bool:
    return offset >= span.least and (span.end is None or offset < span.end)


def read_last(
    client: Client, topic: str, partition: int | None, count: int, choice: Choice
) -> tuple[list[Record], dict[int, int]]:
    """The last records that are chosen, oldest first, and the end of each partition.

    Looks at the last `count` of each partition, then further back until there are enough.
    """
    figures = partitions_of(client, topic, partition)
    ends = {p.partition: p.high_watermark for p in figures}
    window, found = count, list["Record"]()
    while count:
        spans = {
            p.partition: span_of(p, p.high_watermark - window, None, follow=False) for p in figures
        }
        found = [r for bunch in read(client, topic, spans) for r in bunch if choice(r)]
        whole = all(spans[p.partition].first <= p.log_start_offset for p in figures)
        if whole or len(found) >= count:
            break
        window *= TAIL_GROWTH
    found.sort(key=lambda record: (record.timestamp_us, record.partition, record.offset))
    return found[-count:] if count else [], ends
