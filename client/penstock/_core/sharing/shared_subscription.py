"""A subscription of a shared group: records under leases, from all partitions in fair turns.

It attaches to every partition of its topics, and of their dead-letter topics, where records wait
that were brought back for this group. Invariants: at most `max_in_flight` records are with this
member, handed out or not; a record is handed out once for each lease; records whose lease is lost
are not handed out any more; leaving gives back what was not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from penstock._core.naming import member_id
from penstock._core.positions import Start, exact_offset, resolvable
from penstock._core.scheduler import Bell, Operation, Process, renewed
from penstock._core.sharing.credits import Credits
from penstock._core.sharing.handout import Handout
from penstock._core.sharing.share import Share
from penstock._core.sharing.shared_record import Portion, SharedBatch, SharedRecord
from penstock._core.sharing.verdicts import Grant
from penstock._core.wire import Wire
from penstock.errors import (
    BadRequest,
    ClientClosed,
    PenstockError,
    TimedOut,
)
from penstock.protocol.names import check_name
from penstock.protocol.sharing import CreateGroup, CreateGroupReply

if TYPE_CHECKING:
    from penstock._core.client import ClientCore

OnError = Literal["nack", "raise"]

TOPICS_MAX: Final = 100
IN_FLIGHT_MAX: Final = 100_000
METADATA_SECONDS: Final = 60.0
"""How often new partitions are looked for."""
GRACE_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 5.0
DETACH_SECONDS: Final = 2.0
DRAIN_LOOK: Final = 0.05
"""How often leaving looks whether handlers are done, in seconds."""


def _nothing() -> None:
    """For drivers whose core always knows the time."""


def _call(function: Callable[[], None]) -> None:
    function()


def dead_letter_topic(topic: str, group: str) -> str:
    """The name of the topic where dead letters of a group lie."""
    return f"dead.{topic}.{group}"


class SharedSubscription:
    """One member of a shared group.

    Attributes:
        arrival: rings when there may be something to take.
        settled: rings when verdicts were confirmed.
        handout: the records that are here and were not handed out.
        touch: tells the core the time; set by the driver.
        guard: runs a verdict's hand-over; a driver with threads sets one that locks.
    """

    def __init__(
        self,
        core: ClientCore,
        topics: Sequence[str],
        kind: type[SharedRecord],
        batch_kind: type[SharedBatch],
        *,
        group: str | None,
        start: Start = "earliest",
        max_in_flight: int = 100,
        create: bool | Mapping[str, object] = True,
        on_error: OnError = "nack",
        drain_timeout: float = 5.0,
    ) -> None:
        _check(topics, group, start, max_in_flight, on_error, drain_timeout)
        assert group is not None
        self.scheduler = core.scheduler
        self.options = core.options
        self.pool = core.pool
        self.metadata = core.metadata
        self.requests = core.requests
        self.events = core.events
        self.topics = tuple(dict.fromkeys(topics))
        self.group = group
        self.on_error = on_error
        self.max_in_flight = max_in_flight
        self.member = member_id(core.options.name, self.scheduler.rng)
        self._epoch = 0
        self.opened_at = 0.0
        self.handout = Handout(kind, batch_kind, core.events, self._check_alive)
        self.credits = Credits(max_in_flight, lambda: self.handout.queued)
        self.arrival = Bell(self.scheduler)
        self.settled = Bell(self.scheduler)
        self.shares: dict[tuple[str, int], Share] = {}
        self.closed = False
        self.touch: Callable[[], None] = _nothing
        self.guard: Callable[[Callable[[], None]], None] = _call
        self._core = core
        self._start = start
        self._create = create
        self._drain_timeout = drain_timeout
        self._closing = False
        self._failed: PenstockError | None = None
        self._flush_error: PenstockError | None = None
        self._watch: Process[None] | None = None

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<{', '.join(self.topics)} as {self.group}, shared{state}>"

    # ----- life

    def open(self) -> Operation[None]:
        """Make the group if it is to be made, and attach to its partitions.

        Raises:
            TopicNotFound, GroupNotFound: there is nothing of that name.
            PenstockError: the broker refused, or could not be reached in time.
        """
        self._core.check_open()
        self.opened_at = self.scheduler.now
        for topic in self.topics:
            yield from self.metadata.ensure(topic)
            if self._create is not False:
                yield from self._make_group(topic)
        yield self.metadata.refresh(*self._all_topics())
        self._core.subscriptions.append(self)
        self._core.renewals.add(self)
        self.pool.on_change.append(self._wire_changed)
        try:
            self._add_shares()
            yield from self._attached()
        except BaseException:
            self.shut()
            raise
        self._watch = self.scheduler.spawn(self._watch_partitions(), essential=True)

    def close(self, in_error: bool = False) -> Operation[None]:
        """Give back what was not begun, wait for what is in handlers, send all verdicts, leave.

        Args:
            in_error: the application failed: do not wait for handlers.
        """
        if self.closed or self._closing:
            return
        self._closing = True
        self.credits.total = 0
        self.handout.give_back()
        self.arrival.ring()
        try:
            yield from self._drain(0.0 if in_error else self._drain_timeout)
            yield from self._flushed(self.scheduler.now + FLUSH_SECONDS)
            yield from self._detach()
        finally:
            self.shut()

    def shut(self) -> None:
        """Stop at once."""
        self.closed = self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        for share in self.shares.values():
            share.stop()
        self.handout.clear()
        if self in self._core.subscriptions:
            self._core.subscriptions.remove(self)
            self._core.renewals.remove(self)
            self.pool.on_change.remove(self._wire_changed)
        self.arrival.ring()
        self.settled.ring()

    @property
    def ended(self) -> bool:
        """Whether it was closed in order, so that iterating ends."""
        return self._closing and self.scheduler.crashed is None

    # ----- taking

    def take(self) -> bool:
        """Have `handout.records` go on with more of them; False: nothing is there now.

        Raises:
            ClientClosed: the subscription is closed.
            PenstockError: the subscription failed.
        """
        self._came_back()
        return self.handout.load()

    def take_batch(self) -> SharedBatch | None:
        """The next records of one batch; None: nothing is there now."""
        self._came_back()
        return self.handout.take_batch()

    def fetch(self, max_records: int, wait: float, found: list[SharedRecord]) -> Operation[None]:
        """Put up to so many records into a list, as soon as there are any.

        Whoever is cancelled meanwhile gives the list to `fetch_cancelled`: the records may be in
        it already.
        """
        if max_records < 1 or wait < 0:
            raise BadRequest("max_records is at least 1 and wait not below 0")
        until = self.scheduler.now + wait
        while True:
            self._came_back()
            self.handout.gather(max_records, found)
            if found or self.scheduler.now >= until:
                return
            yield self.arrival.wait(until)

    def fetch_cancelled(self, found: list[SharedRecord]) -> None:
        """A fetch was given up: what it had found, if anything, is handed out again."""
        if self.closed or not found:
            return
        self.handout.put_first(found)
        self.arrival.ring()
        if self._closing:
            self.handout.give_back()

    # ----- verdicts

    def flush(self) -> Operation[None]:
        """Wait until all verdicts so far are confirmed.

        Raises:
            LeaseLost: in a strict group a verdict came too late.
            PenstockError: the broker refused verdicts; the first such failure since the last flush.
        """
        yield from self._flushed(None)
        error, self._flush_error = self._flush_error, None
        if error is not None:
            raise renewed(error)

    def ack_many(self, records: Sequence[SharedRecord | SharedBatch]) -> None:
        """Ack records or batches."""
        for record in records:
            record.ack()

    # ----- for partitions

    def counted(self, count: int) -> None:
        """So many records left this member's hands."""
        self.credits.held -= count

    def arrived(self, portions: Sequence[Portion]) -> None:
        """Records came."""
        self.handout.arrived(portions)
        if self._closing:
            self.handout.give_back()
        self.arrival.ring()

    def lost(self, share: Share, grant: Grant) -> None:
        """A lease is over: nothing more of it is handed out."""
        dropped = self.handout.drop(grant)
        grant.ledger.drop(dropped)
        self.events.add(
            "lease_lost",
            topic=share.topic,
            partition=share.partition,
            dropped=dropped,
            left=grant.left - dropped,
        )
        self.credits.offer()

    def share_failed(self, share: Share, error: PenstockError) -> None:
        """A partition can't be read any more."""
        share.stop()
        self.shares.pop((share.topic, share.partition), None)
        self.credits.shares = len(self.shares)
        if share.topic in self.topics:
            self._failed = error
            self.arrival.ring()

    def next_epoch(self) -> int:
        """Of an attach: later than all before, and than those of a process that was before.

        So who has a member's id from another process takes turns with it, and is not refused.
        """
        self._epoch = max(self._epoch + 1, self.scheduler.wall_us)
        return self._epoch

    def note_failure(self, error: PenstockError) -> None:
        """Verdicts failed: the next flush raises it."""
        if self._flush_error is None:
            self._flush_error = error

    @property
    def group_grace(self) -> float:
        """Seconds after the opening within which brokers may not know the group yet.

        Who made the group goes on asking; who was not to make it is told soon that there is none.
        """
        return self.options.request_timeout if self._create is not False else GRACE_SECONDS

    # ----- inside: opening

    def _all_topics(self) -> list[str]:
        dead = [dead_letter_topic(topic, self.group) for topic in self.topics]
        return [*self.topics, *dead]

    def _make_group(self, topic: str) -> Operation[None]:
        settings = self._create if isinstance(self._create, Mapping) else {}
        request = CreateGroup(
            topic=topic,
            group=self.group,
            settings=dict(settings),
            start=resolvable(self._start, self.scheduler.wall_us),
            if_not_exists=True,
        )
        yield from self.requests.call(request, CreateGroupReply)

    def _add_shares(self) -> None:
        """Read partitions that are not read yet."""
        for topic in self._all_topics():
            for number in self.metadata.partitions(topic):
                if (topic, number) not in self.shares:
                    share = self.shares[(topic, number)] = Share(self, topic, number)
                    self.credits.shares = len(self.shares)
                    share.start()

    def _attached(self) -> Operation[None]:
        """Wait until one partition of each topic is attached, at most one request's time."""
        limit = self.scheduler.now + self.options.request_timeout
        waiting = set(self.topics)
        while waiting:
            if self._failed is not None:
                raise renewed(self._failed)
            for share in self.shares.values():
                if share.attached:
                    waiting.discard(share.topic)
            if waiting:
                if self.scheduler.now >= limit:
                    raise TimedOut(f"could not attach to {', '.join(sorted(waiting))} in time")
                yield self.arrival.wait(limit)

    def _watch_partitions(self) -> Operation[None]:
        """Find partitions and dead-letter topics that are added while the subscription runs."""
        looked_at = self.scheduler.now
        while True:
            yield self.metadata.bell.wait(self.scheduler.now + METADATA_SECONDS)
            if not self._closing:
                self._add_shares()
            if self.scheduler.now >= looked_at + METADATA_SECONDS:
                looked_at = self.scheduler.now
                self.metadata.refresh(*self._all_topics())

    def _wire_changed(self, _: Wire) -> None:
        for share in self.shares.values():
            share.nudge()

    # ----- inside: taking

    def _came_back(self) -> None:
        """The application wants more: notice verdicts, and leases that were found to be lost."""
        if self.closed:
            raise ClientClosed("the subscription is closed")
        self._core.renewals.tell(self)
        for share in self.shares.values():
            share.ledger.count()
        self.credits.offer()

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise renewed(self._failed)

    # ----- inside: leaving

    def _drain(self, seconds: float) -> Operation[None]:
        """Wait for handlers."""
        until = self.scheduler.now + seconds
        while True:
            for share in self.shares.values():
                share.ledger.count()
            if self.credits.held <= 0 or self.scheduler.now >= until:
                return
            yield self.settled.wait(min(until, self.scheduler.now + DRAIN_LOOK))

    def _flushed(self, until: float | None) -> Operation[None]:
        marks = [(share, share.ledger.mark()) for share in self.shares.values()]
        while True:
            marks = [each for each in marks if not each[0].ledger.is_confirmed(each[1])]
            if not marks or self.closed:
                return
            if until is None:
                yield self.settled.wait()
            elif self.scheduler.now >= until:
                return
            else:
                yield self.settled.wait(until)

    def _detach(self) -> Operation[None]:
        """Tell every leader, and give them a moment to answer."""
        leaving = [share for share in self.shares.values() if share.attached]
        until = self.scheduler.now + DETACH_SECONDS
        bell, left = Bell(self.scheduler), list[Share]()

        def leave(share: Share) -> Operation[None]:
            try:
                yield from share.detach()
            finally:
                left.append(share)
                bell.ring()

        for share in leaving:
            self.scheduler.spawn(leave(share))
        while len(left) < len(leaving) and self.scheduler.now < until:
            yield bell.wait(until)


