"""Partitions that go on with the copy of one node, and copies that were given up for that.

The metadata names the survivor and a term (`RecoverPartition`). What is so is in the replica's own
log: it belongs to the time after that as soon as its last entry has that term or a later one. So
the survivor goes alone if its log says that it has not, after any stop and however often it hears
of it; and never by an old word, since it waits until all metadata is applied that was known here.

A copy on another member was given up: what it holds for committed may be something else by now. It
is dropped when the partition has settled; if the metadata wants the node back before it heard of
that, here. The leader feeds a node of that time only when it says that nothing of before is left
(`Reconfiguring`), since it may be behind with the metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.errors import LeaderUnknown
from penstock.protocol.batch import Kind, next_offset, parse_header
from penstock_broker.node import questions
from penstock_broker.node.partition import PartitionGroup

if TYPE_CHECKING:
    from penstock_broker.machine.topology import Partition
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

log = logging.getLogger("penstock.broker.recovery")


def is_torn(group: Group) -> bool:
    """Whether records were copied behind the end of the replica's Raft log, and no state yet.

    It lost its leader while it caught up. It can't lead: what it appended would have an index that
    its records have already.
    """
    if not isinstance(group, PartitionGroup):
        return False
    return group.log.last_index > group.raft.log.last_index


def belongs(group: Group, term: int) -> bool:
    """Whether a replica has been part of the group since one went on alone in a term."""
    raft = group.raft
    return max(raft.log.last_term, raft.promised[0]) >= term


class Surviving:
    """Looks at replicas here whose partition was recovered, when that changes and at a start."""

    def __init__(self, node: Node, give_up: Callable[[int], None]) -> None:
        self._node = node
        self._give_up = give_up
        self._watched: set[int] = set()

    def watch(self, gid: int) -> None:
        """A replica is here, or its partition was changed."""
        self._watched.add(gid)

    def tick(self, *, replaying: bool) -> None:
        """A few times a second: do what is to be done; nothing while old metadata is applied."""
        if not replaying and self._watched:
            watched, self._watched = self._watched, set()
            self._watched.update([gid for gid in sorted(watched) if self._wants_more(gid)])

    def _wants_more(self, gid: int) -> bool:
        """Do what is to be done now; whether it is to be tried again."""
        groups = self._node.groups
        group, place = groups.get(gid), groups.metadata.machine.locate(gid)
        if group is None or place is None:
            return False
        partition = place[0].partitions[place[1]]
        if belongs(group, partition.recovery_term):
            return False
        if partition.survivor == self._node.node_id:
            return not self._go_alone(group, partition)
        given_up = self._node.node_id in partition.astray and group.raft.log.last_index > 0
        if given_up and not partition.survivor:
            self._give_up(gid)
        return False

    def _go_alone(self, group: Group, partition: Partition) -> bool:
        if is_torn(group):
            log.error("a copy is not whole and can't go on alone", extra={"group": group.gid})
            return True
        before = group.raft.log.last_index
        if not group.recover_alone(partition.recovery_term):
            return False
        extra = {"group": group.gid, "term": group.raft.term, "entries": before}
        log.warning("a partition goes on with the copy here alone", extra=extra)
        return True


def _end_offset(group: Group) -> int:
    """Where the records end that would be there, if the whole Raft log were decided."""
    if not isinstance(group, PartitionGroup):
        return 0
    log = group.raft.log
    for entry in reversed(log.slice(log.base_index + 1, log.last_index)):
        if entry.kind == Kind.DATA:
            return next_offset(entry.data, parse_header(entry.data))
    return group.log.end_offset


def find_copy(node: Node, session: Session, correlation: int, asked: questions.FindCopy) -> None:
    """What is here of a partition.

    Raises:
        LeaderUnknown: it was found at the start, and is not in use yet.
    """
    group = node.groups.get(asked.group)
    node.groups.surviving.watch(asked.group)
    if group is None:
        found = node.store.recovered.get(asked.group)
        if found is not None and (found.entries or not found.emptied):
            raise LeaderUnknown("the copy here is not in use yet")
        node.reply(session, correlation, questions.FindCopyReply(held=False))
        return
    raft = group.raft
    configuration = raft.configuration
    reply = questions.FindCopyReply(
        held=True,
        leading=raft.is_leader,
        term=raft.term,
        last_term=raft.log.last_term,
        last_index=raft.log.last_index,
        end_offset=_end_offset(group),
        voters=list(configuration.voters),
        outgoing=list(configuration.outgoing),
        torn=is_torn(group),
        dropped=raft.promised > (raft.log.last_term, raft.log.last_index),
    )
    node.reply(session, correlation, reply)
