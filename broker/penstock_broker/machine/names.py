"""Which names are allowed for topics, groups and members, and which belong to the brokers."""

from __future__ import annotations

from typing import Final

from penstock.errors import InvalidName
from penstock.protocol import names

TEXT_LENGTH_MAX: Final = 255
"""Limit of what is no name: addresses, hosts, ids."""
RESERVED_PREFIX: Final = "__"
"""Names that begin so belong to the brokers."""


def is_name(name: str) -> bool:
    """Whether a topic, group or member may be called so."""
    try:
        names.check_name(name)
    except InvalidName:
        return False
    return True


def is_reserved(name: str) -> bool:
    """Whether a name belongs to the brokers."""
    return name.startswith(RESERVED_PREFIX)


def check_topic_name(name: str) -> None:
    """Check the name of a topic that a user wants to create or change.

    Raises:
        InvalidName: it has other characters, is too long, or is reserved.
    """
    names.check_name(name, "topic")
    if is_reserved(name):
        raise InvalidName(f"{name!r}: names that begin with {RESERVED_PREFIX!r} are reserved")
