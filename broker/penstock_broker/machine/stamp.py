"""Where and when a command was committed; the only time a machine knows."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

TERM_LEAP: Final = 1 << 16
"""Terms left out when a log goes on that may have lost decided entries: more than elections use."""


class Stamp(Struct, frozen=True, gc=False):
    """Position and leader's wall-clock time (microseconds since 1970) of a committed entry."""

    index: int
    term: int
    time_us: int

    @property
    def life(self) -> int:
        """Grows whenever the log goes on without entries that had been decided."""
        return self.term // TERM_LEAP
