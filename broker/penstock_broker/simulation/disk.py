"""A simulated disk that does all that a real one may do, from one seed.

Each file has the bytes that a reader sees and the bytes that are durable; what lies between is a
list of writes. A power cut keeps a random part of those, sector by sector, so writes come out torn
and out of order. Names (creation, rename, removal) are durable apart from bytes, directory by
directory, in their order. A fault is an OSError, as from a real disk; `Crash` is not: it ends the
process where it stands. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.errors import DataDirectoryLocked
from penstock_broker.simulation.memory_files import MemoryFile, MemoryFiles
from penstock_broker.storage.files import Buffer

__all__ = ["Crash", "DiskFaults", "MemoryFile", "MemoryFiles", "SimDisk", "SimFile"]


class Crash(BaseException):
    """The process died at this call to the disk."""


@dataclass(slots=True)
class DiskFaults:
    """What may go wrong at each call; probabilities."""

    read_error: float = 0.0
    write_error: float = 0.0
    sync_error: float = 0.0


@dataclass(slots=True)
class _Inode:
    """A file without its name."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Since the last sync: (position, bytes written) or (new size, None)."""


def _apply(data: bytearray, position: int, written: bytes | None) -> None:
    if written is None:
        del data[position:]
        data.extend(bytes(position - len(data)))
        return
    if len(data) < position:
        data.extend(bytes(position - len(data)))
    data[position : position + len(written)] = written


class SimFile:
    """An open file of one incarnation of the process."""

    __slots__ = ("_disk", "_incarnation", "_inode")

    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._incarnation = disk.incarnation

    def _enter(self) -> None:
        assert self._incarnation == self._disk.incarnation, "a dead process touches nothing"

    def size(self) -> int:
        self._enter()
        return len(self._inode.data)

    def pwrite(self, buffers: Sequence[Buffer], position: int) -> None:
        self._enter()
        joined = b"".join(buffers)
        whole = len(joined)
        error = self._disk.before_write(max(position + whole - len(self._inode.data), 0))
        if error is not None:
            joined = joined[: self._disk.random.randrange(whole + 1)]
        self._change(position, joined)
        if isinstance(error, BaseException):
            raise error

    def _change(self, position: int, written: bytes | None) -> None:
        _apply(self._inode.data, position, written)
        self._inode.pending.append((position, written))

    def pread(self, length: int, position: int) -> bytes:
        self._enter()
        self._disk.before_read()
        return bytes(self._inode.data[position : position + length])

    def try_pread(self, length: int, position: int) -> bytes | None:
        if self._disk.random.random() < self._disk.cold:
            return None
        return self.pread(length, position)

    def sync(self) -> None:
        self._enter()
        self._disk.before_sync()
        inode = self._inode
        for position, written in inode.pending:
            _apply(inode.durable, position, written)
        inode.pending.clear()

    def write_back(self, position: int, length: int) -> None:
        self._enter()
        self._disk.before_sync()  # it may fail like one, and promises nothing

    def forget(self, position: int, length: int) -> None:
        self._enter()

    def allocate(self, length: int) -> None:
        self._enter()
        growth = length - len(self._inode.data)
        if growth > 0:
            error = self._disk.before_write(growth)
            if error is not None:
                raise error
            self._change(length, None)

    def truncate(self, length: int) -> None:
        self._enter()
        self._disk.step()
        self._change(length, None)

    def close(self) -> None:
        """Nothing to release."""


_NameOperation = Callable[["dict[str, _Inode]", "set[str]"], None]


