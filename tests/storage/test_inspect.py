from __future__ import annotations

import os

import pytest

from penstock_broker.runtime.files import RealFiles
from penstock_broker.runtime.inspect import ReadOnlyFiles, inspect
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.storage.inspect import FileReport, inspect_files
from tests.storage.helpers import (
    append_data,
    checkpoint,
    control_entry,
    flush,
    open_store,
    run_jobs,
)


def disk_with_records(count: int = 150) -> SimDisk:
    """Several segments, of which a checkpoint vouches for all."""
    disk = SimDisk(1)
    store = open_store(disk)
    append_data(store, 1, count, b"x" * 100)
    run_jobs(store)
    checkpoint(store, [1])
    flush(store)
    store.close()
    return disk


def of_kind(disk: SimDisk, kind: str, *, bodies: bool = True) -> list[FileReport]:
    return [report for report in inspect_files(disk, bodies=bodies) if report.kind == kind]


def damage(disk: SimDisk, *, bodies: bool = True) -> list[tuple[str, int, int]]:
    return [
        (report.file, fault.position, fault.end)
        for report in inspect_files(disk, bodies=bodies)
        for fault in report.damage
    ]


def test_an_empty_directory_has_nothing_to_report():
    assert list(inspect_files(SimDisk(1))) == []


def test_every_file_of_a_store_is_reported_with_what_it_holds():
    disk = disk_with_records()
    reports = {report.file: report for report in inspect_files(disk)}
    kept = [path for path in disk.paths() if not path.endswith((".idx", "lock"))]
    assert sorted(reports) == kept
    assert all(report.bytes == len(disk.content(path)) for path, report in reports.items())
    segments = of_kind(disk, "segment")
    assert len(segments) > 2
    assert sum(report.records for report in segments) == 150
    assert [report.first_offset for report in segments[1:]] == [
        report.end_offset for report in segments[:-1]
    ]
    assert segments[-1].end_offset == 150
    (found,) = of_kind(disk, "checkpoint")
    assert found.entries == 1
    wal = of_kind(disk, "wal")
    assert max(report.last_sequence or 0 for report in wal) > 150
    assert damage(disk) == []


def test_a_log_without_records_has_no_file_and_no_damage():
    disk = SimDisk(1)
    store = open_store(disk)
    append_data(store, 1, 3)
    store.create_log(2)
    store.append(2, [control_entry(1)], None, 1)
    checkpoint(store, [1, 2])
    store.close()
    assert damage(disk) == []
    assert len(of_kind(disk, "segment")) == 1


def test_looking_changes_nothing_and_takes_no_lock():
    disk = SimDisk(1)
    store = open_store(disk)
    append_data(store, 1, 50)
    run_jobs(store)
    steps = disk.steps
    assert damage(disk) == []
    assert disk.steps == steps
    store.close()


def test_a_flipped_bit_in_a_record_is_found_only_by_reading_bodies():
    disk = disk_with_records()
    path = of_kind(disk, "segment")[1].file
    disk.flip(path, 120, 3)
    assert damage(disk, bodies=False) == []
    assert damage(disk) == [(path, 0, 196)]


def test_a_flipped_bit_in_a_header_is_found_without_bodies():
    disk = disk_with_records()
    path = of_kind(disk, "segment")[0].file
    disk.flip(path, 196 + 20, 0)
    ((file, position, end),) = damage(disk, bodies=False)
    assert (file, position) == (path, 196)
    assert end == 392


def test_a_missing_segment_and_missing_bytes_are_named():
    disk = disk_with_records()
    first, second, *_, last = of_kind(disk, "segment")
    disk.remove(second.file)
    disk.open(last.file).truncate(last.bytes - 10)
    found = damage(disk)
    assert (first.file, first.bytes, first.bytes) in found
    assert (last.file, last.bytes - 10, last.bytes) in found


def test_the_missing_newest_segment_is_named():
    disk = disk_with_records()
    last = of_kind(disk, "segment")[-1]
    disk.remove(last.file)
    assert damage(disk) == [(last.file, 0, last.bytes)]


def test_bytes_that_nothing_vouches_for_are_not_damage():
    disk = SimDisk(1)
    store = open_store(disk)
    append_data(store, 1, 50, b"x" * 100)
    run_jobs(store)
    store.close()
    path = of_kind(disk, "segment")[-1].file
    disk.open(path).truncate(len(disk.content(path)) - 10)
    assert damage(disk) == []


def test_a_lost_flush_is_named():
    disk = SimDisk(1)
    store = open_store(disk)
    append_data(store, 1, 5)
    store.close()
    (path,) = (path for path in disk.paths() if path.startswith("wal/"))
    disk.flip(path, 2 * 4096 + 4096 + 70, 0)
    assert damage(disk) == [(path, 3 * 4096, 4 * 4096)]


@pytest.mark.parametrize(("path", "position"), [("format", 9), ("checkpoint/000000000001.ckpt", 9)])
def test_a_damaged_header_is_named(path: str, position: int):
    disk = disk_with_records()
    disk.flip(path, position, 0)
    assert path in [file for file, _, _ in damage(disk)]


def test_a_damaged_identity_is_named():
    disk = SimDisk(1)
    store = open_store(disk)
    store.claim("cluster-1", 7)
    run_jobs(store)
    store.close()
    assert [report.bytes for report in of_kind(disk, "identity")] == [27]
    assert damage(disk) == []
    disk.flip("identity", 1, 4)
    assert damage(disk) == [("identity", 0, 27)]


def test_a_directory_is_looked_at_without_the_right_to_write(tmp_path):
    store = open_store(RealFiles(tmp_path))
    append_data(store, 1, 20)
    run_jobs(store)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    reports = list(inspect(str(tmp_path)))
    assert sum(report.records for report in reports if report.kind == "segment") == 20
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        ReadOnlyFiles(tmp_path).open("format").pwrite([b"x"], 0)


def test_a_directory_that_is_not_there_is_not_created(tmp_path):
    with pytest.raises(NotADirectoryError):
        inspect(os.path.join(tmp_path, "nothing"))
    assert not os.listdir(tmp_path)
