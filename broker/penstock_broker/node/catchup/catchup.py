"""Snapshots on their way: those that this broker's leaders send, and those that it takes.

Invariants: a snapshot reaches Raft only when the partition's log holds all records below its cut;
so at every moment, and after any stop, the log is a prefix of what was committed, and the machine
belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock_broker import raft as consensus
from penstock_broker.node.catchup.pull import Pull
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.raft import AppendResponse, Flow, InstallSnapshot

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node

SENDING_MAX: Final = 16
"""Snapshots under way to one node; others wait their turn."""


class CatchUp:
    """Both sides of catching up on this broker."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sent: dict[tuple[int, int], int] = {}
        """(group, node) -> index of the snapshot that is on its way there."""
        self._waiting: dict[tuple[int, int], None] = {}
        self.pulls: dict[int, Pull] = {}
        """By group: replicas here that copy what they lack."""

    # ----- the leader

    def wanted(self, group: Group, node_id: int) -> None:
        """A member lacks entries that are gone from memory."""
        key = (group.gid, node_id)
        self._sent.pop(key, None)
        if sum(to == node_id for _, to in self._sent) >= SENDING_MAX:
            self._waiting[key] = None
            return
        self._waiting.pop(key, None)
        index = group.applied_index
        try:
            if group.raft.send_snapshot(node_id, index, group.snapshot()):
                self._sent[key] = index
        except (consensus.NotLeader, consensus.Refused):
            group.raft.snapshot_failed(node_id)
        self._node.mark(group)

    def sent_index(self, gid: int, node_id: int) -> int:
        """Up to which index the snapshot on its way to a member goes; later entries are needed."""
        return self._sent.get((gid, node_id), 1 << 62)

    @property
    def sending(self) -> bool:
        """Whether snapshots of this broker's leaders are on their way."""
        return bool(self._sent)

    def acknowledged(self, group: Group, message: AppendResponse) -> None:
        """A member answered; called while `sending`."""
        key = (group.gid, message.sender)
        index = self._sent.get(key)
        if index is None:
            return
        progress = group.raft.progress.get(message.sender)
        if progress is None or progress.flow is not Flow.SNAPSHOT:
            self._over(key)
        elif not message.rejected and message.index >= index:
            self._over(key)
            group.raft.snapshot_failed(message.sender)  # what comes after it is gone meanwhile

    def _over(self, key: tuple[int, int]) -> None:
        self._sent.pop(key, None)
        for gid, node_id in list(self._waiting):
            if node_id == key[1]:
                del self._waiting[gid, node_id]
                group = self._node.groups.get(gid)
                if group is not None and group.leading:
                    self.wanted(group, node_id)
                    return

    def lost(self, gid: int) -> None:
        """The group is led here no more."""
        for key in [key for key in (*self._sent, *self._waiting) if key[0] == gid]:
            self._sent.pop(key, None)
            self._waiting.pop(key, None)

    # ----- the replica

    def arrived(self, group: Group, message: InstallSnapshot) -> None:
        """A snapshot for a group here: take it, at once or when the records are here."""
        raft, snapshot = group.raft, message.snapshot
        if message.term >= raft.term and isinstance(group, PartitionGroup):
            raft.on_heartbeat(message.sender, message.term, 0)
            known = snapshot.index <= raft.log.commit
            if not known and raft.log.term_at(snapshot.index) != snapshot.term:
                pull = self.pulls.get(group.gid)
                if pull is None:
                    pull = self.pulls[group.gid] = Pull(self._node, group)
                pull.aim(message)
                self._node.mark(group)
                return
        raft.step(message)
        self._node.mark(group)

    def tick(self) -> None:
        """Begin pulls whose turn it is, try again those that wait; give up what is out of date."""
        for (gid, node_id), _ in list(self._sent.items()):
            group = self._node.groups.get(gid)
            progress = group.raft.progress.get(node_id) if group is not None else None
            if progress is None or progress.flow is not Flow.SNAPSHOT:
                self._over((gid, node_id))
        for pull in list(self.pulls.values()):
            pull.tick()

    def deleted(self, gid: int) -> None:
        """The group leaves this broker."""
        self.lost(gid)
        self.pulls.pop(gid, None)
