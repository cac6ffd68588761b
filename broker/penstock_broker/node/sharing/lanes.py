"""Which records are next, where keys have an order, or keys and tenants limits and shares.

A cursor goes over the batches' slot columns, from the oldest unsettled record on, once. With
`order_by = key` a record whose key has an earlier one unsettled is parked behind it: `_follow` says
how far behind each record the next of its key lies, `_tails` where each key's line ends. So a
failing record parks its own key and nothing else, and a record costs a few bytes, wherever it is.
Without a key there is no order; records of a batch without the column count as one key.

The cursor runs ahead as far as it must to find what can go, and for fair shares `LOOK_AHEAD`
records further, but never beyond `window_max` records from the oldest unsettled one. After a change
of leader it begins at that one again, and nothing goes out until it has seen all that was granted
before. Each record is in one phase; counts follow from changes of phase alone.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from penstock.protocol.batch import Buffer
from penstock_broker.machine.sharing.state import DELAYED, DONE, FREE, LEASED
from penstock_broker.node.sharing.columns import read_columns
from penstock_broker.node.sharing.limits import Limits
from penstock_broker.node.sharing.scanning import Scanner
from penstock_broker.node.sharing.spans import Spans, pairs, runs_of
from penstock_broker.node.sharing.turns import InOrder, InTurns, Turns

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.sharing.shared import SharedPartition

LOOK_AHEAD: Final = 10_000
"""Records that may wait in turns for the sake of fair shares."""
SCAN_RECORDS: Final = 16_384
"""Records that the cursor passes at once; it goes on as time passes."""
CUT_RECORDS: Final = 65_536
SWEEP_US: Final = 1_000_000

PARKED: Final = 0
"""Behind an unsettled record of its key."""
READY: Final = 1
"""In `_turns`; what limits say is asked when its turn comes."""
ADMITTED: Final = 2
"""In `_turns`; its limit counts it already."""
LIMITED: Final = 3
"""Waits for its key's or tenant's limit."""
OUT: Final = 4
"""Taken or leased."""
AWAY: Final = 5
"""Delayed, moving or held: it keeps its key's line waiting, and counts for no limit."""
GONE: Final = 6
"""Settled."""
_MOVABLE: Final = frozenset((READY, ADMITTED, LIMITED, OUT))
PHASES: Final = ("key", "", "", "limit", "", "", "")
"""What keeps a record of this phase from being delivered."""


