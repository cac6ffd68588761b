import struct

import pytest
from crc32c import crc32c

from penstock.errors import (
    CorruptData,
    DataDirectoryLocked,
    InvalidConfig,
    StorageFailure,
    UnsupportedFormat,
)
from penstock_broker.simulation.disk import DiskFaults, SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig
from tests.storage.helpers import append_data, open_store


def test_two_brokers_never_share_a_directory():
    files = MemoryFiles()
    open_store(files)
    with pytest.raises(DataDirectoryLocked):
        open_store(files)


def test_a_directory_of_a_newer_version_is_refused_clearly():
    files = MemoryFiles()
    open_store(files).close()
    body = struct.pack("<8sI16s", b"PENSTOCK", 99, bytes(16))
    files.open("format").pwrite([body + struct.pack("<I", crc32c(body))], 0)
    with pytest.raises(UnsupportedFormat, match="format 99; this version reads up to 1"):
        open_store(files)


def test_data_without_a_format_file_is_refused():
    files = MemoryFiles()
    store = open_store(files)
    append_data(store, 1, 1)
    store.close()
    files.remove("format")
    with pytest.raises(CorruptData, match="missing beside data"):
        open_store(files)


def test_a_refused_start_lets_the_directory_go():
    files = SimDisk()
    open_store(files).close()
    files.faults = DiskFaults(read_error=1.0)
    with pytest.raises(StorageFailure):
        open_store(files)
    files.faults = DiskFaults()
    files.flip("format", 3, 1)
    with pytest.raises(CorruptData):
        open_store(files)
    files.flip("format", 3, 1)
    open_store(files)


@pytest.mark.parametrize(
    "wrong",
    [
        {"wal_file_bytes": 100_000},
        {"wal_file_bytes": 4096},
        {"flush_bytes_max": 100},
        {"segment_bytes": 1},
        {"write_bytes": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(InvalidConfig):
        StorageConfig(**wrong)