class SimDisk:
    """One data directory on a disk that fails as told."""

    def __init__(self, seed: int = 0, faults: DiskFaults | None = None) -> None:
        self.random = random.Random(seed)
        self.faults = faults or DiskFaults()
        self.capacity = 1 << 40
        self.cold = 0.1
        """Probability that `try_pread` would have to wait."""
        self.incarnation = 0
        self.steps = 0
        """Calls that change something, so far."""
        self.crash_at: int | None = None
        """The step at which the process dies."""
        self.stalled = False
        """Set by a scheduler that holds back completions; the disk itself takes no time."""
        self.injected: dict[str, int] = {}
        self._names: dict[str, _Inode] = {}
        self._directories: set[str] = {""}
        self._durable_names: dict[str, _Inode] = {}
        self._durable_directories: set[str] = {""}
        self._operations: dict[str, list[_NameOperation]] = {}
        self._locked = False

    # ----- faults

    def step(self) -> None:
        """Count a call; the process may die here."""
        self.steps += 1
        if self.crash_at is not None and self.steps >= self.crash_at:
            self.crash_at = None
            raise Crash

    def _inject(self, kind: str, code: int) -> OSError:
        self.injected[kind] = self.injected.get(kind, 0) + 1
        return OSError(code, f"simulated {kind} error")

    def before_write(self, growth: int) -> BaseException | None:
        """What a write runs into; a part of it may have reached the file then."""
        try:
            self.step()
        except Crash as crash:
            return crash
        if self.random.random() < self.faults.write_error:
            return self._inject("write", errno.EIO)
        if growth and self.used() + growth > self.capacity:
            return self._inject("space", errno.ENOSPC)
        return None

    def before_read(self) -> None:
        if self.random.random() < self.faults.read_error:
            raise self._inject("read", errno.EIO)

    def before_sync(self) -> None:
        self.step()
        if self.random.random() < self.faults.sync_error:
            raise self._inject("sync", errno.EIO)

    def crash(self, *, power: bool) -> None:
        """The process is gone; with `power`, what was not synced is partly gone too."""
        self.incarnation += 1
        self._locked = False
        self.crash_at = None
        if not power:
            return
        keep = self.random.choice((0.0, 0.5, 0.9, 1.0))
        sector = self.random.choice((512, 4096))
        inodes = {id(node): node for node in (*self._names.values(), *self._durable_names.values())}
        for inode in inodes.values():
            self._tear(inode, keep, sector)
        self._tear_names()

    def _tear(self, inode: _Inode, keep: float, sector: int) -> None:
        chance = self.random.random
        for position, written in inode.pending:
            if written is None:
                if chance() < keep:
                    _apply(inode.durable, position, None)
                continue
            start, end = position, position + len(written)
            while start < end:
                edge = min(start - start % sector + sector, end)
                if chance() < keep:
                    _apply(inode.durable, start, written[start - position : edge - position])
                start = edge
        inode.pending.clear()
        inode.data = bytearray(inode.durable)

    def _tear_names(self) -> None:
        for directory in sorted(self._operations):
            operations = self._operations[directory]
            for operation in operations[: self.random.randint(0, len(operations))]:
                operation(self._durable_names, self._durable_directories)
        self._operations.clear()
        self._durable_directories = {
            path for path in self._durable_directories if self._reachable(path)
        }
        self._durable_names = {
            path: inode
            for path, inode in self._durable_names.items()
            if self._reachable(_parent(path)) and _parent(path) in self._durable_directories
        }
        self._names = dict(self._durable_names)
        self._directories = set(self._durable_directories)

    def _reachable(self, path: str) -> bool:
        while path:
            if path not in self._durable_directories:
                return False
            path = _parent(path)
        return True

    def flip(self, path: str, position: int, bit: int) -> None:
        """Flip one bit of a file, durably."""
        inode = self._names[path]
        inode.data[position] ^= 1 << bit
        if position < len(inode.durable):
            inode.durable[position] ^= 1 << bit
        self.injected["flip"] = self.injected.get("flip", 0) + 1

    def misdirect(
        self, path: str, position: int, other: str, other_position: int, length: int
    ) -> None:
        """Bytes that belong to one place were written to another."""
        source, target = self._names[path], self._names[other]
        for image, into in ((source.data, target.data), (source.data, target.durable)):
            stray = bytes(image[position : position + length])[: len(into) - other_position]
            into[other_position : other_position + len(stray)] = stray
        self.injected["misdirect"] = self.injected.get("misdirect", 0) + 1

    def fork(self) -> SimDisk:
        """A copy of what a reader sees, all of it durable: to try damage on."""
        copy = SimDisk(self.random.getrandbits(32))
        copy._directories = set(self._directories)
        copy._durable_directories = set(self._directories)
        for path, inode in self._names.items():
            copy._names[path] = _Inode(bytearray(inode.data), bytearray(inode.data))
        copy._durable_names = dict(copy._names)
        return copy

    # ----- what a test may ask

    def paths(self) -> list[str]:
        return sorted(self._names)

    def content(self, path: str) -> bytes:
        return bytes(self._names[path].data)

    def unsynced(self, path: str, start: int, end: int) -> bool:
        """Whether bytes in a range of a file are not durable."""
        inode = self._names[path]
        name_is_durable = self._durable_names.get(path) is inode
        overlaps = any(
            written is None or (position < end and position + len(written) > start)
            for position, written in inode.pending
        )
        return overlaps or not name_is_durable

    def used(self) -> int:
        return sum(len(inode.data) for inode in self._names.values())

    # ----- Files

    def _change_names(self, directory: str, operation: _NameOperation) -> None:
        operation(self._names, self._directories)
        self._operations.setdefault(directory, []).append(operation)

    def open(self, path: str, *, create: bool = False) -> SimFile:
        inode = self._names.get(path)
        if inode is None:
            if not create or _parent(path) not in self._directories:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.step()
            made = inode = _Inode()
            self._change_names(_parent(path), lambda names, _: names.update({path: made}))
        return SimFile(self, inode)

    def list(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        known = (*self._names, *self._directories)
        inside = {path[len(prefix) :] for path in known if path.startswith(prefix)}
        return sorted({path.partition("/")[0] for path in inside if path})

    def exists(self, path: str) -> bool:
        return path in self._names or path in self._directories

    def rename(self, old: str, new: str) -> None:
        self.step()
        if old in self._directories:
            self._rename_directory(old, new)
            return
        if old not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)

        def operation(names: dict[str, _Inode], directories: set[str]) -> None:
            inode = names.pop(old, None)
            if inode is not None:
                names[new] = inode

        self._change_names(_parent(new), operation)

    def _rename_directory(self, old: str, new: str) -> None:
        """Names in it that are not durable are lost in a power cut, as on the worst of systems."""

        def operation(names: dict[str, _Inode], directories: set[str]) -> None:
            for path in [path for path in names if path.startswith(f"{old}/")]:
                names[new + path[len(old) :]] = names.pop(path)
            for path in [path for path in directories if f"{path}/".startswith(f"{old}/")]:
                directories.discard(path)
                directories.add(new + path[len(old) :])

        self._change_names(_parent(new), operation)
        for path in [path for path in self._operations if f"{path}/".startswith(f"{old}/")]:
            del self._operations[path]

    def remove(self, path: str) -> None:
        self.step()
        if path in self._names:

            def operation(names: dict[str, _Inode], directories: set[str]) -> None:
                names.pop(path, None)

            self._change_names(_parent(path), operation)

    def make_directory(self, path: str) -> None:
        if path in self._directories:
            return
        self.step()
        if _parent(path) not in self._directories:
            self.make_directory(_parent(path))
        self._change_names(_parent(path), lambda _, directories: directories.add(path))

    def remove_directory(self, path: str) -> None:
        self.step()

        def operation(names: dict[str, _Inode], directories: set[str]) -> None:
            for name in [name for name in names if name.startswith(f"{path}/")]:
                del names[name]
            for name in [name for name in directories if f"{name}/".startswith(f"{path}/")]:
                directories.discard(name)

        self._change_names(_parent(path), operation)
        for name in [name for name in self._operations if f"{name}/".startswith(f"{path}/")]:
            del self._operations[name]

    def sync_directory(self, path: str) -> None:
        self.before_sync()
        for operation in self._operations.pop(path, ()):
            operation(self._durable_names, self._durable_directories)

    def free_bytes(self) -> int:
        return max(self.capacity - self.used(), 0)

    def lock(self) -> None:
        if self._locked:
            raise DataDirectoryLocked("another process uses this disk")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
