"""Requests other than publish and fetch: message class -> the function that answers it.

A handler answers at once, or proposes a command and answers when it is applied. It runs between two
rounds like everything in the node, so it never sees half a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.protocol import cluster, messages, sharing
from penstock_broker.node import (
    asking,
    cluster_requests,
    cluster_view,
    group_parts,
    group_requests,
    membership,
    offset_requests,
    partition_recovery,
    questions,
    status,
    surviving,
    topic_requests,
)
from penstock_broker.node.sharing import (
    attach,
    dead_requests,
    delayed_requests,
    inspection,
    schedule_requests,
)
from penstock_broker.node.sharing import requests as shared_requests

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

Handler = Callable[["Node", "Session", int, Any], None]

HANDLERS: dict[type, Handler] = {
    messages.Metadata: topic_requests.metadata,
    messages.CreateTopic: topic_requests.create,
    messages.AlterTopic: topic_requests.alter,
    messages.DeleteTopic: topic_requests.delete,
    messages.DescribeTopic: topic_requests.describe,
    messages.ListOffsets: offset_requests.list_offsets,
    messages.TrimLog: topic_requests.trim,
    messages.JoinGroup: group_requests.join,
    messages.GroupHeartbeat: group_requests.heartbeat,
    messages.LeaveGroup: group_requests.leave,
    messages.CommitOffsets: group_requests.commit,
    messages.SeekGroup: group_requests.seek,
    messages.ListGroups: shared_requests.list_groups,
    messages.DescribeGroup: shared_requests.describe,
    messages.DeleteGroup: shared_requests.delete,
    sharing.CreateGroup: shared_requests.create,
    sharing.AlterGroup: shared_requests.alter,
    sharing.AttachGroup: attach.attach,
    sharing.RenewLeases: attach.renew_leases,
    sharing.DetachGroup: attach.detach,
    sharing.ExplainRecord: inspection.explain_record,
    sharing.StuckRecords: inspection.stuck_records,
    sharing.DescribeShared: inspection.describe,
    sharing.HeldRuns: dead_requests.held_runs,
    sharing.Redrive: dead_requests.redrive,
    sharing.PurgeRecords: dead_requests.purge,
    sharing.EnableDelays: delayed_requests.enable,
    sharing.ListScheduled: delayed_requests.list_scheduled,
    sharing.CancelScheduled: delayed_requests.cancel,
    sharing.CreateSchedule: schedule_requests.create,
    sharing.ListSchedules: schedule_requests.list_all,
    sharing.PauseSchedule: schedule_requests.pause,
    sharing.DeleteSchedule: schedule_requests.delete,
    messages.BrokerStatus: status.broker_status,
    cluster.InitCluster: membership.init_cluster,
    cluster.JoinCluster: membership.join_cluster,
    cluster.ClusterStatus: cluster_view.status,
    cluster.ListPartitions: cluster_view.list_partitions,
    cluster.SetNodeState: cluster_requests.set_node_state,
    cluster.MovePartition: cluster_requests.move_partition,
    cluster.TransferLeader: cluster_requests.transfer_leader,
    cluster.RecoverPartition: partition_recovery.recover_partition,
    cluster.RaiseFeatureLevel: cluster_requests.raise_feature_level,
    cluster.SetBalancing: cluster_requests.set_balancing,
}

BETWEEN_NODES: dict[type, Handler] = {
    questions.Propose: asking.propose,
    questions.MetadataIndex: asking.metadata_index,
    questions.LogEnds: asking.log_ends,
    questions.NodeLeads: cluster_view.leads,
    questions.AwaitGroup: shared_requests.await_group,
    questions.GroupParts: group_parts.answer,
    questions.FindSchedule: schedule_requests.find,
    questions.PlaceSchedule: schedule_requests.place,
    questions.FindCopy: surviving.find_copy,
}
"""Those that only other nodes may send."""
