"""Serving records to replicas elsewhere that copy what they lack.

Any replica may be asked: what is in a partition's log is committed. An answer is many frames of at
most `PIECE_BYTES`; those who ask take turns, one piece each. Invariants: what waits to be sent to
one node is bounded, and so is what one round reads; all the rest is up to the `Pace`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from penstock.errors import CorruptBatch, OffsetOutOfRange, PenstockError
from penstock.protocol.batch import Buffer, length_at, next_offset, parse_header
from penstock_broker.node.catchup.pace import Pace
from penstock_broker.node.catchup.wire import Asked, Copied, Outcome, pack_copied, unpack_asked
from penstock_broker.node.peers.frames import Channel
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup

ASKED_MAX: Final = 4096
PIECE_BYTES: Final = 256 * 1024
ROUND_BYTES: Final = 256 * 1024
"""Served in one round: clients wait no longer for their turn than that takes."""
UNSENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""For one node; more is read when it has taken some."""


class Stream:
    """One request on its way to being answered."""

    __slots__ = ("asked", "left", "offset", "to")

    def __init__(self, to: int, asked: Asked) -> None:
        self.to = to
        self.asked = asked
        self.offset = asked.offset
        self.left = asked.max_bytes

    def passed(self, size: int, following: int) -> bool:
        """A piece was served, the next one begins there; whether it was the last one."""
        self.left -= size
        self.offset = following
        return self.left <= 0 or following >= self.asked.until


class Source:
    """Answers requests for records.

    Attributes:
        copied_bytes: how much was served since the start.
        pace: how fast.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._streams: deque[Stream] = deque()
        self.pace = Pace(node.waits, node.waits.commits, node.waits.flushes)
        self.copied_bytes = 0

    def received(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """A request arrived.

        Raises:
            RemoteProtocolError: it is damaged.
        """
        asked = unpack_asked(buffer, start, end)
        if len(self._streams) < ASKED_MAX:  # else it is asked again
            self._streams.append(Stream(sender, asked))
        self._progresses(sender, asked.group)

    def _progresses(self, node_id: int, gid: int) -> None:
        group = self._node.groups.get(gid)
        if group is not None and group.leading:
            group.raft.snapshot_progresses(node_id)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for records."""
        return bool(self._streams)

    @property
    def eager(self) -> bool:
        """Whether there is more to serve at once: the next round need not wait for an event."""
        return self.pace.room > 0 and any(self._takes(stream.to) for stream in self._streams)

    def _takes(self, node_id: int) -> bool:
        peer = self._node.peers.all().get(node_id)
        return peer is not None and peer.lines[Channel.BULK].unsent_bytes < UNSENT_BYTES_MAX

    def work(self) -> None:
        """Once a round: serve a little to those who can take it."""
        streams = self._streams
        if not streams:
            return
        self.pace.refill(self._node.clock)
        done = 0
        for _ in range(len(streams)):
            if self.pace.room <= 0 or done >= ROUND_BYTES:
                return
            stream = streams.popleft()
            if stream.to not in self._node.peers.all():
                continue
            if self._takes(stream.to):
                done += self._serve(stream)
            else:
                streams.append(stream)

    def _serve(self, stream: Stream) -> int:
        """Read the next piece; how many bytes that are."""
        partition = self._node.partitions.get(stream.asked.group)
        if partition is None:
            self._answer(stream, Outcome.ABSENT, 0, 0)
            return 0
        size = min(stream.left, PIECE_BYTES)
        try:
            found = partition.log.read(stream.offset, size)
        except PenstockError as error:
            self._refuse(stream, partition, error)
            return 0
        if not isinstance(found, Cold):
            return self._bring(stream, partition, found.buffers)

        def read(job: SharedRead, error: PenstockError | None) -> None:
            self._finish(stream, partition, job, error)

        job = SharedRead(None, found, read)
        data = found.file.try_pread(found.length, found.position)
        if data is None:
            self._node.start_read(job)
            return 0
        job.data = data
        return self._finish(stream, partition, job, None)

    def _finish(
        self,
        stream: Stream,
        partition: PartitionGroup,
        job: SharedRead,
        error: PenstockError | None,
    ) -> int:
        try:
            if error is not None:
                raise error
            limit = min(stream.left, PIECE_BYTES)
            buffers = partition.log.finish_read(job.cold, job.data, stream.offset, limit)
            return self._bring(stream, partition, buffers)
        except PenstockError as failure:
            self._refuse(stream, partition, failure)
            return 0

    def _refuse(self, stream: Stream, partition: PartitionGroup, error: PenstockError) -> None:
        log, outcome = partition.log, Outcome.DAMAGED
        if isinstance(error, OffsetOutOfRange):
            outcome = Outcome.TRIMMED if stream.offset < log.start_offset else Outcome.RECORDS
            if stream.asked.until < log.start_offset:
                self._node.catchup.outdated(partition, stream.to)
        self._answer(stream, outcome, log.start_offset, log.end_offset)

    def _bring(self, stream: Stream, partition: PartitionGroup, buffers: list[Buffer]) -> int:
        size, log = sum(map(len, buffers)), partition.log
        self.pace.spent(size)
        self.copied_bytes += size
        last = not buffers or stream.passed(size, _following(buffers[-1]))
        outcome = Outcome.RECORDS if last else Outcome.MORE
        copied = Copied(
            stream.asked.group, stream.asked.number, outcome, log.start_offset, log.end_offset
        )
        sent = self._node.peers.post(stream.to, Channel.BULK, pack_copied(copied, buffers))
        if sent and not last:
            self._streams.append(stream)
        self._progresses(stream.to, stream.asked.group)
        return size

    def _answer(self, stream: Stream, outcome: Outcome, start: int, end: int) -> None:
        copied = Copied(stream.asked.group, stream.asked.number, outcome, start, end)
        self._node.peers.post(stream.to, Channel.BULK, pack_copied(copied, []))


def _following(batches: Buffer) -> int:
    """The offset after the last of some whole batches."""
    at, last, size = 0, 0, len(batches)
    while at < size:
        last = at
        at += length_at(batches, at)
    if at != size:
        raise CorruptBatch("the last batch of a piece is cut off")
    view = memoryview(batches)[last:]
    return next_offset(view, parse_header(view))
