"""Gives up records that are older than their group allows, looked for once a second.

Only where records are delivered for the first time: a dead letter's age says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.machine.sharing.ops import Outdate
from penstock_broker.machine.sharing.state import DELAYED, FREE, SHARED
from penstock_broker.node.sharing.spans import Spans, flat, merged, without

if TYPE_CHECKING:
    from penstock_broker.node.sharing.dispatch import Dispatcher

LOOK_US: Final = 1_000_000
RECORDS_MAX: Final = 10_000
"""Records that are given up at once."""


class Aging:
    """The ages of one group's records."""

    __slots__ = ("_at_us", "_dispatcher")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._at_us = 0

    def tick(self, now_us: int) -> None:
        """Propose to give up what is too old."""
        group = self._dispatcher.group
        age_ms = group.settings.max_age_ms
        if age_ms < 0 or group.kind != SHARED or now_us < self._at_us:
            return
        self._at_us = now_us + LOOK_US
        log = self._dispatcher.shared.partition.log
        start = max(group.start, log.start_offset)
        if start >= log.end_offset:
            return
        try:
            stop = log.offset_at(now_us - age_ms * 1000)
        except PenstockError:
            return  # whoever acquires these records is told
        spans = self._idle(start, min(stop, start + group.settings.window_max))
        if spans:
            self._dispatcher.shared.offer(Outdate(group.name, flat(spans)), weight=9 * len(spans))

    def _idle(self, start: int, stop: int) -> Spans:
        """Some of the records that nobody has, and that nothing is read of at the moment."""
        window = self._dispatcher.group.window
        found: Spans = [
            (low, high - low)
            for state, _, low, high in window.pieces(start, stop)
            if state in (FREE, DELAYED)
        ]
        beyond = max(start, window.end)
        if beyond < stop:
            found.append((beyond, stop - beyond))
        claimed = self._dispatcher.claims()
        kept, room = [], RECORDS_MAX
        for first, count in without(merged(found), claimed):
            if room > 0:
                kept.append((first, min(count, room)))
                room -= count
        return kept
