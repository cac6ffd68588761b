import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from penstock.errors import CorruptData, OffsetOutOfRange
from penstock.protocol.batch import iterate, parse_header
from penstock_broker.runtime.files import RealFiles
from penstock_broker.simulation.disk import DiskFaults, SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Cold, Memory
from penstock_broker.storage.lookup import read_now
from tests.storage.helpers import (
    SMALL,
    append_data,
    checkpoint,
    data_batch,
    open_store,
    read_all,
    run_jobs,
    settle,
)


@dataclass(frozen=True)
class Settings:
    segment_bytes: int = 4096
    segment_ms: int = 1 << 40
    cleanup: str = "delete"
    delete_retention_ms: int = 0


def filled(count: int = 200, files=None):
    """A log with several segments, all but the newest batches out of RAM."""
    store = open_store(files or MemoryFiles(), replace(SMALL, tail_bytes_max=2048))
    append_data(store, 1, count, b"v" * 100)
    settle(store)
    checkpoint(store, [1])
    return store, store.log(1)


def offsets_of(buffers) -> list[int]:
    return [header.base_offset for buffer in buffers for _, header in iterate(buffer)]


def test_the_newest_batches_are_read_from_ram_and_older_ones_from_files():
    _, log = filled()
    assert isinstance(log.read(199, 1000), Memory)
    assert isinstance(log.read(0, 1000), Cold)


def test_a_read_brings_at_least_one_batch_and_at_most_what_fits():
    _, log = filled()
    for offset in (0, 57, 199):
        assert offsets_of(read_now(log, offset, 1)) == [offset]
    assert offsets_of(read_now(log, 10, 3 * 196)) == [10, 11, 12]
    assert offsets_of(read_now(log, 197, 10_000)) == [197, 198, 199]


def test_a_read_at_the_end_brings_nothing():
    _, log = filled()
    assert log.read(200, 1000) == Memory([])
    store = open_store(MemoryFiles())
    assert store.create_log(3).read(0, 1000) == Memory([])


@pytest.mark.parametrize("offset", [-1, 201])
def test_a_read_outside_the_log_is_refused(offset):
    _, log = filled()
    with pytest.raises(OffsetOutOfRange) as caught:
        log.read(offset, 1000)
    assert caught.value.detail == {"start_offset": 0, "end_offset": 200}


def test_a_read_inside_a_batch_brings_the_whole_batch():
    store = open_store(MemoryFiles())
    log = store.create_log(1)
    buffer = data_batch(1, 0, count=5)
    log.append(buffer, parse_header(buffer))
    assert log.read(3, 10) == Memory([buffer])


def test_a_batch_that_is_held_is_not_appended_again():
    store = open_store(MemoryFiles())
    log = store.create_log(1)
    for _ in range(2):
        buffer = data_batch(1, 0)
        log.append(buffer, parse_header(buffer))
    assert log.end_offset == 1
    assert log.size_bytes == len(buffer)


def test_segments_roll_by_size_and_by_age():
    store = open_store(MemoryFiles())
    log = store.create_log(1)
    log.configure(Settings(segment_ms=1))
    for index in range(1, 11):
        buffer = data_batch(index, index - 1, time=index * 400)
        log.append(buffer, parse_header(buffer))
    assert log.bases == [0, 3, 6, 9]
    log.configure(Settings())
    append = data_batch(11, 10, b"x" * 5000, time=4001)
    log.append(append, parse_header(append))
    assert log.bases[-1] == 10


def test_retention_by_time_drops_whole_segments_and_at_last_everything():
    _, log = filled()
    times = [segment.end_offset for segment in log.segments]
    assert log.retention_point(1000, 2000, -1) is None
    assert log.retention_point(1000, 1000 - 60, -1) == max(
        (end for end in times if end < 60), default=None
    )
    assert log.retention_point(1000, 100, -1) == 200
    assert log.retention_point(1000, -1, -1) is None


