"""Applied entries that stay in memory for members of the group that lack them.

A leader keeps what a live member has not acknowledged, a follower a little, in case it leads next;
both within limits for the group and for the broker. What is not kept is read from the partition's
log and from a snapshot by who needs it (`catchup`). The bytes are mostly those of the log's tail,
so they cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from penstock_broker.raft import Entry, Flow

if TYPE_CHECKING:
    from penstock_broker.node.group import Group

LEADER_BYTES: Final = 8 * 1024 * 1024
INSTALLING_BYTES: Final = 32 * 1024 * 1024
"""While a member installs a snapshot: it needs all that comes after."""
FOLLOWER_BYTES: Final = 512 * 1024
TOTAL_BYTES: Final = 64 * 1024 * 1024

_data = itemgetter(3)


def applied(group: Group, entries: Sequence[Entry]) -> None:
    """Entries were applied: keep them, and let go what is needed no more."""
    raft, groups = group.raft, group.node.groups
    added = sum(map(len, map(_data, entries)))
    group.retained_bytes += added
    groups.retained_bytes += added
    end = min(group.applied_index, raft.log.durable)
    if raft.peers:
        needed, most = _needed(group, end)
        if needed > raft.log.base_index:
            _drop(group, needed)
    elif raft.is_leader:  # alone since a moment ago
        most = 0
    else:
        most = FOLLOWER_BYTES
    if groups.retained_bytes > TOTAL_BYTES:
        _drop(group, end)
    elif group.retained_bytes > most:
        _shrink(group, end, most // 2)


def _needed(group: Group, end: int) -> tuple[int, int]:
    """Up to which index no live member needs an entry, and how many bytes may be kept."""
    node, most = group.node, LEADER_BYTES
    for node_id, progress in group.raft.peers:
        match = progress.match
        if progress.flow is Flow.SNAPSHOT:
            match = node.catchup.sent_index(group.gid, node_id)
            most = INSTALLING_BYTES
        if match < end and node.peers.alive(node_id):
            end = match
    return end, most


def _shrink(group: Group, end: int, most: int) -> None:
    """Drop the oldest, so many that what is left is within the limit."""
    log = group.raft.log
    excess = group.retained_bytes - most
    index = log.base_index
    for entry in log.slice(index + 1, end):
        if excess <= 0:
            break
        excess -= len(entry.data)
        index = entry.index
    _drop(group, index)


def _drop(group: Group, index: int) -> None:
    log = group.raft.log
    if index <= log.base_index:
        return
    gone = sum(map(len, map(_data, log.slice(log.base_index + 1, index))))
    group.retained_bytes -= gone
    group.node.groups.retained_bytes -= gone
    group.raft.compact(index)


def forgotten(group: Group) -> None:
    """The group's log begins anew, or the group is gone."""
    group.node.groups.retained_bytes -= group.retained_bytes
    group.retained_bytes = 0
