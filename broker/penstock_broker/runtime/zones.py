"""The time zones of this machine, or of the `tzdata` package where the machine has none."""

from __future__ import annotations

from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from penstock.errors import InvalidConfig

NAME_CHARACTERS_MAX = 100


def time_zone(name: str) -> tzinfo:
    """Find a time zone by its name, such as `Europe/Berlin`.

    Raises:
        InvalidConfig: there is none of that name.
    """
    try:
        if len(name) > NAME_CHARACTERS_MAX:
            raise ValueError("too long")
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidConfig(f"there is no time zone {name[:NAME_CHARACTERS_MAX]!r}") from None