def test_retention_by_size_keeps_at_least_the_limit():
    _, log = filled()
    point = log.retention_point(0, -1, 20_000)
    kept = sum(segment.size for segment in log.segments if segment.base_offset >= point)
    assert 20_000 <= kept < 20_000 + SMALL.segment_bytes
    assert log.retention_point(0, -1, 0) == log.segments[-1].base_offset


def test_retention_spares_what_a_group_still_needs():
    _, log = filled()
    assert log.retention_point(1000, 100, -1, 30) == 30
    log.trim(30)
    assert log.retention_point(1000, 100, -1, 30) is None


def test_retention_knows_the_times_of_segments_after_a_restart():
    files = MemoryFiles()
    store, log = filled(files=files)
    point = log.retention_point(1000, 1000 - 60, -1)
    store.close()
    again = open_store(files).log(1)
    assert again.retention_point(1000, 1000 - 60, -1) == point


def test_an_offset_is_found_by_time_in_ram_in_files_and_after_a_restart():
    files = MemoryFiles()
    store, log = filled(files=files)
    for time in (0, 1, 77, 150, 200):
        assert log.offset_at(time) == max(time - 1, 0)
    assert log.offset_at(201) == 200
    log.trim(100)
    assert log.offset_at(5) == 100
    checkpoint(store, [1])
    store.close()
    again = open_store(files).log(1)
    assert again.offset_at(150) == 149
    assert open_store(MemoryFiles()).create_log(2).offset_at(0) == 0


def test_times_that_jump_back_do_not_hide_batches():
    store = open_store(MemoryFiles())
    log = store.create_log(1)
    for index, time in enumerate((10, 50, 20, 60), 1):
        buffer = data_batch(index, index - 1, b"x" * 600, time=time)
        log.append(buffer, parse_header(buffer))
    assert log.offset_at(15) == 1
    assert log.offset_at(55) == 3


def test_a_time_search_goes_round_damage():
    files = SimDisk()
    store, log = filled(files=files)
    store.close()
    files.flip(log.segments[0].path, 3 * 196 + 100, 0)
    again = open_store(files).log(1)
    assert again.offset_at(4) == 4
    with pytest.raises(CorruptData):
        read_now(again, 3, 1)


def test_damage_is_named_and_everything_else_is_served():
    files = SimDisk()
    store, log = filled(files=files)
    path = log.segments[1].path
    base = log.segments[1].base_offset
    store.close()
    files.flip(path, 2 * 196 + 120, 5)
    log = open_store(files).log(1)
    with pytest.raises(CorruptData) as caught:
        read_now(log, base + 2, 1000)
    detail = caught.value.detail
    assert detail["file"] == path
    assert (detail["start_offset"], detail["end_offset"]) == (base + 2, base + 3)
    assert (detail["position"], detail["length"]) == (2 * 196, 196)
    assert offsets_of(read_now(log, base + 1, 1000)) == [base + 1]
    assert offsets_of(read_now(log, base + 3, 1)) == [base + 3]
    log.trim(base + 5)
    assert log.damages == []


def test_a_file_that_the_disk_does_not_give_back_is_named():
    files = SimDisk()
    store, _ = filled(files=files)
    store.close()
    log = open_store(files).log(1)
    files.faults = DiskFaults(read_error=1.0)
    with pytest.raises(CorruptData, match="can't be read"):
        log.read(0, 1)
    with pytest.raises(CorruptData, match="can't be read"):
        log.offset_at(5)
    files.faults = DiskFaults()
    assert offsets_of(read_now(log, 0, 1)) == [0]


def test_a_missing_segment_is_named():
    files = SimDisk()
    store, log = filled(files=files)
    first, second = log.bases[0], log.bases[1]
    checkpoint(store, [1])
    store.close()
    files.remove(log.segments[0].path)
    log = open_store(files).log(1)
    assert log.start_offset == 0
    with pytest.raises(CorruptData) as caught:
        log.read(first + 1, 1)
    assert caught.value.detail["end_offset"] == second
    assert offsets_of(read_now(log, second, 1)) == [second]


