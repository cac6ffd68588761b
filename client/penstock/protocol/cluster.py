"""Requests about the cluster itself: forming it, joining it.

They follow the rules of `penstock.protocol.messages`, whose registries they are in.
"""

from __future__ import annotations

from msgspec import field

from penstock.protocol.messages import Message, reply, request


@request(0x60)
class InitCluster(Message, frozen=True, kw_only=True):
    """Forms a cluster of this broker; those that were started to join it follow by themselves."""

    force: bool = False
    """Also while a broker that is to join can't be reached: it may belong to a cluster already."""


@reply(0x60)
class InitClusterReply(Message, frozen=True, kw_only=True):
    """The cluster is formed."""

    cluster: str
    node: int
    """This broker's id in it."""


@request(0x61)
class JoinCluster(Message, frozen=True, kw_only=True):
    """A broker without a cluster asks another one to take it in; harmless to repeat."""

    uuid: str
    """Of its data directory, hexadecimal: a wiped directory is another node."""
    address: str
    """Where it is to be reached."""
    host: str = ""
    """Label of its machine."""
    feature_max: int = 1
    """The highest feature level that it knows."""


@reply(0x61)
class JoinClusterReply(Message, frozen=True, kw_only=True):
    """What the broker that asked is from now on."""

    cluster: str
    """Empty: the broker that answers belongs to no cluster itself."""
    uuid: str
    """Of the broker that answers: a list of brokers to join may name the asking one too."""
    node: int = 0
    """The id for the broker that asked."""
    nodes: dict[int, str] = field(default_factory=dict)
    """Addresses of all nodes."""
    forming: bool = False
    """Whether the broker that answers is about to form a cluster itself."""


class NodeStatus(Message, frozen=True, kw_only=True):
    """A broker of the cluster."""

    id: int
    address: str
    host: str
    state: str
    """`active`, `draining`, `removed`, or `replaced` by another one at its address."""
    alive: bool
    """Whether the broker that answers hears from it."""
    answered: bool
    """Whether it said what it leads; else `leaders` only counts what others know."""
    version: str = ""
    """Empty: it did not answer."""
    leaders: int = 0
    """Partitions that it leads."""
    replicas: int = 0
    """Partitions that it should hold a copy of, or still may."""
    feature_max: int = 0
    """The highest feature level that it knows."""
    full: bool = False
    """Whether its disk is nearly full: it refuses publishes, and leads nothing that others can."""
    stuck: int = 0
    """Replicas that are to leave it and that no active broker can take: a drain that can't end."""
    parted_at: int = 0
    """Entry of the metadata's log at which it is known to have made something else of it than the
    broker that answers; 0: there is none."""
    diverged: bool = False
    """Whether a majority made what the broker that answers made: then it is this one that is wrong,
    and must be replaced."""


class MetadataStatus(Message, frozen=True, kw_only=True):
    """The group that decides about nodes and topics."""

    leader: int
    """0: nobody at the moment."""
    term: int
    voters: list[int]
    learners: list[int]


@request(0x62)
class ClusterStatus(Message, frozen=True, kw_only=True):
    """Asks how the cluster is. Any broker answers, as it sees the others."""


@reply(0x62)
class ClusterStatusReply(Message, frozen=True, kw_only=True):
    """Counts of partitions include the internal ones."""

    cluster: str
    """Empty: the broker belongs to no cluster yet."""
    node: int
    """Who answers."""
    metadata: MetadataStatus
    nodes: list[NodeStatus]
    """Those that are gone too, as long as anything is to be taken from them."""
    feature_level: int
    feature_max: int
    """The highest level that every member knows."""
    partitions: int
    leaderless: int
    under_replicated: int
    """Partitions with a replica that is missing, away or far behind."""
    moving: int
    awaited: list[str] = field(default_factory=list)
    """Addresses of brokers that were told to join too, were heard, and have not joined yet."""
    internal: int = 0
    """Of the partitions: those of topics that the cluster keeps for itself."""
    bereft: int = 0
    """Of those without a leader: partitions that have lost it for ever, since most of their brokers
    were removed from the cluster (`RecoverPartition`)."""
    balancing: bool = True
    """Whether replicas and leads are moved only to make brokers more even."""


class PartitionState(Message, frozen=True, kw_only=True):
    """Where a partition is, and how far its copies are."""

    topic: str
    partition: int
    group: int
    leader: int
    """0: nobody at the moment."""
    term: int
    replicas: list[int]
    """Where it shall be, preferred leader first."""
    members: list[int]
    """Who votes in its group: as its leader says, else as was settled last."""
    learners: list[int]
    """Who copies it at the moment."""
    behind: dict[int, int]
    """Entries that each other member lacks, as its leader says; -1: it is not heard of."""
    moving: bool
    state: str
    """`ok`, `moving`, `under-replicated` or `leaderless`."""
    bereft: bool = False
    """Whether it has lost its leader for ever: most of its brokers were removed from the cluster
    (`RecoverPartition`)."""


