"""Reading a partition: answers from the RAM tail, long polls, cold reads handed to a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import CorruptData, LimitExceeded, NotLeader, PenstockError
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import (
    FETCH,
    FETCH_ANY_REPLICA,
    FETCH_BYTES_MAX,
    FETCH_FLAGS,
    FETCH_LINEARIZABLE,
    FETCH_REPLY,
    FLAG_RESPONSE,
    REPLY_BYTES,
)
from penstock_broker.node.session import OUTPUT_BYTES_MAX
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session
    from penstock_broker.storage import PartitionLog

WAIT_MS_MAX: Final = 60_000
POLLS_PER_SESSION_MAX: Final = 4_096


class Fetch(NamedTuple):
    """One fetch request."""

    session: Session
    correlation: int
    offset: int
    max_bytes: int
    min_bytes: int
    deadline: float
    flags: int


class ColdRead:
    """A job: reads one range of a segment in the reader thread."""

    __slots__ = ("cold", "data", "fetch", "partition", "session")

    def __init__(self, partition: PartitionGroup, fetch: Fetch, cold: Cold) -> None:
        self.partition = partition
        self.session = fetch.session
        self.fetch = fetch
        self.cold = cold
        self.data: Buffer = b""

    def run(self) -> None:
        """Read the bytes; called in a thread.

        Raises:
            CorruptData: the disk can't read them.
        """
        try:
            self.data = self.cold.file.pread(self.cold.length, self.cold.position)
        except OSError as error:
            raise CorruptData(f"the disk can't read a segment: {error}") from error


def admit(
    session: Session, correlation: int, wanted: tuple[int, int, int, int, int], now: float
) -> Fetch:
    """Make a fetch of what a request said, within the limits.

    Raises:
        LimitExceeded: the session has too many long polls open.
    """
    offset, max_bytes, min_bytes, wait_ms, flags = wanted
    if len(session.polls) >= POLLS_PER_SESSION_MAX:
        raise LimitExceeded(f"a connection may have {POLLS_PER_SESSION_MAX} open fetches")
    deadline = now + min(wait_ms, WAIT_MS_MAX) / 1000 if wait_ms else 0.0
    max_bytes = min(max_bytes, FETCH_BYTES_MAX)
    return Fetch(session, correlation, offset, max_bytes, min_bytes, deadline, flags)


def begin(partition: PartitionGroup, fetch: Fetch) -> None:
    """Serve a fetch if this broker may.

    That the log ends before an offset is told only after a round of heartbeats: others may have
    elected another leader meanwhile, and followers may have applied what this disk is late with.

    Raises:
        NotLeader: the leader is to be asked.
        Throttled: too many reads wait for their turn.
        OffsetOutOfRange, CorruptData: the offset can't be read.
    """
    if partition.leading:
        if fetch.flags & FETCH_LINEARIZABLE or fetch.offset > partition.log.end_offset:
            partition.read(lambda error: _confirmed(partition, fetch, error))
            return
    elif not may_follow(fetch) or fetch.offset > partition.log.end_offset:
        raise NotLeader(leader=partition.raft.leader)
    serve(partition, fetch)


def may_follow(fetch: Fetch) -> bool:
    """Whether a broker that does not lead the partition may answer."""
    return fetch.flags & FETCH_FLAGS == FETCH_ANY_REPLICA


def _confirmed(partition: PartitionGroup, fetch: Fetch, error: PenstockError | None) -> None:
    """What was decided before the fetch is applied here, or the lead was lost before."""
    if error is None:
        retry(partition, fetch)
    else:
        refuse(partition, fetch, error)


def serve(partition: PartitionGroup, fetch: Fetch) -> None:
    """Answer now, queue a long poll, or start a cold read.

    Raises:
        OffsetOutOfRange, CorruptData: the offset can't be read.
    """
    position = _awaited(partition.log, fetch)
    if position:
        partition.polls.add(fetch, position)
        return
    found = partition.log.read(fetch.offset, fetch.max_bytes)
    if isinstance(found, Cold):
        _read_cold(partition, fetch, found)
    else:
        reply(partition, fetch, found.buffers)


def _awaited(log: PartitionLog, fetch: Fetch) -> int:
    """To which position the log's tail must grow before there is an answer; 0: it is there."""
    tail = log.tail
    if fetch.session.unsent_bytes >= OUTPUT_BYTES_MAX:
        return tail.end + 1  # earlier replies have not been taken: looked at again at each tick
    if not fetch.deadline:
        return 0
    if fetch.offset == log.end_offset:
        return tail.end + max(fetch.min_bytes, 1)
    if not len(tail) or not tail.first_offset <= fetch.offset < log.end_offset:
        return 0
    wanted = tail.position_of(fetch.offset) + fetch.min_bytes
    return wanted if wanted > tail.end else 0


def retry(partition: PartitionGroup, fetch: Fetch) -> None:
    """Something was applied: a long poll may be answered."""
    try:
        serve(partition, fetch)
    except PenstockError as error:
        refuse(partition, fetch, error)


def answer_late(partition: PartitionGroup, fetch: Fetch) -> None:
    """A long poll's time is over: answer with what there is."""
    retry(partition, fetch._replace(deadline=0.0))


def _read_cold(partition: PartitionGroup, fetch: Fetch, cold: Cold) -> None:
    """Bytes in the page cache are read at once, others in a thread."""
    read = ColdRead(partition, fetch, cold)
    data = cold.file.try_pread(cold.length, cold.position)
    if data is None:
        partition.node.start_read(read)
    else:
        read.data = data
        finish(read)


def finish(read: ColdRead, error: PenstockError | None = None) -> None:
    """Answer a fetch from bytes that were read from a segment."""
    partition, fetch = read.partition, read.fetch
    try:
        if error is not None:
            raise error
        buffers = partition.log.finish_read(read.cold, read.data, fetch.offset, fetch.max_bytes)
    except PenstockError as failure:
        refuse(partition, fetch, failure)
    else:
        reply(partition, fetch, buffers)


def refuse(partition: PartitionGroup, fetch: Fetch, error: PenstockError) -> None:
    """Answer a fetch with an error."""
    partition.node.reply_error(fetch.session, fetch.correlation, FETCH, error)


def reply(partition: PartitionGroup, fetch: Fetch, buffers: list[Buffer]) -> None:
    """Send batches verbatim."""
    length = REPLY_BYTES + sum(map(len, buffers))
    head = FETCH_REPLY.pack(
        length,
        FETCH,
        FLAG_RESPONSE,
        0,
        fetch.correlation,
        partition.gid,
        partition.log.end_offset,
        partition.log.start_offset,
    )
    session = fetch.session
    if session.closing:
        return
    partition.node.emit(session, head)
    session.out += buffers
    session.unsent_bytes += length - REPLY_BYTES
    partition.node.output_bytes += length - REPLY_BYTES
