"""Segments reach the disk little by little, so that a flush beside them waits for little."""

import pytest

from penstock.errors import StorageFailure
from penstock_broker.simulation.disk import DiskFaults, SimDisk
from penstock_broker.simulation.memory_files import MemoryFile, MemoryFiles
from penstock_broker.storage import StorageConfig
from tests.storage.helpers import append_data, open_store, read_all, run_jobs

CONFIG = StorageConfig(wal_file_bytes=1 << 20, write_bytes=64 * 1024, write_back_bytes=10_000)
BODY = bytes(2400)


class WatchedFile(MemoryFile):
    """Remembers how its bytes went to the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.written_back: list[tuple[int, int]] = []
        self.forgotten: list[tuple[int, int]] = []

    def write_back(self, position: int, length: int) -> None:
        assert self.size() == position + length, "each step before the next one is written"
        self.written_back.append((position, length))

    def forget(self, position: int, length: int) -> None:
        self.forgotten.append((position, length))


class WatchedFiles(MemoryFiles):
    """Its segments are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[WatchedFile] = []

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        if path.endswith(".log") and create and path not in self._files:
            self._files[path] = WatchedFile()
            self.segments.append(self._files[path])
        return super().open(path, create=create)


def test_a_large_write_goes_to_the_disk_in_steps():
    files = WatchedFiles()
    store = open_store(files, CONFIG)
    append_data(store, 5, 30, BODY)
    run_jobs(store)
    (segment,) = files.segments
    assert segment.size() > CONFIG.write_bytes
    assert len(segment.written_back) == segment.size() // (5 * 2496)
    assert all(10_000 <= length < 12_500 for _, length in segment.written_back)
    assert segment.forgotten == []
    assert [body for _, body in read_all(store, 5)] == [BODY] * 30


def test_copies_of_old_records_are_forgotten_when_they_are_durable():
    files = WatchedFiles()
    store = open_store(files, CONFIG)
    store.create_log(5).passing = True
    append_data(store, 5, 30, BODY)
    run_jobs(store)
    (segment,) = files.segments
    assert segment.forgotten == []
    store.checkpoint([(5, 30, 1, b"")])
    run_jobs(store)
    assert segment.forgotten == [(0, segment.size())]


def test_a_failed_step_is_final():
    disk = SimDisk()
    store = open_store(disk, CONFIG)
    append_data(store, 5, 30, BODY)
    run_jobs(store)
    append_data(store, 5, 30, BODY)
    disk.faults = DiskFaults(sync_error=1.0)
    job = store.take_job()
    assert job is not None
    with pytest.raises(StorageFailure, match="writing"):
        job.run()
