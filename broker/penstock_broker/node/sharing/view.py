"""Records that came into a cursor's view: the phase of each, its slots, and the lines of keys.

Everything is an array from offset `base` on, a few bytes a record. A key's records stand in line:
`_follow` says how far behind each record the next of its key lies, `_tails` where each key's line
ends; a line ends where nothing of its key is unsettled. A record without a key stands in no line.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from penstock_broker.node.sharing.columns import Columns
from penstock_broker.node.sharing.spans import long_runs_of

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

    def change(self, offsets: list[int], old: int, new: int) -> list[int]:
        """Take those of some records that are in one phase to another; returns them, ascending."""
        phases, base = self.phases, self.base
        different = sorted(offsets)
        if len(set(offsets)) < len(offsets):
            different = sorted(set(offsets))
        changed: list[int] = []
        for first, count in long_runs_of(different):
            low, high = first - base, first - base + count
            if low >= 0 and phases.count(old, low, high) == count:
                phases[low:high] = bytes((new,)) * count
                changed += range(first, first + count)
                continue
            for offset in range(max(first, base), first + count):
                if phases[offset - base] == old:
                    phases[offset - base] = new
                    changed.append(offset)
        return changed

    # ----- what comes into view

    def extend(self, columns: Columns) -> None:
        """Records come into view: PARKED if there is an order, else READY."""
        count = len(columns.keys)
        self.keys.extend(columns.keys)
        self.tenants.extend(columns.tenants)
        self.phases += bytes((PARKED if self._ordered else READY,)) * count
        self._follow.frombytes(bytes(4 * count))

    def line_up(self, first: int, keys: Sequence[int]) -> list[int]:
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
        for begin, count in long_runs_of(heads):
            phases[begin - base : begin - base + count] = bytes((READY,)) * count
        return heads

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

    def settle(self, first: int, stop: int) -> tuple[list[int], list[int]]:
        """Records that were OUT are GONE, all of them.

        Returns:
            Those behind them that are READY now, and those of them to ask `behind` about.
        """
        base, tails = self.base, self._tails
        follow = self._follow[first - base : stop - base]
        self.phases[first - base : stop - base] = bytes((GONE,)) * (stop - first)
        if not self._ordered:
            return [], []
        followed = [offset for offset, distance in enumerate(follow, first) if distance]
        if len(followed) < stop - first:
            for offset, key in enumerate(self.keys[first - base : stop - base], first):
                if key and tails.get(key) == offset:
                    del tails[key]
        heads = [offset + follow[offset - first] for offset in followed]
        ready = self.change(heads, PARKED, READY)
        if len(ready) == len(heads):
            return ready, []
        taken = set(ready)
        rest = [each for each, head in zip(followed, heads, strict=True) if head not in taken]
        return ready, rest

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
