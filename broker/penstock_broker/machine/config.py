"""Topic configuration: the keys, their types and ranges, their defaults, and how they are written.

A topic stores only the keys that were set, so that a better default reaches it later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from penstock.errors import InvalidConfig
from penstock.protocol.batch import BATCH_BYTES_MAX
from penstock.protocol.durations import parse_duration
from penstock_broker.machine.commands import Scalar

Value = int | str

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_SECOND: Final = 1000
_DAY: Final = 86_400 * _SECOND
_CENTURY: Final = 36_525 * _DAY
_BYTES_MAX: Final = 1 << 60

_SIZES: Final[Mapping[str, int]] = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": _KIB, "MiB": _MIB, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]{1,18}) ?([A-Za-z]{0,3})", re.ASCII)
_TEXT_MAX: Final = 64


class TopicConfig(Struct, frozen=True, kw_only=True):
    """A topic's settings, complete."""

    retention_ms: int = 7 * _DAY
    retention_bytes: int = -1
    retention: str = "time"
    cleanup: str = "delete"
    max_batch_bytes: int = _MIB
    segment_bytes: int = 512 * _MIB
    segment_ms: int = 7 * _DAY
    delete_retention_ms: int = _DAY
    timestamp: str = "append"
    dedup_window_ms: int = 600 * _SECOND


class Key(NamedTuple):
    """What a configuration key admits: a number in a range, or one of some words."""

    unit: Literal["ms", "bytes", "word"]
    help: str
    low: int = 0
    high: int = _CENTURY
    choices: tuple[str, ...] = ()
    unlimited: bool = False
    """-1 is allowed and means: no limit."""


KEYS: Final[Mapping[str, Key]] = {
    "retention_ms": Key(
        "ms", "age at which records are deleted; -1: never", low=_SECOND, unlimited=True
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
    "segment_ms": Key("ms", "age at which a new segment file is begun", low=_SECOND),
    "delete_retention_ms": Key("ms", "how long compaction keeps records without a value"),
    "timestamp": Key("word", "the time by which offsets are found", choices=("append",)),
    "dedup_window_ms": Key(
        "ms", "how long batches with a dedup id are remembered; 0: not at all", high=7 * _DAY
    ),
}  # fmt: skip


def parse(values: Mapping[str, Scalar]) -> dict[str, Value]:
    """Check keys and values; quantities may be written as "7d" or "1GiB".

    Raises:
        InvalidConfig: an unknown key, or a value of the wrong type or out of its range.
    """
    return {name: _parse_value(name, value) for name, value in sorted(values.items())}


def merge(current: Mapping[str, Value], changes: Mapping[str, Scalar]) -> dict[str, Value]:
    """The settings after a change; None resets a key to its default.

    Raises:
        InvalidConfig: as `parse`.
    """
    for name in changes:
        _key(name)
    merged = {key: value for key, value in current.items() if key not in changes}
    merged |= parse({key: value for key, value in changes.items() if value is not None})
    return dict(sorted(merged.items()))


def build(values: Mapping[str, Value]) -> TopicConfig:
    """The complete configuration of parsed settings."""
    return TopicConfig(**values)  # type: ignore[arg-type]  # parse() has checked name and type


def describe(values: Mapping[str, Value]) -> list[dict[str, object]]:
    """Every key with its value, its default, whether it was set, its unit and its meaning."""
    defaults, config = TopicConfig(), build(values)
    return [
        {
            "name": name,
            "value": getattr(config, name),
            "default": getattr(defaults, name),
            "set": name in values,
            "unit": key.unit,
            "help": key.help,
        }
        for name, key in KEYS.items()
    ]


def _key(name: str) -> Key:
    key = KEYS.get(name)
    if key is None:
        raise InvalidConfig(f"{name[:80]!r} is no topic setting; there are: {', '.join(KEYS)}")
    return key


def _parse_value(name: str, value: Scalar) -> Value:
    key = _key(name)
    if key.unit == "word":
        if not isinstance(value, str) or value not in key.choices:
            raise InvalidConfig(f"{name} must be one of: {', '.join(key.choices)}")
        return value
    number = _quantity(name, key, value.strip()) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidConfig(f"{name} must be a whole number of {key.unit}")
    if key.unlimited and number == -1:
        return number
    if not key.low <= number <= key.high:
        beside = ", or -1" if key.unlimited else ""
        raise InvalidConfig(f"{name} must be between {key.low} and {key.high}{beside}")
    return number


def _quantity(name: str, key: Key, text: str) -> int:
    if text == "-1":
        return -1
    if key.unit == "ms":
        return parse_duration(text)
    match = _SIZE.fullmatch(text[:_TEXT_MAX])
    if match is None or match[2] not in _SIZES:
        raise InvalidConfig(f"{name} must be a size such as 1048576, 1MiB or 10GB")
    return int(match[1]) * _SIZES[match[2]]
