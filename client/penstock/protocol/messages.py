"""Requests and replies other than publish and fetch: one frozen struct each.

A message travels as a CBOR map of its fields. `REQUESTS` and `REPLIES` map the frame type to the
class; a type number is never reused. Unknown fields are ignored, missing ones without a default are
refused, so both sides can grow. Durations are milliseconds, times are microseconds since 1970,
sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct, field

PROTOCOL_MAGIC: Final = "penstock"
VERSION_MIN: Final = 1
VERSION_MAX: Final = 1

REQUESTS: Final[dict[int, type[Struct]]] = {}
REPLIES: Final[dict[int, type[Struct]]] = {}
TYPE_OF: Final[dict[type[Struct], int]] = {}

_S = TypeVar("_S", bound=type[Struct])


def request(number: int) -> Callable[[_S], _S]:
    """Register a struct as the request of a frame type."""

    def register(cls: _S) -> _S:
        assert number not in REQUESTS
        REQUESTS[number] = cls
        TYPE_OF[cls] = number
        return cls

    return register


def reply(number: int) -> Callable[[_S], _S]:
    """Register a struct as the reply of a frame type."""

    def register(cls: _S) -> _S:
        assert number not in REPLIES
        REPLIES[number] = cls
        TYPE_OF[cls] = number
        return cls

    return register


class Message(Struct, frozen=True, kw_only=True):
    """Base of all messages."""


class ErrorBody(Message, frozen=True, kw_only=True):
    """What an error reply says."""

    code: int
    message: str
    detail: dict[str, object] = field(default_factory=dict)


@request(0x01)
class Hello(Message, frozen=True, kw_only=True):
    """The first frame of a connection."""

    magic: str
    version_min: int
    version_max: int
    client: str = ""


@reply(0x01)
class HelloReply(Message, frozen=True, kw_only=True):
    """Answers `Hello`: the version to speak, who answers, and the limits to keep to."""

    version: int
    node: int
    cluster: str
    broker: str
    frame_bytes_max: int
    batch_bytes_max: int
    credit_bytes: int
    """Bytes of unanswered publishes after which the broker stops reading the connection."""


class Node(Message, frozen=True, kw_only=True):
    """A broker of the cluster."""

    id: int
    address: str


class PartitionInfo(Message, frozen=True, kw_only=True):
    """Where a partition lives."""

    partition: int
    group: int
    leader: int
    """Node id; 0 while there is none."""
    term: int
    replicas: list[int]


class TopicInfo(Message, frozen=True, kw_only=True):
    """A topic as the metadata knows it."""

    name: str
    id: str
    partitions: list[PartitionInfo]
    config: dict[str, object]
    replication: int = 1


@request(0x02)
class Metadata(Message, frozen=True, kw_only=True):
    """Asks for nodes and topics; None: all topics, []: none."""

    topics: list[str] | None = None
    linearizable: bool = False
    """The broker first makes sure that it knows all that was decided before it was asked."""


@reply(0x02)
class MetadataReply(Message, frozen=True, kw_only=True):
    """Topics that do not exist are left out."""

    cluster: str
    nodes: list[Node]
    topics: list[TopicInfo]


@request(0x03)
class CreateTopic(Message, frozen=True, kw_only=True):
    """Creates a topic; see the topic configuration keys in the README."""

    name: str
    partitions: int = 1
    replication: int = 1
    config: dict[str, object] = field(default_factory=dict)
    if_not_exists: bool = False
    dry_run: bool = False


@reply(0x03)
class CreateTopicReply(Message, frozen=True, kw_only=True):
    """The topic, created or (with `if_not_exists`) found."""

    topic: TopicInfo
    created: bool


@request(0x04)
class AlterTopic(Message, frozen=True, kw_only=True):
    """Changes configuration keys (None resets one to its default), partitions or replication.

    Partitions are added; replicas come or go in the background, a partition at a time.
    """

    name: str
    config: dict[str, object] = field(default_factory=dict)
    partitions: int | None = None
    replication: int | None = None
    dry_run: bool = False


@reply(0x04)
class AlterTopicReply(Message, frozen=True, kw_only=True):
    """The topic after the change."""

    topic: TopicInfo


@request(0x05)
class DeleteTopic(Message, frozen=True, kw_only=True):
    """Deletes a topic and its records."""

    name: str
    dry_run: bool = False


@reply(0x05)
class DeleteTopicReply(Message, frozen=True, kw_only=True):
    """The deletion is committed; files go shortly after."""

    partitions: int


@request(0x06)
class DescribeTopic(Message, frozen=True, kw_only=True):
    """Asks for the figures of a topic's partitions."""

    name: str


class PartitionFigures(Message, frozen=True, kw_only=True):
    """What one partition holds."""

    partition: int
    group: int
    leader: int
    term: int
    replicas: list[int]
    log_start_offset: int
    high_watermark: int
    size_bytes: int
    segments: int
    producers: int
    damaged: list[list[int]] = field(default_factory=list)
    """Offset ranges [first, end) whose bytes are damaged."""


@reply(0x06)
class DescribeTopicReply(Message, frozen=True, kw_only=True):
    """A topic and its partitions' figures."""

    topic: TopicInfo
    partitions: list[PartitionFigures]


@request(0x07)
class ListOffsets(Message, frozen=True, kw_only=True):
    """Resolves positions of a topic: -2 earliest, -1 latest, else a time in microseconds."""

    topic: str
    positions: dict[int, int]
    """Partition -> what to resolve."""
    flags: int = 0
    """As of a fetch: 1 any replica may answer, 2 linearizable."""


@reply(0x07)
class ListOffsetsReply(Message, frozen=True, kw_only=True):
    """Partition -> offset."""

    offsets: dict[int, int]


