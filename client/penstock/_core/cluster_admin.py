"""Administration of the cluster itself: brokers, places of partitions, leads, versions."""

from __future__ import annotations

from collections.abc import Sequence

from penstock._core.requests import Requests
from penstock._core.scheduler import Operation
from penstock.protocol.cluster import (
    ClusterStatus,
    ClusterStatusReply,
    InitCluster,
    InitClusterReply,
    ListPartitions,
    ListPartitionsReply,
    MovePartition,
    MovePartitionReply,
    PartitionState,
    RaiseFeatureLevel,
    RaiseFeatureLevelReply,
    RecoverPartition,
    RecoverPartitionReply,
    SetBalancing,
    SetBalancingReply,
    SetNodeState,
    SetNodeStateReply,
    TransferLeader,
    TransferLeaderReply,
)


class ClusterAdmin:
    """What operators ask, as operations. All that change something may be repeated."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def init(self, force: bool) -> Operation[InitClusterReply]:
        """Form a cluster of the broker that is asked."""
        return self._requests.call(InitCluster(force=force), InitClusterReply, safe=False)

    def status(self) -> Operation[ClusterStatusReply]:
        """How the cluster is."""
        return self._requests.call(ClusterStatus(), ClusterStatusReply)

    def list_partitions(self, topic: str, internal: bool) -> Operation[list[PartitionState]]:
        """Where partitions are."""
        request = ListPartitions(topic=topic, internal=internal)
        reply = yield from self._requests.call(request, ListPartitionsReply)
        return reply.partitions

    def set_node_state(
        self, node: int, state: str, dry_run: bool, force: bool = False
    ) -> Operation[SetNodeStateReply]:
        """Drain a broker, take it back, or remove it."""
        request = SetNodeState(node=node, state=state, force=force, dry_run=dry_run)
        return self._requests.call(request, SetNodeStateReply)

    def move_partition(
        self, topic: str, partition: int, replicas: Sequence[int], dry_run: bool
    ) -> Operation[MovePartitionReply]:
        """Say where the copies of a partition shall be."""
        request = MovePartition(
            topic=topic, partition=partition, replicas=list(replicas), dry_run=dry_run
        )
        return self._requests.call(request, MovePartitionReply)

    def transfer_leader(
        self, topic: str, partition: int, to: int, dry_run: bool
    ) -> Operation[TransferLeaderReply]:
        """Hand over the lead of a partition."""
        request = TransferLeader(topic=topic, partition=partition, to=to, dry_run=dry_run)
        return self._requests.call(request, TransferLeaderReply)

    def recover_partition(
        self, topic: str, partition: int, node: int, dry_run: bool
    ) -> Operation[RecoverPartitionReply]:
        """Have a partition go on with one copy; a second time it would be refused."""
        request = RecoverPartition(topic=topic, partition=partition, node=node, dry_run=dry_run)
        return self._requests.call(request, RecoverPartitionReply, safe=False)

    def raise_feature_level(self, level: int, dry_run: bool) -> Operation[RaiseFeatureLevelReply]:
        """Allow what only newer brokers know."""
        request = RaiseFeatureLevel(level=level, dry_run=dry_run)
        return self._requests.call(request, RaiseFeatureLevelReply)

    def set_balancing(self, on: bool, dry_run: bool) -> Operation[SetBalancingReply]:
        """Allow or forbid moves that only make brokers more even."""
        return self._requests.call(SetBalancing(on=on, dry_run=dry_run), SetBalancingReply)
