"""Where the replicas of a partition shall be, and that they are there, planned on a draft.

Metadata holds the wish (`replicas`); the partition's own Raft log holds what is so. Its leader
brings the two together and says so (`settle_replicas`). Until then every node that may have got a
copy counts as a holder, and only settling lets a copy go.
"""

from __future__ import annotations

from msgspec.structs import replace

from penstock.errors import BadRequest, LimitExceeded, PreconditionFailed
from penstock_broker.machine.commands import ChangeReplicas, SettleReplicas
from penstock_broker.machine.drafts import REPLICATION_MAX, Draft
from penstock_broker.machine.topology import Partition, ReplicasChosen, ReplicasSettled, Topic


def change_replicas(draft: Draft, command: ChangeReplicas) -> ReplicasChosen:
    """Plan other replicas, or another order of them; the first one should lead.

    Raises:
        RequestError: there is no such group, a node can't take a replica, or somebody else
            changed them since they were `expected`.
    """
    topic, number = draft.locate(command.group)
    before, wanted = topic.partitions[number], command.replicas
    if command.expected is not None and command.expected != before.replicas:
        raise PreconditionFailed(
            f"the replicas are {before.replicas} by now", replicas=before.replicas
        )
    if not wanted or len(wanted) > REPLICATION_MAX:
        raise LimitExceeded(f"a partition has 1 to {REPLICATION_MAX} replicas")
    if len(dict.fromkeys(wanted)) < len(wanted):
        raise BadRequest(f"a node is named twice in {wanted}")
    known = before.holders
    strange = [node for node in wanted if node not in known and not draft.takes_replicas(node)]
    if strange:
        raise PreconditionFailed(f"no active nodes: {strange}", nodes=strange)
    if wanted == before.replicas:
        return ReplicasChosen(topic, number)
    if before.survivor in draft.members:
        raise PreconditionFailed(
            f"the partition is being recovered on node {before.survivor}", node=before.survivor
        )
    after = replace(before, replicas=list(wanted), revision=draft.at.index, survivor=0)
    if before.moving or sorted(wanted) != sorted(before.replicas):
        rest = [node for node in known if node not in wanted and node not in before.members]
        after = replace(after, moving=True, leaving=rest)
    return ReplicasChosen(put_partition(draft, topic, number, after), number)


def settle_replicas(draft: Draft, command: SettleReplicas) -> ReplicasSettled:
    """Plan that the group consists of its replicas now: all other copies go.

    Raises:
        RequestError: there is no such group, or the replicas were changed since.
    """
    topic, number = draft.locate(command.group)
    before = topic.partitions[number]
    stale = command.revision != before.revision
    if stale or sorted(command.members) != sorted(before.replicas):
        raise PreconditionFailed(
            f"the replicas are {before.replicas} by now", replicas=before.replicas
        )
    after = replace(
        before, members=sorted(command.members), founded=False, moving=False, leaving=[],
        survivor=0, astray=[node for node in before.astray if node not in command.members],
    )  # fmt: skip
    return ReplicasSettled(put_partition(draft, topic, number, after), number)


def put_partition(draft: Draft, topic: Topic, number: int, after: Partition) -> Topic:
    """Plan that a partition is as `after` says; the topic with it."""
    partitions = list(topic.partitions)
    partitions[number] = after
    return draft.change(replace(topic, partitions=partitions))
