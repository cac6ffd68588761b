"""Recurring schedules of a partition: what to publish again and again, and how far each one is.

When a schedule is due is for the leader to compute: time zones change with the tables of each
machine, so no replica could be sure to find the same. A firing is an ordinary DATA batch that
carries the schedule's name and its due time, under a producer id made of the schedule's id and
with the number of the firing as its sequence: the record and the schedule's advance are one entry,
and a firing that is tried twice is stored once. Invariants: `fired` and `after_us` never go down;
a due time up to `after_us` never fires (again).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct, structs

from penstock.errors import (
    BadRequest,
    CorruptBatch,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
    ScheduleNotFound,
)
from penstock.protocol.batch import HEADER_BYTES, Buffer
from penstock.protocol.extensions import EXT_SCHEDULE, parse_extensions, read_schedule
from penstock.protocol.names import check_name
from penstock_broker.machine.commands import (
    DropSchedule,
    PauseSchedule,
    PutSchedule,
    Refused,
    SkipSchedule,
    refuse,
)
from penstock_broker.machine.effects import Effect, ScheduleChanged
from penstock_broker.machine.producers import system_producer

SCHEDULES_MAX: Final = 10_000
"""Schedules of a partition."""
RECORD_BYTES_MAX: Final = 64 * 1024
"""Value, key and headers of a schedule's record."""
CATCH_UP: Final = ("skip", "one", "all")
TEXT_CHARACTERS_MAX: Final = 200

ScheduleCommand = PutSchedule | PauseSchedule | SkipSchedule | DropSchedule


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recurring schedule."""

    name: str
    id: str
    """Unique: a schedule that is made anew under the same name has another one."""
    cron: str
    time_zone: str
    catch_up: str
    """What was missed while no leader was there, or during a pause: skip, one or all."""
    value: bytes | None
    key: bytes | None
    headers: dict[str, bytes]
    after_us: int
    """The due times up to this one are done with."""
    paused: bool = False
    fired: int = 0
    """How often it fired: the sequence of the next firing."""
    last_us: int = 0
    """The due time of the last firing; 0: none yet."""

    @property
    def producer_id(self) -> int:
        """Under which its firings are published."""
        return system_producer("schedule", self.id)


def schedule_of(command: PutSchedule) -> Schedule:
    """The schedule that a command makes."""
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    del fields["replace"]
    return Schedule(**fields)


class SchedulePut(Struct, frozen=True):
    """Replies to commands about a schedule: how it is now."""

    schedule: Schedule


class ScheduleDropped(Struct, frozen=True):
    """Replies to `DropSchedule`."""

    schedule: Schedule


ScheduleReply = Refused | SchedulePut | ScheduleDropped


class Schedules:
    """The schedules of one partition; in the order of their names.

    `forget` is called with the producer id of a schedule that is gone.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self._by_name: dict[str, Schedule] = {}
        self._by_producer: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Schedule | None:
        """One of them."""
        return self._by_name.get(name)

    def all(self) -> list[Schedule]:
        """All of them, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def apply(self, command: ScheduleCommand) -> tuple[ScheduleReply, list[Effect]]:
        """Carry out a committed command."""
        if isinstance(command, PutSchedule):
            return self._put(command)
        schedule = self._by_name.get(command.name)
        if schedule is None:
            return refuse(ScheduleNotFound, f"there is no schedule {command.name!r}"), []
        match command:
            case PauseSchedule(paused=paused):
                schedule = structs.replace(schedule, paused=paused)
            case SkipSchedule(id=id_, through_us=through_us):
                if schedule.id == id_:
                    after_us = max(schedule.after_us, through_us)
                    schedule = structs.replace(schedule, after_us=after_us)
            case DropSchedule():
                self._drop(schedule)
                return ScheduleDropped(schedule), [ScheduleChanged(schedule.name)]
        return self._store(schedule)

    def fired(self, producer_id: int, ext_len: int, batch: Buffer) -> None:
        """A batch of a system producer is committed: if it is a firing, its schedule advances."""
        name = self._by_producer.get(producer_id)
        if name is None:
            return
        due_us = _due_of(ext_len, batch)
        schedule = self._by_name[name]
        self._by_name[name] = structs.replace(
            schedule,
            fired=schedule.fired + 1,
            last_us=due_us,
            after_us=max(schedule.after_us, due_us),
        )

    def _put(self, command: PutSchedule) -> tuple[ScheduleReply, list[Effect]]:
        refused = _check(command)
        if refused is not None:
            return refused, []
        before = self._by_name.get(command.name)
        if before is not None and before.id == command.id:
            return SchedulePut(before), []
        if before is not None and not command.replace:
            return refuse(PreconditionFailed, f"the schedule {command.name!r} exists"), []
        if before is None and len(self) >= SCHEDULES_MAX:
            return refuse(LimitExceeded, f"a partition has at most {SCHEDULES_MAX} schedules"), []
        if before is not None:
            self._drop(before)
        return self._store(schedule_of(command))

    def _store(self, schedule: Schedule) -> tuple[ScheduleReply, list[Effect]]:
        self._by_name[schedule.name] = schedule
        self._by_producer[schedule.producer_id] = schedule.name
        return SchedulePut(schedule), [ScheduleChanged(schedule.name)]

    def _drop(self, schedule: Schedule) -> None:
        del self._by_name[schedule.name]
        del self._by_producer[schedule.producer_id]
        self._forget(schedule.producer_id)

    # ----- snapshots

    def restore(self, rows: list[Schedule]) -> None:
        """Take over what `all` gave."""
        self._by_name = {schedule.name: schedule for schedule in rows}
        self._by_producer = {schedule.producer_id: schedule.name for schedule in rows}


def _check(command: PutSchedule) -> Refused | None:
    try:
        check_name(command.name, "schedule")
    except InvalidName as error:
        return refuse(InvalidName, error.message)
    if command.catch_up not in CATCH_UP:
        return refuse(BadRequest, f"catch_up is one of: {', '.join(CATCH_UP)}")
    if max(len(command.cron), len(command.time_zone), len(command.id)) > TEXT_CHARACTERS_MAX:
        return refuse(BadRequest, f"a text has more than {TEXT_CHARACTERS_MAX} characters")
    size = len(command.value or b"") + len(command.key or b"")
    size += sum(len(name) + len(value) for name, value in command.headers.items())
    if size > RECORD_BYTES_MAX:
        return refuse(
            LimitExceeded, f"a schedule's record has {size} bytes; at most {RECORD_BYTES_MAX}"
        )
    return None


def _due_of(ext_len: int, batch: Buffer) -> int:
    """The due time that a firing names; 0 if it does not say (committed is committed)."""
    area = bytes(memoryview(batch)[HEADER_BYTES : HEADER_BYTES + ext_len])
    try:
        data = parse_extensions(area).get(EXT_SCHEDULE)
        return read_schedule(data)[1] if data is not None else 0
    except CorruptBatch:
        return 0
