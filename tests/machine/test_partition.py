from __future__ import annotations

import pytest

from penstock.errors import (
    BadRequest,
    CorruptBatch,
    CorruptData,
    LimitExceeded,
    OffsetOutOfRange,
    UnsupportedFormat,
)
from penstock.protocol import batch
from penstock.protocol.batch import (
    FLAG_COMPACTED,
    HEADER_BYTES,
    PublishHeader,
    parse_header,
    seal,
)
from penstock_broker.machine import dedup, partition
from penstock_broker.machine.commands import Configure, DeleteGroup, HoldFloor, Trim
from penstock_broker.machine.effects import LogStartMoved
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.producers import Duplicate
from penstock_broker.machine.stamp import Stamp
from tests.machine.replicas import SECOND, Replicas

Partition = Replicas[PartitionMachine]
WINDOW_US = 600 * SECOND


def built(body: bytes = b"payload", **fields: int) -> bytearray:
    buffer = bytearray(HEADER_BYTES) + body
    seal(buffer, **fields)
    return buffer


def extended(extensions: bytes, producer_id: int = 0) -> bytearray:
    return built(extensions + b"payload", count=1, ext_len=len(extensions), producer_id=producer_id)


def with_id(dedup_id: bytes, producer_id: int = 0) -> bytearray:
    return extended(bytes((1, len(dedup_id))) + dedup_id, producer_id)


def head_of(buffer: bytearray) -> PublishHeader:
    h = parse_header(buffer)
    return (h.record_count, h.producer_id, h.producer_epoch, h.base_sequence, h.ext_len)


class Driver(Partition):
    def __init__(self) -> None:
        super().__init__(PartitionMachine)
        self.appended: list[bytearray] = []

    def publish(self, buffer: bytearray) -> Duplicate | None:
        """What the leader does with a batch."""
        verdict = self.machine.check(head_of(buffer), buffer, self.now_us)
        if verdict is None:
            self.index += 1
            offset = 10 * self.index
            self.machine.note_appended(head_of(buffer), self.index, offset, self.now_us, buffer)
            batch.stamp(buffer, 1, self.index, 1, 1, offset, self.now_us)
            self.appended.append(buffer)
        return verdict

    def commit(self) -> None:
        for buffer in self.appended:
            self.machine.apply_batch(parse_header(buffer), buffer)
        self.appended.clear()


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_plain_batch_is_always_new(driver: Driver) -> None:
    plain = batch.build(b"x", count=3)
    assert driver.publish(plain) is None
    assert driver.publish(batch.build(b"x", count=3)) is None
    driver.commit()
    assert driver.machine.end_offset == 23
    assert (driver.machine.producers, driver.machine.dedup_ids) == (0, 0)


def test_an_idempotent_batch_is_judged_by_its_sequence(driver: Driver) -> None:
    first = built(count=3, producer_id=5)
    assert driver.publish(first) is None
    assert driver.publish(first) == Duplicate(10, driver.now_us, 1)
    driver.commit()
    assert driver.publish(first) == Duplicate(10, driver.now_us, 0)
    assert driver.machine.producers == 1


def test_a_compacted_batch_covers_more_offsets_than_records(driver: Driver) -> None:
    span = bytes((3, 4)) + (50).to_bytes(4, "little")
    buffer = built(span, count=2, flags=FLAG_COMPACTED, ext_len=len(span))
    batch.stamp(buffer, 1, 1, 1, 1, 100, 5)
    driver.machine.apply_batch(parse_header(buffer), buffer)
    assert driver.machine.end_offset == 150


def test_a_dedup_id_is_known_in_flight_and_committed(driver: Driver) -> None:
    assert driver.publish(with_id(b"order-1")) is None
    assert driver.publish(with_id(b"order-1")) == Duplicate(10, driver.now_us, 1)
    assert driver.publish(with_id(b"order-2")) is None
    driver.commit()
    assert driver.publish(with_id(b"order-1")) == Duplicate(10, driver.now_us, 0)
    assert driver.machine.dedup_ids == 2


def test_a_dedup_id_that_was_in_flight_goes_with_the_lead(driver: Driver) -> None:
    driver.publish(with_id(b"order-1"))
    driver.machine.drop_overlay()
    assert driver.publish(with_id(b"order-1")) is None


def test_a_dedup_id_counts_within_its_window(driver: Driver) -> None:
    driver.publish(with_id(b"order-1"))
    driver.commit()
    driver.now_us += WINDOW_US
    assert driver.publish(with_id(b"order-1")) is not None
    driver.now_us += 1
    assert driver.publish(with_id(b"order-1")) is None
    driver.commit()
    assert driver.publish(with_id(b"order-1")) == Duplicate(20, driver.now_us, 0)
    assert driver.machine.dedup_ids == 1


