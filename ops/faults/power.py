"""A disk whose power can be cut: a file system in a file, through a loop device. Needs root.

The cut is the file system's own shutdown without flushing its journal: what was not synced is gone,
as after a power failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_GOING_DOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN, the same number as XFS_IOC_GOINGDOWN
_WITHOUT_FLUSH: Final = struct.pack("<I", 2)


class Unavailable(Exception):
    """This machine can't do it, or this user may not."""


class Disk:
    """A mounted file system of its own; use it in a `with`."""

    def __init__(self, folder: Path, size: int = 2 << 30) -> None:
        self.place = folder / "disk"
        self._image = folder / "disk.image"
        self._size = size

    def __enter__(self) -> Self:
        """Make and mount it.

        Raises:
            Unavailable: that is not possible here.
        """
        self.place.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(self._size)
        _run("mkfs.ext4", "-q", "-m0", "-E", "lazy_itable_init=1", str(self._image))
        _run("mount", str(self._image), str(self.place))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=False)

    def cut(self) -> None:
        """Cut the power: from now on nothing more gets to the disk, and what is cached is lost."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Power is back; nobody uses the disk any more."""
        _run("umount", str(self.place))
        _run("mount", str(self._image), str(self.place))


def _run(*command: str) -> None:
    # Where the tools of an administrator are is often not in the path of a program.
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        raise Unavailable(f"there is no {command[0]}")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]}: {done.stderr.strip()}")
