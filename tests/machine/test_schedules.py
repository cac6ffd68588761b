"""Recurring schedules: made, paused, fired, and kept."""

from __future__ import annotations

import pytest

from penstock.errors import (
    BadRequest,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
    ScheduleNotFound,
)
from penstock.protocol.batch import SYSTEM_PRODUCERS, Kind, parse_header, stamp
from penstock.protocol.records import encode_batch
from penstock_broker.machine import schedules
from penstock_broker.machine.commands import (
    Command,
    DropSchedule,
    PauseSchedule,
    PutSchedule,
    Refused,
    SkipSchedule,
    decode_command,
    encode_command,
)
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.producers import system_producer
from penstock_broker.machine.schedules import Schedule, SchedulePut
from penstock_broker.machine.stamp import Stamp


def put(name: str = "nightly", id_: str = "id-1", **fields: object) -> PutSchedule:
    given: dict[str, object] = {
        "cron": "0 0 * * *", "time_zone": "UTC", "catch_up": "one", "value": b"v", "key": None,
        "headers": {}, "after_us": 1_000, **fields,
    }  # fmt: skip
    return PutSchedule(name=name, id=id_, **given)  # type: ignore[arg-type]  # a test's shorthand


class Partition:
    def __init__(self) -> None:
        self.machine = PartitionMachine()
        self.index = 0

    def do(self, command: Command) -> object:
        self.index += 1
        command = decode_command(encode_command(command))
        return self.machine.apply(command, Stamp(self.index, 1, self.index))[0]

    def fire(self, due_us: int, sequence: int, name: str = "nightly") -> None:
        schedule = self.schedule(name)
        batch = encode_batch(
            [b"v"], producer_id=schedule.producer_id, base_sequence=sequence,
            schedule=(name, due_us),
        )  # fmt: skip
        self.index += 1
        stamp(batch, Kind.DATA, self.index, 1, 1, self.machine.end_offset, self.index)
        self.machine.apply_batch(parse_header(batch), batch)

    def schedule(self, name: str = "nightly") -> Schedule:
        found = self.machine.schedules.get(name)
        assert found is not None
        return found

    def refused(self, command: Command) -> int:
        reply = self.do(command)
        assert isinstance(reply, Refused)
        return reply.code


@pytest.fixture
def partition() -> Partition:
    return Partition()


def test_a_schedule_is_kept_as_it_was_put(partition: Partition) -> None:
    reply = partition.do(put(headers={"a": b"b"}))
    assert isinstance(reply, SchedulePut)
    assert reply.schedule == partition.schedule()
    assert (reply.schedule.fired, reply.schedule.after_us) == (0, 1_000)


def test_putting_it_twice_with_one_id_changes_nothing(partition: Partition) -> None:
    partition.do(put())
    partition.fire(5_000, 0)
    reply = partition.do(put())
    assert isinstance(reply, SchedulePut)
    assert reply.schedule.fired == 1


def test_another_of_the_same_name_needs_to_replace_it(partition: Partition) -> None:
    partition.do(put())
    partition.fire(5_000, 0)
    assert partition.refused(put(id_="id-2")) == PreconditionFailed.code
    partition.do(put(id_="id-2", replace=True, after_us=7_000))
    assert (partition.schedule().fired, partition.schedule().after_us) == (0, 7_000)
    assert partition.machine.producers == 0


def test_a_firing_advances_the_schedule_with_its_record(partition: Partition) -> None:
    partition.do(put())
    partition.fire(5_000, 0)
    partition.fire(9_000, 1)
    schedule = partition.schedule()
    assert (schedule.fired, schedule.last_us, schedule.after_us) == (2, 9_000, 9_000)
    assert partition.machine.end_offset == 2


def test_a_firing_of_a_schedule_that_is_gone_is_just_a_record(partition: Partition) -> None:
    partition.do(put())
    other = Partition()
    other.do(put())
    other.do(DropSchedule(name="nightly"))
    other.machine.schedules.fired(partition.schedule().producer_id, 0, b"")
    assert len(other.machine.schedules) == 0


def test_what_is_skipped_never_goes_back(partition: Partition) -> None:
    partition.do(put())
    partition.do(SkipSchedule(name="nightly", id="id-1", through_us=6_000))
    partition.do(SkipSchedule(name="nightly", id="id-1", through_us=2_000))
    partition.do(SkipSchedule(name="nightly", id="other", through_us=9_000))
    assert partition.schedule().after_us == 6_000


def test_a_schedule_pauses_and_goes_on(partition: Partition) -> None:
    partition.do(put())
    partition.do(PauseSchedule(name="nightly", paused=True))
    assert partition.schedule().paused
    partition.do(PauseSchedule(name="nightly", paused=False))
    assert not partition.schedule().paused


def test_a_dropped_schedule_and_its_producer_are_forgotten(partition: Partition) -> None:
    partition.do(put())
    partition.fire(5_000, 0)
    assert partition.machine.producers == 1
    partition.do(DropSchedule(name="nightly"))
    assert (len(partition.machine.schedules), partition.machine.producers) == (0, 0)
    assert partition.refused(DropSchedule(name="nightly")) == ScheduleNotFound.code


def test_what_is_out_of_bounds_is_refused(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert partition.refused(put(name="a b")) == InvalidName.code
    assert partition.refused(put(catch_up="most")) == BadRequest.code
    assert partition.refused(put(cron="*" * 300)) == BadRequest.code
    assert partition.refused(put(value=bytes(70_000))) == LimitExceeded.code
    assert partition.refused(PauseSchedule(name="none", paused=True)) == ScheduleNotFound.code
    monkeypatch.setattr(schedules, "SCHEDULES_MAX", 1)
    partition.do(put())
    assert partition.refused(put(name="second", id_="id-2")) == LimitExceeded.code


def test_schedules_survive_a_snapshot(partition: Partition) -> None:
    for number in range(3):
        partition.do(put(f"s{number}", f"id-{number}", key=b"k", headers={"h": b"v"}))
    partition.fire(5_000, 0, "s1")
    again = Partition()
    again.machine.restore(partition.machine.snapshot())
    assert again.machine.schedules.all() == partition.machine.schedules.all()
    assert again.machine.snapshot() == partition.machine.snapshot()
    again.fire(6_000, 1, "s1")
    assert again.schedule("s1").fired == 2


def test_system_producers_are_the_brokers_own_and_differ() -> None:
    ids = {system_producer("schedule", f"id-{number}") for number in range(1000)}
    assert len(ids) == 1000
    assert min(ids) >= SYSTEM_PRODUCERS
