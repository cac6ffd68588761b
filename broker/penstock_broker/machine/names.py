"""Which names are allowed for topics, groups, members and the like."""

from __future__ import annotations

import re
from typing import Final

from penstock.errors import InvalidName

NAME_LENGTH_MAX: Final = 200
TEXT_LENGTH_MAX: Final = 255
RESERVED_PREFIX: Final = "__"
"""Names that begin so belong to the brokers."""

_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_LENGTH_MAX}}}")


def is_name(name: str) -> bool:
    """Whether a topic, group or member may be called so."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def is_reserved(name: str) -> bool:
    """Whether a name belongs to the brokers."""
    return name.startswith(RESERVED_PREFIX)


def check_name(name: str, what: str = "topic") -> None:
    """Check a user's name.

    Raises:
        InvalidName: it has other characters, is too long, or is reserved.
    """
    if not is_name(name):
        raise InvalidName(f"{name[:NAME_LENGTH_MAX]!r} is not allowed as the name of a {what}")
    if is_reserved(name):
        raise InvalidName(f"{name!r}: names that begin with {RESERVED_PREFIX!r} are reserved")
