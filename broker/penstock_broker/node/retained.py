"""Applied entries that stay in memory for members of the group that lack them.

A leader keeps what a live member has not acknowledged, and everybody a little: a follower may lead
next, a member come back soon. All within limits for the group and for the broker. What is not kept
is read from the partition's log and from a snapshot by who needs it (`catchup`). The bytes are
mostly those of the log's tail, so they cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from penstock_broker.raft import Entry, Flow

if TYPE_CHECKING:
    from penstock_broker.node.group import Group

KEPT_BYTES: Final = 512 * 1024
"""Of each group, whoever needs it; see `NodeConfig.kept_bytes`."""
NEEDED: Final = 16
"""So many times more for a live member that is behind."""
INSTALLING: Final = 64
"""And so many times while one installs a snapshot: it needs all that comes after."""
TOTAL_BYTES: Final = 64 * 1024 * 1024

_data = itemgetter(3)


def applied(group: Group, entries: Sequence[Entry]) -> None:
    """Entries were applied: keep them, and let go what is too much."""
    groups = group.node.groups
    added = sum(map(len, map(_data, entries)))
    group.retained_bytes += added
    groups.retained_bytes += added
    kept = group.node.config.kept_bytes
    if group.retained_bytes <= kept and groups.retained_bytes <= TOTAL_BYTES:
        return
    end = min(group.applied_index, group.raft.log.durable)
    needed, most = _needed(group, end)
    if groups.retained_bytes > TOTAL_BYTES:
        _drop(group, needed)
        if groups.retained_bytes > TOTAL_BYTES:
            _drop(group, end)
        return
    _shrink(group, needed, kept // 2)
    if group.retained_bytes > most:
        _shrink(group, end, most // 2)


def _needed(group: Group, end: int) -> tuple[int, int]:
    """Up to which index no live member needs an entry, and how many bytes may be kept."""
    node = group.node
    most = node.config.kept_bytes * NEEDED
    for node_id, progress in group.raft.peers:
        match = progress.match
        if progress.flow is Flow.SNAPSHOT:
            match = node.catchup.sent_index(group.gid, node_id)
            most = node.config.kept_bytes * INSTALLING
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
