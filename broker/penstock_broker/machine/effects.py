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
    founders: list[int]
    """The voters that it begins with on a node that is one of them and has no state of it; on
    every other node without state it waits to be told. Empty: that is so on all nodes."""
    holders: list[int]
    """The nodes that keep a copy."""


class ReplicasChanged(Struct, frozen=True, tag=True):
    """A partition shall be elsewhere: new holders begin empty, the leader moves the group."""

    group: int
    topic: str
    partition: int
    kind: str
    replicas: list[int]
    config: TopicConfig
    founders: list[int]
    """As in `GroupCreated`."""
    holders: list[int]


class ReplicaRemoved(Struct, frozen=True, tag=True):
    """A node is no holder of the partition any more: its copy goes into quarantine."""

    group: int
    node: int


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
    """A node joined, has another address, or is in another state."""

    node: int
    address: str
    state: str = "active"


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


# ----- shared groups: what the dispatcher of the partition's leader lives from


class SharedChanged(Struct, frozen=True, tag=True):
    """Group 0: shared groups of a topic were created, changed or deleted; see `Topic.shared`."""

    topic: str
    groups: list[int]
    """Raft groups of the topic's partitions."""


class SharedConfigured(Struct, frozen=True, tag=True):
    """A shared group exists in this partition, or has other settings from now on."""

    group: str


class SharedRemoved(Struct, frozen=True, tag=True):
    """A shared group is gone from this partition."""

    group: str


class RecordsFreed(Struct, frozen=True, tag=True):
    """Records became FREE: released or redriven."""

    group: str
    spans: list[int]


class RecordsDelayed(Struct, frozen=True, tag=True):
    """Records became DELAYED: each can be granted from its ready time on."""

    group: str
    records: list[tuple[int, int]]
    """Offset and ready time (microseconds; may have passed already), ascending by offset."""


class RecordsHeld(Struct, frozen=True, tag=True):
    """Dead letters arrived, or died again."""

    group: str
    spans: list[int]


class RecordsSettled(Struct, frozen=True, tag=True):
    """Records that are not LEASED any more, and records that became DONE.

    It comes before the effects that say what else they are now (freed, delayed, held, moving).
    """

    group: str
    spans: list[int]
    """All of them."""
    done: list[int]
    """Spans of those that are DONE."""
    ended: list[int]
    """Leases that are over."""


class MovesWaiting(Struct, frozen=True, tag=True):
    """Records became MOVING, or moves began: the mover has work."""

    group: str


class ScheduleChanged(Struct, frozen=True, tag=True):
    """A recurring schedule was made, changed or deleted."""

    name: str


Effect = (
    GroupCreated
    | GroupDeleted
    | ReplicasChanged
    | ReplicaRemoved
    | ConfigChanged
    | TopicRevised
    | NodeChanged
    | SessionStarted
    | SessionEnded
    | AssignmentChanged
    | GroupForgotten
    | LogStartMoved
    | SharedChanged
    | SharedConfigured
    | SharedRemoved
    | RecordsFreed
    | RecordsDelayed
    | RecordsHeld
    | RecordsSettled
    | MovesWaiting
    | ScheduleChanged
)
