"""The commands that machines take, their form in the Raft log, and how they are refused.

A command is the body of a CONTROL batch. Times are microseconds, durations milliseconds. Fields may
be added with defaults once every node of the cluster knows them (feature level); tags and meanings
never change.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from penstock.errors import BadRequest, CorruptData, PenstockError
from penstock_broker.machine import encoding
from penstock_broker.machine.sharing.ops import ShareOp

COMMAND_VERSION: Final = 1

Scalar = bool | int | float | str | None
Partitions = dict[str, list[int]]
"""Topic -> partitions."""
Offsets = dict[str, dict[int, int]]
"""Topic -> partition -> offset."""


class Refused(Struct, frozen=True):
    """The reply to a command that can't be carried out; every replica computes the same."""

    code: int
    """Code of a class in `penstock.errors`."""
    message: str
    detail: dict[str, object] = field(default_factory=dict)


def refuse(error: type[PenstockError], message: str = "", **detail: object) -> Refused:
    """Refuse with an error of the tree."""
    return Refused(error.code, message or error().message, detail)


class Command(Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands."""


# ----- metadata (group 0)


class Founder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node that founds the cluster."""

    uuid: str
    address: str
    host: str = ""
    feature_max: int = 1
    """The highest feature level that it knows."""


class InitCluster(Command, frozen=True, kw_only=True):
    """Forms the cluster; the founders get the ids 1, 2, ... in this order."""

    cluster: str
    founders: list[Founder]
    groups_topic_id: str
    """Unique id for the internal topic that coordinates ordered groups."""


class RegisterNode(Command, frozen=True, kw_only=True):
    """Makes a node known, or tells its new address; its uuid is that of its data directory.

    A node of another uuid that had this address is replaced by it.
    """

    uuid: str
    address: str
    host: str = ""
    feature_max: int = 1
    """The highest feature level that it knows."""


class SetNodeState(Command, frozen=True, kw_only=True):
    """Lets a node take part (`active`), empties it (`draining`), or ends it (`removed`)."""

    node: int
    state: str
    force: bool = False
    """Remove it although it holds replicas: these are made anew from the others."""


class ChangeReplicas(Command, frozen=True, kw_only=True):
    """Says where the replicas of a partition shall be; its leader moves them there."""

    group: int
    replicas: list[int]
    """Preferred leader first."""
    expected: list[int] | None = None
    """Only if they are these until now; None: in any case."""


class SettleReplicas(Command, frozen=True, kw_only=True):
    """The group consists of exactly its replicas: whatever other copies there are may go."""

    group: int
    members: list[int]
    revision: int
    """That of the partition when its leader found it so."""


class RecoverPartition(Command, frozen=True, kw_only=True):
    """Has the group of a partition go on with one copy alone: its majority is lost for ever.

    Only while those of its voters that are still members of the cluster are no majority.
    """

    group: int
    node: int
    """Whose copy it is."""
    term: int
    """In which the group goes on: higher than any that one of its copies can have seen."""
    revision: int
    """That of the partition when its copies were looked at."""


class CreateTopic(Command, frozen=True, kw_only=True):
    """Creates a topic; proposing it twice with one `id` is answered the same twice."""

    name: str
    id: str
    partitions: int = 1
    replication: int = 1
    config: dict[str, Scalar] = field(default_factory=dict)
    replicas: list[list[int]] | None = None
    """Node ids for each partition, preferred leader first; None: the machine places them."""
    if_not_exists: bool = False


class AlterTopic(Command, frozen=True, kw_only=True):
    """Merges configuration keys (None resets one), may add partitions, may change replication."""

    name: str
    config: dict[str, Scalar] = field(default_factory=dict)
    partitions: int | None = None
    replication: int | None = None


class DeleteTopic(Command, frozen=True, kw_only=True):
    """Deletes a topic; its group ids become tombstones."""

    name: str


class RaiseFeatureLevel(Command, frozen=True, kw_only=True):
    """Allows what only newer brokers know; never goes down."""

    level: int


class SetBalancing(Command, frozen=True, kw_only=True):
    """Allows or forbids moves that only make brokers more even."""

    on: bool


class CreateSharedGroup(Command, frozen=True, kw_only=True):
    """Creates a shared group on a topic, with its dead-letter topic.

    Proposing it twice with one `id` is answered the same twice.
    """

    topic: str
    group: str
    id: str
    settings: dict[str, Scalar] = field(default_factory=dict)
    start: int = -2
    """Where it begins in each partition: -2 earliest, -1 latest, else a time in microseconds."""
    if_not_exists: bool = False


class AlterSharedGroup(Command, frozen=True, kw_only=True):
    """Merges settings of a shared group; None resets one."""

    topic: str
    group: str
    settings: dict[str, Scalar] = field(default_factory=dict)


class DeleteSharedGroup(Command, frozen=True, kw_only=True):
    """Deletes a shared group and its state; its dead-letter topic stays."""

    topic: str
    group: str


class EnableDelays(Command, frozen=True, kw_only=True):
    """Creates the companion topic where records of a topic wait for their time."""

    topic: str
    id: str
    """Unique id for the companion."""


# ----- ordered groups


class TopicRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A topic as metadata had it at a revision; a later revision wins over an earlier one."""

    name: str
    id: str
    partitions: int
    """0: the topic was deleted."""
    revision: int


class Join(Command, frozen=True, kw_only=True):
    """Makes a member, or replaces the earlier instance of the same member id."""

    group: str
    member: str
    topics: list[str]
    session_timeout_ms: int
    host: str = ""
    refs: list[TopicRef] = field(default_factory=list)
    """What the proposer knows of these topics."""


class Release(Command, frozen=True, kw_only=True):
    """The member has stopped consuming these partitions."""

    group: str
    member: str
    generation: int
    partitions: Partitions


class Leave(Command, frozen=True, kw_only=True):
    """Ends a membership at once."""

    group: str
    member: str
    generation: int = 0
    """Only if the member did not join again after it; 0: in any case."""


class Expire(Command, frozen=True, kw_only=True):
    """The coordinator heard nothing of a member for its session timeout."""

    group: str
    member: str
    joined: int
    """The generation at which the expired instance joined: a later one is spared."""


class Commit(Command, frozen=True, kw_only=True):
    """Commits offsets (the next to be read), of all its partitions or of none."""

    group: str
    offsets: Offsets
    member: str = ""
    """Empty: a consumer outside the group's membership; only while there are no members."""
    generation: int = 0
    refs: list[TopicRef] = field(default_factory=list)


class Seek(Command, frozen=True, kw_only=True):
    """Moves committed offsets, on a live group too; earlier commits under way are fenced."""

    group: str
    topic: TopicRef
    positions: dict[int, int]


class TopicChanged(Command, frozen=True, kw_only=True):
    """Metadata added partitions to a topic, deleted it, or made it anew."""

    topic: TopicRef


class DeleteGroup(Command, frozen=True, kw_only=True):
    """Deletes an ordered group without members, and its offsets."""

    group: str


class ExpireGroup(Command, frozen=True, kw_only=True):
    """Deletes an ordered group that was not used since `touched_us`."""

    group: str
    touched_us: int


class Bundle(Command, frozen=True, kw_only=True):
    """Several commands of one coordinator in one entry, applied in this order."""

    commands: list[
        Join | Release | Leave | Expire | Commit | Seek | TopicChanged | DeleteGroup | ExpireGroup
    ]


# ----- data partitions


class Trim(Command, frozen=True, kw_only=True):
    """Moves the log start up to an offset."""

    offset: int


class Configure(Command, frozen=True, kw_only=True):
    """Takes over the topic settings that decide what the machine remembers."""

    dedup_window_ms: int


class HoldFloor(Command, frozen=True, kw_only=True):
    """An ordered group needs records from this offset on (`retention = until_acked`)."""

    group: str
    offset: int | None
    """None: the group is gone."""


class ShareOps(Command, frozen=True, kw_only=True):
    """What the leader has to say of the partition's shared groups in one round, in this order."""

    ops: list[ShareOp]


class ConfigureShared(Command, frozen=True, kw_only=True):
    """Makes a shared group known to a partition, or takes over another revision of it."""

    group: str
    revision: int
    settings: dict[str, int | str]
    """As `sharing.settings.parse` gives them."""
    start_offset: int
    """Where it begins; only the first time."""
    dead: int = 0
    """Raft group id of the partition where its dead letters go; 0: none."""
    kind: str = "shared"
    """`shared`, `hold` (the same group on its dead-letter topic) or `timer`."""
    id: str = ""
    """Of the definition: with another one the group is made anew, its state is forgotten."""


class RemoveShared(Command, frozen=True, kw_only=True):
    """Forgets a shared group and all its state in a partition."""

    group: str


class PutSchedule(Command, frozen=True, kw_only=True):
    """Makes a recurring schedule; proposing it twice with one `id` is answered the same twice."""

    name: str
    id: str
    cron: str
    time_zone: str
    catch_up: str
    """What was missed while nothing could fire: skip, one or all."""
    value: bytes | None
    key: bytes | None
    headers: dict[str, bytes]
    after_us: int
    """Due times up to this one don't count."""
    replace: bool = False


class PauseSchedule(Command, frozen=True, kw_only=True):
    """Pauses a schedule, or lets it go on."""

    name: str
    paused: bool


class SkipSchedule(Command, frozen=True, kw_only=True):
    """Gives up a schedule's due times up to this one: its policy says so."""

    name: str
    id: str
    through_us: int


class DropSchedule(Command, frozen=True, kw_only=True):
    """Deletes a schedule."""

    name: str


MetadataCommand = (
    InitCluster
    | RegisterNode
    | SetNodeState
    | ChangeReplicas
    | SettleReplicas
    | RecoverPartition
    | CreateTopic
    | AlterTopic
    | DeleteTopic
    | RaiseFeatureLevel
    | SetBalancing
    | CreateSharedGroup
    | AlterSharedGroup
    | DeleteSharedGroup
    | EnableDelays
)
GroupCommand = (
    Join | Release | Leave | Expire | Commit | Seek | TopicChanged | DeleteGroup | ExpireGroup
)
PartitionCommand = (
    Trim
    | Configure
    | HoldFloor
    | ShareOps
    | ConfigureShared
    | RemoveShared
    | PutSchedule
    | PauseSchedule
    | SkipSchedule
    | DropSchedule
)

_DECODER: Final = encoding.decoder_of(MetadataCommand | GroupCommand | Bundle | PartitionCommand)


def encode_command(command: Command) -> bytes:
    """The body of a command's CONTROL batch.

    What is proposed must be readable by every replica for ever, so it is read back here first.

    Raises:
        BadRequest: a value is of another type than the command declares, or out of range.
    """
    try:
        body = encoding.encode(COMMAND_VERSION, command)
        decode_command(body)
    except (OverflowError, TypeError, ValueError, CorruptData) as error:
        raise BadRequest(f"{type(command).__name__} can't be written down: {error}") from error
    return body


def decode_command(body: bytes) -> Command:
    """Read a command from the body of a CONTROL batch.

    Raises:
        UnsupportedFormat: a newer broker wrote it.
        CorruptData: it is not a command.
    """
    command: Command = encoding.decode(COMMAND_VERSION, _DECODER, body, "a command")
    return command
