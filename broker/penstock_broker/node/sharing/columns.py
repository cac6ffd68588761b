"""The slot columns of the batches that a cursor passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from penstock.errors import CorruptBatch
from penstock.protocol.batch import FLAG_COMPACTED, Buffer, parse_header
from penstock.protocol.slots import read_slots

UNKNOWN: Final = 0x1_0000
"""The key of records in a batch without the column: they count as one key."""


class Columns(NamedTuple):
    """Slots of some records that follow one another."""

    keys: Sequence[int]
    """0: the record has no key."""
    tenants: Sequence[int]
    """0: the record has no tenant, or the batch does not say."""

    def behind(self, count: int) -> Columns:
        """Without the first of them."""
        return Columns(self.keys[count:], self.tenants[count:])


def read_columns(batch: Buffer | None, first: int, stop: int) -> Columns:
    """The slots of records [first, stop), which lie in one batch; None: it can't be read."""
    count = stop - first
    found, shares = [UNKNOWN] * count, [0] * count
    if batch is not None:
        header = parse_header(batch)
        if not header.flags & FLAG_COMPACTED:  # a compacted batch's positions are no offsets
            try:
                keys, tenants = read_slots(batch, header)
            except CorruptBatch:
                keys = tenants = None
            low = first - header.base_offset
            if keys is not None:
                found = keys[low : low + count].tolist()
            if tenants is not None:
                shares = tenants[low : low + count].tolist()
    return Columns(found, shares)
