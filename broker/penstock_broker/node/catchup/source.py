"""Serving records to replicas elsewhere that copy what they lack.

Any replica may be asked: what is in a partition's log is committed. While clients are served as
well, copying gets a limited share of the bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from penstock.errors import OffsetOutOfRange, PenstockError
from penstock.protocol.batch import Buffer
from penstock_broker.node.catchup.wire import Asked, Copied, Outcome, pack_copied, unpack_asked
from penstock_broker.node.peers.frames import Channel
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup

BYTES_PER_SECOND: Final = 64 * 1024 * 1024
"""For all copies from this node together, while it works for clients."""
BURST_BYTES: Final = 4 * 1024 * 1024
BUSY_SECONDS: Final = 1.0
"""For so long after work for clients was seen, copying stays slow."""
ASKED_MAX: Final = 1024
COPY_BYTES_MAX: Final = 4 * 1024 * 1024


class Source:
    """Answers requests for records, in the order in which they came.

    Attributes:
        copied_bytes: how much was served since the start.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._asked: deque[tuple[int, Asked]] = deque()
        self._room = BURST_BYTES
        self._refilled_at = 0.0
        self._busy_until = 0.0
        self.copied_bytes = 0

    def received(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """A request arrived.

        Raises:
            RemoteProtocolError: it is damaged.
        """
        asked = unpack_asked(buffer, start, end)
        if len(self._asked) < ASKED_MAX:  # else it is asked again
            self._asked.append((sender, asked))
        group = self._node.groups.get(asked.group)
        if group is not None and group.leading:
            group.raft.snapshot_progresses(sender)
        self.work()

    def work(self) -> None:
        """Answer as many as may be answered now."""
        if self._asked:
            self._refill()
        while self._asked and self._room > 0:
            self._serve(*self._asked.popleft())

    def _refill(self) -> None:
        node = self._node
        now, last = node.clock, self._refilled_at
        self._refilled_at = now
        if node.uncommitted_bytes or node.output_bytes:
            self._busy_until = now + BUSY_SECONDS
        if now >= self._busy_until:
            self._room = BURST_BYTES
        else:
            refill = int((now - last) * BYTES_PER_SECOND)
            self._room = min(BURST_BYTES, self._room + refill)

    def _serve(self, to: int, asked: Asked) -> None:
        partition = self._node.partitions.get(asked.group)
        if partition is None:
            self._answer(to, Copied(asked.group, asked.number, Outcome.ABSENT, 0, 0))
            return
        try:
            found = partition.log.read(asked.offset, min(asked.max_bytes, COPY_BYTES_MAX))
        except PenstockError as error:
            self._refuse(to, asked, partition, error)
            return
        if not isinstance(found, Cold):
            self._bring(to, asked, partition, found.buffers)
            return

        def read(job: SharedRead, error: PenstockError | None) -> None:
            self._finish(to, asked, partition, job, error)

        job = SharedRead(None, found, read)
        data = found.file.try_pread(found.length, found.position)
        if data is None:
            self._node.start_read(job)
        else:
            job.data = data
            read(job, None)

    def _finish(
        self,
        to: int,
        asked: Asked,
        partition: PartitionGroup,
        job: SharedRead,
        error: PenstockError | None,
    ) -> None:
        try:
            if error is not None:
                raise error
            limit = min(asked.max_bytes, COPY_BYTES_MAX)
            buffers = partition.log.finish_read(job.cold, job.data, asked.offset, limit)
        except PenstockError as failure:
            self._refuse(to, asked, partition, failure)
        else:
            self._bring(to, asked, partition, buffers)

    def _refuse(
        self, to: int, asked: Asked, partition: PartitionGroup, error: PenstockError
    ) -> None:
        log, outcome = partition.log, Outcome.DAMAGED
        if isinstance(error, OffsetOutOfRange):
            outcome = Outcome.TRIMMED if asked.offset < log.start_offset else Outcome.RECORDS
        place = (log.start_offset, log.end_offset)
        self._answer(to, Copied(asked.group, asked.number, outcome, *place))

    def _bring(
        self, to: int, asked: Asked, partition: PartitionGroup, buffers: list[Buffer]
    ) -> None:
        size, log = sum(map(len, buffers)), partition.log
        self._room -= size
        self.copied_bytes += size
        place = (log.start_offset, log.end_offset)
        copied = Copied(asked.group, asked.number, Outcome.RECORDS, *place)
        self._node.peers.post(to, Channel.BULK, pack_copied(copied, buffers))

    def _answer(self, to: int, copied: Copied) -> None:
        self._node.peers.post(to, Channel.BULK, pack_copied(copied, []))
