"""Replicas that are elsewhere now: the store keeps them in quarantine for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock.protocol.batch import Kind, parse_header

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.storage import RecoveredGroup
    from penstock_broker.storage.entries import EntryLike


class Remains(NamedTuple):
    """What a replica leaves behind."""

    last_index: int
    """Of its Raft log."""
    last_term: int
    committed: Sequence[EntryLike]
    """What was not applied yet."""
    state: tuple[int, int, bytes] | None = None
    """Applied index, applied term and state; None: as the last checkpoint has them."""


def remains_of(group: Group) -> Remains:
    """What is left of a replica that was in use, and has ended."""
    log = group.raft.log
    committed = log.slice(max(group.applied_index, log.base_index) + 1, log.commit)
    state = group.applied_index, group.applied_term, group.snapshot()
    return Remains(log.last_index, log.last_term, committed, state)


def leftover(found: RecoveredGroup) -> Remains:
    """What is left of a replica that was found at a start, and never came into use."""
    commit = found.hard_state[2]
    committed = [entry for entry in found.entries if entry.index <= commit]
    if found.entries:
        return Remains(found.entries[-1].index, found.entries[-1].term, committed)
    return Remains(found.applied_index, found.applied_term, committed)


def drop(node: Node, gid: int, remains: Remains) -> None:
    """Hand it over to the store; what was committed and not applied goes into the log before."""
    for entry in remains.committed:
        if entry.kind == Kind.DATA:
            node.store.create_log(gid).append(entry.data, parse_header(entry.data))
    last_index, last_term, _, state = remains
    node.store.drop_replica(gid, last_index, last_term, at_us=node.wall_us, state=state)
