"""What the cluster consists of, and the replies that name it. All of it is immutable."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock_broker.machine import config
from penstock_broker.machine.commands import Refused

GROUPS_TOPIC: Final = "__groups"
"""The internal topic whose partitions coordinate the ordered groups."""
GROUPS_PARTITIONS: Final = 8
KIND_RECORDS: Final = "records"
KIND_GROUPS: Final = "groups"


class NodeEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A broker of the cluster."""

    id: int
    uuid: str
    address: str
    host: str
    revision: int
    """Index of the registration: requests under an earlier one are out of date."""


class Partition(Struct, frozen=True, forbid_unknown_fields=True):
    """The Raft group of a partition, and the nodes that should hold it."""

    group: int
    replicas: list[int]
    """Preferred leader first."""


class Topic(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic."""

    name: str
    id: str
    kind: str
    replication: int
    settings: dict[str, config.Value]
    """Only what was set; see `config.build`."""
    partitions: list[Partition]
    revision: int
    """Index of the command that last changed the partitions."""
    created_us: int

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


MetadataReply = (
    Refused | Initialised | Registered | TopicCreated | TopicAltered | TopicDeleted
    | FeatureLevelRaised
)  # fmt: skip
