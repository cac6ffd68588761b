"""The request that a partition goes on with one copy, its majority being lost for ever.

The metadata knows who voted when the group was settled last, and who was removed since; it refuses
what it can tell from that alone, also at the moment when the command is applied. What is left is
asked here of those who have copies: whether one of them leads, who votes as far as their logs say
(a move may be over, and nobody has told), how long the logs are, and which terms they have seen.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import partial
from typing import TYPE_CHECKING

from penstock.errors import LeaderUnknown, PreconditionFailed
from penstock.protocol import cluster
from penstock_broker.machine import commands
from penstock_broker.machine.replica_recovery import has_majority, survivors
from penstock_broker.machine.stamp import TERM_LEAP
from penstock_broker.machine.topology import Partition, PartitionRecovered
from penstock_broker.node.cluster_requests import decide, find_partition, request_of
from penstock_broker.node.cluster_view import is_alive
from penstock_broker.node.gather import Replies, gather
from penstock_broker.node.questions import FindCopy, FindCopyReply

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

Copies = Mapping[int, FindCopyReply]
"""Node -> its copy, of those that answered and have one."""


def recover_partition(
    node: Node, session: Session, correlation: int, asked: cluster.RecoverPartition
) -> None:
    """Have a partition go on with one copy.

    Raises:
        PreconditionFailed: a majority of it may come back, or there is no such copy.
        LeaderUnknown: another broker decides.
    """
    if not node.groups.metadata.leading:
        raise LeaderUnknown("the metadata has no leader at the moment")
    partition, members = _checked(node, asked)
    request = request_of(session, correlation, asked)

    def found(replies: Replies) -> None:
        again, _ = _checked(node, asked)
        if again.revision != partition.revision:
            raise PreconditionFailed("the replicas were changed at this moment; look again")
        answers = {id_: reply for id_, reply in replies.items() if isinstance(reply, FindCopyReply)}
        copies = {id_: reply for id_, reply in answers.items() if reply.held}
        _check_heard(partition, members, answers)
        _check_group(partition, members, copies)
        reply = _choice(node, partition, asked, copies)
        if not reply.node:
            node.reply(session, correlation, reply)
            return
        # Copies may have seen terms of which nobody knows here: of elections while they were away.
        term = max([partition.recovery_term, *(copy.term for copy in copies.values())])
        command = commands.RecoverPartition(
            group=partition.group, node=reply.node, term=term + TERM_LEAP,
            revision=partition.revision,
        )  # fmt: skip
        decide(node, request, command, partial(answer, reply), asked.dry_run)

    def answer(reply: cluster.RecoverPartitionReply, outcome: object) -> None:
        assert isinstance(outcome, PartitionRecovered)
        node.reply(session, correlation, reply)

    holders = [id_ for id_ in partition.holders if id_ in members and is_alive(node, id_)]
    gather(node, request, dict.fromkeys(holders, FindCopy(group=partition.group)), found)


def _checked(node: Node, asked: cluster.RecoverPartition) -> tuple[Partition, Mapping[int, object]]:
    """The partition, if the metadata lets it be recovered, and the members of the cluster.

    Raises:
        PreconditionFailed: it does not, or there is no such copy.
    """
    members = node.groups.metadata.machine.members
    partition = find_partition(node, asked.topic, asked.partition)
    if partition.survivor in members:
        raise PreconditionFailed(
            f"it is being recovered with the copy of node {partition.survivor} already: that broker"
            " carries it out as soon as it is there",
            node=partition.survivor,
        )
    left = survivors(partition, members)
    if asked.node and asked.node not in left:
        raise PreconditionFailed(f"whole copies are on nodes {left}, not on {asked.node}")
    return partition, members


def _check_heard(partition: Partition, members: Container[int], answers: Container[int]) -> None:
    """During a move only the copies themselves know how far it is: each must be heard.

    Raises:
        PreconditionFailed: one may be on a broker that did not answer.
    """
    silent = [id_ for id_ in partition.holders if id_ in members and id_ not in answers]
    if silent and partition.moving:
        raise PreconditionFailed(
            f"it was being moved, and nodes {silent}, which may have copies, are not heard of:"
            " start them, or remove them from the cluster",
            nodes=silent,
        )


def _check_group(partition: Partition, members: Container[int], copies: Copies) -> None:
    """What the copies say themselves must not speak against it.

    Raises:
        PreconditionFailed: one leads, or most of those that vote as they know may come back.
    """
    leading = sorted(id_ for id_, copy in copies.items() if copy.leading)
    if leading:
        raise PreconditionFailed(f"node {leading[0]} leads it, or did until now: look again")
    if not copies or not partition.moving:
        return
    longest = max(copies.values(), key=_extent)
    halves = [half for half in (longest.voters, longest.outgoing) if half]
    if halves and all(has_majority(half, members) for half in halves):
        raise PreconditionFailed(
            f"its replicas are on nodes {longest.voters} by now, and these are a majority",
            nodes=longest.voters,
        )


def _extent(copy: FindCopyReply) -> tuple[int, int]:
    return copy.last_term, copy.last_index


def _choice(
    node: Node, partition: Partition, asked: cluster.RecoverPartition, copies: Copies
) -> cluster.RecoverPartitionReply:
    """Which copy is taken, and what is known of each.

    Raises:
        PreconditionFailed: several are left and none was named, or the one is not there or whole.
    """
    members = node.groups.metadata.machine.members
    left = survivors(partition, members)
    if partition.moving:  # who only began to copy it is not whole
        left = [id_ for id_ in left if id_ in copies and _votes(id_, copies[id_])]
    if not left:
        raise PreconditionFailed("no broker of the cluster has a whole copy: delete the topic")
    chosen = asked.node or (left[0] if len(left) == 1 else 0)
    if not chosen and not asked.dry_run:
        raise PreconditionFailed(
            f"copies are left on nodes {left}: name the one to go on with", nodes=left
        )
    if chosen:
        _check_chosen(chosen, left, copies)
    holders = partition.holders if partition.moving else partition.members
    return cluster.RecoverPartitionReply(
        node=chosen,
        copies=[_found(id_, copies.get(id_)) for id_ in left],
        lost=[id_ for id_ in holders if id_ not in members],
        complete=_is_complete(partition, chosen, left, copies),
    )


def _votes(id_: int, copy: FindCopyReply) -> bool:
    return id_ in copy.voters or id_ in copy.outgoing


def _check_chosen(chosen: int, left: list[int], copies: Copies) -> None:
    if chosen not in left:
        raise PreconditionFailed(f"node {chosen} has no whole copy: it had only begun to copy it")
    if chosen not in copies:
        raise PreconditionFailed(f"node {chosen} is not heard of: start it", node=chosen)
    if copies[chosen].torn:
        raise PreconditionFailed(
            f"the copy of node {chosen} is not whole: it lost its leader while it caught up"
        )


def _found(id_: int, copy: FindCopyReply | None) -> cluster.CopyFound:
    if copy is None:
        return cluster.CopyFound(node=id_, answered=False)
    return cluster.CopyFound(
        node=id_,
        answered=True,
        last_term=copy.last_term,
        last_index=copy.last_index,
        end_offset=copy.end_offset,
    )


def _is_complete(partition: Partition, chosen: int, left: list[int], copies: Copies) -> bool:
    """Whether the copy has all that was acknowledged.

    That is on a quorum of the n voters, so on one of any n - quorum + 1 of them at least; and the
    log that is ahead of those of all these has it (Raft 5.4.1).
    """
    if partition.moving or chosen not in copies or any(id_ not in copies for id_ in left):
        return False
    if any(copies[id_].dropped for id_ in left):
        return False  # it counted for a quorum with what it has no more
    count = len(partition.members)
    enough = count - (count // 2 + 1) + 1
    extents = [_extent(copies[id_]) for id_ in left]
    return len(left) >= enough and _extent(copies[chosen]) == max(extents)
