"""Snapshots on their way: those that this broker's leaders send, and those that it takes.

Invariants: a snapshot reaches Raft only when the partition's log holds all records below its cut;
so at every moment, and after any stop, the log is a prefix of what was committed, and the machine
belongs to it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker import raft as consensus
from penstock_broker.node.catchup.pace import Pace
from penstock_broker.node.catchup.pull import Pull
from penstock_broker.node.catchup.repair import Repair, hand_over
from penstock_broker.node.catchup.source import Source
from penstock_broker.node.catchup.wire import COPIED, COPY, unpack_copied
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.raft import NOBODY, AppendResponse, Flow, InstallSnapshot

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node

SENDING_MAX: Final = 128
"""Snapshots under way to one node; others wait their turn."""
SENDING_BYTES_MAX: Final = 16 * 1024 * 1024
"""What is under way to one node, after which no other one is begun."""
WINDOW_BYTES: Final = 32 * 1024 * 1024
"""Records that replicas of this node have asked for and not got: a few large ones copy at a time,
or many small ones."""
REPAIR_SECONDS: Final = 0.5
_NOT_SENT: Final = (1 << 62, 0)

log = logging.getLogger("penstock.broker.catchup")


class CatchUp:
    """Both sides of catching up on this broker.

    Attributes:
        repairs: damaged ranges of replicas here that are copied again, by group.
        pulls: replicas here that copy what they lack, by group; the first ones first.
        source: serves those of other nodes.
        pace: how fast replicas here ask for records.
        copied_bytes: what replicas here have copied since the start.
        installed: how many snapshots were taken since the start.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sent: dict[tuple[int, int], tuple[int, int]] = {}
        """(group, node) -> index and size of the snapshot that is on its way there."""
        self._waiting: dict[tuple[int, int], None] = {}
        self._number = 0
        self.pulls: dict[int, Pull] = {}
        self.repairs: dict[int, Repair] = {}
        self._repair_at = 0.0
        self.source = Source(node)
        self.pace = Pace(node.waits, node.waits.commits)
        self.copied_bytes = self.installed = 0
        node.peers.watchers.append(self._gone)
        node.peers.receivers |= {COPY: self.source.received, COPIED: self.received}

    # ----- the leader

    def wanted(self, group: Group, node_id: int) -> None:
        """A member lacks entries that are gone from memory."""
        key = (group.gid, node_id)
        self._sent.pop(key, None)
        if not group.gid and self._node.agreement.doubtful:
            return  # Raft asks again
        sizes = [size for (_, to), (_, size) in self._sent.items() if to == node_id]
        if len(sizes) >= SENDING_MAX or sum(sizes) >= SENDING_BYTES_MAX:
            self._waiting[key] = None
            return
        self._waiting.pop(key, None)
        index, blob = group.applied_index, group.snapshot()
        try:
            if group.raft.send_snapshot(node_id, index, blob):
                self._sent[key] = (index, len(blob))
        except (consensus.NotLeader, consensus.Refused):
            group.raft.snapshot_failed(node_id)
        self._node.mark(group)

    def sent_index(self, gid: int, node_id: int) -> int:
        """Up to which index the snapshot on its way to a member goes; later entries are needed."""
        return self._sent.get((gid, node_id), _NOT_SENT)[0]

    @property
    def sending(self) -> bool:
        """Whether snapshots of this broker's leaders are on their way."""
        return bool(self._sent)

    @property
    def busy(self) -> bool:
        """Whether anything is copied, here or from here."""
        return bool(self.pulls) or self.source.busy

    def acknowledged(self, group: Group, message: AppendResponse) -> None:
        """A member answered; called while `sending`."""
        key = (group.gid, message.sender)
        index = self._sent.get(key, _NOT_SENT)[0]
        if key not in self._sent:
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
                if group is not None and group.raft.is_leader:
                    self.wanted(group, node_id)
                    return

    def lost(self, gid: int) -> None:
        """The group is led here no more."""
        for key in [key for key in (*self._sent, *self._waiting) if key[0] == gid]:
            self._sent.pop(key, None)
            self._waiting.pop(key, None)

    def _gone(self, node_id: int) -> None:
        """A node's process ended: what was on its way to it is lost."""
        for key in [key for key in (*self._sent, *self._waiting) if key[1] == node_id]:
            self._sent.pop(key, None)
            self._waiting.pop(key, None)
        for group in self._node.groups.restless():
            group.raft.unreachable(node_id)

    def interrupted(self, node_id: int) -> None:
        """The connection that carries snapshots to a node broke; it lives, and gets new ones."""
        for gid, to in list(self._sent):
            if to == node_id and (group := self._node.groups.get(gid)) is not None:
                del self._sent[gid, to]
                if group.raft.is_leader:
                    group.raft.snapshot_failed(to)
                    self._node.mark(group)

    def dropped(self, group: Group, node_id: int) -> None:
        """A snapshot could not be sent: there is no way to the node now."""
        self._sent.pop((group.gid, node_id), None)
        group.raft.unreachable(node_id)

    def outdated(self, group: Group, node_id: int) -> None:
        """The log begins behind the snapshot that was sent: its taker needs a newer one."""
        if group.leading and self._sent.pop((group.gid, node_id), None) is not None:
            group.raft.snapshot_failed(node_id)
            self._node.mark(group)

    def _look_after(self) -> None:
        """Snapshots that are over, as Raft sees it."""
        for key in list(self._sent):
            group = self._node.groups.get(key[0])
            progress = group.raft.progress.get(key[1]) if group is not None else None
            if progress is None or progress.flow is not Flow.SNAPSHOT:
                self._over(key)

    # ----- the replica

    def next_number(self) -> int:
        """Of a request for records."""
        self._number += 1
        return self._number

    def arrived(self, group: Group, message: InstallSnapshot) -> None:
        """A snapshot for a group here: take it, at once or when the records are here."""
        raft, snapshot = group.raft, message.snapshot
        if message.term >= raft.term and isinstance(group, PartitionGroup):
            raft.on_heartbeat(message.sender, message.term, 0)
            self._node.mark(group)
            known = snapshot.index <= raft.log.commit
            if not known and raft.log.term_at(snapshot.index) != snapshot.term:
                self._aim(group, message)
                return
        self._step(group, message)

    def _aim(self, partition: PartitionGroup, message: InstallSnapshot) -> None:
        pull = self.pulls.get(partition.gid)
        try:
            if pull is None:
                self.pulls[partition.gid] = Pull(self._node, partition, message)
            elif message.snapshot.index > pull.message.snapshot.index:
                pull.aim(message)
            elif message.term > pull.message.term:
                pull.message = message
        except PenstockError as error:
            extra = {"group": partition.gid, "from": message.sender, "reason": str(error)}
            log.error("a snapshot of a partition can't be read", extra=extra)
            return
        self._work()

    def _end_pull(self, gid: int) -> None:
        pull = self.pulls.pop(gid, None)
        if pull is not None:
            pull.over()

    def _step(self, group: Group, message: InstallSnapshot) -> None:
        self._end_pull(group.gid)
        group.raft.step(message)
        self._node.mark(group)
        self.installed += 1

    def received(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """Records arrived that were asked for.

        Raises:
            RemoteProtocolError: the frame is damaged.
        """
        copied, batches = unpack_copied(buffer, start, end, owned)
        repair, pull = self.repairs.get(copied.group), self.pulls.get(copied.group)
        if repair is not None and repair.number == copied.number:
            repair.received(copied, batches)
        elif pull is not None:
            before, asked = pull.copied_bytes, pull.asked_bytes
            pull.received(copied, batches)
            self.copied_bytes += pull.copied_bytes - before
            if not pull.asked_bytes:
                self.pace.spent(min(0, len(batches) - asked))  # it has less than was asked for
            self._work()

    def _work(self) -> None:
        if not self.pulls:
            return
        self.pace.refill(self._node.clock)
        window = WINDOW_BYTES - sum([pull.asked_bytes for pull in self.pulls.values()])
        room = min(window, self.pace.room)
        for pull in list(self.pulls.values()):
            if pull.message.term < pull.partition.raft.term:
                self._end_pull(pull.partition.gid)  # its leader is none any more
                continue
            asked = pull.work(room, self.pace.rate)
            self.pace.spent(asked)
            room -= asked
            if pull.complete:
                self._step(pull.partition, pull.message)

    def tick(self) -> None:
        """Let time pass."""
        if self._sent:
            self._look_after()
        if self.pulls:
            self._work()
        if self._node.clock >= self._repair_at:
            self._repair_at = self._node.clock + REPAIR_SECONDS
            self._repair()

    def _repair(self) -> None:
        """Look after damaged ranges: one of each partition at a time."""
        for gid, partition in self._node.partitions.items():
            damages = partition.log.damages
            repair = self.repairs.get(gid)
            if repair is not None and repair.over:
                del self.repairs[gid]
                repair = None
            if not damages:
                continue
            if partition.leading and partition.raft.transferee == NOBODY:
                hand_over(partition)
            if repair is None:
                repair = self.repairs[gid] = Repair(self._node, partition, damages[0])
            repair.work()

    def deleted(self, gid: int) -> None:
        """The group leaves this broker."""
        self.lost(gid)
        self._end_pull(gid)
        self.repairs.pop(gid, None)
