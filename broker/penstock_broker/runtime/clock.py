"""Where the shell reads time; the node is handed the values."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A wall clock and one that never goes back."""

    def wall_us(self) -> int:
        """Microseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds from some fixed point."""


class SystemClock:
    """The machine's clocks."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()
