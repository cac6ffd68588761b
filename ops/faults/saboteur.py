"""Runs the command line with an operating system that fails on demand.

`python -m ops.faults.saboteur CONTROL serve ...`: files in the folder CONTROL say what goes wrong,
from the next call on; removing a file ends it.

    sync        fdatasync and fsync fail with EIO; the N-th call alone if the file holds a number N
    hang        fdatasync and fsync take for ever
    full        the disk is full: no file grows
    low         the disk has so many bytes free as the file says
    clock       the wall clock is so many seconds off as the file says
    small       (at the start) files of the store are so small that they are full all the time
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENDS: dict[str, Callable[..., int]] = {
    "pwrite": lambda data, position: position + len(data),
    "pwritev": lambda buffers, position: position + sum(map(len, buffers)),
    "posix_fallocate": lambda position, length: position + length,
    "ftruncate": lambda length: length,
}
"""To where a file must reach for each call, of its arguments after the descriptor."""


class Saboteur:
    """Stands before the calls of `os` and `time` that the broker makes."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._syncs = 0

    def read(self, name: str) -> str | None:
        """What a control file says; None when there is none."""
        try:
            return (self._control / name).read_text()
        except FileNotFoundError:
            return None

    def install(self) -> None:
        """Replace the calls."""
        for name in ("fdatasync", "fsync"):
            setattr(os, name, self._syncing(getattr(os, name)))
        for name, end in ENDS.items():
            setattr(os, name, self._growing(getattr(os, name), end))
        setattr(os, "statvfs", self._free(os.statvfs))  # noqa: B010 - the stub calls it final
        setattr(time, "time_ns", self._clock(time.time_ns))  # noqa: B010 - as above

    def _syncing(self, real: Callable[..., None]) -> Callable[..., None]:
        def sync(descriptor: int) -> None:
            self._syncs += 1
            when = self.read("sync")
            if when is not None and (not when or int(when) == self._syncs):
                raise OSError(errno.EIO, "a saboteur was here")
            while self.read("hang") is not None:
                time.sleep(0.01)
            real(descriptor)

        return sync

    def _growing(self, real: Callable[..., Any], end: Callable[..., int]) -> Callable[..., Any]:
        def write(descriptor: int, *arguments: Any) -> object:  # noqa: ANN401 - any call's
            if self.read("full") is not None and end(*arguments) > os.fstat(descriptor).st_size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, *arguments)

        return write

    def _free(self, real: Callable[[str], os.statvfs_result]) -> Callable[[str], object]:
        def statvfs(path: str) -> os.statvfs_result:
            found = list(real(path))
            free = "0" if self.read("full") is not None else self.read("low")
            if free is not None:
                found[3] = found[4] = int(free) // found[1]
            return os.statvfs_result(found)

        return statvfs

    def _clock(self, real: Callable[[], int]) -> Callable[[], int]:
        def time_ns() -> int:
            return real() + int(float(self.read("clock") or 0) * 1e9)

        return time_ns


def make_small() -> None:
    """Let the log rotate, segments roll and checkpoints be written every few moments."""
    from penstock_broker.runtime.broker import Broker
    from penstock_broker.storage import StorageConfig

    small = StorageConfig(
        wal_file_bytes=2 << 20,
        segment_bytes=256 << 10,
        tail_bytes_max=1 << 20,
        write_bytes=64 << 10,
        index_interval_bytes=16 << 10,
        checkpoint_rewrite_bytes=64 << 10,
    )
    setattr(Broker, "_storage_config", lambda _: small)  # noqa: B010 - a method for another


if __name__ == "__main__":
    saboteur = Saboteur(Path(sys.argv.pop(1)))
    saboteur.install()
    if saboteur.read("small") is not None:
        make_small()
    from penstock.cli import main

    main()
