"""The three implementations of the `Files` seam keep one contract."""

import ctypes
import errno
import os

import pytest

from penstock.errors import DataDirectoryLocked
from penstock_broker.runtime import files as real_files
from penstock_broker.runtime.files import RealFiles
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage.files import Files


@pytest.fixture(params=["real", "simulated", "memory"])
def files(request, tmp_path) -> Files:
    if request.param == "real":
        return RealFiles(tmp_path / "data")
    disk = SimDisk()
    disk.cold = 0.0
    return disk if request.param == "simulated" else MemoryFiles()


def test_bytes_are_written_at_positions_and_read_back(files):
    file = files.open("a", create=True)
    file.pwrite([b"one", bytearray(b"two"), memoryview(b"three")], 4)
    assert file.size() == 15
    assert file.pread(100, 0) == b"\0\0\0\0onetwothree"
    assert file.pread(3, 4) == b"one"
    assert file.pread(3, 99) == b""
    file.sync()
    assert file.try_pread(3, 7) == b"two"
    assert file.try_pread(10, 12) == b"ree"


def test_what_was_written_back_or_forgotten_is_read_as_before(files):
    file = files.open("a", create=True)
    data = bytes(range(256)) * 64
    file.pwrite([data], 0)
    file.write_back(0, len(data))
    file.sync()
    file.forget(0, len(data))
    assert file.pread(len(data), 0) == data


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_writing_back_tells_of_lost_bytes(tmp_path, monkeypatch, number):
    file = RealFiles(tmp_path).open("a", create=True)
    monkeypatch.setattr(real_files, "_sync_file_range", lambda *_: ctypes.set_errno(number) or -1)
    with pytest.raises(OSError, match=os.strerror(number)):
        file.write_back(0, 1)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ESPIPE, errno.EINTR, errno.ENOSYS])
def test_where_nothing_can_be_written_back_the_sync_does_it(tmp_path, monkeypatch, number):
    file = RealFiles(tmp_path).open("a", create=True)
    monkeypatch.setattr(real_files, "_sync_file_range", lambda *_: ctypes.set_errno(number) or -1)
    file.write_back(0, 1)
    file.sync()


def test_more_buffers_than_a_call_takes_are_written(files):
    file = files.open("a", create=True)
    parts = [b"%04d" % number for number in range(3000)]
    file.pwrite(parts, 0)
    assert file.pread(12_000, 0) == b"".join(parts)


def test_a_file_grows_and_shrinks(files):
    file = files.open("a", create=True)
    file.allocate(10_000)
    assert file.size() == 10_000
    file.allocate(5)
    assert file.size() == 10_000
    file.truncate(3)
    file.truncate(6)
    assert file.pread(10, 0) == bytes(6)
    file.close()


def test_names(files):
    files.make_directory("d/e")
    files.make_directory("d/e")
    files.open("d/e/two", create=True)
    files.open("d/e/one", create=True).pwrite([b"1"], 0)
    assert files.list("d/e") == ["one", "two"]
    assert files.list("none") == []
    files.rename("d/e/one", "d/e/two")
    files.sync_directory("d/e")
    assert files.list("d/e") == ["two"]
    assert files.open("d/e/two").pread(1, 0) == b"1"
    assert files.exists("d/e/two")
    assert not files.exists("d/e/one")
    files.remove("d/e/two")
    files.remove("d/e/two")
    files.open("d/e/three", create=True)
    files.remove_directory("d/e")
    files.remove_directory("d/e")
    assert not files.exists("d/e/three")


def test_a_missing_file_is_an_error(files):
    with pytest.raises(FileNotFoundError):
        files.open("none")
    with pytest.raises(FileNotFoundError):
        files.rename("none", "other")


def test_a_reader_keeps_a_removed_file(files):
    file = files.open("a", create=True)
    file.pwrite([b"still here"], 0)
    files.remove("a")
    assert file.pread(10, 0) == b"still here"


def test_the_lock_excludes_others(files, tmp_path):
    files.lock()
    other = RealFiles(tmp_path / "data") if isinstance(files, RealFiles) else files
    with pytest.raises(DataDirectoryLocked):
        other.lock()
    files.unlock()
    other.lock()
    other.unlock()
    other.unlock()


def test_free_space_is_told(files):
    assert files.free_bytes() > 0


def test_closing_twice_is_harmless_and_using_a_closed_file_is_an_error(tmp_path):
    file = RealFiles(tmp_path).open("a", create=True)
    file.close()
    file.close()
    with pytest.raises(OSError, match="descriptor"):
        file.pread(1, 0)


def test_a_read_that_would_wait_is_told_apart(tmp_path, monkeypatch):
    file = RealFiles(tmp_path).open("a", create=True)
    file.pwrite([b"x" * 100], 0)

    def cold(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "would wait")

    monkeypatch.setattr(os, "preadv", cold)
    assert file.try_pread(10, 0) is None

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="broken"):
        file.try_pread(10, 0)


def test_short_writes_and_reads_are_completed(tmp_path, monkeypatch):
    file = RealFiles(tmp_path).open("a", create=True)
    pread = os.pread
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: os.pwrite(fd, parts[0], at))
    file.pwrite([b"abc", b"defg"], 0)
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 2), at))
    assert file.pread(7, 0) == b"abcdefg"
    assert file.pread(9, 0) == b"abcdefg"


def test_a_write_without_progress_is_an_error(tmp_path, monkeypatch):
    file = RealFiles(tmp_path).open("a", create=True)
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: 0)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="no progress"):
        file.pwrite([b"abc"], 0)


def test_space_is_reserved_by_extending_where_the_file_system_has_no_call(tmp_path, monkeypatch):
    def missing(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no such call")

    file = RealFiles(tmp_path).open("a", create=True)
    monkeypatch.setattr(os, "posix_fallocate", missing)
    file.allocate(100)
    assert file.size() == 100

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full"):
        file.allocate(1000)
