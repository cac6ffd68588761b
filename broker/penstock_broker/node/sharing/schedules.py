"""Fires the recurring schedules of a partition, on its leader.

How far a schedule is stands in the replicated state; when it is due next is computed here, from its
expression and the tables of time zones of this machine. A firing is published under the schedule's
own producer id and numbered, so that trying it again stores nothing twice. Nothing fires early;
what was due while nothing could fire goes by the schedule's catch-up policy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, tzinfo
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from penstock.errors import InvalidConfig, PenstockError
from penstock.protocol.batch import CODEC_NONE
from penstock.protocol.encoding import encode_batch
from penstock.protocol.partitioning import key_slots, tenant_slots
from penstock_broker.machine.commands import SkipSchedule, encode_command
from penstock_broker.machine.config import TopicConfig
from penstock_broker.machine.effects import Effect, ScheduleChanged
from penstock_broker.machine.schedules import Schedule
from penstock_broker.node import cron
from penstock_broker.node.cron import Recurrence

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup

LATE_US: Final = 60_000_000
"""A due time that long ago was missed: `catch_up = skip` gives it up."""
FIRINGS_PER_TICK: Final = 100
"""Of one schedule, while it catches up."""
RETRY_US: Final = 1_000_000
NAME_HEADER: Final = "penstock-schedule"
DUE_HEADER: Final = "penstock-due"

log = logging.getLogger("penstock.broker.schedules")


def only_utc(name: str) -> tzinfo:
    """The time zones of a node that was not given any.

    Raises:
        InvalidConfig: another one was asked for.
    """
    if name.upper() != "UTC":
        raise InvalidConfig(f"there is no time zone {name!r}: this broker knows UTC only")
    return UTC


def latest_due(recurrence: Recurrence, zone: tzinfo, first_us: int, now_us: int) -> int:
    """The last due time up to now, given that `first_us` is one."""
    found, width = first_us, LATE_US
    while now_us - width > first_us:
        due = recurrence.next_after(now_us - width, zone)
        if due is not None and due <= now_us:
            found = due
            break
        width *= 2
    while True:
        following = recurrence.next_after(found, zone)
        if following is None or following > now_us:
            return found
        found = following


def firing(schedule: Schedule, number: int, due_us: int, config: TopicConfig) -> bytearray:
    """The batch of one firing.

    Raises:
        RecordTooLarge, LimitExceeded: a key or the headers are beyond what a record can have.
    """
    key = [schedule.key]
    added = {NAME_HEADER: schedule.name.encode(), DUE_HEADER: b"%d" % due_us}
    separator = config.tenant_separator.encode()
    return encode_batch(
        [schedule.value],
        key,
        headers=[{**schedule.headers, **added}],
        codec=CODEC_NONE,
        producer_id=schedule.producer_id,
        base_sequence=number,
        base_ts_us=due_us,
        key_slots=key_slots(key) if config.key_slots == "key" else None,
        tenant_slots=None if separator == b"none" else tenant_slots(key, separator),
        schedule=(schedule.name, due_us),
    )


class _Cursor:
    """How far a schedule is, those firings included that are not applied yet."""

    __slots__ = ("after_us", "fired", "next_us", "recurrence", "schedule", "zone")

    def __init__(self, schedule: Schedule, recurrence: Recurrence, zone: tzinfo) -> None:
        self.schedule = schedule
        self.recurrence = recurrence
        self.zone = zone
        self.fired = schedule.fired
        self.after_us = schedule.after_us
        self.next_us: int | None = None

    def is_at(self, schedule: Schedule) -> bool:
        """Whether it stands where this schedule does: no firing is under way."""
        return self.schedule.id == schedule.id and self.after_us == schedule.after_us

    def advance(self, after_us: int) -> None:
        self.after_us = max(self.after_us, after_us)
        self.next_us = self.recurrence.next_after(self.after_us, self.zone)


class RecurringSchedules:
    """The schedules of one partition; a part of its `SharedPartition`.

    Attributes:
        naming: names that are given away at the moment; used on the topic's first partition.
    """

    __slots__ = ("_cursors", "_partition", "_queue", "naming")

    def __init__(self, partition: PartitionGroup) -> None:
        self._partition = partition
        self._cursors: dict[str, _Cursor] = {}
        self._queue: list[tuple[int, str]] = []
        """When to look at a schedule; outdated entries are passed over."""
        self.naming: set[str] = set()

    def next_of(self, schedule: Schedule) -> int:
        """When a schedule fires next; 0: never, or it is paused.

        Raises:
            InvalidConfig: this broker can't read its expression, or has no such time zone.
        """
        if schedule.paused:
            return 0
        known = self._cursors.get(schedule.name)
        if known is not None and known.is_at(schedule):
            return known.next_us or 0
        zone = self._partition.node.time_zone(schedule.time_zone)
        return cron.parse(schedule.cron).next_after(schedule.after_us, zone) or 0

    def hold(self, name: str) -> None:
        """A schedule is being paused or deleted: it does not fire until that is applied."""
        self._cursors.pop(name, None)

    def on_leading(self) -> None:
        for schedule in self._partition.machine.schedules.all():
            self._take(schedule)

    def on_lost_leadership(self) -> None:
        self._cursors.clear()
        self._queue.clear()

    def on_effects(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, ScheduleChanged):
                schedule = self._partition.machine.schedules.get(effect.name)
                if schedule is None:
                    self._cursors.pop(effect.name, None)
                else:
                    self._take(schedule)

    def tick(self) -> None:
        now_us = self._partition.node.civil_us
        queue = self._queue
        while queue and queue[0][0] <= now_us:
            _, name = heappop(queue)
            cursor = self._cursors.get(name)
            if cursor is None or cursor.next_us is None or cursor.next_us > now_us:
                continue
            try:
                self._fire(cursor, cursor.next_us, now_us)
            except PenstockError as error:
                log.warning("a schedule can't fire", extra={"schedule": name, "reason": str(error)})
                heappush(queue, (now_us + RETRY_US, name))

    @property
    def next_us(self) -> int | None:
        return self._queue[0][0] if self._queue else None

    def _take(self, schedule: Schedule) -> None:
        """Take a schedule over as it is now; firings under way stay counted."""
        before = self._cursors.pop(schedule.name, None)
        if schedule.paused:
            return
        try:
            zone = self._partition.node.time_zone(schedule.time_zone)
            cursor = _Cursor(schedule, cron.parse(schedule.cron), zone)
        except InvalidConfig as error:
            extra = {"schedule": schedule.name, "reason": str(error)}
            log.error("a schedule can't be read, and does not fire", extra=extra)
            return
        if before is not None and before.schedule.id == schedule.id:
            cursor.fired, cursor.after_us = before.fired, before.after_us
        cursor.advance(schedule.after_us)
        self._cursors[schedule.name] = cursor
        self._enqueue(cursor)

    def _enqueue(self, cursor: _Cursor) -> None:
        if cursor.next_us is not None:
            heappush(self._queue, (cursor.next_us, cursor.schedule.name))

    def _fire(self, cursor: _Cursor, due_us: int, now_us: int) -> None:
        """Do what is due, as the catch-up policy says.

        Raises:
            PenstockError: the partition does not take it now.
        """
        policy = cursor.schedule.catch_up
        if policy == "skip" and due_us < now_us - LATE_US:
            self._skip(cursor, now_us - LATE_US)
        elif policy == "one":
            self._publish(cursor, latest_due(cursor.recurrence, cursor.zone, due_us, now_us))
        else:
            following: int | None = due_us
            for _ in range(FIRINGS_PER_TICK):
                if following is None or following > now_us:
                    break
                self._publish(cursor, following)
                following = cursor.next_us
        self._enqueue(cursor)

    def _skip(self, cursor: _Cursor, through_us: int) -> None:
        schedule = cursor.schedule
        command = SkipSchedule(name=schedule.name, id=schedule.id, through_us=through_us)
        self._partition.propose_command(encode_command(command))
        cursor.advance(through_us)

    def _publish(self, cursor: _Cursor, due_us: int) -> None:
        partition = self._partition
        batch = firing(cursor.schedule, cursor.fired, due_us, partition.config)
        partition.deliver(batch, _settled)
        cursor.fired += 1
        cursor.advance(due_us)


def _settled(offset: int, error: PenstockError | None) -> None:
    """A firing ended; if it failed the lead is lost, and the next leader goes by what it has."""
