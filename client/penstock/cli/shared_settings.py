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
lease_ms (30s)          how long a member holds a record without renewing
hold_max_ms (1h)        how long renewals may hold it; -1: for ever
attempts_max (5)        failed and timed out ones together; -1: no limit
retry_min_ms (1s)       the pause before the first retry
retry_max_ms (10m)      the longest pause
retry_factor (200)      growth from pause to pause, in percent
jitter (full)           full: pauses at random up to the full one; none
max_age_ms (-1)         records older than this are given up
never_retry ()          reasons that are given up at once, with commas
dead_letters (topic)    what is given up goes to the topic, or: drop
dead_letter_unavailable (hold)  while that topic can't be reached: hold, drop
redrives_max (10)       redrives of a dead letter without --force
strict (no)             yes: refuse acks that come after the lease is over
order_by (none)         key: records of a key one after the other
max_in_flight (100000)  records under lease, in each partition
member_in_flight_max (100000)  the same, of one member
window_max (1000000)    from the oldest unsettled record to the newest granted
limit_by (none)         key or tenant: what these two count by:
concurrency (-1)        records under lease of one of them, in each partition
rate_per_second (-1)    deliveries a second of one of them, in each partition
fair_by (none)          key or tenant: equal shares of the deliveries
overtaken (count)       what retention deletes undelivered: count, dead_letter
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
