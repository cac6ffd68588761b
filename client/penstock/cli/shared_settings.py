"""The settings of a shared group: how options say them, and how people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import click

from penstock.cli.params import PAIR, RETENTION, attempts
from penstock.cli.topic_config import show_setting

_F = TypeVar("_F", bound=Callable[..., object])

_OPTIONS = (
    click.option(
        "--lease", "lease_ms", type=RETENTION, metavar="DURATION",
        help="How long a member may be silent about a record.",
    ),
    click.option(
        "--attempts", "attempts_max", type=attempts, metavar="N",
        help="Attempts before a record is a dead letter, or unlimited.",
    ),
    click.option(
        "--order-by", type=click.Choice(["none", "key"]),
        help="key: records of one key one after the other.",
    ),
    click.option(
        "--dead-letters", type=click.Choice(["topic", "drop"]),
        help="Keep dead letters in a topic, or drop and count them.",
    ),
    click.option(
        "-c", "--set", "pairs", type=PAIR, multiple=True, metavar="KEY=VALUE",
        help="Any setting (repeatable); KEY=default resets it.",
    ),
)  # fmt: skip

SETTINGS_NOTE: Final = (
    "Settings",
    """\
  lease_ms (30s)             silence after which a record is given to another
  hold_max_ms (1h)           renewed for so long at most; -1: for ever
  attempts_max (5)           failed and timed out ones together; -1: unlimited
  retry_min_ms (1s)          the pause before the second attempt,
  retry_max_ms (10min)       the longest one,
  retry_factor (200)         how much longer each is, in percent
  jitter (full)              full or none: spread over the pause
  max_age_ms (-1)            older records are dead letters
  never_retry ()             reasons that make a dead letter at once: a,b
  dead_letters (topic)       topic or drop
  dead_letter_unavailable (hold)  hold or drop, if the topic can't be written
  redrives_max (10)          so often without --force
  strict (no)                yes: an ack after the lease is over is refused
  order_by (none)            key: one record of a key at a time, in order
  max_in_flight (100000)     leased records per partition
  member_in_flight_max       the same, of one member
  limit_by (none)            key or tenant: what the two limits count
  concurrency (-1)           so many of one key or tenant at a time
  rate_per_second (-1)       so many of one key or tenant a second
  fair_by (none)             key or tenant: take turns between them
  overtaken (count)          what retention overtakes: count or dead_letter
Durations may be written 30s, 10m, 1h. key needs a topic with the setting
key_slots=key, tenant one with tenant_separator (penstock topic alter -c).""",
)


def settings_options(command: _F) -> _F:
    """Add the options that set up a shared group."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show_settings(settings: Mapping[str, object]) -> str:
    """What was set, in one line."""
    return ", ".join(f"{key} {_show(key, value)}" for key, value in sorted(settings.items()))


def _show(key: str, value: object) -> object:
    if value == -1 and not isinstance(value, bool):
        return "unlimited"
    return show_setting(key, value)
