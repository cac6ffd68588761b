"""Topic configuration: the keys, their ranges and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from penstock.protocol.batch import BATCH_BYTES_MAX
from penstock_broker.machine.commands import Scalar
from penstock_broker.machine.keys import DAY, SECOND, Key, Keys, Value

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_BYTES_MAX: Final = 1 << 60


class TopicConfig(Struct, frozen=True, kw_only=True):
    """A topic's settings, complete."""

    retention_ms: int = 7 * DAY
    retention_bytes: int = -1
    retention: str = "time"
    cleanup: str = "delete"
    max_batch_bytes: int = _MIB
    segment_bytes: int = 512 * _MIB
    segment_ms: int = 7 * DAY
    delete_retention_ms: int = DAY
    timestamp: str = "append"
    dedup_window_ms: int = 600 * SECOND
    key_slots: str = "none"
    tenant_separator: str = "none"


KEYS: Final[Mapping[str, Key]] = {
    "retention_ms": Key(
        "ms", "age at which records are deleted; -1: never", low=SECOND, unlimited=True
    ),
    "retention_bytes": Key(
        "bytes", "size per partition from which the oldest records are deleted; -1: none",
        low=1, high=_BYTES_MAX, unlimited=True,
    ),
    "retention": Key(
        "word", "delete by age and size alone, or never what an ordered group still needs",
        choices=("time", "until_acked"),
    ),
    "cleanup": Key(
        "word", "delete old records, or keep the newest record of each key",
        choices=("delete", "compact"),
    ),
    "max_batch_bytes": Key("bytes", "largest record batch", low=_KIB, high=BATCH_BYTES_MAX),
    "segment_bytes": Key("bytes", "size of a segment file", low=64 * _KIB, high=1 << 32),
    "segment_ms": Key("ms", "age at which a new segment file is begun", low=SECOND),
    "delete_retention_ms": Key("ms", "how long compaction keeps records without a value"),
    "timestamp": Key("word", "the time by which offsets are found", choices=("append",)),
    "dedup_window_ms": Key(
        "ms", "how long batches with a dedup id are remembered; 0: not at all", high=7 * DAY
    ),
    "key_slots": Key(
        "word", "whether producers write a column of key slots: for order and limits by key",
        choices=("none", "key"),
    ),
    "tenant_separator": Key(
        "word", "what ends the tenant within a key, for a column of tenants: limits, fair shares",
        choices=("none", ":", "/", ".", "|", "-", "_"),
    ),
}  # fmt: skip


_TABLE: Final = Keys("topic", KEYS)


def parse(values: Mapping[str, Scalar]) -> dict[str, Value]:
    """Check keys and values; quantities may be written as "7d" or "1GiB".

    Raises:
        InvalidConfig: an unknown key, or a value of the wrong type or out of its range.
    """
    return _TABLE.parse(values)


def merge(current: Mapping[str, Value], changes: Mapping[str, Scalar]) -> dict[str, Value]:
    """The settings after a change; None resets a key to its default.

    Raises:
        InvalidConfig: as `parse`.
    """
    return _TABLE.merge(current, changes)


def build(values: Mapping[str, Value]) -> TopicConfig:
    """The complete configuration of parsed settings."""
    return TopicConfig(**values)  # type: ignore[arg-type]  # parse() has checked name and type


def describe(values: Mapping[str, Value]) -> list[dict[str, object]]:
    """Every key with its value, its default, whether it was set, its unit and its meaning."""
    return _TABLE.describe(values, TopicConfig(), build(values))