@request(0x63)
class ListPartitions(Message, frozen=True, kw_only=True):
    """Asks where partitions are."""

    topic: str = ""
    """Empty: all."""
    internal: bool = False
    """Also of topics that the cluster keeps for itself."""


@reply(0x63)
class ListPartitionsReply(Message, frozen=True, kw_only=True):
    """In the order of topics and numbers."""

    partitions: list[PartitionState]


@request(0x64)
class SetNodeState(Message, frozen=True, kw_only=True):
    """Has a broker take part (`active`), empties it (`draining`), or ends it (`removed`)."""

    node: int
    state: str
    force: bool = False
    """Remove it although it holds replicas: they are made anew from the others."""
    dry_run: bool = False


class Bereft(Message, frozen=True, kw_only=True):
    """A partition without a majority once a broker is removed: it has no leader from then on."""

    topic: str
    partition: int
    others: list[int]
    """Other brokers with a copy."""
    alive: list[int]
    """Those of them that are heard of."""


@reply(0x64)
class SetNodeStateReply(Message, frozen=True, kw_only=True):
    """It is decided; moving what the broker holds may take its time."""

    node: int
    state: str
    replicas: int
    """What it still holds."""
    leaders: int
    stuck: int = 0
    """Replicas on it that no other active broker can take: there are too few brokers."""
    bereft: list[Bereft] = field(default_factory=list)
    """If it is removed: the partitions that have no majority without it."""


@request(0x65)
class MovePartition(Message, frozen=True, kw_only=True):
    """Says where the copies of a partition shall be; the answer does not wait until they are."""

    topic: str
    partition: int
    replicas: list[int]
    """Preferred leader first."""
    dry_run: bool = False


@reply(0x65)
class MovePartitionReply(Message, frozen=True, kw_only=True):
    """It is decided, or would be."""

    before: list[int]
    replicas: list[int]
    moving: bool
    """False: only the order changed, or nothing."""


@request(0x66)
class TransferLeader(Message, frozen=True, kw_only=True):
    """Hands the lead of a partition to another of its replicas, which is preferred from then on.

    It stays there as long as leads are even without moving it.
    """

    topic: str
    partition: int
    to: int
    dry_run: bool = False


@reply(0x66)
class TransferLeaderReply(Message, frozen=True, kw_only=True):
    """The lead is on its way, or there already."""

    before: int
    leader: int


@request(0x67)
class RaiseFeatureLevel(Message, frozen=True, kw_only=True):
    """Allows what only newer brokers know; it never goes down."""

    level: int = 0
    """0: the highest that every member knows."""
    dry_run: bool = False


@reply(0x67)
class RaiseFeatureLevelReply(Message, frozen=True, kw_only=True):
    """The level that holds now."""

    before: int
    level: int


@request(0x68)
class RecoverPartition(Message, frozen=True, kw_only=True):
    """Has a partition go on with one copy, its majority being lost for ever.

    Refused while those of its brokers that were not removed from the cluster could be a majority.
    """

    topic: str
    partition: int
    node: int = 0
    """Whose copy it is; 0: the only one that is left."""
    dry_run: bool = False


class CopyFound(Message, frozen=True, kw_only=True):
    """A copy that is left of a partition without a majority."""

    node: int
    answered: bool
    """False: the broker is not heard of, or has no copy; what follows is zero."""
    last_term: int = 0
    """Of its last entry; the copy with the highest, and of these with the highest index, has all
    that any of them has."""
    last_index: int = 0
    end_offset: int = 0
    """Of its records, those included that were never acknowledged."""


@reply(0x68)
class RecoverPartitionReply(Message, frozen=True, kw_only=True):
    """It is decided, or would be; the partition can be written and read moments later."""

    node: int
    """0: several copies are left, and none was named (dry run)."""
    copies: list[CopyFound]
    lost: list[int]
    """Brokers with copies that were removed from the cluster."""
    complete: bool
    """Whether the copy has every record that was acknowledged with `quorum`."""


@request(0x69)
class SetBalancing(Message, frozen=True, kw_only=True):
    """Allows or forbids moves that only make brokers more even; repair and drains go on."""

    on: bool
    dry_run: bool = False


@reply(0x69)
class SetBalancingReply(Message, frozen=True, kw_only=True):
    """What holds now."""

    before: bool
    on: bool
