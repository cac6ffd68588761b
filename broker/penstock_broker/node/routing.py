"""Which group's leader answers which request of clients; those not named here any node answers.

A request that names something unknown here goes to nobody: its handler says so, once what is known
here is certain (`asking.refresh`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from penstock.protocol import cluster, messages, sharing
from penstock.protocol.messages import Message
from penstock_broker.machine.topology import DELAYED_PREFIX
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

METADATA: Final = 0
UNKNOWN: Final = -1
"""No group: the request is handled where it arrived."""

Route = Callable[["Node", Any], int]


def target_of(node: Node, message: Message) -> int:
    """The node that shall answer a request; 0: this one."""
    route = ROUTES.get(type(message))
    gid = UNKNOWN if route is None else route(node, message)
    if gid == UNKNOWN:
        return NOBODY
    group = node.groups.get(gid)
    if group is not None and group.leading:
        return NOBODY
    leader = node.groups.leader_of(gid)[1]
    return NOBODY if leader == node.node_id else leader


def partition_gid(node: Node, topic: str, partition: int) -> int:
    """The Raft group of a partition, or `UNKNOWN`."""
    found = node.groups.metadata.machine.topics.get(topic)
    if found is None or not 0 <= partition < len(found.partitions):
        return UNKNOWN
    return found.partitions[partition].group


def _metadata(node: Node, asked: object) -> int:
    return METADATA


def _partition(node: Node, asked: Any) -> int:  # noqa: ANN401 - any request with these fields
    return partition_gid(node, asked.topic, asked.partition)


def _first_partition(node: Node, asked: sharing.CreateSchedule) -> int:
    """Where the names of a topic's schedules are given away."""
    return partition_gid(node, asked.topic, 0)


def _companion(node: Node, asked: sharing.ListScheduled | sharing.CancelScheduled) -> int:
    """Where a partition's delayed records wait."""
    return partition_gid(node, DELAYED_PREFIX + asked.topic, asked.partition)


def _coordinator(node: Node, asked: Any) -> int:  # noqa: ANN401 - any request with a group
    return node.groups.coordinator_group(asked.group)


def _each_named(node: Node, asked: messages.CommitOffsets) -> set[int]:
    offsets = asked.offsets.items()
    return {partition_gid(node, topic, number) for topic, parts in offsets for number in parts}


def _explained(node: Node, asked: sharing.ExplainRecord) -> set[int]:
    return {_coordinator(node, asked)} if asked.group else set()


def _everywhere(node: Node, asked: Any) -> set[int]:  # noqa: ANN401 - any request with a topic
    found = node.groups.metadata.machine.topics.get(asked.topic)
    return {each.group for each in found.partitions} if found is not None else set()


def grounds(node: Node, message: Message) -> set[int]:
    """All groups whose leaders decide what a request is told."""
    route, more = ROUTES.get(type(message)), ALSO.get(type(message))
    found = set() if more is None else more(node, message)
    if route is not None:
        found.add(route(node, message))
    return found - {UNKNOWN}


def _deleted_group(node: Node, asked: messages.DeleteGroup) -> int:
    return METADATA if asked.topic else _coordinator(node, asked)


ROUTES: Final[dict[type, Route]] = {
    messages.CreateTopic: _metadata,
    messages.AlterTopic: _metadata,
    messages.DeleteTopic: _metadata,
    messages.TrimLog: _partition,
    messages.JoinGroup: _coordinator,
    messages.GroupHeartbeat: _coordinator,
    messages.LeaveGroup: _coordinator,
    messages.CommitOffsets: _coordinator,
    messages.SeekGroup: _coordinator,
    messages.DescribeGroup: _coordinator,
    messages.DeleteGroup: _deleted_group,
    cluster.SetNodeState: _metadata,
    cluster.MovePartition: _metadata,
    cluster.RecoverPartition: _metadata,
    cluster.RaiseFeatureLevel: _metadata,
    cluster.SetBalancing: _metadata,
    cluster.TransferLeader: _partition,
    sharing.CreateGroup: _metadata,
    sharing.AlterGroup: _metadata,
    sharing.RenewLeases: _partition,
    sharing.ExplainRecord: _partition,
    sharing.StuckRecords: _partition,
    sharing.HeldRuns: _partition,
    sharing.Redrive: _partition,
    sharing.PurgeRecords: _partition,
    sharing.EnableDelays: _metadata,
    sharing.ListScheduled: _companion,
    sharing.CancelScheduled: _companion,
    sharing.CreateSchedule: _first_partition,
}

ALSO: Final[dict[type, Callable[[Node, Any], set[int]]]] = {
    messages.CommitOffsets: _each_named,
    sharing.ExplainRecord: _explained,
    sharing.AttachGroup: lambda node, asked: {_partition(node, asked)},
    sharing.DetachGroup: lambda node, asked: {_partition(node, asked)},
    sharing.PauseSchedule: _everywhere,
    sharing.DeleteSchedule: _everywhere,
}
"""Groups that have a say in requests beside those that these are routed to."""
