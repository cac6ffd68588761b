"""Which records are next, where keys have an order, or keys and tenants limits and shares.

A cursor goes over the batches' slot columns, from the oldest unsettled record on, once. With
`order_by = key` a record stands in line behind the unsettled ones of its key (`view`), so a failing
record parks its own key and nothing else. Without a key there is no order; records of a batch
without the column count as one key. Limits are asked when a record's turn comes (`limits`), shares
are given by turns (`turns`).

The cursor runs ahead as far as it must to find what can go, and for fair shares `LOOK_AHEAD`
records further, but never beyond `window_max` records from the oldest unsettled one. After a change
of leader it begins at that one again, and nothing goes out until it has seen all that was granted
before. Each record is in one phase; counts follow from changes of phase alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from penstock.protocol.batch import Buffer
from penstock_broker.machine.sharing.state import DELAYED, DONE, FREE, LEASED
from penstock_broker.node.sharing.columns import read_columns
from penstock_broker.node.sharing.limits import Limits
from penstock_broker.node.sharing.scanning import Scanner
from penstock_broker.node.sharing.spans import Spans, long_runs_of, merged, pairs, total
from penstock_broker.node.sharing.turns import InOrder, InTurns, Turns
from penstock_broker.node.sharing.view import (
    ADMITTED,
    AWAY,
    BEHIND,
    GONE,
    IN_LINE,
    LIMITED,
    OUT,
    PARKED,
    READY,
    View,
)

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.sharing.shared import SharedPartition

LOOK_AHEAD: Final = 100_000
"""Records that may wait in turns for the sake of fair shares: who lies behind so many of another
waits for them. Each takes some 40 bytes."""
SCAN_RECORDS: Final = 16_384
"""Records that the cursor passes at once; it goes on as time passes."""
CUT_RECORDS: Final = 65_536
"""Settled records that may stay in view."""
SWEEP_US: Final = 1_000_000


class Lanes:
    """`Ready` by keys and tenants."""

    __slots__ = (
        "_budget", "_delay", "_fair", "_group", "_limit_slots", "_limits", "_log", "_ordered",
        "_scanner", "_sweep_at", "_trimmed", "_turns", "_view", "blocked_by",
    )  # fmt: skip

    def __init__(
        self,
        shared: SharedPartition,
        group: SharedGroup,
        claimed: Spans,
        delay: Callable[[int, int], None],
        wake: Callable[[], None],
    ) -> None:
        settings, now_us = group.settings, shared.now_us
        self._group = group
        self._log = shared.partition.log
        self._delay = delay
        """Has an offset given to `due` at a time."""
        self._ordered = settings.order_by == "key"
        base = self._trimmed = max(group.start, self._log.start_offset)
        view = self._view = View(base, self._ordered)
        self._limits: Limits | None = None
        if settings.limit_by != "none":
            self._limits = Limits(settings.concurrency, settings.rate_per_second, now_us)
        self._limit_slots = view.keys if settings.limit_by == "key" else view.tenants
        self._fair = settings.fair_by != "none"
        self._turns: Turns = InOrder()
        self._begin_turns()
        self._budget = 0
        self._sweep_at = now_us
        self._scanner = Scanner(shared, base, self._take_in, claimed, wake)
        self.blocked_by = ""

    def _begin_turns(self) -> None:
        view = self._view
        by_key = self._group.settings.fair_by == "key"
        self._turns = InOrder()
        if self._fair:
            self._turns = InTurns(view.keys if by_key else view.tenants, view.base)

    # ----- taking

    @property
    def _loading(self) -> bool:
        """Whether the cursor has not seen all that was granted before."""
        return self._scanner.next < self._group.end

    def take(self, count: int, now_us: int) -> Spans:
        """Those whose turn it is."""
        self._begin(now_us)
        self._look_ahead(count)
        self.blocked_by = ""
        if self._loading:
            self.blocked_by = "loading"
            return []
        if self._limits is None:
            found = self._take_ready(count)
        else:
            found = self._take_admitted(self._limits, count, now_us)
        if total(found) < count:
            self.blocked_by = self._reason()
        return found

    def _take_ready(self, count: int) -> Spans:
        """Those whose turn it is, where there is no limit."""
        turns, found = self._turns, []
        while turns and count:
            taken = self._view.change(turns.take(count), READY, OUT)
            found += taken
            count -= total(taken)
        return merged(sorted(found))

    def _take_admitted(self, limits: Limits, count: int, now_us: int) -> Spans:
        """Those whose turn it is, and whose limit lets them go."""
        turns, view, slots = self._turns, self._view, self._limit_slots
        found: list[int] = []
        while len(found) < count and turns:
            offset = turns.next()
            phase = view.phase(offset)
            if phase == READY and not limits.admit(slots[offset - view.base], offset, now_us):
                view.put(offset, LIMITED)
            elif phase in (READY, ADMITTED):
                view.put(offset, OUT)
                found.append(offset)
            if not turns:
                self._look_ahead(count - len(found))  # behind those that are limited
        return long_runs_of(sorted(found))

    def _reason(self) -> str:
        if self._scanner.next < self._log.end_offset:
            return "window" if self._scanner.next >= self._limit else "scan"
        if self._limits is not None and self._limits.parked:
            return "limit"
        return "key" if self._view.has_lines else ""

    @property
    def _limit(self) -> int:
        """How far the cursor may go; what was granted before must be seen in any case."""
        return max(self._group.start + self._group.settings.window_max, self._group.end)

    def _look_ahead(self, count: int) -> None:
        """Let the cursor go on until enough records wait for their turn."""
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
        self._view.extend(columns)
        if claimed or first < self._group.end:
            middle = stop if claimed else min(stop, self._group.end)
            self._take_in_old(first, middle, claimed)
            columns = columns.behind(middle - first)
            first = middle
        if self._ordered:
            self._turns.extend(self._view.line_up(first, columns.keys))
        else:
            self._turns.extend([(first, stop - first)])

    def _take_in_old(self, first: int, stop: int, claimed: bool) -> None:
        """Records that were granted before, or handed out: their states say what they are."""
        view, state_of, now_us = self._view, self._group.window.state, self._scanner.now_us
        for offset in range(first, stop):
            state = state_of(offset)
            if state == DONE:
                view.put(offset, GONE)
                continue
            is_first = view.stand(offset)
            if claimed or state == LEASED:
                self._out(offset, now_us)  # maybe not first: there was no order when it was granted
            elif is_first:
                self._head(offset, now_us, first=False)
            elif state != FREE:
                view.put(offset, BEHIND)

    def _out(self, offset: int, now_us: int) -> None:
        self._view.put(offset, OUT)
        if self._limits is not None:
            self._limits.adopt(self._limit_slots[offset - self._view.base], now_us)

    # ----- changes of phase

    def _head(self, offset: int, now_us: int, *, first: bool = True) -> None:
        """Nothing of its key is before a record any more: what becomes of it is up to its state."""
        window = self._group.window
        state = window.state(offset)
        if state == LEASED:
            self._out(offset, now_us)
            return
        if state == DELAYED and window.ready_at(offset) > now_us:
            self._delay(offset, window.ready_at(offset))
        elif state in (FREE, DELAYED):
            self._view.put(offset, READY)
            if first:
                self._turns.first((offset, 1))
            else:
                self._turns.extend([(offset, 1)])
            return
        self._view.put(offset, AWAY)

    def _leave(self, offset: int, phase: int, now_us: int, *, unused: bool = False) -> None:
        """A record leaves its phase for another; whoever waited for its limit may go."""
        before = self._view.phase(offset)
        self._view.put(offset, phase)
        if self._limits is None or before not in (OUT, ADMITTED):
            return
        slot = self._limit_slots[offset - self._view.base]
        if slot:
            freed = self._limits.left(slot, now_us, unused or before == ADMITTED)
            self._admitted(self._limits, slot, freed, now_us)

    def _admitted(self, limits: Limits, slot: int, offsets: list[int], now_us: int) -> None:
        """These may go, as far as their limit is concerned."""
        waiting = deque(offsets)
        while waiting:
            offset = waiting.popleft()
            if self._view.phase(offset) == LIMITED:
                self._view.put(offset, ADMITTED)
                self._turns.extend([(offset, 1)])
            else:  # settled while it waited
                waiting.extend(limits.left(slot, now_us, unused=True))

    def _gone(self, offset: int, now_us: int) -> None:
        """A record is settled: the next of its key comes forward."""
        phase = self._view.phase(offset)
        if phase == GONE:
            return
        self._leave(offset, GONE, now_us)
        if phase not in IN_LINE:
            self._forward(offset, now_us)

    def _forward(self, offset: int, now_us: int) -> None:
        head = self._view.behind(offset)
        if head >= 0:
            self._head(head, now_us)

    # ----- what others tell

    def put_back(self, spans: Spans) -> None:
        """Their turn comes again first."""
        now_us = self._scanner.now_us
        for offset in _backwards(spans):
            if self._view.phase(offset) == OUT:
                self._leave(offset, AWAY, now_us, unused=True)
                self._head(offset, now_us)

    def applied(self, spans: Spans) -> None:
        """They are known to be out since they were taken."""

    def set_aside(self, spans: Spans) -> None:
        """They can't be read: they wait for `due`."""
        for offset in _backwards(spans):
            if self._view.phase(offset) == OUT:
                self._leave(offset, AWAY, self._scanner.now_us, unused=True)

    def freed(self, numbers: Sequence[int]) -> None:
        """They come again first; a record that was not in view will come into it."""
        now_us = self._scanner.now_us
        for offset in _backwards(pairs(numbers)):
            if self._view.phase(offset) in (OUT, AWAY):
                self._leave(offset, AWAY, now_us)
                self._head(offset, now_us)

    def due(self, offsets: Sequence[int]) -> None:
        """Those that waited for this come first."""
        now_us = self._scanner.now_us
        for offset in sorted(offsets, reverse=True):
            if self._view.phase(offset) == AWAY:
                self._head(offset, now_us)

    def settled(self, numbers: Sequence[int], done: Sequence[int]) -> None:
        """What is done lets the next of its key come forward; the rest is away for now."""
        view, now_us = self._view, self._scanner.now_us
        if numbers != done:
            for offset in _backwards(pairs(numbers)):
                phase = view.phase(offset)
                if phase in (READY, ADMITTED, LIMITED, OUT):
                    self._leave(offset, AWAY, now_us)
                elif phase == PARKED:
                    view.put(offset, BEHIND)
        out: Spans = []
        for first, count in pairs(done):
            if self._limits is None and view.all_out(first, count):
                out.append((first, count))
            else:
                for offset in range(max(first, view.base), min(first + count, view.end)):
                    self._gone(offset, now_us)
        ready, rest = view.settle(out)
        self._turns.extend(ready)
        for offset in rest:
            self._forward(offset, now_us)

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
        self._look_ahead(1)
        if self.blocked_by == "scan":
            self.blocked_by = "" if self._turns else self._reason()
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
        view = self._view
        front = min(self._group.start, view.end) - view.base
        if front >= CUT_RECORDS and 2 * front >= len(view.phases):
            view.cut(front)
            if isinstance(self._turns, InTurns):
                self._turns.rebase(view.base)

    def _drop_trimmed(self, now_us: int) -> None:
        """Records that were deleted before they were granted are settled."""
        start, view = self._log.start_offset, self._view
        if start <= self._trimmed:
            return
        for offset in range(max(view.base, self._trimmed), min(start, view.end)):
            self._gone(offset, now_us)
        self._trimmed = start
        if self._scanner.next < start:  # nothing of what came into view is left
            view.clear(start)
            self._scanner.next = start
            self._begin_turns()

    # ----- questions

    def why(self, offset: int) -> tuple[str, int]:
        """What keeps a record from being delivered, and the record that does (-1: none)."""
        return self._view.why(offset)


def _backwards(spans: Spans) -> Iterator[int]:
    """Each offset, the last one first: who goes to the front one by one ends up in order."""
    for first, count in reversed(spans):
        yield from reversed(range(first, first + count))
