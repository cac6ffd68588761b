"""States, owners and ready times of the offsets from a group's `start` to its `end`.

One byte for each offset, four for its owner, and eight for its ready time once there was one. All
changes are by runs of equal records, as slices. Below `start` everything is DONE, from `end` on
everything is FREE, and neither is stored. What is settled at the front is cut off now and then, so
that trimming costs a constant amount for each record.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import groupby, islice
from typing import Final

from penstock.errors import CorruptData
from penstock_broker.machine.sharing.packing import Packed, pack, unpack
from penstock_broker.machine.sharing.state import (
    ALLOWED,
    DELAYED,
    DONE,
    FREE,
    LEASED,
    STATES,
)

NOBODY: Final = 0
"""The owner of a record that is not LEASED."""
FRONT_MIN = 4096
"""Settled records that may stay at the front of the arrays."""
_BYTE: Final = [bytes((state,)) for state in range(STATES)]
_WHILE: Final = [re.compile(re.escape(byte) + b"*") for byte in _BYTE]
_RUNS: Final = [re.compile(re.escape(byte) + b"+") for byte in _BYTE]

Run = tuple[int, int]
"""First offset, count."""
Piece = tuple[int, int, int, int]
"""State, owner, first offset, end: records that are alike."""
WindowRow = tuple[int, int, Packed, Packed, Packed]
"""Start, end, states, owners, ready times: the snapshot's form."""


def _many(owner: int, count: int) -> bytes:
    """An array of equal owners, as bytes: these are repeated much faster than arrays are."""
    return array("I", (owner,)).tobytes() * count


