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
    keys = tenants = None
    if batch is not None:
        header = parse_header(batch)
        if not header.flags & FLAG_COMPACTED:  # a compacted batch's positions are no offsets
            try:
                keys, tenants = read_slots(batch, header)
            except CorruptBatch:
                keys = tenants = None
            low = first - header.base_offset
            keys = keys[low : low + count] if keys is not None else None
            tenants = tenants[low : low + count] if tenants is not None else None
    return Columns(keys or (UNKNOWN,) * count, tenants or (0,) * count)
