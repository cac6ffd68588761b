"""The moves of one group, step by step.

`Move` gives MOVING records their target and sequence numbers; the records are read back and
published there under the group's own producer id and those numbers, which the target admits once;
when that is committed, `Moved` settles them. Every step may happen again after a crash or a change
of leader on either side. What is kept here is soft: after any failure it is made anew from the
pending moves of the replicated state. Invariant: moves are published in the order of their sequence
numbers, and none is passed over unless it was settled otherwise: `Moved` settles all up to one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock.protocol import columns
from penstock.protocol.batch import EXT_DELIVER_AT
from penstock.protocol.records import RecordBatch
from penstock_broker.machine.producers import system_producer
from penstock_broker.machine.sharing.giving_up import CARRIED
from penstock_broker.machine.sharing.moves import PENDING_MAX, PendingMove
from penstock_broker.machine.sharing.ops import Drop, Move, Moved
from penstock_broker.machine.sharing.replies import Moving, OpReply
from penstock_broker.machine.sharing.state import MOVING, TIMER
from penstock_broker.node.deliveries import deliver
from penstock_broker.node.sharing.composing import Item, Load, compose
from penstock_broker.node.sharing.dead_letters import DEAD_HEADER, tell
from penstock_broker.node.sharing.sources import Found, Stock
from penstock_broker.node.sharing.spans import flat, runs_of

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.sharing.shared import SharedPartition

FLIGHTS_MAX: Final = 16
"""Batches of a lane that are published and not committed."""
MOVES_PER_OP: Final = 2_000
RETRY_MIN_US: Final = 100_000
RETRY_MAX_US: Final = 30_000_000
PATIENCE_US: Final = 10_000_000
"""How long a target may be out of reach before `dead_letter_unavailable = drop` drops."""
WHOLE_RECORDS_MIN: Final = 16
"""Delayed batches of fewer records are opened, to be published together with others."""
NO_TARGET: Final = "there is no dead-letter topic"


class Lane:
    """The moves of one group.

    Attributes:
        retry_us: when to go on after a failure (wall clock); 0: nothing failed.
        blocked: why nothing moves at the moment; empty: it does.
    """

    __slots__ = (
        "_failed_us",
        "_failures",
        "_flights",
        "_life",
        "_load",
        "_offered",
        "_partition",
        "_producer_id",
        "_queue",
        "_queued",
        "_shared",
        "_stepping",
        "_stock",
        "_told",
        "blocked",
        "group",
        "retry_us",
    )  # fmt: skip

    def __init__(self, shared: SharedPartition, group: SharedGroup) -> None:
        self.group = group
        self.retry_us = 0
        self.blocked = ""
        self._shared = shared
        self._partition = shared.partition
        self._producer_id = system_producer(
            "move", shared.partition.gid, group.name, group.incarnation
        )
        self._stock = Stock(shared.partition, self.step)
        self._offered: set[int] = set()
        """Offsets in `Move` and `Drop` ops that are not applied."""
        self._life = 0
        """Counts the failures after which everything began anew; -1: it is over."""
        self._failures = 0
        self._failed_us = 0
        """Since when nothing has worked; 0: it does."""
        self._stepping = False
        self._told: tuple[int, int] | None = None
        """Which sequence number a target led elsewhere said that it expects."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._queue: deque[PendingMove] = deque()
        """Begun, and not taken to be published."""
        self._queued = -1
        """Highest sequence number that was put into the queue."""
        self._load = Load()
        self._stock.clear()
        self._flights: deque[tuple[int, int]] = deque()
        """Target and last sequence number of batches that are published and not committed; one
        target at a time."""
        self._enqueue(self.group.moves.pending)

    def end(self) -> None:
        """The lead is lost, or the group is gone."""
        self._life = -1

    @property
    def room(self) -> int:
        """How many more moves may begin."""
        return PENDING_MAX - len(self.group.moves.begun) - len(self._offered)

    def tick(self) -> None:
        """Go on after a failure, when it is time."""
        if self.retry_us and self.retry_us <= self._partition.node.wall_us:
            self.retry_us = 0
            self.step()

    def step(self) -> None:
        """Do whatever can be done now."""
        if self._life < 0 or self.retry_us or self._stepping:
            return
        self._stepping = True
        try:
            if self.group.kind != TIMER:
                self._begin_waiting()
            while len(self._flights) < FLIGHTS_MAX and self._fill():
                if self._flights and self._flights[-1][0] != self._load.target:
                    break
                load, self._load = self._load, Load()
                self._send(load.items, load.target)
        except PenstockError as error:
            self._fail(error)
        finally:
            self._stepping = False

    def _fail(self, error: PenstockError) -> None:
        """Something did not work: begin anew a little later."""
        now_us = self._partition.node.wall_us
        self._life += 1
        self._failed_us = self._failed_us or now_us
        self.blocked = str(error)
        pause_us = min(RETRY_MIN_US << min(self._failures, 20), RETRY_MAX_US)
        self.retry_us = now_us + pause_us
        self._failures += 1
        self._begin_anew()

    # ----- beginning

    def begin(
        self, offsets: list[int], target: int, left: Callable[[list[int]], None] | None = None
    ) -> None:
        """Propose that records begin to move; offsets ascending, at most `room` of them.

        `left` is told of those that did not begin.
        """
        self._offered.update(offsets)
        self._shared.offer(
            Move(group=self.group.name, offsets=offsets, target=target),
            lambda reply: self._begun(offsets, reply, left),
            weight=64 + 9 * len(offsets),
        )

    def _begun(
        self,
        offsets: list[int],
        reply: OpReply | PenstockError,
        left: Callable[[list[int]], None] | None,
    ) -> None:
        if self._life < 0:
            return
        self._offered.difference_update(offsets)
        began = reply.offsets if isinstance(reply, Moving) else []
        begun = self.group.moves.begun
        self._enqueue([begun[offset] for offset in began if offset in begun])
        if left is not None and len(began) < len(offsets):
            left(sorted(set(offsets).difference(began)))
        self.step()

    def _enqueue(self, moves: list[PendingMove]) -> None:
        for move in moves:
            if move.sequence > self._queued:
                self._queued = move.sequence
                self._queue.append(move)

    def _begin_waiting(self) -> None:
        """Begin to move what waits; drop it if it can't be moved and the policy says so."""
        group, target = self.group, self.group.dead
        begun = group.moves.begun
        if group.window.count(MOVING) <= len(self._flights) and not begun:
            return
        stranded = [o for o, move in begun.items() if move.target != target or not target]
        stranded = [o for o in stranded if o not in self._offered and self._gone(begun[o].target)]
        waiting = sorted([*stranded, *self._waiting(min(MOVES_PER_OP, self.room))])
        if not waiting:
            return
        if target and not self._gone(target):
            if self._impatient():
                stranded_set = set(stranded)
                self._drop([offset for offset in waiting if offset not in stranded_set])
            else:
                self.begin(waiting, target)
        elif group.drops or group.settings.dead_letter_unavailable == "drop":
            self._drop(waiting)
        else:
            self.blocked = NO_TARGET

    def _waiting(self, limit: int) -> list[int]:
        """MOVING records whose move has not begun."""
        found: list[int] = []
        begun, offered, window = self.group.moves.begun, self._offered, self.group.window
        if window.count(MOVING) <= len(begun) or limit <= 0:
            return found
        for first, count in window.runs(MOVING, limit=limit + len(begun) + len(offered)):
            fresh = range(first, first + count)
            found += [offset for offset in fresh if offset not in begun and offset not in offered]
            if len(found) >= limit:
                break
        return found[:limit]

    def _gone(self, target: int) -> bool:
        """Whether a target will never take anything again."""
        return self._partition.node.groups.metadata.machine.is_deleted(target)

    def _impatient(self) -> bool:
        """Whether the target was out of reach for so long that records are dropped."""
        drops = self.group.settings.dead_letter_unavailable == "drop"
        waited_us = self._partition.node.wall_us - self._failed_us
        return drops and bool(self._failed_us) and waited_us > PATIENCE_US

    def _drop(self, offsets: list[int], reason: str = "dead_letter_topic") -> None:
        if not offsets:
            return
        self._offered.update(offsets)

        def dropped(_: OpReply | PenstockError) -> None:
            if self._life >= 0:
                self._offered.difference_update(offsets)
                self.step()

        spans = flat(runs_of(offsets))
        self._shared.offer(Drop(group=self.group.name, spans=spans, reason=reason), dropped)

    # ----- publishing

    def _fill(self) -> bool:
        """Take moves from the queue; whether there is a batch to publish."""
        queue, load, begun = self._queue, self._load, self.group.moves.begun
        while queue:
            move = queue[0]
            if begun.get(move.offset) != move:
                queue.popleft()  # settled otherwise, or begun anew
                continue
            if self._gone(move.target):
                break
            if not self._stock.has(move.offset) and not self._restock():
                return False
            found = self._stock.get(move.offset)
            if isinstance(found, PenstockError):
                item = self._lost(move, found)
            elif not load.items and self._take_whole(found):
                return True
            else:
                item = self._item(move, found)
            if item is not None and not load.take(item, move.target):
                return True
            queue.popleft()
        return bool(load.items)

    def _restock(self) -> bool:
        """Read the records of the next moves; False: reading goes on in the thread."""
        begun = self.group.moves.begun
        if self._stock.empty:
            moves = islice(self._queue, self._stock.limit)
            self._stock.order([move.offset for move in moves if move.offset in begun])
        return self._stock.fetch()

    def _take_whole(self, found: Found) -> bool:
        """Take a delayed batch as it is, unopened, if all of its records are next."""
        count, base = found.batch.header.record_count, found.batch.base_offset
        queue = self._queue
        if self.group.kind != TIMER or found.place or not WHOLE_RECORDS_MIN <= count <= len(queue):
            return False
        sequence, target = queue[0].sequence, queue[0].target
        deliver_at_us = _waits_until(queue[0], found.batch)
        for place in range(count):
            move = queue[place]
            if move != PendingMove(sequence + place, base + place, target, move.reason):
                return False
        for place in range(count):
            item = Item(
                sequence + place, found.batch, place, found.buffer, deliver_at_us=deliver_at_us
            )
            self._load.items.append(item)
            queue.popleft()
        self._load.target = target
        return True

    def _item(self, move: PendingMove, found: Found) -> Item:
        batch, place, buffer = found
        if self.group.kind == TIMER:
            own_time = columns.TIMESTAMPS in batch.column_ids()
            time_ms = batch.timestamps_us[place] // 1000 if own_time else -1
            at_us = _waits_until(move, batch)
            return Item(move.sequence, batch, place, buffer, time_ms, deliver_at_us=at_us)
        time_ms = batch.timestamps_us[place] // 1000
        headers = {DEAD_HEADER: self._story(move)}
        return Item(move.sequence, batch, place, buffer, time_ms, headers)

    def _lost(self, move: PendingMove, error: PenstockError) -> Item | None:
        """A record can't be read any more: what is known of it becomes the dead letter."""
        if self.group.kind == TIMER:
            self._drop([move.offset], f"unreadable: {error}")
            return None
        time_ms = self._partition.node.wall_us // 1000
        headers = {DEAD_HEADER: self._story(move, str(error))}
        return Item(move.sequence, None, 0, b"", time_ms, headers)

    def _story(self, move: PendingMove, unreadable: str = "") -> bytes:
        partition, group = self._partition, self.group
        origin = (partition.topic, partition.partition, move.offset, group.name)
        trouble = group.troubles.get(move.offset)
        return tell(origin, move.reason, trouble, partition.node.wall_us, unreadable)

    def _send(self, items: list[Item], target: int, skips_from: int = -1) -> None:
        """Publish items as one batch; what the target has already is not sent with what it lacks.

        Raises:
            PenstockError: the target does not take it now.
        """
        first, last, life = items[0].sequence, items[-1].sequence, self._life
        told, self._told = self._told, None
        mine = told is not None and told[0] == target and skips_from < 0
        if told is not None and mine and self._resend(items, target, told[1]):
            return  # it is led elsewhere, and said so the last time
        batch = compose(items, self._producer_id)
        self._flights.append((target, last))
        try:
            deliver(
                self._partition.node,
                target,
                batch,
                lambda offset, error: self._landed(life, target, offset, error),
                skips_from,
            )
        except PenstockError as error:
            self._flights.pop()
            expected = error.detail.get("expected")
            skipped = skips_from >= 0 and isinstance(expected, int) and expected < first
            if not isinstance(expected, int) or skipped:
                raise
            if not self._resend(items, target, expected):
                raise

    def _resend(self, items: list[Item], target: int, expected: int) -> bool:
        """Send what the target can take, given which sequence number it expects; False: nothing.

        Raises:
            PenstockError: the target does not take it now.
        """
        first, last = items[0].sequence, items[-1].sequence
        if first < expected <= last:
            self._send(items[: expected - first], target)
            self._send(items[expected - first :], target)
        elif expected < first and not self._flights:
            self._send(items, target, skips_from=expected)
        else:
            return False
        return True

    def _landed(self, life: int, target: int, offset: int, error: PenstockError | None) -> None:
        """The outcome of a published batch; they come in the order of publishing."""
        if life != self._life:
            return
        if error is not None:
            expected = error.detail.get("expected")
            self._told = (target, expected) if isinstance(expected, int) else None
            self._fail(error)
            return
        _, last = self._flights.popleft()
        self._failures = self._failed_us = 0
        self.blocked = ""
        self._shared.offer(
            Moved(group=self.group.name, through_sequence=last, base_offset=offset),
            lambda _: self.step(),
        )
        self.step()


def _waits_until(move: PendingMove, batch: RecordBatch) -> int:
    """Until when a record is to wait where it goes: only one that is carried forward is."""
    if move.reason != CARRIED:
        return 0
    return int.from_bytes(batch.extensions.get(EXT_DELIVER_AT, b""), "little")
