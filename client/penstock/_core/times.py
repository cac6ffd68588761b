"""Durations and moments as applications give them: "10m", seconds, a timedelta, a datetime."""

from __future__ import annotations

from datetime import datetime, timedelta

from penstock._core.positions import microseconds_of
from penstock.errors import BadRequest, InvalidConfig
from penstock.protocol.durations import parse_duration
from penstock.protocol.leases import EXTEND_MS_MAX

Delay = float | timedelta | str
"""Seconds, a timedelta, or text such as "90s", "10m", "1h30m"."""


def microseconds(delay: Delay) -> int:
    """A duration in microseconds.

    Raises:
        BadRequest: it is negative, or no duration.
    """
    if isinstance(delay, str):
        try:
            return parse_duration(delay) * 1000
        except InvalidConfig as error:
            raise BadRequest(error.message) from None
    found = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not isinstance(found, int | float) or not 0 <= found < 1e10:
        raise BadRequest(f"{delay!r} is not a duration")
    return int(found * 1_000_000)


def extension_ms(delay: Delay) -> int:
    """How much longer a lease is to be held, in milliseconds.

    Raises:
        BadRequest: it is no duration, nothing, or more than a broker allows.
    """
    found = microseconds(delay) // 1000
    if not 0 < found <= EXTEND_MS_MAX:
        raise BadRequest(f"a lease is extended by 1 ms to {EXTEND_MS_MAX // 3_600_000} h")
    return found


def ready_at_us(delay: Delay | None, at: datetime | None, wall_us: int) -> int:
    """The moment that is meant, rounded up to a millisecond, in microseconds since 1970.

    Raises:
        BadRequest: both are given, or one is out of its range.
    """
    if delay is not None and at is not None:
        raise BadRequest("give a delay or a time, not both")
    moment = microseconds_of(at) if at is not None else wall_us + microseconds(delay or 0)
    return -(-moment // 1000) * 1000
