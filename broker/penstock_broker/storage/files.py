"""The seam between storage and a disk: the only way by which this part reaches bytes.

A path is a relative string of fixed words and numbers joined by '/'; a name that a user chose never
gets into one. Everything is synchronous: a call may block and belongs into a job, except `pwrite`
free calls such as `try_pread`, which never wait for the disk. Implementations:
`penstock_broker.runtime.files.RealFiles`, `penstock_broker.simulation.disk.SimDisk` (faults) and
`MemoryFiles` (embedding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock.errors import StorageFailure

Buffer = bytes | bytearray | memoryview


class File(Protocol):
    """One open file. Closing is left to the last reference, so a reader never loses its file."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def pwrite(self, buffers: Sequence[Buffer], position: int) -> None:
        """Write all buffers one after the other at a position, or raise OSError."""
        ...

    def pread(self, length: int, position: int) -> bytes:
        """Read up to `length` bytes; fewer only at the end of the file."""
        ...

    def try_pread(self, length: int, position: int) -> Buffer | None:
        """Read without waiting for the disk; None where that is not possible."""
        ...

    def sync(self) -> None:
        """Make the bytes and the size durable (fdatasync)."""
        ...

    def write_back(self, position: int, length: int) -> None:
        """Have written bytes go to the disk, and wait for it; they are not durable by that.

        A sync has little left to do then, and one of another file waits for no more than this.
        """
        ...

    def forget(self, position: int, length: int) -> None:
        """Take durable bytes out of the operating system's memory: nobody reads them soon."""
        ...

    def allocate(self, length: int) -> None:
        """Reserve space for the first `length` bytes; the file is at least that long after."""
        ...

    def truncate(self, length: int) -> None:
        """Cut the file, or extend it with zeros."""
        ...

    def close(self) -> None:
        """Release the file; later calls fail."""
        ...


class Files(Protocol):
    """One data directory."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; without `create` the file must exist."""
        ...

    def list(self, directory: str) -> list[str]:
        """Sorted names in a directory; empty when there is none."""
        ...

    def exists(self, path: str) -> bool: ...

    def rename(self, old: str, new: str) -> None:
        """Rename atomically; an existing file `new` is replaced.

        A directory moves with all that is in it; names in it that are not durable may be lost.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens when there is none."""
        ...

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents; nothing happens when it exists."""
        ...

    def remove_directory(self, path: str) -> None:
        """Remove a directory with all that is in it; nothing happens when there is none."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make creations, renames and removals of names in a directory durable."""
        ...

    def free_bytes(self) -> int:
        """Bytes that can still be written."""
        ...

    def lock(self) -> None:
        """Take the directory for this process, or raise DataDirectoryLocked."""
        ...

    def unlock(self) -> None: ...


class Beneath:
    """A directory within a data directory, as a data directory of its own; it is not locked."""

    def __init__(self, files: Files, root: str) -> None:
        self._files = files
        self._root = root

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def open(self, path: str, *, create: bool = False) -> File:
        return self._files.open(self._path(path), create=create)

    def list(self, directory: str) -> list[str]:
        return self._files.list(self._path(directory))

    def exists(self, path: str) -> bool:
        return self._files.exists(self._path(path))

    def rename(self, old: str, new: str) -> None:
        self._files.rename(self._path(old), self._path(new))

    def remove(self, path: str) -> None:
        self._files.remove(self._path(path))

    def make_directory(self, path: str) -> None:
        self._files.make_directory(self._path(path))

    def remove_directory(self, path: str) -> None:
        self._files.remove_directory(self._path(path))

    def sync_directory(self, path: str) -> None:
        self._files.sync_directory(self._path(path))

    def free_bytes(self) -> int:
        return self._files.free_bytes()

    def lock(self) -> None:
        """The data directory around it is locked."""

    def unlock(self) -> None:
        """As `lock`."""


def sync_file(file: File, path: str) -> None:
    """Sync a file; a failure is final.

    After a failed sync the kernel may have dropped the dirty pages, and a second sync would report
    success for bytes that are lost. So it is never tried again, whatever the error was.

    Raises:
        StorageFailure: the sync failed.
    """
    try:
        file.sync()
    except OSError as error:
        raise StorageFailure(f"sync of {path} failed: {error}", file=path) from error


def write_back(file: File, position: int, length: int, path: str) -> None:
    """Have written bytes go to the disk; a failure is final, since a later sync may not tell of it.

    Raises:
        StorageFailure: they could not be written.
    """
    try:
        file.write_back(position, length)
    except OSError as error:
        raise StorageFailure(f"writing {path} failed: {error}", file=path) from error


def sync_names(files: Files, directory: str) -> None:
    """Sync a directory; a failure is final, as for `sync_file`.

    Raises:
        StorageFailure: the sync failed.
    """
    try:
        files.sync_directory(directory)
    except OSError as error:
        raise StorageFailure(f"sync of directory {directory or '.'} failed: {error}") from error
