"""The configuration of a topic: how the options say it, and how people read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import click

from penstock.cli.params import PAIR, RETENTION, SIZE_OR_ALL
from penstock.cli.units import show_duration, show_size

CONFIG_NOTE = (
    "Configuration",
    """\
retention_ms (7d)       age at which records are deleted; -1: never
retention_bytes (-1)    size per partition from which the oldest are deleted
retention (time)        until_acked: never what an ordered group still needs
cleanup (delete)        compact: keep the newest record of each key
max_batch_bytes (1MiB)  the largest batch of records, as it is sent
segment_bytes (512MiB)  size of a segment file
segment_ms (7d)         age at which a new segment file is begun
delete_retention_ms (1d)  how long compaction keeps records without a value
timestamp (append)      the time by which offsets are found
dedup_window_ms (10m)   how long a dedup id is remembered; 0: not at all
key_slots (none)        key: order and limits by key in shared groups
tenant_separator (none)  one of : / . | - _ that ends the tenant in a key:
                        limits and fair shares by tenant in shared groups
Durations may be written 90s, 10m, 7d, sizes 64KiB, 1GB.""",
)

_F = TypeVar("_F", bound=Callable[..., object])

_OPTIONS = (
    click.option(
        "--retention",
        "retention_ms",
        type=RETENTION,
        metavar="AGE",
        help="Delete records older than this: 7d, 12h, or forever.",
    ),
    click.option(
        "--retention-size",
        "retention_bytes",
        type=SIZE_OR_ALL,
        metavar="SIZE",
        help="Keep at most so much per partition: 10GiB, or unlimited.",
    ),
    click.option(
        "--cleanup",
        type=click.Choice(["delete", "compact"]),
        help="Delete old records, or keep the last one of each key.",
    ),
    click.option(
        "-c",
        "--config",
        "pairs",
        type=PAIR,
        multiple=True,
        metavar="KEY=VALUE",
        help="Any configuration key (repeatable); KEY=default resets it.",
    ),
)


def config_options(command: _F) -> _F:
    """Add the options that set the configuration of a topic."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gather_config(pairs: Sequence[tuple[str, str]], **named: object) -> dict[str, object]:
    """The configuration that the options ask for: numbers as numbers, `default` as None."""
    config: dict[str, object] = {}
    for key, text in pairs:
        if text == "default":
            config[key] = None
        elif text in ("true", "false"):
            config[key] = text == "true"
        else:
            config[key] = int(text) if text.removeprefix("-").isdecimal() else text
    config.update({key: value for key, value in named.items() if value is not None})
    return config


def show_retention(config: Mapping[str, object]) -> str:
    """How long records are kept, by age or by size, whichever comes first."""
    parts = []
    milliseconds, size = config.get("retention_ms"), config.get("retention_bytes")
    if isinstance(milliseconds, int) and milliseconds >= 0:
        parts.append(show_duration(milliseconds / 1000))
    if isinstance(size, int) and size >= 0:
        parts.append(show_size(size))
    return " or ".join(parts) or ("forever" if milliseconds == -1 else "")


def show_setting(key: str, value: object) -> object:
    """A configuration value as people read it; -1 is no limit."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if key.endswith("_ms"):
        return "forever" if value == -1 else show_duration(value / 1000)
    if key.endswith("_bytes"):
        return "unlimited" if value == -1 else show_size(value)
    return value
