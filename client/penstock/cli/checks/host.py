"""Checks of this host: limits, memory, clock, and how fast it computes checksums."""

from __future__ import annotations

import ctypes
import os
import resource
import time
import zlib
from pathlib import Path
from typing import Final

from penstock._version import __version__
from penstock.cli.checks import Check, graded
from penstock.cli.units import show_size

FILES_MIN: Final = 4096
CRC_BYTES: Final = 1 << 20
CRC_ROUNDS: Final = 32
CRC_SPEED_MIN: Final = 1e9
_ADJTIMEX_STATUS_AT: Final = 40
"""Where `struct timex` keeps its status on 64-bit Linux."""
_UNSYNCHRONISED: Final = 0x40


def checks() -> list[Check]:
    """All checks of the host."""
    return [_version(), _cores(), _memory(), _overcommit(), _open_files(), _clock(), _checksums()]


def _version() -> Check:
    import platform

    return graded("version", f"penstock {__version__}, Python {platform.python_version()}", "")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0))
    return graded(
        "cores",
        f"{cores} usable",
        "Give a broker two cores: its disk thread and the kernel work too.",
        warn=cores < 2,
    )


def _memory() -> Check:
    available = _meminfo().get("MemAvailable")
    if available is None:
        return graded("memory", "unknown here", "")
    return graded(
        "memory",
        f"{show_size(available)} available",
        "Free memory: the page cache serves readers of older records.",
        warn=available < 512 << 20,
    )


def _meminfo() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines]
    return {p[0].rstrip(":"): int(p[1]) << 10 for p in parts if len(p) == 3}


def _overcommit() -> Check:
    try:
        mode = Path("/proc/sys/vm/overcommit_memory").read_text().strip()
    except OSError:
        return graded("overcommit", "unknown here", "")
    return graded(
        "overcommit",
        f"vm.overcommit_memory = {mode}",
        "It can refuse buffers early: sysctl vm.overcommit_memory=0",
        warn=mode == "2",
    )


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return graded(
        "open files",
        f"limit {soft:,} (hard {hard:,})",
        f"Raise it: ulimit -n {max(FILES_MIN * 16, soft)}, or LimitNOFILE= in the unit.",
        fail=soft < 256,
        warn=soft < FILES_MIN,
    )


def _clock() -> Check:
    try:
        timex = ctypes.create_string_buffer(512)
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return graded("clock", "unknown here", "")
    status = int.from_bytes(timex.raw[_ADJTIMEX_STATUS_AT : _ADJTIMEX_STATUS_AT + 4], "little")
    if state < 0:
        return graded("clock", "unknown here", "")
    free = bool(status & _UNSYNCHRONISED)
    return graded(
        "clock",
        "not synchronised" if free else "synchronised",
        "Run a time service (chrony, systemd-timesyncd): retention needs it.",
        warn=free,
    )


def _checksums() -> Check:
    from penstock.protocol.checksum import crc32c

    data = os.urandom(CRC_BYTES)
    fast, slow = _speed(crc32c, data), _speed(zlib.crc32, data)
    return graded(
        "checksums",
        f"crc32c {show_size(fast)}/s, zlib crc32 {show_size(slow)}/s",
        "crc32c runs without help of the hardware: bulk publish is slower.",
        warn=fast < CRC_SPEED_MIN,
    )


def _speed(function: object, data: bytes) -> float:
    assert callable(function)
    best = 1e9
    for _ in range(CRC_ROUNDS):
        start = time.perf_counter()
        function(data)
        best = min(best, time.perf_counter() - start)
    return len(data) / max(best, 1e-9)
