"""Settings of a shared group, and the retry policy made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from penstock.errors import InvalidConfig
from penstock_broker.machine.commands import Scalar
from penstock_broker.machine.keys import DAY, SECOND, Key, Keys, Value

_MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * _MINUTE
_MASK: Final = (1 << 64) - 1


class SharedSettings(Struct, frozen=True, kw_only=True):
    """A group's settings, complete."""

    lease_ms: int = 30 * SECOND
    hold_max_ms: int = _HOUR
    attempts_max: int = 5
    retry_min_ms: int = SECOND
    retry_max_ms: int = 10 * _MINUTE
    retry_factor: int = 200
    jitter: str = "full"
    max_age_ms: int = -1
    never_retry: str = ""
    dead_letters: str = "topic"
    dead_letter_unavailable: str = "hold"
    redrives_max: int = 10
    strict: str = "no"
    order_by: str = "none"
    max_in_flight: int = 100_000
    member_in_flight_max: int = 100_000
    limit_by: str = "none"
    concurrency: int = -1
    rate_per_second: int = -1
    fair_by: str = "none"
    overtaken: str = "count"
    window_max: int = 1_000_000


KEYS: Final[Mapping[str, Key]] = {
    "lease_ms": Key("ms", "how long a member holds a record without renewing",
                    low=SECOND, high=12 * _HOUR),
    "hold_max_ms": Key("ms", "how long renewals may hold a record; then it counts as timed out",
                       low=SECOND, high=30 * DAY, unlimited=True),
    "attempts_max": Key("count", "failed and timed out deliveries before a record is given up",
                        low=1, high=1000, unlimited=True),
    "retry_min_ms": Key("ms", "pause before the first retry", high=30 * DAY),
    "retry_max_ms": Key("ms", "longest pause between retries", high=30 * DAY),
    "retry_factor": Key("percent", "growth of the pause from retry to retry",
                        low=100, high=10_000),
    "jitter": Key("word", "pauses at random up to the full one, or always the full one",
                  choices=("full", "none")),
    "max_age_ms": Key("ms", "age at which a record that can't be delivered is given up",
                      low=SECOND, unlimited=True),
    "never_retry": Key("words", "reasons of failures that are given up at once, with commas"),
    "dead_letters": Key("word", "records that are given up go to the dead-letter topic, or away",
                        choices=("topic", "drop")),
    "dead_letter_unavailable": Key(
        "word", "while the dead-letter topic can't be reached: keep the records, or drop them",
        choices=("hold", "drop"),
    ),
    "redrives_max": Key("count", "redrives of a dead letter; more only by force",
                        low=1, high=1000, unlimited=True),
    "strict": Key("word", "refuse acks that come after the lease is over", choices=("no", "yes")),
    "order_by": Key("word", "records of a key one after the other", choices=("none", "key")),
    "max_in_flight": Key("count", "records under lease, in each partition",
                         low=1, high=1_000_000),
    "member_in_flight_max": Key("count", "records under lease by one member, in each partition",
                                low=1, high=1_000_000),
    "limit_by": Key("word", "what `concurrency` and `rate_per_second` count by",
                    choices=("none", "key", "tenant")),
    "concurrency": Key("count", "records under lease of one key or tenant, in each partition",
                       low=1, high=1_000_000, unlimited=True),
    "rate_per_second": Key("count", "deliveries a second of one key or tenant, in each partition",
                           low=1, high=1_000_000, unlimited=True),
    "fair_by": Key("word", "what gets equal shares of the deliveries",
                   choices=("none", "key", "tenant")),
    "overtaken": Key("word", "records that retention deletes undelivered: count them, or move "
                     "them to the dead-letter topic first", choices=("count", "dead_letter")),
    "window_max": Key("count", "records between the oldest unsettled one and the newest granted",
                      low=1_000, high=4_000_000),
}  # fmt: skip

_TABLE: Final = Keys("group", KEYS)


def parse(values: Mapping[str, Scalar]) -> dict[str, Value]:
    """Check keys, values, and that they go together; durations may be written as "30s".

    Raises:
        InvalidConfig: an unknown key, or a value of the wrong type or out of its range.
    """
    return _checked(_TABLE.parse(values))


def merge(current: Mapping[str, Value], changes: Mapping[str, Scalar]) -> dict[str, Value]:
    """The settings after a change; None resets a key to its default.

    Raises:
        InvalidConfig: as `parse`.
    """
    return _checked(_TABLE.merge(current, changes))


def build(values: Mapping[str, Value]) -> SharedSettings:
    """The complete settings."""
    return SharedSettings(**values)  # type: ignore[arg-type]  # parse() has checked name and type


def describe(values: Mapping[str, Value]) -> list[dict[str, object]]:
    """Every key with its value, its default, whether it was set, its unit and its meaning."""
    return _TABLE.describe(values, SharedSettings(), build(values))


def _checked(values: dict[str, Value]) -> dict[str, Value]:
    settings = build(values)
    if settings.retry_min_ms > settings.retry_max_ms:
        raise InvalidConfig("retry_min_ms must not be above retry_max_ms")
    limited = settings.concurrency != -1 or settings.rate_per_second != -1
    if limited and settings.limit_by == "none":
        raise InvalidConfig("concurrency and rate_per_second need limit_by = key or tenant")
    return values


class RetryPolicy:
    """When a record that failed is tried again, and whether it is.

    The pause grows from `retry_min_ms` by `retry_factor` percent up to `retry_max_ms`. Full jitter
    takes a part of it that follows from offset, attempt and entry index by a fixed mix of integers:
    every replica computes the same.
    """

    __slots__ = ("_jitter", "_never", "_pauses", "attempts_max")

    def __init__(self, settings: SharedSettings) -> None:
        self.attempts_max = settings.attempts_max
        self._jitter = settings.jitter == "full"
        self._never = frozenset(settings.never_retry.split(",")) if settings.never_retry else ()
        pause, top = settings.retry_min_ms * 1000, settings.retry_max_ms * 1000
        self._pauses = [pause]
        while 0 < pause < top and settings.retry_factor > 100:
            pause = min(pause * settings.retry_factor // 100, top)
            self._pauses.append(pause)

    def is_final(self, reason: str) -> bool:
        """Whether a failure for this reason is never retried."""
        return reason in self._never

    def is_exhausted(self, attempts: int) -> bool:
        """Whether so many failed and timed out attempts are all there are."""
        return 0 < self.attempts_max <= attempts

    def pauses_us(self, first: int, count: int, attempt: int, index: int) -> list[int]:
        """The pauses of records that follow one another, after the same attempt."""
        if not self._jitter:
            return [self.pause_us(first, attempt, index)] * count
        return [self.pause_us(offset, attempt, index) for offset in range(first, first + count)]

    def pause_us(self, offset: int, attempt: int, index: int) -> int:
        """How long to wait after this attempt (from 1 on) has failed."""
        pauses = self._pauses
        pause = pauses[attempt - 1] if attempt <= len(pauses) else pauses[-1]
        if not self._jitter:
            return pause
        return mix(offset, attempt, index) % (pause + 1)


def mix(offset: int, attempt: int, index: int) -> int:
    """64 well mixed bits of three integers (the finaliser of SplitMix64)."""
    bits = (offset * 0x9E3779B97F4A7C15 + attempt * 0xC2B2AE3D27D4EB4F + index) & _MASK
    bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _MASK
    return bits ^ bits >> 31
