"""Reading one partition: one fetch in flight to its leader, answered batches kept until wanted.

The next fetch leaves as soon as an answer is in, before anything of it is decoded, as long as the
kept bytes stay within the reader's share. Invariants: batches are kept in the order of offsets
without a gap or an overlap; a seek drops all that was kept and all that is under way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock._core.metadata import SEARCH_ATTEMPTS, leader_hint
from penstock._core.positions import EARLIEST, LATEST
from penstock._core.scheduler import Bell, Operation, Process, Scheduler, Ticket
from penstock.errors import (
    CorruptData,
    LeaderUnknown,
    NotLeader,
    OffsetOutOfRange,
    PartitionNotFound,
    PenstockError,
    RemoteProtocolError,
    RetriableError,
    TimedOut,
    TopicNotFound,
)
from penstock.protocol.batch import iterate, next_offset
from penstock.protocol.frames import FETCH, FETCH_REPLY, REPLY_BYTES, Frame, fetch_request
from penstock.protocol.record_batch import RecordBatch, read_batches

if TYPE_CHECKING:
    from penstock._core.subscription import Subscription

FETCH_WAIT: Final = 5.0
"""Seconds that a broker holds a fetch at the end of the log before it answers with nothing."""
FETCH_BYTES: Final = 1024 * 1024
FETCH_BYTES_MIN: Final = 64 * 1024
MISDIRECTED: Final = (NotLeader, LeaderUnknown, TopicNotFound, PartitionNotFound)


class Fetched(NamedTuple):
    """The answer to a fetch."""

    high_watermark: int
    log_start_offset: int
    run: memoryview


class FetchCall:
    """A fetch in flight."""

    __slots__ = ("_scheduler", "deadline", "ticket")

    def __init__(self, scheduler: Scheduler, deadline: float) -> None:
        self._scheduler = scheduler
        self.deadline = deadline
        self.ticket: Ticket[Fetched] = Ticket()

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """Keep the batches: the buffer itself if it is ours, a copy otherwise."""
        if frame.type != FETCH or frame.end - frame.start < REPLY_BYTES:
            raise RemoteProtocolError("a fetch was answered by something else")
        high_watermark, log_start = FETCH_REPLY.unpack_from(buffer, frame.start)[6:]
        run = memoryview(buffer)[frame.start + REPLY_BYTES : frame.end]
        run = run if owned else memoryview(bytes(run))
        self._scheduler.complete(self.ticket, Fetched(high_watermark, log_start, run))

    def refused(self, error: PenstockError) -> None:
        """Pass the error on."""
        self._scheduler.fail(self.ticket, error)

    lost = refused

    def expired(self) -> None:
        """The broker forgot about it."""
        self.refused(TimedOut("a fetch was not answered in time"))


class Reader:
    """One partition of a subscription.

    Attributes:
        position: the offset that the application gets next.
        processed: the offset that may be committed.
        committed: the offset that is committed, None if that is not known.
        failed: why reading ended; the application is told when what was kept is used up.
    """

    __slots__ = (
        "_ask_leader",
        "_attempt",
        "_bell",
        "_fetch_offset",
        "_process",
        "_start",
        "_subscription",
        "batches",
        "committed",
        "failed",
        "high_watermark",
        "kept_bytes",
        "partition",
        "paused",
        "position",
        "processed",
        "queued",
        "revoked",
        "topic",
    )

    def __init__(self, subscription: Subscription, topic: str, partition: int) -> None:
        self._subscription = subscription
        self.topic = topic
        self.partition = partition
        self.batches: deque[RecordBatch] = deque()
        self.kept_bytes = 0
        self.position = -1
        self.processed = -1
        self.committed: int | None = None
        self.high_watermark = -1
        self.failed: PenstockError | None = None
        self.paused = False
        self.revoked = False
        self.queued = False
        """Whether it stands in the subscription's queue."""
        self._fetch_offset = -1
        self._start = EARLIEST
        self._ask_leader = False
        """Whether another replica could not answer."""
        self._attempt = 0
        self._bell = Bell(subscription.scheduler)
        self._process: Process[None] | None = None

    def __repr__(self) -> str:
        return f"Reader({self.topic}/{self.partition} at {self.position})"

    # ----- what the subscription asks

    @property
    def lag(self) -> int:
        """Records between the position and the end of the log, as far as is known."""
        if self.position < 0 or self.high_watermark < 0:
            return 0
        return max(0, self.high_watermark - self.position)

    def read_from(self, offset: int) -> None:
        """Begin at an offset, or begin anew there."""
        self._restart(EARLIEST, offset)

    def resolve_from(self, start: int) -> None:
        """Begin at -2 (earliest), -1 (latest), or the first record not older than a time."""
        self._restart(start, -1)

    def stop(self) -> None:
        """Fetch nothing more and drop what was kept."""
        if self._process is not None:
            self._process.cancel()
            self._process = None
        self.batches.clear()
        self.kept_bytes = 0

    def pop(self) -> RecordBatch:
        """Take the next batch; its room is free for the next fetch."""
        batch = self.batches.popleft()
        self.kept_bytes -= batch.header.length
        self._bell.ring()
        return batch

    def put_back(self, batch: RecordBatch) -> None:
        """Take back a batch that was not used up, if it is not here already."""
        if self.batches and self.batches[0] is batch:
            return
        self.batches.appendleft(batch)
        self.kept_bytes += batch.header.length

    # ----- the process

    def _restart(self, start: int, offset: int) -> None:
        self.stop()
        self.failed = None
        self._start = start
        self._attempt = 0
        self._set(offset)
        self._process = self._subscription.scheduler.spawn(self._run(), essential=True)

    def _set(self, offset: int) -> None:
        self._fetch_offset = self.position = self.processed = offset

    def _run(self) -> Operation[None]:
        while self.failed is None:
            try:
                if self._fetch_offset < 0:
                    yield from self._find_start(self._start)
                elif not self._has_room():
                    yield self._bell.wait()
                else:
                    yield from self._fetch()
                    self._attempt = 0
            except OffsetOutOfRange as error:
                if not self._turns_to_leader():
                    yield from self._out_of_range(error)
            except MISDIRECTED as error:
                yield from self._search(error)
            except RetriableError:
                yield from self._pause()
            except PenstockError as error:
                self._fail(error)

    @property
    def _fetch_bytes(self) -> int:
        return max(FETCH_BYTES_MIN, min(FETCH_BYTES, self._subscription.share // 2))

    def _has_room(self) -> bool:
        """Whether a whole fetch fits: many small ones would cost more than they bring."""
        return not self.batches or self.kept_bytes + self._fetch_bytes <= self._subscription.share

    def _fetch(self) -> Operation[None]:
        source = self._subscription.source
        wire = yield from source.wire(self.topic, self.partition, self._ask_leader)
        scheduler, offset = self._subscription.scheduler, self._fetch_offset
        deadline = scheduler.now + FETCH_WAIT + self._subscription.options.request_timeout
        call = FetchCall(scheduler, deadline)
        partition = self._subscription.metadata.partition(self.topic, self.partition)
        request = fetch_request(
            wire.expect(call),
            partition.group,
            offset,
            self._fetch_bytes,
            1,
            int(FETCH_WAIT * 1000),
            source.flags,
        )
        scheduler.watch(deadline)
        self._subscription.pool.send(wire, request)
        self._take((yield call.ticket))
        self._ask_leader = False

    def _take(self, fetched: Fetched) -> None:
        self.high_watermark = fetched.high_watermark
        if not fetched.run:
            if fetched.high_watermark > self._fetch_offset:
                raise LeaderUnknown("the broker answered with nothing though there is more")
            return
        offset = end = self._fetch_offset
        for at, header in iterate(fetched.run):
            end = next_offset(fetched.run[at : at + header.length], header)
        if end <= offset:
            raise CorruptData(f"the broker answered with records below offset {offset}")
        found = read_batches(
            fetched.run, topic=self.topic, partition=self.partition, from_offset=offset
        )
        for batch in found:
            self.batches.append(batch)
            self.kept_bytes += batch.header.length
        self._fetch_offset = end
        # Offsets behind the last records of which compaction left nothing: they are read with them.
        if self.batches:
            self.batches[-1].next_offset = end
        else:
            self._subscription.delivery.cover(self, end)
        self._subscription.arrived(self)

    # ----- when it does not go smoothly

    def _find_start(self, start: int) -> Operation[None]:
        positions = {self.partition: start}
        flags = self._subscription.source.flags
        reply = yield from self._subscription.admin.list_offsets_raw(self.topic, positions, flags)
        self._set(reply[self.partition])

    def _out_of_range(self, error: OffsetOutOfRange) -> Operation[None]:
        policy = self._subscription.on_out_of_range
        if policy == "error":
            self._fail(error)
            return
        lost = self._fetch_offset
        self._start = EARLIEST if policy == "earliest" else LATEST
        # What was kept is before the gap and still to be delivered.
        kept = self.position, self.processed
        self._fetch_offset = -1
        try:
            yield from self._find_start(self._start)
        except RetriableError:
            yield from self._pause()
            return
        if self.batches:
            self.position, self.processed = kept
        self._subscription.events.add(
            "offset_reset",
            topic=self.topic,
            partition=self.partition,
            offset=lost,
            reset_to=self._fetch_offset,
        )

    def _turns_to_leader(self) -> bool:
        """Whether it was a replica that is behind which could not answer: the leader may."""
        turns = self._subscription.source.nearest and not self._ask_leader
        self._ask_leader = turns
        return turns

    def _search(self, error: PenstockError) -> Operation[None]:
        self._ask_leader = True
        metadata = self._subscription.metadata
        hint = leader_hint(error)
        metadata.note_leader(self.topic, self.partition, hint)
        known = metadata.topic(self.topic) is not None
        refresh = metadata.refresh(self.topic)
        if hint and not self._attempt:
            self._attempt = 1
            return  # who names the leader saves the pause, once
        self._attempt = min(self._attempt, SEARCH_ATTEMPTS)
        yield from self._pause()
        told = isinstance(error, TopicNotFound) or (known and refresh.done and not refresh.error)
        if told and metadata.topic(self.topic) is None:
            self._fail(TopicNotFound(f"topic {self.topic} was deleted"))

    def _pause(self) -> Operation[None]:
        self._attempt += 1
        pool = self._subscription.pool
        yield self._subscription.scheduler.sleep(pool.backoff(self._attempt))

    def _fail(self, error: PenstockError) -> None:
        self.failed = error
        self._subscription.arrived(self)
