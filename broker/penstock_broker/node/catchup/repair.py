"""Damaged records of a replica here, copied again from other replicas.

A leader with damage hands its lead to a replica without. Then the batches of the damaged range are
asked of one member after the other, checked, and written to where they were. What does not fit,
since compaction went differently there, is left as it is: refused by name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptBatch, RequestError, RetriableError
from penstock.protocol.batch import iterate, next_offset, verify_sums
from penstock_broker.node.catchup.wire import Asked, Copied, Outcome, pack_asked
from penstock_broker.node.peers.frames import Channel
from penstock_broker.raft import Flow
from penstock_broker.storage.reads import Damage

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup

COPY_BYTES: Final = 1024 * 1024
REPAIR_BYTES_MAX: Final = 64 * 1024 * 1024
"""A damaged range that is longer is not repaired in place."""
ANSWER_SECONDS_MAX: Final = 3.0
AGAIN_SECONDS: Final = 60.0
"""When all members were asked in vain they are asked again after so long."""

log = logging.getLogger("penstock.broker.catchup")


class Repair:
    """The way of one damaged range to its bytes."""

    def __init__(self, node: Node, partition: PartitionGroup, damage: Damage) -> None:
        self._node = node
        self._partition = partition
        self.damage = damage
        self.number = 0
        self._sources: list[int] = []
        self._batches: list[memoryview] = []
        self._size = 0
        self._next = damage.start_offset
        self._again_at = 0.0

    @property
    def over(self) -> bool:
        """Whether the range is damaged no more, or gone."""
        return self.damage not in self._partition.log.damages

    def work(self) -> None:
        """Ask the next member, if it is time."""
        node, damage = self._node, self.damage
        if node.clock < self._again_at or damage.length > REPAIR_BYTES_MAX:
            return
        if not self._sources:
            here, members = node.node_id, self._partition.raft.configuration.members
            self._sources = [one for one in members if one != here and node.peers.alive(one)]
            if not self._sources:
                return
        self._begin()

    def _begin(self) -> None:
        self._batches, self._size, self._next = [], 0, self.damage.start_offset
        self._ask()

    def _ask(self) -> None:
        node = self._node
        self.number = node.catchup.next_number()
        asked = Asked(
            self._partition.gid, self.number, self._next, self.damage.end_offset, COPY_BYTES
        )
        self._again_at = node.clock + ANSWER_SECONDS_MAX
        self._sources.append(self._sources.pop(0))  # another one, if it does not answer
        if not node.peers.post(self._sources[-1], Channel.BULK, [pack_asked(asked)]):
            self._give_up_source()

    def _give_up_source(self) -> None:
        self._sources.pop()
        self._again_at = self._node.clock + (0.0 if self._sources else AGAIN_SECONDS)

    def received(self, copied: Copied, batches: memoryview) -> None:
        """An answer arrived."""
        more = copied.outcome == Outcome.MORE
        if not more:
            self.number = 0
        try:
            if copied.outcome not in (Outcome.RECORDS, Outcome.MORE) or not len(batches):
                raise CorruptBatch("the records are not there either")
            self._take(batches)
        except CorruptBatch as error:
            extra = {**self.damage._asdict(), "group": copied.group, "reason": str(error)}
            log.warning("a damaged range can't be repaired from a node", extra=extra)
            self.number = 0
            self._give_up_source()
            return
        if more:
            return
        if self._next < self.damage.end_offset:
            self._sources.insert(0, self._sources.pop())  # the same one again
            self._ask()
        elif self._node.store.repair(copied.group, self.damage, self._batches):
            self._again_at = self._node.clock + AGAIN_SECONDS
            log.info("a damaged range is repaired", extra=self.damage._asdict())
        else:
            self._give_up_source()

    def _take(self, batches: memoryview) -> None:
        for at, header in iterate(batches):
            if self._next >= self.damage.end_offset:
                return
            batch = batches[at : at + header.length]
            verify_sums(batch, header)
            if header.base_offset != self._next:
                raise CorruptBatch(f"a batch begins at {header.base_offset}, not at {self._next}")
            self._next = next_offset(batch, header)
            self._batches.append(batch)
            self._size += header.length
            if self._size > self.damage.length or self._next > self.damage.end_offset:
                raise CorruptBatch("the records have another length there")


def hand_over(partition: PartitionGroup) -> None:
    """Give the lead of a partition with damage to a member that is up to date, if there is one."""
    raft, peers = partition.raft, partition.node.peers
    for node_id, progress in raft.peers:
        if node_id not in raft.configuration.voters or not peers.alive(node_id):
            continue
        if progress.flow is Flow.REPLICATE and progress.match >= raft.log.commit:
            try:
                partition.transfer(node_id)
            except (RequestError, RetriableError):
                return
            return