class Window:
    """The window of one group.

    Attributes:
        start: first offset that is not DONE.
        end: first offset that was never reached.
    """

    __slots__ = ("_base", "_counts", "_owners", "_ready", "_states", "end", "start")

    def __init__(self, start: int = 0) -> None:
        self.start = self.end = self._base = start
        self._states = bytearray()
        self._owners = array("I")
        self._ready: array[int] | None = None
        self._counts = [0] * STATES

    # ----- queries

    def state(self, offset: int) -> int:
        """The state of any offset."""
        if offset < self.start:
            return DONE
        return self._states[offset - self._base] if offset < self.end else FREE

    def owner(self, offset: int) -> int:
        """Serial of the lease that holds a record, or `NOBODY`."""
        held = self.start <= offset < self.end
        return self._owners[offset - self._base] if held else NOBODY

    def ready_at(self, offset: int) -> int:
        """When a DELAYED record may be granted (microseconds); 0: at once, or it is not DELAYED."""
        if self._ready is None or not self.start <= offset < self.end:
            return 0
        return self._ready[offset - self._base]

    def due(self, first: int, end: int, now_us: int) -> list[Run]:
        """The runs of [first, end), all of it DELAYED, whose ready time has come."""
        if self._ready is None:
            return [(first, end - first)]
        times = self._ready[first - self._base : end - self._base]
        if max(times) <= now_us:
            return [(first, end - first)]
        found: list[Run] = []
        for has_come, run in groupby(times, now_us.__ge__):
            count = sum(1 for _ in run)
            if has_come:
                found.append((first, count))
            first += count
        return found

    def count(self, state: int) -> int:
        """Records of a state between `start` and `end`."""
        return self._counts[state]

    def runs(self, state: int, first: int = 0, limit: int = 1000) -> list[Run]:
        """The runs of a state from an offset on to `end`, at most `limit` of them."""
        base = self._base
        runs = _RUNS[state].finditer(self._states, self._place(first))
        return [(base + run.start(), run.end() - run.start()) for run in islice(runs, limit)]

    def delayed(self, first: int = 0, limit: int = 100_000) -> list[tuple[int, int]]:
        """DELAYED records from an offset on: offset and ready time, at most `limit` of them."""
        found: list[tuple[int, int]] = []
        ready, base = self._ready, self._base
        if ready is None:
            return found
        for run in _RUNS[DELAYED].finditer(self._states, self._place(first)):
            low, high = run.span()
            if high - low == 1:
                found.append((base + low, ready[low]))
            else:
                high = min(high, low + limit - len(found))
                found += zip(range(base + low, base + high), ready[low:high], strict=True)
            if len(found) >= limit:
                break
        return found

    def _place(self, offset: int) -> int:
        """Where the records from any offset on are in the arrays."""
        return min(max(offset, self.start), self.end) - self._base

    def waiting(self, first: int = 0, limit: int = 100_000) -> list[tuple[int, int, int]]:
        """DELAYED records from an offset on as runs: first, count, ready time of all of them.

        It stops after the run of DELAYED records with which there are `limit`.
        """
        found: list[tuple[int, int, int]] = []
        ready, base = self._ready, self._base
        if ready is None:
            return found
        for run in _RUNS[DELAYED].finditer(self._states, max(first, self.start) - base):
            low, high = run.span()
            times = ready[low : min(high, low + limit)]
            at = base + low
            if times.count(times[0]) == len(times):
                found.append((at, len(times), times[0]))
            else:
                for at_us, same in groupby(times):
                    count = sum(1 for _ in same)
                    found.append((at, count, at_us))
                    at += count
            if len(found) >= limit or high - low > limit:
                break
        return found

    def all_are(self, spans: Sequence[int], state: int, owner: int = NOBODY) -> bool:
        """Whether ascending spans are all in one state, and under an owner if one is given."""
        if spans and (spans[0] < self.start or spans[-2] + spans[-1] > self.end):
            return False
        base, states, owners = self._base, self._states, self._owners
        one = array("I", (owner,)).tobytes()
        for first, count in zip(spans[::2], spans[1::2], strict=True):
            low, high = first - base, first - base + count
            if count == 1:
                if states[low] != state or (owner and owners[low] != owner):
                    return False
            elif states.count(state, low, high) != count or (
                owner and owners[low:high].tobytes() != one * count
            ):
                return False
        return True

    def pieces(self, first: int, end: int) -> list[Piece]:
        """[first, end) within the window, as runs of records that are alike."""
        base, states, found = self._base, self._states, []
        at, stop = max(first, self.start) - base, min(end, self.end) - base
        while at < stop:
            state = states[at]
            run = _WHILE[state].match(states, at, stop)
            assert run is not None, "a run has its first record at least"
            after = run.end()
            if state == LEASED:
                found += self._by_owner(at, after)
            else:
                found.append((state, NOBODY, base + at, base + after))
            at = after
        return found

    def _by_owner(self, at: int, end: int) -> list[Piece]:
        found, owners = [], self._owners[at:end]
        if owners.tobytes() == _many(owners[0], end - at):
            return [(LEASED, owners[0], self._base + at, self._base + end)]
        first = self._base + at
        for owner, run in groupby(owners):
            after = first + sum(1 for _ in run)
            found.append((LEASED, owner, first, after))
            first = after
        return found

    # ----- changes

    def extend(self, end: int, state: int, ready_us: int = 0) -> None:
        """Reach up to an offset; what comes in has this state (and ready time, if DELAYED)."""
        count = end - self.end
        if count <= 0:
            return
        self._states += _BYTE[state] * count
        self._owners.frombytes(bytes(4 * count))
        if state == DELAYED and self._ready is None:
            self._ready = array("Q", bytes(8 * (len(self._states) - count)))
        if self._ready is not None:
            self._ready += array("Q", (ready_us if state == DELAYED else 0,)) * count
        self._counts[state] += count
        self.end = end

    def change(self, first: int, end: int, old: int, new: int, owner: int = NOBODY) -> None:
        """Take [first, end), all of it in state `old`, to state `new`; DELAYED: see `delay`."""
        assert (old, new) in ALLOWED, f"records do not go from state {old} to {new}"
        low, high, count = first - self._base, end - self._base, end - first
        self._counts[old] -= count
        self._counts[new] += count
        if count == 1:
            self._states[low] = new
            self._owners[low] = owner
        else:
            self._states[low:high] = _BYTE[new] * count
            if owner or old == LEASED:
                self._owners[low:high] = array("I", _many(owner, count))
        if old == DELAYED and self._ready is not None:
            self._ready[low:high] = array("Q", bytes(8 * count))

    def change_all(self, spans: Sequence[int], old: int, new: int, owner: int = NOBODY) -> None:
        """As `change`, of ascending spans; none of them DELAYED, before or after."""
        assert (old, new) in ALLOWED, f"records do not go from state {old} to {new}"
        assert DELAYED not in (old, new), "ready times are changed one run at a time"
        base, states, owners = self._base, self._states, self._owners
        byte, one = _BYTE[new], array("I", (owner,)).tobytes()
        for first, count in zip(spans[::2], spans[1::2], strict=True):
            low, high = first - base, first - base + count
            if count == 1:
                states[low] = new
                owners[low] = owner
            else:
                states[low:high] = byte * count
                owners[low:high] = array("I", one * count)
        records = sum(spans[1::2])
        self._counts[old] -= records
        self._counts[new] += records

    def delay(self, first: int, ready_us: Sequence[int]) -> None:
        """LEASED records from `first` on become DELAYED, each until its time (microseconds)."""
        if self._ready is None:
            self._ready = array("Q", bytes(8 * len(self._states)))
        low, count = first - self._base, len(ready_us)
        self.change(first, first + count, LEASED, DELAYED)
        self._ready[low : low + count] = array("Q", ready_us)

    def advance(self) -> None:
        """Move `start` behind what is DONE at the front."""
        at = self.start - self._base
        if at < len(self._states) and self._states[at] != DONE:
            return
        run = _WHILE[DONE].match(self._states, at)
        assert run is not None, "a run may be empty"
        self._counts[DONE] -= run.end() - at
        self.start = self._base + run.end()
        self._cut()

    def skip(self, offset: int) -> None:
        """Go on at a later offset; only for a window that holds nothing."""
        assert self.start == self.end, "a window that holds records can't skip them"
        self.start = self.end = max(offset, self.end)
        self._cut()

    def _cut(self) -> None:
        """Let go of what is below `start`, once that is most of the arrays."""
        front = self.start - self._base
        if self.start == self.end:
            self._states = bytearray()
            self._owners = array("I")
            self._ready = None
        elif front < FRONT_MIN or 2 * front < len(self._states):
            return
        else:
            del self._states[:front]
            del self._owners[:front]
            if self._ready is not None:
                del self._ready[:front]
        self._base = self.start

    # ----- snapshots

    def row(self) -> WindowRow:
        """The snapshot's form: equal for equal windows, whatever was cut off when."""
        front = self.start - self._base
        leased, delayed = self._counts[LEASED], self._counts[DELAYED]
        ready = self._ready[front:] if delayed and self._ready is not None else array("Q")
        return (
            self.start,
            self.end,
            pack(self._states[front:]),
            pack(self._owners[front:] if leased else b""),
            pack(ready),
        )

    @classmethod
    def of(cls, row: WindowRow) -> Window:
        """Take over a row.

        Raises:
            CorruptData: it is not in the form of `row`.
        """
        start, end, states, owners, ready = row
        count = end - start
        made = cls(start)
        made.end = end
        made._states = unpack(states, count)
        made._owners.frombytes(unpack(owners, 4 * count) if owners else bytes(4 * count))
        if ready:
            made._ready = array("Q", bytes(unpack(ready, 8 * count)))
        made._counts = [made._states.count(state) for state in range(STATES)]
        if sum(made._counts) != count:
            raise CorruptData("a shared group's snapshot holds states that there are not")
        return made
