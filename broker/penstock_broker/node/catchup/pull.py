"""One replica that copies the records it lacks from others, before it takes a snapshot.

What is copied is committed, so it may stay whatever happens; a stop in the middle loses nothing but
time. A replica whose end was trimmed away at the leader begins anew where the leader's log starts;
if that lies beyond the cut, a newer snapshot is waited for, since what the log holds must not begin
behind the machine's end.
Invariants: one request is under way at a time, answered in pieces; what arrives is checked batch by
batch and appended in order; the snapshot goes to Raft when the log reaches its cut, and only in the
leader's own term.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptBatch
from penstock.protocol.batch import (
    FLAG_COMPACTED,
    BatchHeader,
    iterate,
    next_offset,
    verify,
    verify_sums,
)
from penstock.protocol.records import encode_gap
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.node.catchup.pace import BURST_SECONDS
from penstock_broker.node.catchup.wire import Asked, Copied, Outcome, pack_asked
from penstock_broker.node.peers.frames import Channel
from penstock_broker.node.restart import unpack_blob
from penstock_broker.raft import InstallSnapshot

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup

FIRST_BYTES: Final = 1024 * 1024
COPY_BYTES: Final = 8 * 1024 * 1024
"""Asked for at once: first of a replica that may be small, then of one that is not."""
ANSWER_SECONDS_MAX: Final = 3.0
"""After so long without an answer another node is asked."""
PAUSE_SECONDS: Final = 0.2

log = logging.getLogger("penstock.broker.catchup")


class Pull:
    """The way of one replica to one cut of its leader.

    Attributes:
        copied_bytes: what it has copied.
        asked_bytes: what was asked for and has not arrived.
    """

    def __init__(self, node: Node, partition: PartitionGroup, message: InstallSnapshot) -> None:
        self._node = node
        self.partition = partition
        self.copied_bytes = self.asked_bytes = 0
        self._number = 0
        self._waiting = False
        self._again_at = 0.0
        """When to ask, or ask again."""
        self._sources: list[int] = []
        self.aim(message)
        partition.log.passing = True

    def aim(self, message: InstallSnapshot) -> None:
        """Copy up to this cut; a newer one takes the place of one before.

        Raises:
            UnsupportedFormat, CorruptData: the machine's state can't be read.
        """
        data = message.snapshot.data
        assert isinstance(data, bytes), "what arrived over the network"
        machine = PartitionMachine()
        machine.restore(unpack_blob(data)[1])
        self.message = message
        self._start, self._end = machine.log_start_offset, machine.end_offset
        members = message.snapshot.configuration.members
        others = [node for node in members if node not in (message.sender, self._node.node_id)]
        self._sources = [message.sender, *others]

    @property
    def complete(self) -> bool:
        """Whether the log reaches the cut."""
        return self.partition.log.end_offset >= self._end

    def over(self) -> None:
        """What is appended from now on is new."""
        self.partition.log.passing = False

    # ----- asking

    def work(self, room: int, rate: float) -> int:
        """Ask for more, if it is time and there is room for it; how many bytes were asked for.

        The slower records are copied here, the less at a time: they come as fast as they can.
        """
        node = self._node
        if self._waiting and node.clock >= self._again_at:
            self._try_another()
        if self._waiting or room <= 0 or node.clock < self._again_at or self.complete:
            return 0
        if node.store.behind or not node.store.accepting:
            return 0  # the disk first
        if self.partition.log.end_offset < self._start == self._end:
            self.partition.log.reset(self._start, self.message.snapshot.index)
            return 0
        size = int(rate * BURST_SECONDS) if self.copied_bytes else FIRST_BYTES
        return self._ask(min(COPY_BYTES, max(FIRST_BYTES, size)))

    def _ask(self, size: int) -> int:
        node = self._node
        self._number = node.catchup.next_number()
        offset = max(self.partition.log.end_offset, self._start)
        asked = Asked(self.partition.gid, self._number, offset, self._end, size)
        if not node.peers.post(self._sources[0], Channel.BULK, [pack_asked(asked)]):
            self._try_another()
            return 0
        self._waiting, self.asked_bytes = True, size
        self._again_at = node.clock + ANSWER_SECONDS_MAX
        return size

    def _try_another(self) -> None:
        self._waiting, self.asked_bytes = False, 0
        self._sources = [*self._sources[1:], self._sources[0]]
        self._again_at = self._node.clock + PAUSE_SECONDS

    # ----- taking

    def received(self, copied: Copied, batches: memoryview) -> None:
        """An answer arrived."""
        if not self._waiting or copied.number != self._number:
            return  # it was given up
        if copied.outcome == Outcome.MORE:
            self.asked_bytes = max(0, self.asked_bytes - len(batches))
            self._again_at = self._node.clock + ANSWER_SECONDS_MAX
        else:
            self._waiting, self.asked_bytes, self._again_at = False, 0, 0.0
        if copied.outcome == Outcome.TRIMMED and copied.start_offset <= self._end:
            self._start = max(self._start, copied.start_offset)
        elif copied.outcome not in (Outcome.RECORDS, Outcome.MORE) or not len(batches):
            self._try_another()
            return
        try:
            self._take(batches)
        except CorruptBatch as error:
            extra = {"group": self.partition.gid, "from": self._sources[0], "reason": str(error)}
            log.error("records that were copied from a node are damaged", extra=extra)
            self._try_another()

    def _take(self, batches: memoryview) -> None:
        for at, header in iterate(batches):
            if header.base_offset >= self._end:
                return
            batch = batches[at : at + header.length]
            verify_sums(batch, header)
            self._append(batch, header)
            self.copied_bytes += header.length

    def _append(self, batch: memoryview, header: BatchHeader) -> None:
        kept, base = self.partition.log, header.base_offset
        if base > kept.end_offset:
            if base > self._start:
                raise CorruptBatch(f"records from {kept.end_offset} to {base} are left out")
            kept.reset(base, header.log_index - 1)
        elif base < kept.end_offset:
            following = next_offset(batch, header)
            if following <= kept.end_offset:
                return
            if header.record_count or not header.flags & FLAG_COMPACTED:
                raise CorruptBatch(f"the batch at {base} reaches over {kept.end_offset}")
            # Compaction elsewhere left out what is here in part: leave out the rest.
            gap = encode_gap(header, kept.end_offset, following)
            kept.append(gap, verify(gap))
            return
        kept.append(batch, header)
