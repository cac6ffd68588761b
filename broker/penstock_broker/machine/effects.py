"""What a machine asks its node to do. The node may see an effect again after a restart."""

from __future__ import annotations

from msgspec import Struct

from penstock_broker.machine.config import TopicConfig


class GroupCreated(Struct, frozen=True, tag=True):
    """A partition exists from now on, as a Raft group of its own."""

    group: int
    topic: str
    partition: int
    kind: str
    """`records`, or `groups` for the coordinators of ordered groups."""
    replicas: list[int]
    config: TopicConfig


class GroupDeleted(Struct, frozen=True, tag=True):
    """A partition is gone: its Raft group is a tombstone, its data may be deleted."""

    group: int
    topic: str
    partition: int


class ConfigChanged(Struct, frozen=True, tag=True):
    """A topic's configuration changed."""

    topic: str
    groups: list[int]
    config: TopicConfig


class TopicRevised(Struct, frozen=True, tag=True):
    """A topic got partitions or was deleted (0 partitions); ordered groups must learn it."""

    topic: str
    id: str
    partitions: int
    revision: int


class NodeChanged(Struct, frozen=True, tag=True):
    """A node joined or has another address."""

    node: int
    address: str


class SessionStarted(Struct, frozen=True, tag=True):
    """A member joined: the coordinator's leader starts its session timer."""

    group: str
    member: str
    joined: int
    session_timeout_ms: int


class SessionEnded(Struct, frozen=True, tag=True):
    """A member is gone: its timer stops."""

    group: str
    member: str


class AssignmentChanged(Struct, frozen=True, tag=True):
    """Members of this ordered group have something to learn with their next heartbeat."""

    group: str
    generation: int


class GroupForgotten(Struct, frozen=True, tag=True):
    """An ordered group and its offsets are gone: it holds no records any more."""

    group: str


class LogStartMoved(Struct, frozen=True, tag=True):
    """Records below the offset are deleted."""

    offset: int


Effect = (
    GroupCreated
    | GroupDeleted
    | ConfigChanged
    | TopicRevised
    | NodeChanged
    | SessionStarted
    | SessionEnded
    | AssignmentChanged
    | GroupForgotten
    | LogStartMoved
)