@request(0x08)
class TrimLog(Message, frozen=True, kw_only=True):
    """Deletes a partition's records below an offset."""

    topic: str
    partition: int
    offset: int


@reply(0x08)
class TrimLogReply(Message, frozen=True, kw_only=True):
    """The log start after the trim."""

    log_start_offset: int


@request(0x20)
class JoinGroup(Message, frozen=True, kw_only=True):
    """Joins an ordered group, or joins it again; the member id is the client's own choice."""

    group: str
    member: str
    topics: list[str]
    session_timeout_ms: int = 10_000
    host: str = ""
    start: int = -2
    """Where a partition without a committed offset begins: as in `ListOffsets`."""


class Assignment(Message, frozen=True, kw_only=True):
    """The partitions a member owns, or will own once others let go of them."""

    generation: int
    owned: dict[str, list[int]]
    """Topic -> partitions that the member may consume now."""
    revoked: dict[str, list[int]] = field(default_factory=dict)
    """Topic -> partitions that the member must stop consuming, then confirm in a heartbeat."""


@reply(0x20)
class JoinGroupReply(Message, frozen=True, kw_only=True):
    """The membership and the first assignment, with the committed offsets of what it owns."""

    member: str
    assignment: Assignment
    offsets: dict[str, dict[int, int]]
    heartbeat_ms: int


@request(0x21)
class GroupHeartbeat(Message, frozen=True, kw_only=True):
    """Keeps the session alive, confirms revocations, learns a new assignment."""

    group: str
    member: str
    generation: int
    released: dict[str, list[int]] = field(default_factory=dict)


@reply(0x21)
class GroupHeartbeatReply(Message, frozen=True, kw_only=True):
    """The assignment as it stands, with the committed offsets of newly owned partitions."""

    assignment: Assignment
    offsets: dict[str, dict[int, int]]


@request(0x22)
class LeaveGroup(Message, frozen=True, kw_only=True):
    """Ends a membership at once."""

    group: str
    member: str
    generation: int = 0
    """Only if the member has not joined again since; 0: in any case."""


@reply(0x22)
class LeaveGroupReply(Message, frozen=True, kw_only=True):
    """The member is gone."""


@request(0x23)
class CommitOffsets(Message, frozen=True, kw_only=True):
    """Commits offsets (the next to be read); a stale generation or a lost partition is fenced."""

    group: str
    member: str
    generation: int
    offsets: dict[str, dict[int, int]]


@reply(0x23)
class CommitOffsetsReply(Message, frozen=True, kw_only=True):
    """The commit is durable."""


@request(0x24)
class SeekGroup(Message, frozen=True, kw_only=True):
    """Moves a group's committed offsets, on a live group too; members restart from there."""

    group: str
    topic: str
    positions: dict[int, int] = field(default_factory=dict)
    """Partition -> exact offset, or -2 earliest, -1 latest (empty: every partition, see `to`)."""
    to: int | None = None
    """For every partition: -2 earliest, -1 latest, else a time in microseconds."""
    dry_run: bool = False
    create: bool = False
    """Make the group if there is none of that name; otherwise that is refused."""


@reply(0x24)
class SeekGroupReply(Message, frozen=True, kw_only=True):
    """The plan, carried out unless it was a dry run: partition -> [from, to]."""

    plan: dict[int, list[int]]


@request(0x25)
class ListGroups(Message, frozen=True, kw_only=True):
    """Asks for all groups."""

    partial: bool = False
    """Also if some can't be told; else that is an error."""


class GroupSummary(Message, frozen=True, kw_only=True):
    """One line about a group."""

    group: str
    mode: str
    members: int
    generation: int
    topics: list[str]
    lag: int
    missing: int = 0
    """Partitions that nobody told of, since they have no leader: `lag` leaves them out."""


@reply(0x25)
class ListGroupsReply(Message, frozen=True, kw_only=True):
    """All groups by name."""

    groups: list[GroupSummary]
    missing: int = 0
    """Coordinators without a leader: the ordered groups that these keep are left out."""


@request(0x26)
class DescribeGroup(Message, frozen=True, kw_only=True):
    """Asks for members and lag of a group."""

    group: str


class MemberInfo(Message, frozen=True, kw_only=True):
    """A member of a group."""

    member: str
    host: str
    owned: dict[str, list[int]]
    generation: int
    last_seen_ms: int


class PartitionLag(Message, frozen=True, kw_only=True):
    """How far a group is on a partition."""

    topic: str
    partition: int
    committed: int
    """-1: nothing committed yet."""
    log_start_offset: int
    high_watermark: int
    lag: int
    member: str


@reply(0x26)
class DescribeGroupReply(Message, frozen=True, kw_only=True):
    """A group in full."""

    group: str
    mode: str
    generation: int
    members: list[MemberInfo]
    partitions: list[PartitionLag]
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Topic -> partitions without a leader: nobody tells how far their logs go. Of a shared group
    they are left out above, of an ordered one their ends are what this broker knows, or 0."""


@request(0x27)
class DeleteGroup(Message, frozen=True, kw_only=True):
    """Deletes an empty group and its committed offsets, or a shared group and its state."""

    group: str
    topic: str = ""
    """The topic of a shared group; empty: an ordered group."""
    dry_run: bool = False


@reply(0x27)
class DeleteGroupReply(Message, frozen=True, kw_only=True):
    """The group is gone."""


@request(0x30)
class BrokerStatus(Message, frozen=True, kw_only=True):
    """Asks a broker for its figures."""


@reply(0x30)
class BrokerStatusReply(Message, frozen=True, kw_only=True):
    """Figures by name; units are in the names."""

    node: int
    version: str
    figures: dict[str, object]
