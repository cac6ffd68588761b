"""Where and when a command was committed; the only time a machine knows."""

from __future__ import annotations

from msgspec import Struct


class Stamp(Struct, frozen=True, gc=False):
    """Position and leader's wall-clock time (microseconds since 1970) of a committed entry."""

    index: int
    term: int
    time_us: int
