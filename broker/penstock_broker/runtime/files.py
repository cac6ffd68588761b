"""`Files` on a real directory: descriptors, positioned I/O, fdatasync, a lock held by flock.

Not pure: this is the shell's side of the storage seam. A file's descriptor is closed when its last
reference goes, so a reader in a thread never meets a closed or reused descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Sequence

from penstock.errors import DataDirectoryLocked, StorageFailure
from penstock_broker.storage.files import Buffer

_BUFFERS_MAX = 512  # below IOV_MAX, which is 1024
_WOULD_BLOCK = frozenset((errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))
_LOST = frozenset((errno.EIO, errno.ENOSPC, errno.EDQUOT))
"""By these a file system tells that written bytes are lost; all else: it was not asked to write."""
_RWF_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
"""Not in `os`; not on every system."""
_WAIT_WRITE_WAIT = 7


class RealFile:
    """An open descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def pwrite(self, buffers: Sequence[Buffer], position: int) -> None:
        for start in range(0, len(buffers), _BUFFERS_MAX):
            position = self._write_all(buffers[start : start + _BUFFERS_MAX], position)

    def _write_all(self, buffers: Sequence[Buffer], position: int) -> int:
        total = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, position)
        while written < total:  # a short write: a nearly full disk, or a signal
            rest = memoryview(b"".join(buffers))[written:]
            count = os.pwrite(self._descriptor, rest, position + written)
            if count == 0:
                raise OSError(errno.EIO, "a write made no progress")
            written += count
        return position + total

    def pread(self, length: int, position: int) -> bytes:
        data = os.pread(self._descriptor, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        while data:
            length, position = length - len(data), position + len(data)
            data = os.pread(self._descriptor, length, position) if length else b""
            parts.append(data)
        return b"".join(parts)

    def try_pread(self, length: int, position: int) -> Buffer | None:
        buffer = bytearray(length)
        try:
            count = os.preadv(self._descriptor, [buffer], position, _RWF_NOWAIT)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return None
            raise
        if count < length and position + count < self.size():
            return None  # the rest is not in memory
        return buffer if count == length else memoryview(buffer)[:count]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def write_back(self, position: int, length: int) -> None:
        if _sync_file_range is None:
            return
        offset, size = ctypes.c_int64(position), ctypes.c_int64(length)
        if _sync_file_range(self._descriptor, offset, size, _WAIT_WRITE_WAIT):
            number = ctypes.get_errno()
            if number in _LOST:
                raise OSError(number, os.strerror(number))

    def forget(self, position: int, length: int) -> None:
        with contextlib.suppress(OSError):  # it is advice
            os.posix_fadvise(self._descriptor, position, length, os.POSIX_FADV_DONTNEED)

    def allocate(self, length: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, 0, length)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                raise
            self.truncate(max(length, self.size()))  # no such call on this file system

    def truncate(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class RealFiles:
    """A data directory on a file system; it is created when missing."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        os.makedirs(self.root, exist_ok=True)
        self._lock = -1

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def open(self, path: str, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return RealFile(os.open(self._path(path), flags, 0o640))

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(directory)))
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._path(old), self._path(new))

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(self._path(path), exist_ok=True)

    def remove_directory(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(path))

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(self._path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self) -> int:
        try:
            status = os.statvfs(self.root)
        except OSError as error:
            raise StorageFailure(f"the data directory is gone: {error}") from error
        return status.f_bavail * status.f_frsize

    def lock(self) -> None:
        descriptor = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DataDirectoryLocked(
                f"another broker uses the data directory {self.root}", directory=self.root
            ) from error
        self._lock = descriptor

    def unlock(self) -> None:
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)