def check_whole(partitions: Sequence[int] | None, commit: str) -> None:
    """Refuse what only an ordered or a lone reader can have.

    Raises:
        BadRequest: partitions are chosen, or offsets are to be committed.
    """
    if partitions is not None or commit != "auto":
        raise BadRequest("a shared group reads all partitions and commits no offsets")


def _check(
    topics: Sequence[str],
    group: str | None,
    start: Start,
    max_in_flight: int,
    on_error: str,
    drain_timeout: float,
) -> None:
    if not 0 < len(topics) <= TOPICS_MAX:
        raise BadRequest(f"subscribe to 1 to {TOPICS_MAX} topics")
    for topic in topics:
        check_name(topic, "topic")
    if group is None:
        raise BadRequest("a shared subscription needs a group")
    check_name(group, "group")
    if exact_offset(start) is not None:
        raise BadRequest("a shared group starts at earliest, latest, a datetime or '-1h'")
    resolvable(start, 0)
    if not 1 <= max_in_flight <= IN_FLIGHT_MAX:
        raise BadRequest(f"max_in_flight lies between 1 and {IN_FLIGHT_MAX}")
    if on_error not in ("nack", "raise"):
        raise BadRequest(f"on_error is nack or raise, not {on_error!r}")
    if drain_timeout < 0:
        raise BadRequest("drain_timeout is not below 0")
