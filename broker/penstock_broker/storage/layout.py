"""Where things lie in a data directory.

format                                   version and node uuid
identity                                 cluster and node id, once it belongs to a cluster
wal/<number>.wal                         write-ahead log of all groups, recycled
checkpoint/<number>.ckpt                 control checkpoint
partitions/<group>/<base offset>.log     committed batches;  .idx: their sparse index
quarantine/<time>.<group>/               a dropped replica, laid out like a data directory
"""

from __future__ import annotations

from typing import Final

FORMAT: Final = "format"
FORMAT_NEW: Final = "format.new"
IDENTITY: Final = "identity"
IDENTITY_NEW: Final = "identity.new"
WAL: Final = "wal"
CHECKPOINT: Final = "checkpoint"
PARTITIONS: Final = "partitions"
QUARANTINE: Final = "quarantine"
ROOT: Final = ""

_WAL_SUFFIX: Final = ".wal"
_CHECKPOINT_SUFFIX: Final = ".ckpt"
_LOG_SUFFIX: Final = ".log"
_COMPACT_SUFFIX: Final = ".compact"


def wal_file(number: int) -> str:
    return f"{WAL}/{number:012d}{_WAL_SUFFIX}"


def checkpoint_file(number: int) -> str:
    return f"{CHECKPOINT}/{number:012d}{_CHECKPOINT_SUFFIX}"


def checkpoint_new(number: int) -> str:
    return f"{CHECKPOINT}/{number:012d}.new"


def partition(gid: int) -> str:
    return f"{PARTITIONS}/{gid}"


def segment_file(gid: int, base_offset: int) -> str:
    return f"{PARTITIONS}/{gid}/{base_offset:020d}{_LOG_SUFFIX}"


def index_file(gid: int, base_offset: int) -> str:
    return f"{PARTITIONS}/{gid}/{base_offset:020d}.idx"


def compact_file(gid: int, base_offset: int) -> str:
    return f"{PARTITIONS}/{gid}/{base_offset:020d}{_COMPACT_SUFFIX}"


def quarantined(at_us: int, gid: int) -> str:
    """The directory of a replica that was dropped at a time."""
    return f"{QUARANTINE}/{at_us:016d}.{gid}"


def quarantined_ids(name: str) -> tuple[int, int] | None:
    """(time of the drop, group) of a name in the quarantine; None: it is not ours."""
    at_us, _, gid = name.partition(".")
    return (int(at_us), int(gid)) if at_us.isdecimal() and gid.isdecimal() else None


def _numbers(names: list[str], suffix: str) -> list[int]:
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


def wal_numbers(names: list[str]) -> list[int]:
    """Numbers of the WAL files among the names of a directory."""
    return _numbers(names, _WAL_SUFFIX)


def checkpoint_numbers(names: list[str]) -> list[int]:
    """Numbers of the checkpoint files among the names of a directory."""
    return _numbers(names, _CHECKPOINT_SUFFIX)


def segment_bases(names: list[str]) -> list[int]:
    """Base offsets of the segments among the names of a directory."""
    return _numbers(names, _LOG_SUFFIX)


def compact_bases(names: list[str]) -> list[int]:
    """Base offsets of unfinished rewrites among the names of a directory."""
    return _numbers(names, _COMPACT_SUFFIX)


def group_ids(names: list[str]) -> list[int]:
    """Group ids among the names of the partitions directory."""
    return _numbers(names, "")
