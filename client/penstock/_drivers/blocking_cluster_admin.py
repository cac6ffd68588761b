# Made from cluster_admin.py by `python -m ops.twins`: change that one.
"""Administration of the cluster itself in blocking programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock._core.cluster_admin import ClusterAdmin
from penstock.protocol.cluster import (
    ClusterStatusReply,
    InitClusterReply,
    MovePartitionReply,
    PartitionState,
    RaiseFeatureLevelReply,
    RecoverPartitionReply,
    SetBalancingReply,
    SetNodeStateReply,
    TransferLeaderReply,
)

if TYPE_CHECKING:
    from penstock._drivers.blocking import BlockingDriver


class BlockingClusterAdmin:
    """Brokers, places of partitions, leads, versions."""

    _driver: BlockingDriver
    _cluster: ClusterAdmin

    # ----- the cluster

    def init_cluster(self, *, force: bool = False) -> InitClusterReply:
        """Form a cluster of the broker that is asked; those that are to join it follow.

        Args:
            force: Also while one that is to join can't be reached: the broker can't know then
                whether that one belongs to a cluster already.

        Raises:
            PreconditionFailed: there is a cluster, or one that is to join does not answer.
        """
        return self._driver.run(self._cluster.init(force))

    def cluster_status(self) -> ClusterStatusReply:
        """How the cluster is, as the broker that answers sees it."""
        return self._driver.run(self._cluster.status())

    def list_partitions(
        self, topic: str | None = None, *, internal: bool = False
    ) -> list[PartitionState]:
        """Where partitions are, who leads them, and how far each copy is.

        Args:
            topic: only this one, which may be an internal one.
            internal: also those of topics that the cluster keeps for itself.

        Raises:
            TopicNotFound: there is no such topic.
        """
        return self._driver.run(self._cluster.list_partitions(topic or "", internal))

    # ----- brokers

    def drain_node(self, node: int, *, dry_run: bool = False) -> SetNodeStateReply:
        """Have a broker's leads and replicas go elsewhere; it takes no new ones.

        The answer does not wait for that: `cluster_status` shows how much it still holds.

        Raises:
            PreconditionFailed: there is no such broker, or it is the last one that is active.
        """
        return self._driver.run(self._cluster.set_node_state(node, "draining", dry_run))

    def undrain_node(self, node: int, *, dry_run: bool = False) -> SetNodeStateReply:
        """Have a broker take part again.

        Raises:
            PreconditionFailed: there is no such broker, or it was removed.
        """
        return self._driver.run(self._cluster.set_node_state(node, "active", dry_run))

    def remove_node(
        self, node: int, *, force: bool = False, dry_run: bool = False
    ) -> SetNodeStateReply:
        """End a broker's membership for ever; its data can't come back under that id.

        Args:
            node: its id.
            force: also if it holds replicas: they are made anew from the other copies.
            dry_run: only say what would be answered.

        Raises:
            PreconditionFailed: it holds replicas, or is the last one that is active.
        """
        removal = self._cluster.set_node_state(node, "removed", dry_run, force)
        return self._driver.run(removal)

    def raise_feature_level(
        self, level: int = 0, *, dry_run: bool = False
    ) -> RaiseFeatureLevelReply:
        """Allow what only newer brokers know; 0: the highest level that every broker knows.

        It never goes down: brokers of older versions can't join any more.

        Raises:
            PreconditionFailed: some broker does not know that level.
        """
        return self._driver.run(self._cluster.raise_feature_level(level, dry_run))

    def set_balancing(self, on: bool, *, dry_run: bool = False) -> SetBalancingReply:
        """Allow or forbid moves that only make brokers more even, as when one has joined.

        Repair, drains and moves of your own go on; what is under way is carried out.
        """
        return self._driver.run(self._cluster.set_balancing(on, dry_run))

    # ----- partitions

    def move_partition(
        self, topic: str, partition: int, replicas: Sequence[int], *, dry_run: bool = False
    ) -> MovePartitionReply:
        """Say which brokers shall hold a partition, the preferred leader first.

        The answer does not wait until they do: `list_partitions` shows how far it is. Moving it
        back cancels a move.

        Raises:
            TopicNotFound, PartitionNotFound: there is no such partition.
            PreconditionFailed: a broker can't take it, or somebody else moved it meanwhile.
        """
        move = self._cluster.move_partition(topic, partition, replicas, dry_run)
        return self._driver.run(move)

    def transfer_leader(
        self, topic: str, partition: int, to: int, *, dry_run: bool = False
    ) -> TransferLeaderReply:
        """Hand the lead of a partition to another of its replicas, which is preferred from then on.

        Raises:
            TopicNotFound, PartitionNotFound: there is no such partition.
            PreconditionFailed: that broker is none of its replicas, or is away.
        """
        transfer = self._cluster.transfer_leader(topic, partition, to, dry_run)
        return self._driver.run(transfer)

    def recover_partition(
        self, topic: str, partition: int, node: int | None = None, *, dry_run: bool = False
    ) -> RecoverPartitionReply:
        """Have a partition go on with one copy, when most of its brokers are lost for ever.

        These were removed from the cluster before (`remove_node`). The answer says which copies are
        left, how far each goes, and whether the chosen one has all that was acknowledged; what it
        lacks is lost. It does not wait until the partition has a leader, which takes a moment.

        Args:
            topic: An internal one too.
            partition: Its number.
            node: Whose copy it is; None: the only one that is left.
            dry_run: Change nothing. With several copies and no node the answer's node is 0.

        Raises:
            TopicNotFound, PartitionNotFound: there is no such partition.
            PreconditionFailed: most of its brokers may come back, or that one has no whole copy.
            TimedOut: whether it was decided is unknown; once it was it is refused.
        """
        recovery = self._cluster.recover_partition(topic, partition, node or 0, dry_run)
        return self._driver.run(recovery)
