"""Records that came into a cursor's view: the phase of each, its slots, and the lines of keys.

Everything is an array from offset `base` on, a few bytes a record. A key's records stand in line:
`_follow` says how far behind each record the next of its key lies, `_tails` where each key's line
ends; a line ends where nothing of its key is unsettled. A record without a key stands in no line.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from operator import add
from typing import Final

from penstock_broker.node.sharing.columns import Columns
from penstock_broker.node.sharing.spans import Spans, long_runs_of, runs_of, total

PARKED: Final = 0
"""Behind an unsettled record of its key."""
READY: Final = 1
"""Waits for its turn; what limits say is asked when its turn comes."""
ADMITTED: Final = 2
"""Waits for its turn; its limit counts it already."""
LIMITED: Final = 3
"""Waits for its key's or tenant's limit."""
OUT: Final = 4
"""Taken or leased."""
AWAY: Final = 5
"""Delayed, moving or held: it keeps its key's line waiting, and counts for no limit."""
GONE: Final = 6
"""Settled."""
BEHIND: Final = 7
"""As PARKED, but not FREE: moving, or granted when there was no order."""
IN_LINE: Final = frozenset((PARKED, BEHIND))
_BLOCKS: Final = ("key", "", "", "limit", "", "", "", "key")
"""What keeps a record of each phase from being delivered."""


class View:
    """The records from `base` to `end`.

    Attributes:
        base: the first offset.
        phases: of each record.
        keys: key slots; 0: no key.
        tenants: tenant slots; 0: no tenant.
    """

    __slots__ = ("_follow", "_ordered", "_tails", "base", "keys", "phases", "tenants")

    def __init__(self, base: int, ordered: bool) -> None:
        self.base = base
        self.phases = bytearray()
        self.keys = array("I")
        self.tenants = array("I")
        self._ordered = ordered
        self._follow = array("I")
        self._tails: dict[int, int] = {}

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.base + len(self.phases)

    @property
    def has_lines(self) -> bool:
        """Whether a key has something unsettled."""
        return bool(self._tails)

    def phase(self, offset: int) -> int:
        """The phase of any record; GONE if it is not in view."""
        at = offset - self.base
        return self.phases[at] if 0 <= at < len(self.phases) else GONE

    def put(self, offset: int, phase: int) -> None:
        """Change the phase of a record in view."""
        self.phases[offset - self.base] = phase

    def all_out(self, first: int, count: int) -> bool:
        """Whether records that follow one another are in view and OUT."""
        low = first - self.base
        return low >= 0 and self.phases.count(OUT, low, low + count) == count

    def change(self, spans: Spans, old: int, new: int) -> Spans:
        """Take those of some records that are in one phase to another; returns them."""
        phases, base, changed = self.phases, self.base, []
        byte = bytes((new,))
        for first, count in spans:
            low, high = first - base, first - base + count
            if low >= 0 and phases.count(old, low, high) == count:
                phases[low:high] = byte * count
                changed.append((first, count))
                continue
            low, high = max(low, 0), min(high, len(phases))
            for begin, length in runs_of(at for at in range(low, high) if phases[at] == old):
                phases[begin : begin + length] = byte * length
                changed.append((base + begin, length))
        return changed

    # ----- what comes into view

    def extend(self, columns: Columns) -> None:
        """Records come into view: PARKED if there is an order, else READY."""
        count = len(columns.keys)
        self.keys.extend(columns.keys)
        if columns.tenants:
            self.tenants.extend(columns.tenants)
        else:
            self.tenants.frombytes(bytes(4 * count))
        self.phases += bytes((PARKED if self._ordered else READY,)) * count
        self._follow.frombytes(bytes(4 * count))

    def line_up(self, first: int, keys: Sequence[int]) -> Spans:
        """Let new records stand in line; returns those that are first in theirs, READY."""
        tails, follow, phases, base = self._tails, self._follow, self.phases, self.base
        heads: list[int] = []
        head, last_of = heads.append, tails.setdefault
        for offset, key in enumerate(keys, first):
            if not key:
                head(offset)
                continue
            last = last_of(key, offset)
            if last == offset:
                head(offset)
            else:
                follow[last - base] = offset - last
                tails[key] = offset
        runs = long_runs_of(heads)
        for begin, count in runs:
            phases[begin - base : begin - base + count] = bytes((READY,)) * count
        return runs

    def stand(self, offset: int) -> bool:
        """Let one record stand in line; whether it is the first."""
        key = self.keys[offset - self.base]
        if not self._ordered or not key:
            return True
        last = self._tails.setdefault(key, offset)
        if last == offset:
            return True
        self._follow[last - self.base] = offset - last
        self._tails[key] = offset
        return False

    # ----- what is settled

    def behind(self, offset: int) -> int:
        """The record that is first in line when this one is settled; -1: none, or not yet."""
        base, follow, phases = self.base, self._follow, self.phases
        key = self.keys[offset - base]
        if not self._ordered or not key:
            return -1
        distance = follow[offset - base]
        while distance:
            offset += distance
            if phases[offset - base] in IN_LINE:
                return offset
            if phases[offset - base] != GONE:
                return -1  # granted when there was no order; the line goes on behind it
            distance = follow[offset - base]
        if self._tails.get(key) == offset:
            del self._tails[key]
        return -1

    def settle(self, spans: Spans) -> tuple[Spans, list[int]]:
        """Records that were OUT are GONE, all of them.

        Returns:
            Those behind them that are READY now, and those of them to ask `behind` about.
        """
        base, phases, follow = self.base, self.phases, self._follow
        distances: list[int] = []
        for first, count in spans:
            low, high = first - base, first - base + count
            phases[low:high] = bytes((GONE,)) * count
            distances += follow[low:high]
        if not self._ordered:
            return [], []
        offsets = list(chain.from_iterable([range(first, first + n) for first, n in spans]))
        if 0 in distances:
            offsets, distances = self._end_lines(offsets, distances)
        heads = list(map(add, offsets, distances))
        ready = self.change(long_runs_of(sorted(heads)), PARKED, READY)
        if total(ready) == len(heads):
            return ready, []
        return ready, [
            at for at, head in zip(offsets, heads, strict=True) if self.phase(head) != READY
        ]

    def _end_lines(self, offsets: list[int], distances: list[int]) -> tuple[list[int], list[int]]:
        """The lines end that these records were the last of; returns the others."""
        base, keys, tails = self.base, self.keys, self._tails
        followed: list[int] = []
        for offset, distance in zip(offsets, distances, strict=True):
            if distance:
                followed.append(offset)
            else:
                key = keys[offset - base]
                if key and tails.get(key) == offset:
                    del tails[key]
        return followed, [distance for distance in distances if distance]

    # ----- the front

    def cut(self, front: int) -> None:
        """Let go of so many records at the front."""
        for column in (self.phases, self.keys, self.tenants, self._follow):
            del column[:front]
        self.base += front

    def clear(self, base: int) -> None:
        """Let go of all; go on at an offset."""
        self.cut(len(self.phases))
        self.base = base
        self._tails.clear()

    # ----- questions

    def why(self, offset: int) -> tuple[str, int]:
        """What keeps a record from being delivered, and the record that does (-1: none)."""
        reason = _BLOCKS[self.phase(offset)]
        if reason != "key":
            return reason, -1
        at = offset - self.base
        key = self.keys[at]
        for earlier in range(at - 1, -1, -1):
            if self.keys[earlier] == key and self.phases[earlier] not in (*IN_LINE, GONE):
                return reason, self.base + earlier
        return reason, -1