def test_a_read_of_a_trimmed_segment_ends_by_name():
    files = SimDisk()
    store, log = filled(files=files)
    cold = log.read(0, 1)
    assert isinstance(cold, Cold)
    data = cold.file.pread(cold.length, cold.position)
    log.trim(100)
    checkpoint(store, [1])
    assert offsets_of(log.finish_read(cold, data, 0, 1)) == [0]
    with pytest.raises(OffsetOutOfRange):
        log.finish_read(cold, b"\0" * len(data), 0, 1)


def test_indexes_are_rebuilt_when_they_are_missing_or_damaged():
    files = SimDisk()
    store, _ = filled(files=files)
    indexes = [path for path in files.paths() if path.endswith("idx")]
    store.close()
    files.remove(indexes[0])
    files.flip(indexes[1], 70, 1)
    again = open_store(files)
    assert len(read_all(again, 1)) == 200
    assert again.log(1).damages == []


def test_memory_for_indexes_and_open_files_stays_within_its_limits():
    files = MemoryFiles()
    store, _ = filled(600, files)
    store.close()
    config = replace(SMALL, index_cache_bytes=1000, open_segments_max=2, tail_bytes_max=1)
    again = open_store(files, config)
    for _ in range(3):
        assert len(read_all(again, 1)) == 600
    assert again.statistics()["index_cache_bytes"] < 2000


def test_the_tail_is_bounded_over_all_partitions_together():
    store = open_store(MemoryFiles())
    for gid in (1, 2, 3):
        append_data(store, gid, 60, b"v" * 200)
        run_jobs(store)
    budget = store.context.budget
    assert budget.used <= budget.limit + 2 * SMALL.write_bytes
    for gid in (1, 2, 3):
        assert len(read_all(store, gid)) == 60


def test_unwritten_batches_never_leave_ram():
    store = open_store(MemoryFiles())
    append_data(store, 1, 300, b"v" * 200)
    assert store.context.budget.used > store.context.budget.limit
    assert store.behind
    assert len(read_all(store, 1)) == 300


def test_a_log_that_is_reset_begins_anew_behind_a_snapshot():
    files = MemoryFiles()
    store, log = filled(files=files)
    log.reset(500, 900)
    store.install(1, 900, 7, b"snapshot")
    settle(store)
    assert (log.start_offset, log.end_offset, log.last_index) == (500, 500, 900)
    buffer = data_batch(901, 500)
    log.append(buffer, parse_header(buffer))
    settle(store)
    checkpoint(store, [1])
    store.close()
    again = open_store(files)
    assert [offset for offset, _ in read_all(again, 1)] == [500]
    assert len([name for name in files.list("partitions/1") if name.endswith("log")]) == 1


def test_a_reset_that_is_not_durable_leaves_the_old_log():
    files = MemoryFiles()
    store, log = filled(files=files)
    log.reset(500, 900)
    store.install(1, 900, 7, b"snapshot")
    store.close()
    assert len(read_all(open_store(files), 1)) == 200


def test_deleting_a_log_frees_its_memory():
    store, log = filled()
    store.delete_log(1)
    settle(store)
    assert store.context.budget.used == 0
    assert store.context.budget.unwritten == 0
    assert store.logs == {}
    append_data(store, 2, 50, b"v" * 200)
    settle(store)
    assert len(read_all(store, 2)) == 50
    assert log.end_offset == 200


def test_a_deleted_log_holds_no_file_open_although_somebody_still_refers_to_it(
    tmp_path: Path,
) -> None:
    store = open_store(RealFiles(tmp_path))
    append_data(store, 1, 50, b"x" * 1000)
    checkpoint(store, [1])
    log = store.log(1)
    log.read(0, 4096)
    assert open_segments(tmp_path)
    store.delete_log(1)
    settle(store)
    assert open_segments(tmp_path) == []
    assert log.end_offset == 50
    store.close()


def open_segments(folder: Path) -> list[str]:
    names = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [name for name in names if name.startswith(str(folder / "partitions"))]
