"""From spans of offsets and batches of bytes to the records of a lease.

The broker never looks inside a batch, so its spans name offsets that compaction may have emptied;
these are acked here, since there is nothing to hand out. Records of a damaged batch fail, so that
the group's policy decides; offsets that no batch covers are given back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from penstock._core.sharing.kept import Extent
from penstock._core.sharing.shared_record import Portion
from penstock._core.sharing.verdicts import Grant
from penstock.errors import CorruptBatch
from penstock.protocol.leases import NACK, RELEASE, Span

if TYPE_CHECKING:
    from penstock._core.sharing.share import Share

DAMAGED: Final = "CorruptBatch"
DAMAGED_TEXT: Final = "the batch that holds this record is damaged"


class Cut:
    """What was found of the records of a lease.

    Attributes:
        portions: the records, in order.
        missing: how many were given back since no batch holds them.
        damaged: how many failed since their batch is damaged.
    """

    __slots__ = ("_grant", "_share", "damaged", "missing", "portions")

    def __init__(self, share: Share, grant: Grant) -> None:
        self._share = share
        self._grant = grant
        self.portions: list[Portion] = []
        self.missing = 0
        self.damaged = 0

    def spans(self, spans: Sequence[Span], extents: Sequence[Extent]) -> None:
        """Find the records of the spans in extents that are in the order of their offsets."""
        place = 0
        for span in spans:
            at, end = span.first, span.first + span.records
            while at < end:
                while place < len(extents) and extents[place].end <= at:
                    place += 1
                stop = end
                if place < len(extents):
                    extent = extents[place]
                    stop = min(end, extent.end if extent.base <= at else extent.base)
                if place < len(extents) and extents[place].base <= at:
                    self._extent(extents[place], at, stop, span)
                else:
                    self.missing += stop - at
                    self._grant.ledger.add(self._grant, at, stop, RELEASE)
                at = stop

    def fail(self, first: int, end: int) -> None:
        """Records turned out to be damaged."""
        self.damaged += end - first
        self._grant.ledger.add(self._grant, first, end, NACK, 0, DAMAGED, DAMAGED_TEXT)

    def _extent(self, extent: Extent, first: int, end: int, span: Span) -> None:
        batch, counters = extent.batch, span[2:]
        try:
            offsets = batch.offsets if batch is not None else ()
        except CorruptBatch:
            batch = None
        if batch is None:
            self.fail(first, end)
            return
        grant, at = self._grant, first
        for position, offset, count in _runs(offsets, first, end):
            if offset > at:
                grant.ledger.ack(grant, at, offset)
            self.portions.append(
                Portion(self._share, grant, batch, position, count, offset, counters)
            )
            at = offset + count
        if at < end:
            grant.ledger.ack(grant, at, end)


def _runs(offsets: Sequence[int], first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(position, offset, count) of each run of offsets without a gap within [first, end)."""
    if isinstance(offsets, range):
        yield first - offsets.start, first, end - first
        return
    at, stop = bisect_left(offsets, first), bisect_left(offsets, end)
    while at < stop:
        begin = at
        while at < stop and offsets[at] - at == offsets[begin] - begin:
            at += 1
        yield begin, offsets[begin], at - begin
