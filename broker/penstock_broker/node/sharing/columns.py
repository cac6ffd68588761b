"""The slot columns of the batches that a cursor passes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
    """0: the record has no tenant; empty: the batch does not say."""

    def behind(self, count: int) -> Columns:
        """Without the first of them."""
        return Columns(self.keys[count:], self.tenants[count:])


def read_columns(batch: Buffer | None, first: int, stop: int) -> Columns:
    """The slots of records [first, stop), which lie in one batch; None: it can't be read."""
    keys = tenants = None
    low = high = 0
    if batch is not None:
        header = parse_header(batch)
        low, high = first - header.base_offset, stop - header.base_offset
        if not header.flags & FLAG_COMPACTED:  # a compacted batch's positions are no offsets
            with suppress(CorruptBatch):
                keys, tenants = read_slots(batch, header)
    return Columns(
        [UNKNOWN] * (stop - first) if keys is None else keys[low:high].tolist(),
        [] if tenants is None else tenants[low:high].tolist(),
    )
