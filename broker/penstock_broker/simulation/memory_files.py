"""`Files` in memory without faults: for embedding and for tests that are not about disks.

Nothing survives the process; a `MemoryFiles` that is kept survives its `Store`, so that a restart
can be played. Bytes are written in place: there is no durable image beside them.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from penstock.errors import DataDirectoryLocked
from penstock_broker.storage.files import Buffer


class MemoryFile:
    """A bytearray with the calls of a file."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def size(self) -> int:
        return len(self._data)

    def pwrite(self, buffers: Sequence[Buffer], position: int) -> None:
        joined = b"".join(buffers)
        self.allocate(position)
        self._data[position : position + len(joined)] = joined

    def pread(self, length: int, position: int) -> bytes:
        return bytes(self._data[position : position + length])

    def try_pread(self, length: int, position: int) -> bytes | None:
        return self.pread(length, position)

    def sync(self) -> None:
        """Memory is as durable as it gets."""

    def write_back(self, position: int, length: int) -> None:
        """Memory is as durable as it gets."""

    def forget(self, position: int, length: int) -> None:
        """There is no other copy."""

    def allocate(self, length: int) -> None:
        if length > len(self._data):
            self._data.extend(bytes(length - len(self._data)))

    def truncate(self, length: int) -> None:
        del self._data[length:]
        self.allocate(length)

    def close(self) -> None:
        """Nothing to release."""

    def handed_over(self) -> MemoryFile:
        """Another file with these bytes; this one has none any more."""
        other = MemoryFile()
        other._data, self._data = self._data, other._data
        return other


class MemoryFiles:
    """A directory tree in a dict; directories exist by having files in them."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self._files: dict[str, MemoryFile] = {}
        self._capacity = capacity
        self._locked = False

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        file = self._files.get(path)
        if file is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            file = self._files[path] = MemoryFile()
        return file

    def list(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        inside = (path[len(prefix) :] for path in self._files if path.startswith(prefix))
        return sorted({path.partition("/")[0] for path in inside})

    def exists(self, path: str) -> bool:
        return path in self._files or bool(self.list(path))

    def rename(self, old: str, new: str) -> None:
        moved = [path for path in self._files if path == old or path.startswith(f"{old}/")]
        if not moved:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        for path in moved:
            self._files[new + path[len(old) :]] = self._files.pop(path)

    def remove(self, path: str) -> None:
        self._files.pop(path, None)

    def make_directory(self, path: str) -> None:
        """Directories need no making."""

    def remove_directory(self, path: str) -> None:
        for name in [name for name in self._files if name.startswith(f"{path}/")]:
            del self._files[name]

    def sync_directory(self, path: str) -> None:
        """Names are as durable as the rest."""

    def free_bytes(self) -> int:
        return self._capacity - sum(file.size() for file in self._files.values())

    def lock(self) -> None:
        if self._locked:
            raise DataDirectoryLocked("another broker uses this memory")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    def handed_over(self) -> MemoryFiles:
        """The same tree for the next process: nothing that is left of the last one holds it."""
        other = MemoryFiles(self._capacity)
        other._files = {path: file.handed_over() for path, file in self._files.items()}
        return other
