"""What the cluster consists of, and the replies that name it. All of it is immutable."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock_broker.machine import config
from penstock_broker.machine.commands import Refused
from penstock_broker.machine.keys import Value

GROUPS_TOPIC: Final = "__groups"
"""The internal topic whose partitions coordinate the ordered groups."""
GROUPS_PARTITIONS: Final = 8
KIND_RECORDS: Final = "records"
KIND_GROUPS: Final = "groups"
KIND_DELAYED: Final = "delayed"
"""Companion of a topic, where its delayed records wait for their time."""
DEAD_PREFIX: Final = "dead."
DELAYED_PREFIX: Final = "__delayed."
TIMER_GROUP: Final = "__timer"
"""The built-in group on a companion."""


ACTIVE: Final = "active"
DRAINING: Final = "draining"
"""Its replicas and leads go elsewhere; it takes no new ones."""
REMOVED: Final = "removed"
"""By an operator, for ever."""
REPLACED: Final = "replaced"
"""Another node has its address: its disk was wiped."""


class NodeEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A broker of the cluster."""

    id: int
    uuid: str
    address: str
    host: str
    revision: int
    """Index of the registration: requests under an earlier one are out of date."""
    state: str = ACTIVE
    feature_max: int = 1
    """The highest feature level that it knows."""

    @property
    def gone(self) -> bool:
        """Whether it is no member any more."""
        return self.state in (REMOVED, REPLACED)


class Partition(Struct, frozen=True, forbid_unknown_fields=True):
    """The Raft group of a partition, and the nodes that should hold it."""

    group: int
    replicas: list[int]
    """Those that should, preferred leader first."""
    members: list[int]
    """Those that do: the group's voters when it was settled last, ascending."""
    founded: bool = True
    """Whether nothing was settled since the creation: `members` are the group's first voters, and
    one of them without any state of the group begins with that configuration. Later, and on all
    other nodes, a replica without state waits until a leader tells it who takes part."""
    moving: bool = False
    """Whether the group is on its way to `replicas`."""
    leaving: list[int] = []
    """Others that may have got a copy, since they were meant to."""
    revision: int = 0
    """Index of the last change of `replicas`."""
    survivor: int = 0
    """The node that is about to go on alone, the majority being lost for ever, until the group is
    settled on it; 0: none."""
    recovery_term: int = 0
    """Of the last time that one went on alone: the group's entries since then have this term or a
    later one; 0: never."""
    astray: list[int] = []
    """Of the other members of the cluster at that time, those that had no part in the group since:
    they may keep a copy from before, which was given up."""

    @property
    def holders(self) -> list[int]:
        """Every node that may keep a copy; all others must drop theirs."""
        return sorted({*self.replicas, *self.members, *self.leaving})

    @property
    def founders(self) -> list[int]:
        """The voters that the group begins with; empty once that is history."""
        return self.members if self.founded else []


class SharedDefinition(Struct, frozen=True, forbid_unknown_fields=True):
    """A shared group of a topic; the leaders of the partitions take it over (`ConfigureShared`)."""

    id: str
    kind: str
    """`shared`, `hold` (on a dead-letter topic) or `timer` (on a companion of delayed records)."""
    settings: dict[str, Value]
    """Only what was set; see `sharing.settings.build`."""
    start: int
    """-2 earliest, -1 latest, else a time in microseconds."""
    revision: int
    """Index of the command that last changed it."""
    dead_topic: str
    """Where its dead letters go, partition for partition; empty: they are dropped and counted."""


class Topic(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic."""

    name: str
    id: str
    kind: str
    replication: int
    settings: dict[str, Value]
    """Only what was set; see `config.build`."""
    partitions: list[Partition]
    revision: int
    """Index of the command that last changed the partitions."""
    created_us: int
    shared: dict[str, SharedDefinition] = {}
    """Its shared groups by name."""
    delayed: str = ""
    """Name of its companion for delayed records; empty: there is none yet."""
    origin: tuple[str, str] | None = None
    """Topic and group whose dead letters it holds; None: it is no dead-letter topic."""

    @property
    def config(self) -> config.TopicConfig:
        """The complete configuration."""
        return config.build(self.settings)


class Initialised(Struct, frozen=True):
    """Replies to `InitCluster`."""

    cluster: str
    created: bool


class Registered(Struct, frozen=True):
    """Replies to `RegisterNode`."""

    node: int
    revision: int


class TopicCreated(Struct, frozen=True):
    """Replies to `CreateTopic`; not `created`: it was there already."""

    topic: Topic
    created: bool


class TopicAltered(Struct, frozen=True):
    """Replies to `AlterTopic`."""

    topic: Topic


class TopicDeleted(Struct, frozen=True):
    """Replies to `DeleteTopic`."""

    topic: Topic


class FeatureLevelRaised(Struct, frozen=True):
    """Replies to `RaiseFeatureLevel`."""

    level: int


class BalancingSet(Struct, frozen=True):
    """Replies to `SetBalancing`."""

    on: bool


class NodeStateSet(Struct, frozen=True):
    """Replies to `SetNodeState`."""

    node: NodeEntry


class ReplicasChosen(Struct, frozen=True):
    """Replies to `ChangeReplicas`."""

    topic: Topic
    partition: int


class ReplicasSettled(Struct, frozen=True):
    """Replies to `SettleReplicas`."""

    topic: Topic
    partition: int


class PartitionRecovered(Struct, frozen=True):
    """Replies to `RecoverPartition`."""

    topic: Topic
    partition: int


class SharedCreated(Struct, frozen=True):
    """Replies to `CreateSharedGroup`; not `created`: it was there already."""

    topic: Topic
    group: str
    dead: Topic | None
    """Its dead-letter topic."""
    created: bool


class SharedAltered(Struct, frozen=True):
    """Replies to `AlterSharedGroup`."""

    topic: Topic
    group: str
    dead: Topic | None


class SharedDeleted(Struct, frozen=True):
    """Replies to `DeleteSharedGroup`."""

    topic: Topic


class DelaysEnabled(Struct, frozen=True):
    """Replies to `EnableDelays`."""

    topic: Topic
    companion: Topic


MetadataReply = (
    Refused | Initialised | Registered | TopicCreated | TopicAltered | TopicDeleted
    | FeatureLevelRaised | SharedCreated | SharedAltered | SharedDeleted | DelaysEnabled
    | NodeStateSet | ReplicasChosen | ReplicasSettled | BalancingSet | PartitionRecovered
)  # fmt: skip
