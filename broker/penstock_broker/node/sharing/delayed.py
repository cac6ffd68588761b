"""Delayed records: moves what is due from a companion partition to the topic, in order of time.

The built-in group of a companion topic holds every record DELAYED until its time. When that has
come, the leader begins its move (`move_lane`), which ends exactly once in the topic itself. Nothing
fires early: the entry that begins the move carries the leader's time, and is checked against it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from penstock_broker.machine.effects import (
    Effect,
    RecordsSettled,
    SharedConfigured,
    SharedRemoved,
)
from penstock_broker.machine.sharing.state import DELAYED
from penstock_broker.machine.topology import DELAYED_PREFIX, TIMER_GROUP
from penstock_broker.node.sharing.move_lane import MOVES_PER_OP
from penstock_broker.node.sharing.timers import Timers, take_in

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.sharing.mover import Mover
    from penstock_broker.node.sharing.shared import SharedPartition


CARRY_SPAN_MIN: Final = 100_000
"""Offsets between the oldest record that waits and the newest: fewer are no burden."""
CARRY_SHARE: Final = 4
"""Records are carried forward if fewer than one in so many waits."""
CARRY_RECORDS: Final = 2_000
CARRY_AHEAD_US: Final = 60_000_000
"""What is due that soon is left where it is."""
CARRY_SECONDS: Final = 10.0
CARRYING_SECONDS: Final = 0.5

_NO_TIMERS: Final = Timers(0)
_NOTHING_DUE: Final[deque[tuple[int, int]]] = deque(maxlen=0)


class DelayedRecords:
    """The timer group of one companion partition; a part of its `SharedPartition`.

    Every partition has one of these, and few have delayed records: the rest is made when it leads.
    """

    __slots__ = ("_carry_at", "_due", "_group", "_known", "_mover", "_partition", "_timers")

    def __init__(self, shared: SharedPartition, mover: Mover) -> None:
        self._partition = shared.partition
        self._mover = mover
        self._group: SharedGroup | None = None
        self._known = 0
        """Records below it are in the timers, due, or settled."""
        self._timers = _NO_TIMERS
        self._carry_at = 0.0
        self._due: deque[tuple[int, int]] = _NOTHING_DUE
        """Time and offset of what is due and has not begun to move, in that order."""

    def on_leading(self) -> None:
        self.on_lost_leadership()
        self._group = self._partition.machine.sharing.groups.get(TIMER_GROUP)
        node = self._partition.node
        if self._group is not None:
            self._timers = Timers(node.wall_us, node.config.timer_grain_bits)
            self._due = deque()
            self._known = self._group.start
            self.tick()

    def on_lost_leadership(self) -> None:
        self._group = None
        self._timers = _NO_TIMERS
        self._due = _NOTHING_DUE

    def on_effects(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SharedConfigured | SharedRemoved):
                if effect.group == TIMER_GROUP:
                    self.on_leading()
            elif isinstance(effect, RecordsSettled) and self._due:
                self._begin_due()

    def tick(self) -> None:
        group = self._group
        if group is None:
            return
        if group.end > self._known:
            self._take_some(group)
        found = self._timers.due(self._partition.node.civil_us)
        if found:
            ready_at, state = group.window.ready_at, group.window.state
            self._due += sorted((ready_at(o), o) for o in found if state(o) == DELAYED)
        if self._due:
            self._begin_due()
        if self._partition.node.clock >= self._carry_at:
            self._carry(group)

    @property
    def next_us(self) -> int | None:
        group = self._group
        if group is None:
            return None
        if group.end > self._known:
            return self._partition.node.wall_us
        return self._timers.next_us

    def upcoming(self, after_us: int, after_offset: int) -> Iterator[tuple[int, int]]:
        """Time and offset of the records that wait, behind a place in that order."""
        group = self._group
        if group is None:
            return
        while group.end > self._known:
            self._take_some(group)
        after = after_us, after_offset
        for at_us, offset in self._timers.upcoming(after_us):
            if (at_us, offset) > after and group.window.state(offset) == DELAYED:
                yield at_us, offset

    def _take_some(self, group: SharedGroup) -> None:
        self._known = take_in(self._timers, group.window, self._known, group.end)

    def _begin_due(self) -> None:
        """Begin the moves of what is due, as far as there is room; an op's offsets ascend."""
        lane = self._mover.lane(TIMER_GROUP)
        target = self._target()
        if lane is None or self._group is None or not target:
            return
        room, due, state = lane.room, self._due, self._group.window.state
        run: list[int] = []
        while due and room > 0:
            offset = due.popleft()[1]
            if state(offset) != DELAYED:
                continue  # cancelled meanwhile
            room -= 1
            if run and (offset <= run[-1] or len(run) >= MOVES_PER_OP):
                lane.begin(run, target, self._again)
                run = []
            run.append(offset)
        if run:
            lane.begin(run, target, self._again)

    def _again(self, offsets: list[int]) -> None:
        """These did not begin to move: what still waits is due again."""
        group = self._group
        if group is not None:
            window = group.window
            for offset in offsets:
                if window.state(offset) == DELAYED:
                    self._timers.add(offset, window.ready_at(offset))

    def _carry(self, group: SharedGroup) -> None:
        """Carry records of the far future forward, if they are few among what they hold back.

        They are moved to the end of this log as they are, so that it can be trimmed and the window
        stays small. So much traffic must come between that this costs a fraction of it.
        """
        clock, now_us = self._partition.node.clock, self._partition.node.wall_us
        self._carry_at = clock + CARRY_SECONDS
        span, lane = group.end - group.start, self._mover.lane(TIMER_GROUP)
        live = group.window.count(DELAYED)
        if span < CARRY_SPAN_MIN or live * CARRY_SHARE > span or not live or lane is None:
            return
        old = group.window.delayed(group.start, min(CARRY_RECORDS, max(lane.room, 0)))
        far = [
            offset
            for offset, at_us in old
            if at_us > now_us + CARRY_AHEAD_US and offset < group.start + span // 2
        ]
        if far and group.dead:
            lane.begin(far, group.dead)
            self._carry_at = clock + CARRYING_SECONDS

    def _target(self) -> int:
        """The Raft group of the partition where the records belong; 0: it is gone."""
        name = self._partition.topic.removeprefix(DELAYED_PREFIX)
        topic = self._partition.node.groups.metadata.machine.topics.get(name)
        number = self._partition.partition
        if topic is None or number >= len(topic.partitions):
            return 0
        return topic.partitions[number].group
