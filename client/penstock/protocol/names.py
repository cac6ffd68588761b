"""The names of topics and groups: one rule, so that a name is safe in a file, a URL and a log."""

from __future__ import annotations

import re
from typing import Final

from penstock.errors import InvalidName

NAME_CHARACTERS_MAX: Final = 200

_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_CHARACTERS_MAX}}}", re.ASCII)
_SHOWN_CHARACTERS: Final = 60


def check_name(name: str, what: str = "name") -> str:
    """Return the name of a topic or group if it is allowed.

    Raises:
        InvalidName: it is not 1 to 200 of the characters a-z A-Z 0-9 . _ -, or is '.' or '..'.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and name not in (".", ".."):
        return name
    shown = repr(name)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}... ({len(name)} characters)"
    raise InvalidName(f"{shown} can't be a {what}")
