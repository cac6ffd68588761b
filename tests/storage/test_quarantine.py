"""Dropped replicas are kept for a while: whole, listed, and gone when they are due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.protocol.batch import parse_header
from penstock_broker.simulation.disk import Crash, SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Store
from penstock_broker.storage.checkpoint import load_checkpoint
from penstock_broker.storage.files import Beneath, Files
from penstock_broker.storage.inspect import inspect_files
from tests.storage.helpers import SMALL, data_batch, data_entry, flush, open_store, settle

DAY_US = 24 * 3600 * 1_000_000
NOW = 1_700_000_000_000_000


def fill(store: Store, gid: int, first: int, count: int, *, term: int = 1) -> None:
    """Log and apply batches."""
    for index in range(first, first + count):
        store.append(gid, [data_entry(index, index - 1, term=term)], (term, 2, index), index)
        flush(store)
        buffer = data_batch(index, index - 1, term=term)
        store.create_log(gid).append(buffer, parse_header(buffer))


def kept(files: Files, path: str) -> int:
    """Records of a quarantined replica, whose files must be whole."""
    reports = list(inspect_files(Beneath(files, path)))
    assert not [report.damage for report in reports if report.damage]
    assert [report.entries for report in reports if report.kind == "checkpoint"] == [1]
    return sum(report.records for report in reports if report.kind == "segment")


def test_a_dropped_replica_is_kept_with_all_that_was_applied() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 200)
    store.drop_replica(5, 200, 1, at_us=NOW, state=(200, 1, b"state"))
    settle(store)
    (one,) = store.quarantined()
    assert (one.at_us, one.gid) == (NOW, 5)
    assert store.statistics()["quarantined_bytes"] == one.bytes > 200 * 96
    assert kept(files, one.path) == 200
    assert files.list("partitions") == []
    store.close()
    assert open_store(files).quarantined() == [one]


def test_the_state_of_the_last_checkpoint_is_kept_where_none_is_given() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 50)
    store.checkpoint([(5, 40, 1, b"state")])
    settle(store)
    store.drop_replica(5, 50, 1, at_us=NOW)
    settle(store)
    (one,) = store.quarantined()
    found = load_checkpoint(Beneath(files, one.path), None)
    assert (found.records[5].applied_index, found.blobs[5]) == (40, b"state")
    assert found.records[5].durable.end_offset == 50


def test_its_time_ends_after_a_day() -> None:
    files = MemoryFiles()
    store = open_store(files)
    for gid in (5, 6):
        fill(store, gid, 1, 10)
        store.drop_replica(gid, 10, 1, at_us=NOW + gid)
        settle(store)
    store.expire(NOW + 5 + DAY_US)
    settle(store)
    assert [one.gid for one in store.quarantined()] == [6]
    assert len(files.list("quarantine")) == 1


def test_the_oldest_goes_first_when_the_disk_is_nearly_full() -> None:
    files = MemoryFiles(capacity=4_000_000)
    config = replace(SMALL, reserve_bytes=100_000)
    store = open_store(files, config)
    for gid in (5, 6, 7):
        fill(store, gid, 1, 10)
        store.drop_replica(gid, 10, 1, at_us=NOW + gid)
        settle(store)
    files.open("ballast", create=True).allocate(files.free_bytes() - 150_000)
    store.tick()
    settle(store)
    assert [one.gid for one in store.quarantined()] == [6, 7]
    assert store.accepting
    for _ in range(3):
        store.tick()
        settle(store)
    assert not store.quarantined()
    assert files.list("quarantine") == []


def with_a_quota_that_is_used_up() -> Store:
    """A store with one replica in quarantine; the free space of its disk does not tell of it."""
    disk = SimDisk(1)
    store = open_store(disk)
    fill(store, 5, 1, 40)
    store.drop_replica(5, 40, 1, at_us=NOW)
    settle(store)
    disk.free_bytes = lambda: 1 << 40  # type: ignore[method-assign]  # a quota is not in it
    disk.capacity = disk.used() + 100
    return store


def test_it_makes_room_also_where_only_a_write_tells_that_the_disk_is_full() -> None:
    store = with_a_quota_that_is_used_up()
    fill(store, 6, 1, 40)
    for _ in range(3):
        settle(store)
        store.tick()
    assert not store.quarantined()
    assert store.accepting


def test_it_makes_room_when_the_log_is_the_first_to_find_the_disk_full() -> None:
    store = with_a_quota_that_is_used_up()
    for number in range(1, 200):
        store.append(9, [data_entry(number, number - 1)], (1, 1, 0), 0)
        job = store.take_flush()
        if job is None:
            break
        job.run()
        store.done(job)
    assert not store.accepting
    for _ in range(4):
        store.tick()
        settle(store)
        job = store.take_flush()
        if job is not None:
            job.run()
            store.done(job)
    assert not store.quarantined()


def test_nothing_is_kept_of_a_deleted_topic_nor_by_who_does_not_want_it() -> None:
    for config, deletes in ((SMALL, True), (replace(SMALL, quarantine_seconds=0), False)):
        files = MemoryFiles()
        store = open_store(files, config)
        fill(store, 5, 1, 10)
        store.drop_replica(5, 10, 1, at_us=NOW)
        settle(store)
        if deletes:
            store.delete_log(5)
            settle(store)
        assert not store.quarantined()
        assert files.list("quarantine") == files.list("partitions") == []


def test_each_life_of_a_replica_has_a_quarantine_of_its_own() -> None:
    files = MemoryFiles()
    store = open_store(files)
    for life in (1, 2):
        fill(store, 5, 1, 10 * life, term=life)
        store.drop_replica(5, 10 * life, life, at_us=NOW)  # the clock may stand still
        settle(store)
        store.recovered.pop(5)
    assert [kept(files, one.path) for one in store.quarantined()] == [10, 20]


def test_where_there_is_no_room_a_dropped_replica_is_not_kept() -> None:
    disk = SimDisk(1)
    store = open_store(disk)
    fill(store, 5, 1, 40)
    store.checkpoint([(5, 40, 1, b"state")])
    settle(store)
    store.drop_replica(5, 40, 1, at_us=NOW)
    disk.capacity = disk.used() + 5000  # for the word of the drop, and not for more
    settle(store)
    assert not store.dropping(5)
    assert disk.list("partitions") == disk.list("quarantine") == []


def drop_until(disk: SimDisk, step: int | None) -> bool:
    """Fill a group, drop it, let it expire; the process dies at that call to the disk."""
    store = open_store(disk)
    fill(store, 5, 1, 40)
    store.checkpoint([(5, 30, 1, b"state")])
    settle(store)
    if step is not None:
        disk.crash_at = disk.steps + step
    try:
        store.drop_replica(5, 40, 1, at_us=NOW)
        settle(store)
        store.expire(NOW + DAY_US)
        settle(store)
    except Crash:
        return True
    disk.crash_at = None
    return False


@pytest.mark.parametrize("power", [False, True])
def test_a_stop_at_any_step_leaves_a_whole_replica_or_a_whole_quarantine(power: bool) -> None:
    step, found = 1, set()
    while True:
        disk = SimDisk(step)
        if not drop_until(disk, step):
            break
        disk.crash(power=power)
        store = open_store(disk)
        quarantined = store.quarantined()
        if 5 in store.logs:
            assert not quarantined
            assert store.log(5).end_offset == 40 or len(store.recovered[5].entries) == 10
            found.add("replica")
        elif quarantined:
            assert kept(disk, quarantined[0].path) == 40
            assert store.recovered[5].emptied
            found.add("quarantine")
        else:
            assert store.recovered[5].emptied
            assert disk.list("quarantine") == []
            found.add("gone")
        step += 1
    assert found == {"replica", "quarantine", "gone"}
    assert step > 20


def test_a_stop_in_the_recovery_of_a_drop_is_made_up_for() -> None:
    for first in range(1, 60):
        disk = SimDisk(first)
        if not drop_until(disk, first):
            break
        disk.crash(power=True)
        for again in range(1, 12):
            disk.crash_at = disk.steps + again
            try:
                open_store(disk).close()
            except Crash:
                disk.crash(power=True)
        disk.crash_at = None
        disk.crash(power=False)
        store = open_store(disk)
        whole = [kept(disk, one.path) for one in store.quarantined()]
        assert whole in ([], [40])
        assert (5 in store.logs) == (not store.recovered[5].emptied)