def test_old_dedup_ids_are_forgotten(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.publish(with_id(b"order-1"))
    driver.commit()
    driver.now_us += WINDOW_US + 1
    driver.publish(with_id(b"order-2"))
    driver.commit()
    assert driver.machine.dedup_ids == 1
    monkeypatch.setattr(dedup, "DEDUP_IDS_MAX", 2)
    for number in range(3, 6):
        driver.publish(with_id(b"order-%d" % number))
    driver.commit()
    assert driver.machine.dedup_ids == 2
    assert driver.publish(with_id(b"order-2")) is None


def test_a_window_of_zero_remembers_nothing(driver: Driver) -> None:
    driver.publish(with_id(b"order-1"))
    driver.commit()
    driver.apply(Configure(dedup_window_ms=0))
    assert (driver.machine.dedup_ids, driver.machine.dedup_window_ms) == (0, 0)
    assert driver.publish(with_id(b"order-1")) is None
    assert driver.publish(with_id(b"order-1")) is None
    driver.commit()
    assert driver.machine.dedup_ids == 0


def test_a_window_has_limits(driver: Driver) -> None:
    assert driver.refuse(Configure(dedup_window_ms=-1)) is BadRequest
    assert driver.refuse(Configure(dedup_window_ms=10**12)) is BadRequest


def test_a_batch_has_a_sequence_or_a_dedup_id_not_both(driver: Driver) -> None:
    with pytest.raises(BadRequest):
        driver.publish(with_id(b"order-1", producer_id=5))
    assert driver.publish(extended(bytes((4, 16)) + bytes(16), producer_id=5)) is None


def test_other_extension_fields_are_no_dedup_id(driver: Driver) -> None:
    assert driver.publish(extended(bytes((4, 16)) + bytes(16))) is None
    assert driver.publish(extended(bytes((4, 16)) + bytes(16))) is None
    driver.commit()
    assert driver.machine.dedup_ids == 0


@pytest.mark.parametrize(
    "extensions", [b"\x01", b"\x01\x09ab", bytes((1, 0)), bytes((1, 65)) + b"x" * 65]
)
def test_malformed_extension_fields_are_refused_and_never_stop_a_replica(
    driver: Driver, extensions: bytes
) -> None:
    buffer = extended(extensions)
    with pytest.raises(CorruptBatch):
        driver.publish(buffer)
    batch.stamp(buffer, 1, 1, 1, 1, 0, 5)
    driver.machine.apply_batch(parse_header(buffer), buffer)
    assert driver.machine.end_offset == 1


def test_noting_without_the_batch_is_fine(driver: Driver) -> None:
    driver.machine.note_appended((1, 0, 0, 0, 9), 1, 10, 5)
    assert driver.publish(with_id(b"order-1")) is None


def test_every_leader_begins_an_epoch(driver: Driver) -> None:
    assert driver.machine.apply_noop(Stamp(1, 1, 5)) == 1
    assert driver.machine.apply_noop(Stamp(2, 2, 6)) == 2
    assert driver.machine.epoch == 2


def test_the_log_start_only_rises_and_not_beyond_the_end(driver: Driver) -> None:
    driver.publish(batch.build(b"x", count=5))
    driver.commit()
    assert driver.apply(Trim(offset=12)).log_start_offset == 12
    assert driver.effects == [LogStartMoved(12)]
    assert driver.apply(Trim(offset=11)).log_start_offset == 12
    assert driver.effects == []
    assert driver.refuse(Trim(offset=16)) is OffsetOutOfRange
    assert driver.refuse(Trim(offset=-1)) is OffsetOutOfRange
    assert driver.apply(Trim(offset=15)).log_start_offset == 15


def test_groups_hold_the_floor(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver.machine.floor is None
    driver.apply(HoldFloor(group="billing", offset=30))
    assert driver.apply(HoldFloor(group="audit", offset=20)).floor == 20
    monkeypatch.setattr(partition, "FLOORS_MAX", 2)
    assert driver.refuse(HoldFloor(group="third", offset=1)) is LimitExceeded
    assert driver.refuse(HoldFloor(group="audit", offset=-1)) is BadRequest
    assert driver.apply(HoldFloor(group="audit", offset=40)).floor == 30
    assert driver.apply(HoldFloor(group="billing", offset=None)).floor == 40
    assert driver.apply(HoldFloor(group="billing", offset=None)).floor == 40


def test_a_foreign_command_is_refused(driver: Driver) -> None:
    assert driver.refuse(DeleteGroup(group="g")) is BadRequest


def test_all_of_the_state_is_in_the_snapshot(driver: Driver) -> None:
    driver.machine.apply_noop(Stamp(1, 1, 5))
    driver.publish(with_id(b"order-1"))
    driver.publish(built(count=5, producer_id=9))
    driver.commit()
    driver.apply(Trim(offset=3))
    driver.apply(HoldFloor(group="billing", offset=30))
    driver.apply(Configure(dedup_window_ms=5_000))
    restored = PartitionMachine()
    restored.restore(driver.machine.snapshot())
    assert restored.snapshot() == driver.machine.snapshot()
    for name in ("epoch", "log_start_offset", "end_offset", "floor", "producers", "dedup_ids"):
        assert getattr(restored, name) == getattr(driver.machine, name), name
    assert restored.dedup_window_ms == 5_000


def test_a_snapshot_of_another_version_or_damaged_is_refused(driver: Driver) -> None:
    blob = driver.machine.snapshot()
    with pytest.raises(UnsupportedFormat):
        driver.machine.restore(b"\x09" + blob[1:])
    with pytest.raises(CorruptData):
        driver.machine.restore(blob[:-1])
    assert driver.machine.snapshot() == blob
