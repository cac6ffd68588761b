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


def has_majority(voters: Iterable[int], members: Container[int]) -> bool:
    """Whether most of the voters are among these: members of the cluster, who may come back."""
    those = list(voters)
    return sum(node in members for node in those) * 2 > len(those)


def is_bereft(partition: Partition, members: Container[int]) -> bool:
    """Whether the group has lost its majority for ever, as far as the metadata can tell.

    During a move nobody told it how far that is: several sets of nodes may be the voters.
    """
    if partition.survivor:
        return partition.survivor not in members
    voters = [partition.members]
    if partition.moving:
        begun = [*partition.members, *partition.leaving]
        voters += [partition.replicas, begun]
    return not all(has_majority(group, members) for group in voters)


def survivors(partition: Partition, members: Container[int]) -> list[int]:
    """The members of the cluster that may go on with a partition alone.

    During a move it is enough that anybody is lost who may have got a copy: then only the copies
    know who votes, and they are asked before the command is proposed.

    Raises:
        PreconditionFailed: a majority may come back, or nobody is left.
    """
    unclear = partition.moving and not partition.survivor
    holders = partition.holders if partition.moving else partition.members
    found = [node for node in holders if node in members]
    if not is_bereft(partition, members) and not (unclear and len(found) < len(holders)):
        kept = [partition.survivor] if partition.survivor else found
        raise PreconditionFailed(
            f"the copies on nodes {kept} are a majority: bring these brokers back, or remove those"
            " from the cluster that are lost for ever",
            nodes=kept,
        )
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
