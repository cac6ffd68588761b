"""Checks of a data directory: room, inodes, kind of file system, and what a sync costs."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Final

from penstock.cli.checks import Check, graded
from penstock.cli.units import show_duration, show_size

SYNCS: Final = 100
SYNC_SECONDS_MAX: Final = 2.0
SYNC_BYTES: Final = 4096
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs"})
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})


def checks(directory: str) -> list[Check]:
    """All checks of the directory."""
    return [_room(directory), _inodes(directory), _file_system(directory), _sync(directory)]


def _room(directory: str) -> Check:
    disk = os.statvfs(directory)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    share = free / total if total else 0.0
    return graded(
        "disk",
        f"{share:.0%} free, {show_size(free)} of {show_size(total)}",
        "Shorten retention, delete topics or grow the disk.",
        fail=share < 0.05,
        warn=share < 0.15,
    )


def _inodes(directory: str) -> Check:
    disk = os.statvfs(directory)
    if not disk.f_files:
        return graded("inodes", "without limit", "")
    share = disk.f_favail / disk.f_files
    return graded(
        "inodes",
        f"{share:.0%} free",
        "Remove small files from this file system.",
        fail=disk.f_favail < 1000,
        warn=share < 0.05,
    )


def _file_system(directory: str) -> Check:
    kind = file_system_of(Path(directory).resolve(), Path("/proc/mounts"))
    if kind in _REMOTE:
        cure = "Use a local disk: over a network syncs are slow and promise less."
    else:
        cure = "Use a real volume: this one ends with the machine or the container."
    return graded("file system", kind, cure, warn=kind in _REMOTE | _VOLATILE)


def file_system_of(directory: Path, mounts: Path) -> str:
    """The kind of file system that holds the directory, from the kernel's table of mounts."""
    best, kind = "", "unknown"
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        parts = line.split()
        point = parts[1].replace("\\040", " ")
        if len(point) >= len(best) and directory.is_relative_to(point):
            best, kind = point, parts[2]
    return kind


def _sync(directory: str) -> Check:
    try:
        delays = sorted(sync_delays(directory))
    except OSError as error:
        return graded("sync", str(error), "Let this user write here.", fail=True)
    middle, late = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    return graded(
        "sync",
        f"p50 {show_duration(middle)}, p99 {show_duration(late)} ({len(delays)} writes)",
        "Use a faster disk (NVMe): each acknowledgment waits for a sync.",
        warn=middle > 0.01 or late > 0.1,
    )


def sync_delays(directory: str) -> list[float]:
    """Seconds that each of some small writes with a sync took, in a file that is gone after."""
    delays = []
    with tempfile.TemporaryFile(dir=directory, prefix="penstock-doctor-") as file:
        number, end = file.fileno(), time.perf_counter() + SYNC_SECONDS_MAX
        block = os.urandom(SYNC_BYTES)
        for place in range(SYNCS):
            start = time.perf_counter()
            os.pwrite(number, block, place * SYNC_BYTES)
            os.fdatasync(number)
            now = time.perf_counter()
            delays.append(now - start)
            if now > end:
                break
    return delays
