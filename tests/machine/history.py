"""A fixed history of all machines; run as a program it prints the digest of their snapshots."""

from __future__ import annotations

from hashlib import sha256

from penstock_broker.machine.commands import (
    AlterTopic,
    ChangeReplicas,
    Command,
    ConfigureShared,
    CreateSharedGroup,
    CreateTopic,
    DeleteTopic,
    EnableDelays,
    Founder,
    HoldFloor,
    InitCluster,
    Join,
    Leave,
    RaiseFeatureLevel,
    RecoverPartition,
    RegisterNode,
    Scalar,
    Seek,
    SetBalancing,
    SetNodeState,
    SettleReplicas,
    ShareOps,
    TopicRef,
)
from penstock_broker.machine.groups import GroupsMachine
from penstock_broker.machine.metadata import FEATURE_LEVEL, MetadataMachine
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.sharing import ops
from penstock_broker.machine.stamp import Stamp
from tests.machine.replicas import Machine

NAMES = [f"name-{number}" for number in range(12)]


def metadata_commands() -> list[Command]:
    founders = [Founder(uuid=name, address=name, host=name[:6]) for name in NAMES[:5]]
    config: dict[str, Scalar] = {"cleanup": "compact", "segment_ms": "1h", "retention_ms": -1}
    commands = [
        InitCluster(cluster="c", founders=founders, groups_topic_id="g"),
        *(CreateTopic(name=n, id=n, partitions=7, replication=3, config=config) for n in NAMES),
        *(CreateSharedGroup(topic=n, group=n, id=n, settings={"strict": "yes"}) for n in NAMES),
        *(EnableDelays(topic=name, id=f"{name}-delays") for name in NAMES),
        *(AlterTopic(name=name, partitions=9, config={"cleanup": None}) for name in NAMES),
        *(DeleteTopic(name=name) for name in NAMES[::3]),
        *few_nodes(),
    ]
    return [*commands, *lost_majority(len(commands))]


def few_nodes() -> list[Command]:
    """Nodes are drained, removed and replaced, and what goes with topics is made meanwhile."""
    kept = NAMES[1]
    drained = [SetNodeState(node=node, state="draining") for node in (1, 2, 3)]
    made: list[Command] = [
        CreateTopic(name="refused", id="refused", replication=3),
        CreateTopic(name="small", id="small", partitions=3, replication=2),
        CreateSharedGroup(topic=kept, group="while-drained", id="while-drained"),
        AlterTopic(name=kept, partitions=11),
        EnableDelays(topic="small", id="small-delays"),
    ]
    removed = [
        SetNodeState(node=3, state="removed"),
        SetNodeState(node=3, state="removed", force=True),
    ]
    again: list[Command] = [
        CreateSharedGroup(topic=kept, group="while-removed", id="while-removed"),
        RegisterNode(uuid="sixth", address=NAMES[4], host="h6"),
        SetNodeState(node=1, state="active"),
        AlterTopic(name="small", replication=3),
        CreateSharedGroup(topic="small", group="again", id="again", settings={"no": 1}),
        RaiseFeatureLevel(level=2),
        SetBalancing(on=False),
    ]
    return [*drained, *made, *removed, *again]


def lost_majority(before_it: int) -> list[Command]:
    """A partition goes on with one copy of three, and is settled; else it is refused."""
    group, made, index = 367, before_it + 2, before_it + 6  # where it is made, and recovered
    recover = RecoverPartition(group=group, node=1, term=9, revision=made)
    before: list[Command] = [
        SetNodeState(node=2, state="active"),
        CreateTopic(name="three", id="three", replication=3, replicas=[[1, 4, 6]]),
        recover,
    ]
    lost = [SetNodeState(node=node, state="removed", force=True) for node in (4, 6)]
    after: list[Command] = [
        ChangeReplicas(group=group, replicas=[1, 2]),
        SettleReplicas(group=group, members=[1], revision=index),
        ChangeReplicas(group=group, replicas=[1, 2]),
    ]
    return [*before, *lost, recover, *after, recover]


def group_commands() -> list[Command]:
    refs = [TopicRef(name=name, id=name, partitions=5, revision=1) for name in NAMES]
    joins = [
        Join(group="g", member=f"m-{i}", topics=NAMES[i:], session_timeout_ms=1000, refs=refs[i:])
        for i in range(8)
    ]
    seeks = [Seek(group="g", topic=ref, positions={3: 1, 0: 2}) for ref in refs]
    return [*joins, *seeks, Leave(group="g", member="m-3"), *joins[5:]]


def partition_commands() -> list[Command]:
    settings: dict[str, int | str] = {"never_retry": "a,b,c", "attempts_max": 2}
    groups = [
        ConfigureShared(group=name, revision=1, settings=settings, start_offset=0, kind=kind)
        for name, kind in zip(NAMES, ["shared", "hold"] * 6, strict=True)
    ]
    steps: list[list[ops.ShareOp]] = [
        [ops.Redrive(name, [0, 50]), ops.Grant(name, 1, "m", "h", [0, 40], 1)] for name in NAMES
    ]
    steps += [[ops.Settle(name, 1, ops.NACK, [3, 9], 0, "c", "trace")] for name in NAMES]
    steps += [[ops.Expire(name, [1]), ops.Move(name, [4, 5], 9)] for name in NAMES]
    floors = [HoldFloor(group=name, offset=0) for name in NAMES]
    return [*floors, *groups, *(ShareOps(ops=step) for step in steps)]


def digest(level_max: int = FEATURE_LEVEL) -> str:
    """What machines of a version that knows this level make of a history of level 1."""
    found = sha256()
    partition = PartitionMachine()
    partition.apply_appended((100, 0, 0, 0, 0), 1, 0, 1, b"")
    machines: tuple[Machine, ...] = (MetadataMachine(level_max), GroupsMachine(), partition)
    for machine, commands in zip(
        machines, (metadata_commands(), group_commands(), partition_commands()), strict=True
    ):
        for index, command in enumerate(commands, 1):
            said = machine.apply(command, Stamp(index, 1, index))
            found.update(repr(said).encode())
            found.update(machine.snapshot())
    return found.hexdigest()


if __name__ == "__main__":
    print(digest())
