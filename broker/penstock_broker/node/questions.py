"""What nodes ask one another beside what clients ask: requests that travel in RELAY frames only.

They follow the rules of `penstock.protocol.messages`, whose registries they are in; `HANDLERS` of
this node answers them on sessions of other nodes alone.
"""

from __future__ import annotations

from msgspec import field

from penstock.protocol import sharing
from penstock.protocol.messages import (
    MemberInfo,
    Message,
    PartitionLag,
    reply,
    request,
)


@request(0xF0)
class Propose(Message, frozen=True, kw_only=True):
    """Has the leader of a group propose a command."""

    group: int
    command: bytes
    """As `machine.commands.encode_command` makes it."""


@reply(0xF0)
class ProposeReply(Message, frozen=True, kw_only=True):
    """It is applied; a refusal is an error."""

    name: str
    """Class of the machine's reply."""
    reply: bytes
    """MessagePack."""


@request(0xF1)
class MetadataIndex(Message, frozen=True, kw_only=True):
    """Asks the leader of group 0 up to where it decided."""


@reply(0xF1)
class MetadataIndexReply(Message, frozen=True, kw_only=True):
    """Whoever has applied this index knows all that was decided before the request."""

    index: int


@request(0xF2)
class LogEnds(Message, frozen=True, kw_only=True):
    """Asks where logs start and end."""

    groups: list[int] | None
    """None: all that the node leads."""
    certain: bool = False
    """Whether it shall make sure first that nobody has taken its place."""


@reply(0xF2)
class LogEndsReply(Message, frozen=True, kw_only=True):
    """Of those groups that the node leads: group -> [log start, log end]."""

    ends: dict[int, list[int]]


@request(0xF3)
class AwaitGroup(Message, frozen=True, kw_only=True):
    """Asks for an answer as soon as partitions know a revision of a shared group."""

    group: str
    revision: int
    partitions: list[int]
    """Their Raft groups."""


@reply(0xF3)
class AwaitGroupReply(Message, frozen=True, kw_only=True):
    """Those of them that the node leads know it."""


class OrderedPart(Message, frozen=True, kw_only=True):
    """An ordered group as its coordinator knows it."""

    group: str
    generation: int
    topics: list[str]
    members: dict[str, str]
    """Member -> host."""
    positions: dict[str, dict[int, list[int]]]
    """Topic -> partition -> [committed offset, when]."""
    owners: dict[str, dict[int, str]]
    known: dict[str, list[int]]
    """Topic -> partitions that it has to do with."""


class SharedPart(Message, frozen=True, kw_only=True):
    """A shared group in the partitions that one node leads."""

    topic: str
    group: str
    rows: list[PartitionLag]
    members: list[MemberInfo]


@request(0xF4)
class GroupParts(Message, frozen=True, kw_only=True):
    """Asks what a node leads of consumer groups."""

    group: str = ""
    """Empty: all."""
    topic: str = ""
    """Only groups that have to do with it; empty: all."""
    ordered: bool = True
    shared: bool = True


@reply(0xF4)
class GroupPartsReply(Message, frozen=True, kw_only=True):
    """Its parts of them."""

    ordered: list[OrderedPart]
    shared: list[SharedPart]


@request(0xF6)
class FindSchedule(Message, frozen=True, kw_only=True):
    """Asks where a schedule is."""

    topic: str
    name: str


@reply(0xF6)
class FindScheduleReply(Message, frozen=True, kw_only=True):
    """Of the partitions that the node leads, the one that has it."""

    partition: int
    """-1: none."""


@request(0xF7)
class PlaceSchedule(sharing.CreateSchedule, frozen=True, kw_only=True):
    """Has a schedule made whose name is free; answered like `CreateSchedule`."""


class GroupLead(Message, frozen=True, kw_only=True):
    """A group as its leader knows it."""

    group: int
    term: int
    voters: list[int]
    learners: list[int]
    behind: dict[int, int]
    """Entries that each other member lacks; -1: it is not heard of."""


@request(0xF8)
class NodeLeads(Message, frozen=True, kw_only=True):
    """Asks what a node leads, and how far the copies elsewhere are."""

    groups: list[int] | None
    """None: all."""


@reply(0xF8)
class NodeLeadsReply(Message, frozen=True, kw_only=True):
    """Those of them that it leads."""

    version: str
    leads: list[GroupLead]
    full: bool = False
    """Whether its disk is nearly full."""


@request(0xF9)
class FindCopy(Message, frozen=True, kw_only=True):
    """Asks for a node's copy of a partition, whoever leads it."""

    group: int


@reply(0xF9)
class FindCopyReply(Message, frozen=True, kw_only=True):
    """How far its Raft log goes, and who votes as it knows; zero if there is none."""

    held: bool
    leading: bool = False
    term: int = 0
    last_term: int = 0
    last_index: int = 0
    end_offset: int = 0
    """Of its records, those included that are not known to be committed there."""
    voters: list[int] = field(default_factory=list)
    outgoing: list[int] = field(default_factory=list)
    """Voters too, while a change is joint."""
    torn: bool = False
    """Whether it was about to catch up, and can't go on alone."""
    dropped: bool = False
    """Whether it once had more, and was dropped and begun anew since."""
