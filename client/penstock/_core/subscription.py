"""A subscription: partitions read in parallel, handed out batch by batch in fair turns.

Without a group it reads the partitions that it was told, from where it was told. With a group its
`Membership` adds and takes partitions. Invariants: records of a partition are handed out in the
order of their offsets; kept bytes are at most `max_bytes` and one fetch per partition; nothing
of a partition is handed out after it was revoked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from penstock._core.delivery import Delivery, Rest
from penstock._core.membership import Membership
from penstock._core.positions import EARLIEST, Start, exact_offset, resolvable
from penstock._core.reader import Reader
from penstock._core.reads import Read, Source
from penstock._core.scheduler import Bell, Operation, Process, renewed
from penstock.errors import BadRequest, ClientClosed, PartitionNotFound, PenstockError
from penstock.protocol.names import check_name
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch

if TYPE_CHECKING:
    from penstock._core.client import ClientCore

Commit = Literal["auto", "manual"]
OutOfRange = Literal["earliest", "latest", "error"]
Offsets = dict[str, dict[int, int]]

TOPICS_MAX: Final = 100
METADATA_SECONDS: Final = 60.0
"""How often new partitions are looked for, without a group."""
MAX_BYTES_MIN: Final = 64 * 1024
MAX_BYTES_MAX: Final = 1024 * 1024 * 1024


class Subscription:
    """The consuming half of a client, for some topics.

    Attributes:
        arrival: rings when there may be something to take.
        share: bytes that each partition may keep.
    """

    def __init__(
        self,
        core: ClientCore,
        topics: Sequence[str],
        *,
        group: str | None = None,
        mode: str = "ordered",
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        commit: Commit = "auto",
        max_bytes: int = 16 * 1024 * 1024,
        on_out_of_range: OutOfRange = "earliest",
        read: Read = "leader",
        commit_interval: float = 5.0,
        session_timeout: float = 10.0,
    ) -> None:
        _check(topics, group, mode, partitions, commit, max_bytes, on_out_of_range)
        self.scheduler = core.scheduler
        self.options = core.options
        self.pool = core.pool
        self.metadata = core.metadata
        self.source = Source(read, core.metadata, core.pool)
        self.admin = core.admin
        self.events = core.events
        self.topics = tuple(dict.fromkeys(topics))
        self.group = group
        self.auto_commit = group is not None and commit == "auto"
        self.commit_interval = commit_interval
        self.on_out_of_range = on_out_of_range
        self.arrival = Bell(self.scheduler)
        self.delivery = Delivery()
        self.readers: dict[tuple[str, int], Reader] = {}
        self.share = max_bytes
        self.closed = False
        self._opened = False
        self._core = core
        self._max_bytes = max_bytes
        self._partitions = None if partitions is None else tuple(dict.fromkeys(partitions))
        self.start = start
        self._start_offset = exact_offset(start)
        if self._start_offset is None:
            resolvable(start, 0)
        self._queue: deque[Reader] = deque()
        self._watch: Process[None] | None = None
        self._failed: PenstockError | None = None
        self._gathered: list[Rest] = []
        """What the last fetch took its records from, until the application comes back."""
        self._looked_at = self.scheduler.now
        self._membership: Membership | None = None
        if group is not None:
            self._membership = Membership(self, core.requests, group, session_timeout)

    def __repr__(self) -> str:
        group = f" as {self.group}" if self.group else ""
        return f"<{', '.join(self.topics)}{group}{' closed' if self.closed else ''}>"

    # ----- life

    def open(self) -> Operation[None]:
        """Find the topics and begin to read, or join the group.

        Raises:
            TopicNotFound, PartitionNotFound: there is nothing of that name or number.
            ClientClosed: it was entered already, or the client is not open.
            PenstockError: the broker refused, or could not be reached in time.
        """
        self._core.check_open()
        if self._opened or self.closed:
            raise ClientClosed("a subscription can be entered once; make another with subscribe()")
        for topic in self.topics:
            yield from self.metadata.ensure(topic)
            for number in self._partitions or ():
                self.metadata.partition(topic, number)
        self._opened = True
        self._core.subscriptions.append(self)
        if self._membership is not None:
            yield from self._membership.join()
            return
        for topic in self.topics:
            numbers = self._partitions or tuple(self.metadata.partitions(topic))
            for number in numbers:
                self.begin(topic, number, None)
        if self._partitions is None:
            self._watch = self.scheduler.spawn(self._watch_partitions(), essential=True)

    def close(self, in_error: bool = False) -> Operation[None]:
        """Commit what was processed, leave the group, stop reading.

        Args:
            in_error: the application failed: the record in its hands is not processed.
        """
        if self.closed:
            return
        if in_error:
            self.delivery.noticed()
        else:
            self.delivery.finished()
        try:
            if self._membership is not None:
                yield from self._membership.leave()
        finally:
            self.shut()

    def shut(self) -> None:
        """Stop at once."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._membership is not None:
            self._membership.stop()
        for reader in self.readers.values():
            reader.stop()
        if self in self._core.subscriptions:
            self._core.subscriptions.remove(self)
        self.arrival.ring()

    @property
    def ended(self) -> bool:
        """Whether it was closed in order, so that iterating ends."""
        return self.closed and self.scheduler.crashed is None

    # ----- taking

    def take(self) -> bool:
        """Have `delivery.records` go on with the next batch; False: nothing is there now.

        Raises:
            ClientClosed: the subscription is closed.
            PenstockError: reading or the membership failed.
        """
        self._came_back()
        return self._load()

    def take_batch(self) -> RecordBatch | None:
        """The next batch, or what iterating left of one; None: nothing is there now."""
        self._came_back()
        found = self.delivery.take_rest()
        if found is None:
            reader = self._next_reader()
            if reader is None:
                return None
            found = reader, self._pop(reader)
        reader, batch = found
        self.delivery.hand(reader, batch.next_offset)
        return batch

    def fetch(self, max_records: int, wait: float) -> Operation[list[Record]]:
        """Up to so many records, as soon as there are any; empty when the wait is over."""
        if max_records < 1 or wait < 0:
            raise BadRequest("max_records is at least 1 and wait not below 0")
        self._came_back()
        until = self.scheduler.now + wait
        while True:
            found = self._gather(max_records)
            if found or self.scheduler.now >= until:
                return found
            yield self.arrival.wait(until)

    def fetch_cancelled(self) -> None:
        """A fetch was given up: what it had found, if anything, is put back, to be found at once.

        The cancellation may come when the records are already on their way to the application.
        Nothing is asked for again: who cancels after a few milliseconds would get nowhere.
        """
        gathered, self._gathered = self._gathered, []
        if self.closed:
            return
        for rest in reversed(gathered):
            reader = rest.reader
            end = self.delivery.take_back(reader, rest.offset)
            if self.readers.get((reader.topic, reader.partition)) is reader and not reader.revoked:
                rest.batch.skip_below(rest.offset)
                rest.batch.next_offset = max(rest.batch.next_offset, end)
                reader.put_back(rest.batch)
                self.arrived(reader)

    # ----- positions

    def position(self) -> Offsets:
        """Topic -> partition -> the offset that is handed out next; -1: not known yet."""
        self.delivery.noticed()
        return self._by_topic({key: each.position for key, each in self.readers.items()})

    def assignment(self) -> dict[str, list[int]]:
        """Topic -> the partitions that are read now."""
        found: dict[str, list[int]] = {}
        for topic, number in sorted(self.readers):
            found.setdefault(topic, []).append(number)
        return found

    def lag(self) -> Offsets:
        """Topic -> partition -> records still ahead, as of the last fetch."""
        self.delivery.noticed()
        return self._by_topic({key: each.lag for key, each in self.readers.items()})

    def seek(
        self, to: Start, topic: str | None = None, partition: int | None = None
    ) -> Operation[None]:
        """Go on from elsewhere, in all partitions that are read or in those named."""
        offset = exact_offset(to)
        start = EARLIEST if offset is not None else resolvable(to, self.scheduler.wall_us)
        for reader in self._chosen(topic, partition):
            found = offset
            if found is None:
                reply = yield from self.admin.list_offsets_raw(
                    reader.topic, {reader.partition: start}
                )
                found = reply[reader.partition]
            if self.readers.get((reader.topic, reader.partition)) is reader:
                self.reposition(reader, found)

    def pause(self, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of some partitions for now."""
        for reader in self._chosen(topic, partition):
            reader.paused = True
            rest = self.delivery.take_rest_of(reader)
            if rest is not None:
                reader.put_back(rest)

    def resume(self, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out records of paused partitions again."""
        for reader in self._chosen(topic, partition):
            reader.paused = False
            self.arrived(reader)

    def commit(self, offsets: Mapping[str, Mapping[int, int]] | None = None) -> Operation[None]:
        """Commit what was handed out so far, or exactly the given offsets (the next to read).

        Raises:
            Fenced, MemberUnknown: the partition or the membership was lost; nothing is stored.
            BadRequest: the subscription has no group.
        """
        if self._membership is None:
            raise BadRequest("only a subscription with a group commits offsets")
        if offsets is not None:
            exact = {topic: dict(numbers) for topic, numbers in offsets.items()}
            yield from self._membership.commit_exactly(exact)
            return
        self.delivery.finished()
        yield from self._membership.commit()

    # ----- for readers and the membership

    def begin(self, topic: str, partition: int, offset: int | None) -> None:
        """Read one more partition, from an offset or from where the subscription starts."""
        reader = self.readers[(topic, partition)] = Reader(self, topic, partition)
        self._share_out()
        reader.committed = offset
        if offset is None:
            offset = self._start_offset
        if offset is None:
            reader.resolve_from(resolvable(self.start, self.scheduler.wall_us))
        else:
            reader.read_from(offset)

    def reposition(self, reader: Reader, offset: int) -> None:
        """Go on elsewhere in a partition."""
        self._gathered = [rest for rest in self._gathered if rest.reader is not reader]
        self.delivery.forget(reader)
        reader.read_from(offset)

    def revoke(self, reader: Reader) -> None:
        """Hand out nothing more of a partition."""
        reader.revoked = True
        self.delivery.interrupt(reader)
        reader.stop()

    def drop(self, reader: Reader) -> None:
        """Give up a partition."""
        self.delivery.interrupt(reader)
        reader.stop()
        self.readers.pop((reader.topic, reader.partition), None)
        self._share_out()

    def arrived(self, reader: Reader) -> None:
        """A reader has something to hand out, or failed."""
        if not reader.queued and (reader.batches or reader.failed is not None):
            reader.queued = True
            self._queue.append(reader)
        self.arrival.ring()

    def fail(self, error: PenstockError) -> None:
        """The subscription can't go on; the application is told when it comes for more."""
        self._failed = error
        self.arrival.ring()

    # ----- inside

    def _came_back(self) -> None:
        self._gathered = []
        self.delivery.finished()
        if self._membership is not None:
            self._membership.progressed()

    def _load(self) -> bool:
        reader = self._next_reader()
        if reader is None:
            return False
        batch = self._pop(reader)
        try:
            self.delivery.start(reader, batch)
        except PenstockError as error:
            # Nothing behind damaged records may be handed out as if they had never been.
            reader.stop()
            reader.failed = error
            self.arrived(reader)
            raise
        return True

    def _next_reader(self) -> Reader | None:
        if self.closed:
            raise ClientClosed("the subscription is closed")
        if not self._opened:
            raise ClientClosed("the subscription is not open: use `with client.subscribe(...)`")
        if self._failed is not None:
            raise renewed(self._failed)
        for _ in range(len(self._queue)):
            reader = self._queue.popleft()
            reader.queued = False
            if reader.paused or self.readers.get((reader.topic, reader.partition)) is not reader:
                continue
            if reader.batches:
                return reader
            if reader.failed is not None:
                self.arrived(reader)
                raise renewed(reader.failed)
        return None

    def _pop(self, reader: Reader) -> RecordBatch:
        batch = reader.pop()
        if reader.batches or reader.failed is not None:
            reader.queued = True
            self._queue.append(reader)
        return batch

    def _gather(self, count: int) -> list[Record]:
        found = self._take_of_run(count)
        try:
            while len(found) < count and self._load():
                found += self._take_of_run(count - len(found))
        except PenstockError:
            # What is there comes first; the failure is still there the next time.
            if not found:
                raise
        if found:
            self.delivery.took_list()
        return found

    def _take_of_run(self, count: int) -> list[Record]:
        rest = self.delivery.rest()
        if rest is not None:
            self._gathered.append(rest)
        return list(islice(self.delivery.records, count))

    def _chosen(self, topic: str | None, partition: int | None) -> list[Reader]:
        found = [
            reader
            for (name, number), reader in self.readers.items()
            if topic in (None, name) and partition in (None, number)
        ]
        if not found and partition is not None:
            raise PartitionNotFound(f"partition {partition} is not read here")
        return found

    def _share_out(self) -> None:
        self.share = self._max_bytes // max(1, len(self.readers))

    def _watch_partitions(self) -> Operation[None]:
        """Find partitions that are added while the subscription runs: read all of them."""
        while True:
            yield self.metadata.bell.wait(self.scheduler.now + METADATA_SECONDS)
            for topic in self.topics:
                if self.metadata.topic(topic) is None:
                    continue
                for number in self.metadata.partitions(topic):
                    if (topic, number) not in self.readers:
                        self.begin(topic, number, 0)
            if self.scheduler.now >= self._looked_at + METADATA_SECONDS:
                self._looked_at = self.scheduler.now
                self.metadata.refresh(*self.topics)

    @staticmethod
    def _by_topic(flat: dict[tuple[str, int], int]) -> Offsets:
        found: Offsets = {}
        for (topic, number), value in sorted(flat.items()):
            found.setdefault(topic, {})[number] = value
        return found


def _check(
    topics: Sequence[str],
    group: str | None,
    mode: str,
    partitions: Sequence[int] | None,
    commit: str,
    max_bytes: int,
    on_out_of_range: str,
) -> None:
    if not 0 < len(topics) <= TOPICS_MAX:
        raise BadRequest(f"subscribe to 1 to {TOPICS_MAX} topics")
    for topic in topics:
        check_name(topic, "topic")
    if mode != "ordered":
        raise BadRequest(f"the mode of a subscription is ordered or shared, not {mode!r}")
    if group is not None:
        check_name(group, "group")
        if partitions is not None:
            raise BadRequest("a group assigns the partitions itself: give group or partitions")
    if partitions is not None and not partitions:
        raise BadRequest("partitions is None for all, or names some")
    if commit not in ("auto", "manual"):
        raise BadRequest(f"commit is auto or manual, not {commit!r}")
    if on_out_of_range not in ("earliest", "latest", "error"):
        raise BadRequest(f"on_out_of_range is earliest, latest or error, not {on_out_of_range!r}")
    if not MAX_BYTES_MIN <= max_bytes <= MAX_BYTES_MAX:
        raise BadRequest(f"max_bytes lies between {MAX_BYTES_MIN} and {MAX_BYTES_MAX}")
