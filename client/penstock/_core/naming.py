"""The ids under which members of groups are known to the broker, and to people who look there."""

from __future__ import annotations

import re
from random import Random
from typing import Final

SHOWN_CHARACTERS_MAX: Final = 40
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")


def member_id(name: str, rng: Random) -> str:
    """An id for a new member: the client's name, if it has one, and what nobody else has."""
    shown = _ODD.sub("-", name)[:SHOWN_CHARACTERS_MAX]
    return f"{shown}-{rng.getrandbits(48):012x}" if shown else f"{rng.getrandbits(96):024x}"
