"""The settings of a data directory; all sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock.errors import InvalidConfig

BLOCK = 4096
"""Flushes start and end on this boundary, so that no write touches acknowledged bytes."""

_KIB = 1024
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Limits and sizes. The defaults suit a server; tests and embedding use smaller files.

    Raises:
        InvalidConfig: a value can't work.
    """

    wal_file_bytes: int = 64 * _MIB
    wal_spares: int = 1
    """WAL files kept ready for the next rotation."""
    wal_files_max: int = 16
    """With more files in use (a checkpoint can't finish) publishes are refused."""
    flush_bytes_max: int = 8 * _MIB
    segment_bytes: int = 512 * _MIB
    index_interval_bytes: int = 64 * _KIB
    tail_bytes_max: int = 64 * _MIB
    """RAM for the newest batches of all partitions together."""
    write_bytes: int = 1 * _MIB
    """A partition's unwritten bytes that start a segment write."""
    write_back_bytes: int = 1 * _MIB
    """What goes to the disk at a time when a segment is written, so that a flush of the WAL beside
    it never waits for more."""
    save_index_bytes: int = 4 * _MIB
    """A checkpoint saves the index of a segment that has grown by this much."""
    index_cache_bytes: int = 8 * _MIB
    open_segments_max: int = 128
    checkpoint_rewrite_bytes: int = 4 * _MIB
    """The checkpoint file is rewritten when this much of it, and over half, is out of date."""
    reserve_bytes: int = 256 * _MIB
    """With less free space publishes are refused; twice as much free ends that."""
    scrub_bytes: int = 1 * _MIB
    """How much one step of scrubbing or compaction reads."""
    quarantine_seconds: int = 24 * 3600
    """How long a replica that was dropped is kept; 0: not at all. With little free space the
    oldest go sooner."""
    compaction_steps: int = 16
    """Steps of compaction between two ticks."""
    compaction_keys_max: int = 1_000_000
    """Distinct keys that one compaction pass holds in RAM."""

    def __post_init__(self) -> None:
        if self.wal_file_bytes % BLOCK or self.wal_file_bytes < 8 * BLOCK:
            raise InvalidConfig("wal_file_bytes must be a multiple of 4096 and at least 32768")
        if self.flush_bytes_max < BLOCK:
            raise InvalidConfig("flush_bytes_max must be at least 4096")
        if self.segment_bytes < BLOCK:
            raise InvalidConfig("segment_bytes must be at least 4096")
        steps = (self.index_interval_bytes, self.write_bytes, self.scrub_bytes)
        if min(*steps, self.write_back_bytes) < 1:
            raise InvalidConfig(
                "index_interval_bytes, write_bytes, scrub_bytes and write_back_bytes "
                "must be positive"
            )


class LogSettings(Protocol):
    """What a topic's configuration says about the logs of its partitions."""

    @property
    def segment_bytes(self) -> int: ...
    @property
    def segment_ms(self) -> int: ...
    @property
    def cleanup(self) -> str:
        """What happens to old records: "delete" or "compact"."""
        ...

    @property
    def delete_retention_ms(self) -> int:
        """How long a compacted log keeps the tombstone of a key."""
        ...