class Lanes:
    """`Ready` by keys and tenants."""

    __slots__ = (
        "_base", "_budget", "_delay", "_fair", "_follow", "_group", "_keys", "_limit_slots",
        "_limits",
        "_log", "_ordered", "_phases", "_scanner", "_sweep_at", "_tails", "_tenants", "_trimmed",
        "_turns", "blocked_by",
    )  # fmt: skip

    def __init__(
        self,
        shared: SharedPartition,
        group: SharedGroup,
        claimed: Spans,
        delay: Callable[[int, int], None],
        wake: Callable[[], None],
    ) -> None:
        settings, now_us = group.settings, shared.partition.node.wall_us
        self._group = group
        self._log = shared.partition.log
        self._delay = delay
        """Has an offset given to `due` at a time."""
        self._ordered = settings.order_by == "key"
        self._base = max(group.start, self._log.start_offset)
        self._phases = bytearray()
        self._follow = array("I")
        self._keys = array("I")
        self._tenants = array("I")
        self._tails: dict[int, int] = {}
        self._limits: Limits | None = None
        if settings.limit_by != "none":
            self._limits = Limits(settings.concurrency, settings.rate_per_second, now_us)
        self._limit_slots = self._keys if settings.limit_by == "key" else self._tenants
        self._fair = settings.fair_by != "none"
        self._turns: Turns = InOrder()
        self._begin_turns()
        self._budget = 0
        self._sweep_at = now_us
        self._trimmed = self._base
        self._scanner = Scanner(shared, self._base, self._take_in, claimed, wake)
        self.blocked_by = ""

    def _begin_turns(self) -> None:
        by_key = self._group.settings.fair_by == "key"
        self._turns = InOrder()
        if self._fair:
            self._turns = InTurns(self._keys if by_key else self._tenants, self._base)

    # ----- taking

    @property
    def _loading(self) -> bool:
        """Whether the cursor has not seen all that was granted before."""
        return self._scanner.next < self._group.end

    def take(self, count: int, now_us: int) -> Spans:
        """Those whose turn it is."""
        self._begin(now_us)
        self._look_ahead(count, now_us)
        self.blocked_by = ""
        if self._loading:
            self.blocked_by = "loading"
            return []
        if self._limits is None:
            found = self._take_ready(count, [])
        else:
            found = self._take_admitted(count, now_us)
        if len(found) < count:
            self.blocked_by = self._reason()
        found.sort()
        return runs_of(found)

    def _take_ready(self, count: int, found: list[int]) -> list[int]:
        """Those whose turn it is, where there is no limit."""
        turns, phases, base = self._turns, self._phases, self._base
        following, out = turns.next, found.append
        while turns and count:
            some = [following() for _ in range(min(count, len(turns)))]
            for offset in some:
                if offset >= base and phases[offset - base] == READY:
                    phases[offset - base] = OUT
                    count -= 1
                    out(offset)
        return found

    def _take_admitted(self, count: int, now_us: int) -> list[int]:
        """Those whose turn it is, and whose limit lets them go."""
        turns, phases, base = self._turns, self._phases, self._base
        found: list[int] = []
        while len(found) < count and turns:
            offset = turns.next()
            phase = phases[offset - base] if offset >= base else GONE
            if phase == ADMITTED or (phase == READY and self._admit(offset, now_us)):
                phases[offset - base] = OUT
                found.append(offset)
            if not turns:
                self._look_ahead(count - len(found), now_us)  # behind those that are limited
        return found

    def _admit(self, offset: int, now_us: int) -> bool:
        if self._limits is None:
            return True
        at = offset - self._base
        if self._limits.admit(self._limit_slots[at], offset, now_us):
            return True
        self._phases[at] = LIMITED
        return False

    def _reason(self) -> str:
        if self._scanner.next < self._log.end_offset:
            return "window" if self._scanner.next >= self._limit else "scan"
        if self._limits is not None and self._limits.parked:
            return "limit"
        return "key" if self._tails else ""

    @property
    def _limit(self) -> int:
        return self._group.start + self._group.settings.window_max

    def _look_ahead(self, count: int, now_us: int) -> None:
        """Let the cursor go on until enough records wait in turns."""
        wanted = max(count, LOOK_AHEAD) if self._fair else count
        while self._budget > 0 and (len(self._turns) < wanted or self._loading):
            stop = min(self._limit, self._log.end_offset)
            passed = self._scanner.step(stop, self._budget)
            if not passed:
                return
            self._budget -= passed

    # ----- the cursor

    def _take_in(self, first: int, stop: int, batch: Buffer | None, claimed: bool) -> None:
        """Records [first, stop) come into view, all of one batch; claimed: handed out already."""
        columns = read_columns(batch, first, stop)
        now_us = self._scanner.now_us
        self._keys.extend(columns.keys)
        self._tenants.extend(columns.tenants)
        self._phases += bytes((READY,)) * (stop - first)
        if self._ordered:
            self._follow.frombytes(bytes(4 * (stop - first)))
        if claimed or first < self._group.end:
            middle = stop if claimed else min(stop, self._group.end)
            self._take_in_old(first, middle, claimed, now_us)
            columns = columns.behind(middle - first)
            first = middle
        if self._ordered:
            self._turns.extend(self._line_up(first, columns.keys))
        else:
            self._turns.extend(range(first, stop))

    def _line_up(self, first: int, keys: Sequence[int]) -> list[int]:
        """Put new records behind the last of their keys; returns those that are first."""
        tails, follow, phases, base = self._tails, self._follow, self._phases, self._base
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
                phases[offset - base] = PARKED
                tails[key] = offset
        return heads

    def _take_in_old(self, first: int, stop: int, claimed: bool, now_us: int) -> None:
        """Records that were granted before, or handed out: their states say what they are."""
        window = self._group.window
        for offset in range(first, stop):
            at = offset - self._base
            if window.state(offset) == DONE:
                self._phases[at] = GONE
                continue
            self._phases[at] = PARKED
            key = self._keys[at]
            if self._ordered and key and key in self._tails:
                last = self._tails[key]
                self._follow[last - self._base] = offset - last
                self._tails[key] = offset
                if claimed or window.state(offset) == LEASED:
                    self._out(offset, now_us)  # order was not asked for when it was granted
                continue
            if self._ordered and key:
                self._tails[key] = offset
            if claimed:
                self._out(offset, now_us)
            else:
                self._head(offset, now_us, first=False)

    def _out(self, offset: int, now_us: int) -> None:
        at = offset - self._base
        self._phases[at] = OUT
        if self._limits is not None:
            self._limits.adopt(self._limit_slots[at], now_us)

    # ----- changes of phase

    def _head(self, offset: int, now_us: int, *, first: bool = True) -> None:
        """Nothing of its key is before a record any more: what becomes of it is up to its state."""
        state = self._group.window.state(offset)
        at = offset - self._base
        if state == LEASED:
            self._out(offset, now_us)
        elif state == DELAYED and self._group.window.ready_at(offset) > now_us:
            self._phases[at] = AWAY
            self._delay(offset, self._group.window.ready_at(offset))
        elif state in (FREE, DELAYED):
            self._phases[at] = READY
            if first:
                self._turns.first(offset)
            else:
                self._turns.extend((offset,))
        else:
            self._phases[at] = AWAY

    def _leave(self, offset: int, phase: int, now_us: int, *, unused: bool = False) -> None:
        """A record leaves its phase for another; whoever waited for its limit may go."""
        at = offset - self._base
        before = self._phases[at]
        self._phases[at] = phase
        if self._limits is None or before not in (OUT, ADMITTED):
            return
        slot = self._limit_slots[at]
        if slot:
            freed = self._limits.left(slot, now_us, unused or before == ADMITTED)
            self._admitted(self._limits, slot, freed, now_us)

    def _admitted(self, limits: Limits, slot: int, offsets: list[int], now_us: int) -> None:
        """These may go, as far as their limit is concerned."""
        waiting = deque(offsets)
        while waiting:
            offset = waiting.popleft()
            if self._known(offset) and self._phases[offset - self._base] == LIMITED:
                self._phases[offset - self._base] = ADMITTED
                self._turns.extend((offset,))
            else:  # settled while it waited
                waiting.extend(limits.left(slot, now_us, unused=True))

    def _gone(self, offset: int, now_us: int) -> None:
        """A record is settled: the next of its key comes forward."""
        at = offset - self._base
        if at < 0 or at >= len(self._phases) or self._phases[at] == GONE:
            return
        parked = self._phases[at] == PARKED
        self._leave(offset, GONE, now_us)
        if self._ordered and not parked:
            self._forward(offset, now_us)

    def _forward(self, offset: int, now_us: int) -> None:
        base, follow, phases = self._base, self._follow, self._phases
        key = self._keys[offset - base]
        if not key:
            return
        distance = follow[offset - base]
        while distance:
            offset += distance
            if phases[offset - base] == PARKED:
                self._head(offset, now_us)
                return
            if phases[offset - base] != GONE:
                return  # granted when order was not asked for; it comes forward by itself
            distance = follow[offset - base]
        if self._tails.get(key) == offset:
            del self._tails[key]

    # ----- what others tell

    def put_back(self, spans: Spans) -> None:
        """Their turn comes again first."""
        now_us = self._scanner.now_us
        for first, count in reversed(spans):
            for offset in reversed(range(first, first + count)):
                if self._known(offset) and self._phases[offset - self._base] == OUT:
                    self._leave(offset, AWAY, now_us, unused=True)
                    self._head(offset, now_us)

    def set_aside(self, spans: Spans) -> None:
        """They can't be read: they wait for `due`."""
        now_us = self._scanner.now_us
        for first, count in spans:
            for offset in range(first, first + count):
                if self._known(offset):
                    self._leave(offset, AWAY, now_us, unused=True)

    def _known(self, offset: int) -> bool:
        return 0 <= offset - self._base < len(self._phases)

    def freed(self, numbers: Sequence[int]) -> None:
        """They come again first; a record that was not in view will come into it."""
        now_us = self._scanner.now_us
        for first, count in reversed(pairs(numbers)):
            for offset in reversed(range(first, first + count)):
                if self._known(offset) and self._phases[offset - self._base] in (OUT, AWAY):
                    self._leave(offset, AWAY, now_us)
                    self._head(offset, now_us)

    def due(self, offsets: Sequence[int]) -> None:
        """Those that waited for this come first."""
        now_us = self._scanner.now_us
        for offset in sorted(offsets, reverse=True):
            if self._known(offset) and self._phases[offset - self._base] == AWAY:
                self._head(offset, now_us)

    def settled(self, numbers: Sequence[int], done: Sequence[int]) -> None:
        """What is done lets the next of its key come forward; the rest is away for now."""
        now_us = self._scanner.now_us
        if numbers != done:
            for first, count in pairs(numbers):
                for offset in range(first, first + count):
                    if self._known(offset) and self._phases[offset - self._base] in _MOVABLE:
                        self._leave(offset, AWAY, now_us)
        for first, count in pairs(done):
            self._done(first, first + count, now_us)

    def _done(self, first: int, stop: int, now_us: int) -> None:
        """Records are settled; most of them were out, and the last of their key."""
        phases, tails, base = self._phases, self._tails, self._base
        low, high = max(first - base, 0), min(stop - base, len(phases))
        if self._limits is not None or phases.count(OUT, low, high) < high - low:
            for at in range(low, high):
                self._gone(base + at, now_us)
            return
        phases[low:high] = bytes((GONE,)) * (high - low)
        if self._ordered:
            columns = zip(self._keys[low:high], self._follow[low:high], strict=True)
            for offset, (key, distance) in enumerate(columns, base + low):
                if distance:
                    self._forward(offset, now_us)
                elif key and tails.get(key) == offset:
                    del tails[key]

    # ----- time

    @property
    def busy(self) -> bool:
        """Whether the cursor has more to pass, or somebody waits for a rate."""
        return self.next_us is not None

    @property
    def next_us(self) -> int | None:
        """When who waits for a rate may go; 0: the cursor has more to pass."""
        if self.scanning:
            return 0
        return None if self._limits is None else self._limits.next_us

    @property
    def scanning(self) -> bool:
        """Whether the cursor has more to pass for those who wait."""
        return self._loading or self.blocked_by == "scan"

    def work(self, now_us: int) -> None:
        """Let the cursor go on; let go who waited for a rate."""
        self._begin(now_us)
        self._look_ahead(1, now_us)
        if self._limits is not None:
            for slot, offsets in self._limits.due(now_us):
                self._admitted(self._limits, slot, offsets, now_us)
            if now_us >= self._sweep_at:
                self._sweep_at = now_us + SWEEP_US
                self._limits.sweep(now_us)

    # ----- the front

    def _begin(self, now_us: int) -> None:
        """Between two entries: only then everything that was applied has been told."""
        self._budget = SCAN_RECORDS
        self._drop_trimmed(now_us)
        self._cut()

    def _drop_trimmed(self, now_us: int) -> None:
        """Records that were deleted before they were granted are settled."""
        start = self._log.start_offset
        if start <= self._trimmed:
            return
        stop = min(start, self._base + len(self._phases))
        for offset in range(max(self._base, self._trimmed), stop):
            self._gone(offset, now_us)
        self._trimmed = start
        if self._scanner.next < start:  # nothing of what came into view is left
            for column in (self._phases, self._keys, self._tenants, self._follow):
                del column[:]
            self._base = self._scanner.next = start
            self._tails.clear()
            self._begin_turns()

    def _cut(self) -> None:
        """Let go of what lies below the window, once that is most of the arrays."""
        front = min(self._group.start - self._base, len(self._phases))
        if front < CUT_RECORDS or 2 * front < len(self._phases):
            return
        for column in (self._phases, self._keys, self._tenants, self._follow):
            del column[:front]
        self._base += front
        if isinstance(self._turns, InTurns):
            self._turns.rebase(self._base)

    # ----- questions

    def why(self, offset: int) -> tuple[str, int]:
        """What keeps a record from being delivered, and the record that does (-1: none)."""
        if not self._known(offset):
            return "", -1
        at = offset - self._base
        reason = PHASES[self._phases[at]]
        if reason != "key":
            return reason, -1
        key = self._keys[at]
        for earlier in range(at - 1, -1, -1):
            if self._keys[earlier] == key and self._phases[earlier] not in (PARKED, GONE):
                return reason, self._base + earlier
        return reason, -1
