"""A partition that goes on with one copy, its majority being lost for ever, planned on a draft.

A person decides it, and first that the lost ones never come back: they are no members any more. So
whoever is still a member may come back, and as long as these can be a majority nothing is given up.
The survivor carries it out (`node/surviving.py`), settles on itself, and is given other replicas
then as any partition that has too few. Invariants: until then nobody can move the partition; a
copy that was given up is not fed before its node has dropped it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from msgspec.structs import replace

from penstock.errors import LimitExceeded, PreconditionFailed
from penstock_broker.machine.commands import RecoverPartition
from penstock_broker.machine.drafts import Draft
from penstock_broker.machine.replica_plans import put_partition
from penstock_broker.machine.topology import Partition, PartitionRecovered

TERM_MAX: Final = (1 << 32) - (1 << 24)
"""Terms have 32 bits in the log; this leaves room for elections."""


def electorates(partition: Partition) -> list[list[int]]:
    """The nodes whose majority decides in the partition's group: all that may be so now.

    During a move nobody told the metadata how far it is. Who was about to go on alone may have.
    """
    if partition.survivor:
        return [[partition.survivor]]
    if partition.moving:
        return [partition.members, sorted(partition.replicas)]
    return [partition.members]


def has_majority(voters: Iterable[int], members: Container[int]) -> bool:
    """Whether most of the voters are members of the cluster, so that they may come back."""
    those = list(voters)
    return sum(node in members for node in those) * 2 > len(those)


def is_bereft(partition: Partition, members: Container[int]) -> bool:
    """Whether the group may have lost its majority for ever."""
    return not all(has_majority(group, members) for group in electorates(partition))


def survivors(partition: Partition, members: Container[int]) -> list[int]:
    """The members of the cluster that may go on with a partition alone.

    Raises:
        PreconditionFailed: a majority may come back, or nobody is left.
    """
    if not is_bereft(partition, members):
        groups = electorates(partition)
        kept = sorted({node for group in groups for node in group if node in members})
        raise PreconditionFailed(
            f"the copies on nodes {kept} are a majority: bring these brokers back, or remove those"
            " from the cluster that are lost for ever",
            nodes=kept,
        )
    voted = {*partition.members, *(partition.replicas if partition.moving else ())}
    found = sorted(node for node in voted if node in members)
    if not found:
        raise PreconditionFailed("no broker of the cluster has a copy: delete the topic")
    return found


def recover_partition(draft: Draft, command: RecoverPartition) -> PartitionRecovered:
    """Plan that one copy goes on alone; proposing it twice with one term is answered the same.

    Raises:
        RequestError: there is no such group, most of its voters may come back, the node has no
            copy that was whole, or the replicas were changed since the copies were looked at.
    """
    topic, number = draft.locate(command.group)
    before, node = topic.partitions[number], command.node
    if (before.survivor, before.recovery_term) == (node, command.term):
        return PartitionRecovered(topic, number)
    if command.revision != before.revision:
        raise PreconditionFailed(
            f"the replicas are {before.replicas} by now", replicas=before.replicas
        )
    found = survivors(before, draft.members)
    if node not in found:
        raise PreconditionFailed(f"whole copies are on nodes {found}, not on {node}", nodes=found)
    if not before.recovery_term < command.term <= TERM_MAX:
        raise LimitExceeded(f"no group goes on in term {command.term}")
    after = replace(
        before,
        replicas=[node],
        moving=True,
        leaving=[n for n in before.holders if n != node and n not in before.members],
        revision=draft.at.index,
        survivor=node,
        recovery_term=command.term,
        # Also who left the partition long ago, and was away since: it may keep what it had then.
        astray=sorted(member for member in draft.members if member != node),
    )
    return PartitionRecovered(put_partition(draft, topic, number, after), number)
