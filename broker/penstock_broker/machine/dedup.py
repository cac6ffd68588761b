"""What a partition remembers of batches that carry a dedup id: a window by time and by number.

As with producers, applied batches alone write the committed window; what the leader appended and
has not applied yet lies in an overlay that goes with the lead.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from penstock.protocol.batch import HEADER_BYTES, Buffer
from penstock.protocol.extensions import EXT_DEDUP_ID, parse_extensions
from penstock_broker.machine.producers import Duplicate

DEDUP_IDS_MAX: Final = 200_000
"""Ids per partition; beyond it the oldest goes before its time is over."""

DedupRow = tuple[bytes, int, int]
"""Id, base offset, append time: the snapshot's form."""


def dedup_id_of(batch: Buffer, ext_len: int) -> bytes:
    """The dedup id among a batch's extension fields; empty: it has none.

    Raises:
        CorruptBatch: the fields are malformed.
    """
    area = bytes(memoryview(batch)[HEADER_BYTES : HEADER_BYTES + ext_len])
    return parse_extensions(area).get(EXT_DEDUP_ID, b"")


class DedupWindow:
    """The dedup ids of one partition.

    Attributes:
        window_us: how long an id is remembered, by the log's own time; 0: not at all.
    """

    def __init__(self, window_us: int) -> None:
        self.window_us = window_us
        self._placed: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._overlay: dict[bytes, Duplicate] = {}
        self._now_us = 0

    def __len__(self) -> int:
        return len(self._placed)

    def check(self, id_: bytes, now_us: int) -> Duplicate | None:
        """Where the batch is already; None: it is new, or out of the window at `now_us`."""
        flight = self._overlay.get(id_)
        if flight is not None:
            return flight
        placed = self._placed.get(id_)
        if placed is None or placed[1] < now_us - self.window_us:
            return None
        return Duplicate(placed[0], placed[1], 0)

    def note_appended(self, id_: bytes, index: int, base_offset: int, append_ts_us: int) -> None:
        """The leader appended a batch that `check` let pass."""
        if self.window_us:
            self._overlay[id_] = Duplicate(base_offset, append_ts_us, index)

    def drop_overlay(self) -> None:
        """Forget what is in flight: the lead is lost."""
        self._overlay.clear()

    def apply(self, id_: bytes, base_offset: int, append_ts_us: int) -> None:
        """Remember a committed batch."""
        self._overlay.pop(id_, None)
        self._now_us = max(self._now_us, append_ts_us)
        self._placed.pop(id_, None)
        self._placed[id_] = (base_offset, self._now_us)
        self._forget()

    def configure(self, window_us: int) -> None:
        """Take another window."""
        self.window_us = window_us
        self._forget()

    def _forget(self) -> None:
        placed, limit = self._placed, self._now_us - self.window_us
        if not self.window_us:
            placed.clear()
        while placed:
            oldest = next(iter(placed.values()))
            if oldest[1] >= limit and len(placed) <= DEDUP_IDS_MAX:
                return
            placed.popitem(last=False)

    def rows(self) -> tuple[int, list[DedupRow]]:
        """Log time, and the window from the oldest id on."""
        return self._now_us, [(id_, *placed) for id_, placed in self._placed.items()]

    def restore(self, now_us: int, rows: list[DedupRow]) -> None:
        """Take over `rows`."""
        self._overlay.clear()
        self._now_us = now_us
        self._placed = OrderedDict((id_, (offset, ts)) for id_, offset, ts in rows)
