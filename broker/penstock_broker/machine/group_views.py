"""What the machine of ordered groups tells about them: replies and descriptions."""

from __future__ import annotations

from msgspec import Struct

from penstock_broker.machine.commands import Offsets, Partitions, Refused

Position = tuple[int, int]
"""Committed offset (the next to be read), and when it was committed, in microseconds."""


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """A member of an ordered group."""

    id: str
    host: str
    topics: list[str]
    session_timeout_ms: int
    joined: int
    """Generation at which this instance joined: an earlier one is fenced."""


class MemberView(Struct, frozen=True):
    """Replies to `Join`, `Release` and heartbeats: the assignment as it stands.

    The dicts belong to the machine: read them, do not change them.
    """

    generation: int
    owned: Partitions
    """What the member may consume now."""
    revoked: Partitions
    """What it must stop consuming and then confirm by `Release`, every time it is told."""
    offsets: Offsets
    """Committed offsets of what it was given, or what was moved by a seek, since the generation
    that it named; where nothing is committed the member's own start policy decides."""


class Left(Struct, frozen=True):
    """Replies to `Leave` and `Expire`: the member is gone."""


class OffsetsCommitted(Struct, frozen=True):
    """Replies to `Commit`."""


class Sought(Struct, frozen=True):
    """Replies to `Seek`: partition -> [from, to]; from -1: nothing was committed."""

    plan: dict[int, list[int]]


class TopicNoted(Struct, frozen=True):
    """Replies to `TopicChanged`."""


class GroupRemoved(Struct, frozen=True):
    """Replies to `DeleteGroup` and `ExpireGroup`."""


class Bundled(Struct, frozen=True):
    """Replies to `Bundle`, one for each of its commands."""

    replies: list[GroupReply]


GroupReply = (
    Refused | MemberView | Left | OffsetsCommitted | Sought | TopicNoted | GroupRemoved | Bundled
)


class GroupSummary(Struct, frozen=True):
    """One line about a group."""

    group: str
    generation: int
    members: int
    topics: list[str]
    touched_us: int


class GroupDescription(Struct, frozen=True):
    """A group in full."""

    group: str
    generation: int
    members: list[Member]
    owners: dict[str, dict[int, str]]
    """Topic -> partition -> member."""
    targets: dict[str, dict[int, str]]
    """The same, once every member has released what it must."""
    positions: dict[str, dict[int, Position]]
    """Topic -> partition -> committed offset and time."""
    touched_us: int


class Session(Struct, frozen=True):
    """A member's session, for the timers of a new leader."""

    group: str
    member: str
    joined: int
    session_timeout_ms: int
