from __future__ import annotations

import pytest

from penstock.errors import CorruptData
from penstock_broker.simulation.disk import DiskFaults, SimDisk
from penstock_broker.storage.scrub import ScrubJob
from penstock_broker.storage.store import SCRUB_TICKS
from tests.storage.helpers import settle
from tests.storage.tables import Settings, Table


def aged(count: int = 200) -> tuple[SimDisk, Table]:
    """A log of several segments that nobody reads any more."""
    disk = SimDisk(1)
    table = Table(disk, settings=Settings(cleanup="delete"))
    for number in range(count):
        table.put((None, b"%d" % number + b"x" * 100))
    table.save()
    return disk, table


def segments(disk: SimDisk) -> list[str]:
    return [path for path in disk.paths() if path.endswith(".log")]


def test_a_step_reads_a_bounded_piece_and_there_is_one_a_second():
    _, table = aged()
    table.store.tick()
    settle(table.store)
    verified = table.store.statistics()["scrubbed_bytes"]
    for _ in range(5):
        jobs = []
        for _ in range(SCRUB_TICKS - 1):
            table.store.tick()
            assert table.store.take_job() is None
        table.store.tick()
        while (job := table.store.take_job()) is not None:
            job.run()
            table.store.done(job)
            jobs.append(job)
        assert [type(job) for job in jobs] == [ScrubJob]
        now = table.store.statistics()["scrubbed_bytes"]
        assert verified < now <= verified + 2 * table.config.scrub_bytes
        verified = now


def test_all_sealed_segments_are_verified_again_and_again():
    _, table = aged()
    sealed = sum(one.size for one in table.log.segments if one.indexed)
    table.work(120 * SCRUB_TICKS)
    assert table.store.statistics()["scrubbed_bytes"] > 1.5 * sealed
    assert table.store.statistics()["damaged_ranges"] == 0


def test_damage_that_nobody_reads_is_found_named_and_refused():
    disk, table = aged()
    path = segments(disk)[2]
    disk.flip(path, 100, 0)
    table.work(60)
    (damage,) = table.log.damages
    assert (damage.file, damage.position, damage.start_offset) == (path, 0, table.log.bases[2])
    assert table.store.statistics()["damaged_ranges"] == 1
    assert table.store.take_damages() == [damage]
    assert table.store.take_damages() == []
    with pytest.raises(CorruptData) as caught:
        table.log.read(damage.start_offset, 100)
    assert caught.value.detail["file"] == path
    kept = [item for item in table.items if item.offset >= damage.end_offset]
    assert table.stored(damage.end_offset) == kept


def test_a_segment_that_is_gone_is_named():
    disk, table = aged()
    table.reopen()
    disk.remove(segments(disk)[1])
    table.work(60)
    (damage,) = table.log.damages
    assert (damage.start_offset, damage.end_offset) == tuple(table.log.bases[1:3])


def test_a_read_error_is_counted_and_refuses_nothing():
    disk, table = aged()
    disk.faults = DiskFaults(read_error=1.0)
    for _ in range(SCRUB_TICKS):
        table.store.tick()
        settle(table.store)
    assert table.store.statistics()["scrub_read_errors"] == 1
    disk.faults = DiskFaults()
    table.work(60)
    assert table.store.statistics()["damaged_ranges"] == 0


def test_a_trim_and_a_deletion_do_not_disturb_the_round():
    _, table = aged()
    for number in range(12):
        table.store.tick()
        settle(table.store)
        table.log.trim(table.log.bases[1 if number % 4 == 3 else 0])
    table.store.delete_log(1)
    for _ in range(3):
        table.store.tick()
        settle(table.store)
    assert table.store.take_job() is None


def test_a_segment_that_is_compacted_meanwhile_is_verified_anew():
    disk = SimDisk(1)
    table = Table(disk, settings=Settings(cleanup="delete"))
    for number in range(200):
        table.put((b"k%d" % (number % 9), b"%d" % number + b"x" * 100))
    table.save()
    table.work(3)
    table.log.configure(Settings())
    table.work(60)
    assert len(table.compacted) == 9
    table.check()
