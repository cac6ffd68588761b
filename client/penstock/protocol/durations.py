"""Durations as people write them: `7d`, `1h30m`, `250ms`; in the protocol they are milliseconds."""

from __future__ import annotations

import re
from typing import Final

from penstock.errors import InvalidConfig

DURATION_MS_MAX: Final = 1 << 52
"""Some 140,000 years: exact in a float and far from any overflow of microseconds."""

_UNITS_MS: Final = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_PART: Final = re.compile(r"([0-9]{1,16})(ms|[wdhms])", re.ASCII)
_CHARACTERS_MAX: Final = 64


def parse_duration(text: str | int) -> int:
    """Milliseconds of a duration; a bare number is milliseconds already.

    Units are w, d, h, m, s and ms, each at most once, the largest first.

    Raises:
        InvalidConfig: it is not a duration, or beyond `DURATION_MS_MAX`.
    """
    if isinstance(text, bool) or not isinstance(text, int | str):
        raise InvalidConfig(f"a duration is text or a number, not {type(text).__name__}")
    found = text if isinstance(text, int) else _parse(text.strip())
    if not 0 <= found <= DURATION_MS_MAX:
        raise InvalidConfig(f"a duration of {found} ms is out of range")
    return found


def format_duration(milliseconds: int) -> str:
    """The shortest text that `parse_duration` reads back as the same duration."""
    if milliseconds <= 0:
        return f"{milliseconds}ms"
    parts: list[str] = []
    for unit, size in _UNITS_MS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _parse(text: str) -> int:
    if len(text) > _CHARACTERS_MAX:
        raise InvalidConfig("a duration has at most 64 characters")
    if text.isascii() and text.isdigit():
        return int(text)
    total, at, last = 0, 0, max(_UNITS_MS.values()) + 1
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or _UNITS_MS[part[2]] >= last:
            break
        last = _UNITS_MS[part[2]]
        total += int(part[1]) * last
        at = part.end()
    if not text or at < len(text):
        raise InvalidConfig(f"{text!r} is not a duration such as 7d, 1h30m or 250ms")
    return total
