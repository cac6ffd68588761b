"""A member's part in one partition of a shared group: attach, acquire, settle, one of each at once.

Two processes: one attaches and acquires, the other sends verdicts. Whatever breaks, they attach
again, naming the leases that are held, and send again what was not confirmed: the broker takes a
verdict twice without harm. Invariants: records come from acquires only and leave by verdicts only;
a lease is in `grants` until every record of it has a confirmed verdict, or the lease is lost.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from penstock._core.metadata import SEARCH_ATTEMPTS, leader_hint
from penstock._core.scheduler import Bell, Operation, Process
from penstock._core.sharing.calls import AcquireCall, SettleCall
from penstock._core.sharing.kept import Extent, Kept, read_extents
from penstock._core.sharing.portions import Cut
from penstock._core.sharing.verdicts import Grant, Ledger
from penstock._core.times import Delay, extension_ms, ready_at_us
from penstock._core.wire import Wire
from penstock.errors import (
    GroupNotFound,
    LeaderUnknown,
    LeaseLost,
    MemberUnknown,
    NotLeader,
    PartitionNotFound,
    PenstockError,
    RemoteProtocolError,
    RetriableError,
    TopicNotFound,
)
from penstock.protocol.leases import Acquire, Acquired, Settled, acquire_request, settle_request
from penstock.protocol.sharing import (
    AttachGroup,
    AttachGroupReply,
    DetachGroup,
    RenewLeases,
    RenewLeasesReply,
)

if TYPE_CHECKING:
    from penstock._core.sharing.shared_subscription import SharedSubscription

ACQUIRE_BYTES: Final = 1024 * 1024
LEASES_MAX: Final = 25_000
"""Leases named in one message."""
MISDIRECTED: Final = (NotLeader, LeaderUnknown, TopicNotFound, PartitionNotFound)


class Share:
    """One partition of a shared subscription.

    Attributes:
        bell: rings when the acquiring process should look again.
        grants: the leases that are held, by id; read by the renewing thread too.
        dead: whether it is a partition of a dead-letter topic.
        hot: whether the last acquire brought much.
        attached: whether the member may acquire and settle over `wire`.
    """

    __slots__ = (
        "_attempt",
        "_glance_at",
        "_group_id",
        "_handle",
        "_kept",
        "_processes",
        "_subscription",
        "_wire",
        "bell",
        "dead",
        "failed",
        "grants",
        "hot",
        "lease_ms",
        "ledger",
        "partition",
        "strict",
        "topic",
        "verdicts",
        "was_attached",
    )

    def __init__(self, subscription: SharedSubscription, topic: str, partition: int) -> None:
        self._subscription = subscription
        self.topic = topic
        self.partition = partition
        self.dead = topic not in subscription.topics
        self.bell = Bell(subscription.scheduler)
        self.verdicts = Bell(subscription.scheduler)
        """Rings when there are verdicts to send, or a way to send them."""
        self.ledger = Ledger(self.verdicts.ring, subscription.counted)
        self.grants: dict[int, Grant] = {}
        self.hot = False
        self.lease_ms = 30_000
        self.strict = False
        self.was_attached = False
        self.failed: PenstockError | None = None
        self._kept = Kept()
        self._wire: Wire | None = None
        self._handle = 0
        self._group_id = 0
        self._attempt = 0
        self._glance_at = 0.0
        self._processes: list[Process[None]] = []

    def __repr__(self) -> str:
        return f"Share({self.topic}/{self.partition}, {len(self.grants)} leases)"

    # ----- life

    @property
    def attached(self) -> bool:
        """Whether verdicts and acquires can be sent now."""
        return self._wire is not None and self._wire.ready

    @property
    def subscription(self) -> SharedSubscription:
        """What it is a part of."""
        return self._subscription

    @property
    def group(self) -> str:
        """The group's name."""
        return self._subscription.group

    @property
    def member(self) -> str:
        """The name of this member."""
        return self._subscription.member

    def start(self) -> None:
        """Attach and begin to acquire."""
        spawn = self._subscription.scheduler.spawn
        self._processes = [
            spawn(self._work(), essential=True),
            spawn(self._settle(), essential=True),
        ]

    def stop(self) -> None:
        """Do nothing more at all."""
        self._subscription.credits.leave(self)
        for process in self._processes:
            process.cancel()
        self._kept.clear()
        self.grants.clear()

    def nudge(self) -> None:
        """Connections changed: look again if ours is gone."""
        if not self.attached:
            self.bell.ring()

    def detach(self) -> Operation[None]:
        """Tell the broker that this member is gone; what it held is released at once."""
        request = DetachGroup(
            topic=self.topic, partition=self.partition, group=self.group, member=self.member
        )
        wire, subscription = self._wire, self._subscription
        if wire is not None and wire.ready:
            deadline = subscription.scheduler.now + subscription.options.request_timeout
            yield subscription.pool.request(wire, request, deadline)

    # ----- for records

    def ready_at(self, delay: Delay | None, at: datetime | None) -> int:
        """When a record is to be delivered again; 0: as the policy says."""
        if delay is None and at is None:
            return 0
        self._subscription.touch()
        return ready_at_us(delay, at, self._subscription.scheduler.wall_us)

    def extend(self, grant: Grant, time: Delay) -> None:
        """Ask for more time for a lease."""
        extend_ms = extension_ms(time)
        if not grant.lost:
            self._subscription.touch()
            self._subscription.scheduler.spawn(self._extend(grant, extend_ms))

    def lose(self, leases: list[int]) -> None:
        """Leases are over: what of them was not handed out never will be."""
        for lease in leases:
            grant = self.grants.pop(lease, None)
            if grant is not None:
                grant.lost = True
                self._subscription.lost(self, grant)

    def interrupt(self) -> None:
        """Have the application's loop look at leases; called in the renewing thread."""
        self._subscription.handout.interrupt()

    # ----- attaching and acquiring

    def _work(self) -> Operation[None]:
        while self.failed is None:
            try:
                if self.attached:
                    yield from self._next()
                else:
                    yield from self._attach()
                self._attempt = 0
            except MISDIRECTED as error:
                yield from self._search(error)
            except MemberUnknown:
                # The broker that has the handle now does not know it: a new leader on an old wire.
                self._wire = None
                yield from self._pause()
            except GroupNotFound as error:
                yield from self._group_gone(error)
            except RetriableError:
                yield from self._pause()
            except PenstockError as error:
                self._fail(error)

    def _next(self) -> Operation[None]:
        fund, now = self._subscription.credits, self._subscription.scheduler.now
        if now < self._glance_at:
            yield self.bell.wait(self._glance_at)
            return
        self.ledger.count()
        count, wait_ms = fund.ask(self)
        if not count:
            yield self.bell.wait()
            return
        try:
            acquired = yield from self._acquire(count, wait_ms)
            self._take(acquired, count)
        finally:
            fund.answered(count)
            self._glance_at = self._subscription.scheduler.now + fund.rest(self)

    def _acquire(self, count: int, wait_ms: int) -> Operation[Acquired]:
        subscription, wire = self._subscription, self._wire
        assert wire is not None
        scheduler = subscription.scheduler
        deadline = scheduler.now + wait_ms / 1000 + subscription.options.request_timeout
        call = AcquireCall(scheduler, deadline)
        wanted = Acquire(self._handle, count, ACQUIRE_BYTES, wait_ms, self._kept.have)
        request = acquire_request(wire.expect(call), self._group_id, wanted)
        scheduler.watch(deadline)
        subscription.pool.send(wire, request)
        acquired: Acquired = yield call.ticket
        return acquired

    def _take(self, acquired: Acquired, asked: int) -> None:
        count = sum(span.records for span in acquired.spans)
        self.hot = bool(count) and self._subscription.credits.is_much(count, asked)
        if not count:
            return
        self.lease_ms = acquired.lease_ms or self.lease_ms
        grant = self.grants.get(acquired.lease)
        if grant is None:
            grant = self.grants[acquired.lease] = Grant(self.ledger, acquired.lease, 0)
        grant.left += count
        self.ledger.hands += count
        self._subscription.counted(-count)
        cut = Cut(self, grant)
        cut.spans(acquired.spans, self._extents(acquired))
        if cut.missing or cut.damaged:
            self._tell("records_unreadable", missing=cut.missing, damaged=cut.damaged)
        self._subscription.arrived(cut.portions)

    def _extents(self, acquired: Acquired) -> list[Extent]:
        """The batches of an answer and the kept ones that it refers to; keeps what comes again."""
        found = list(read_extents(acquired.run, self.topic, self.partition))
        for base in self._kept.have:
            batch = self._kept.get(base)
            if batch is not None:
                found.append(Extent(base, batch.next_offset, batch, single=True))
        found.sort(key=_base)
        last = _granted_ends(found, acquired)
        for place, end in last.items():
            extent = found[place]
            if end >= extent.end:
                self._kept.drop(extent.base)
            elif extent.batch is not None:
                extent.own()
                self._kept.keep(extent.batch)
        return found

    def _attach(self) -> Operation[None]:
        subscription = self._subscription
        wire = yield from subscription.metadata.leader_wire(self.topic, self.partition)
        held = list(self.grants)
        request = AttachGroup(
            topic=self.topic,
            partition=self.partition,
            group=self.group,
            member=self.member,
            host=subscription.options.host,
            # The limit is kept here; a broker counts a record until its verdict is durable, so that
            # its limit would hold up the next acquire for as long.
            max_in_flight=2 * subscription.max_in_flight,
            leases=held[:LEASES_MAX],
            epoch=subscription.next_epoch(),
        )
        deadline = subscription.scheduler.now + subscription.options.request_timeout
        reply = yield subscription.pool.request(wire, request, deadline)
        if not isinstance(reply, AttachGroupReply):
            raise RemoteProtocolError("an attach was answered by something else")
        self._wire, self._handle, self._group_id = wire, reply.handle, reply.group_id
        self.lease_ms, self.strict = reply.lease_ms, reply.strict
        self.lose(reply.lost)
        self._kept.clear()
        self.was_attached = True
        self._tell("attached")
        self.verdicts.ring()
        subscription.arrival.ring()

    # ----- settling

    def _settle(self) -> Operation[None]:
        ledger = self.ledger
        while True:
            if not ledger.runs or not self.attached:
                yield self.verdicts.wait()
                continue
            try:
                settled = yield from self._send_verdicts()
            except (*MISDIRECTED, MemberUnknown):
                ledger.back()
                self._wire = None
                self.bell.ring()
            except RetriableError:
                ledger.back()
                yield self._subscription.scheduler.sleep(self._subscription.pool.backoff(1))
            except PenstockError as error:
                self._refused(error)
            else:
                self._confirmed(settled)

    def _send_verdicts(self) -> Operation[Settled]:
        subscription, wire = self._subscription, self._wire
        assert wire is not None
        scheduler = subscription.scheduler
        deadline = scheduler.now + subscription.options.request_timeout
        call = SettleCall(scheduler, deadline)
        verdicts = self.ledger.take()
        request = settle_request(wire.expect(call), self._group_id, self._handle, verdicts)
        scheduler.watch(deadline)
        subscription.pool.send(wire, request)
        subscription.credits.offer()
        settled: Settled = yield call.ticket
        return settled

    def _confirmed(self, settled: Settled) -> None:
        if settled.lost:
            self._tell("verdicts_lost", spans=settled.lost, strict=self.strict)
            if self.strict:
                lost = LeaseLost(f"{self.topic}/{self.partition}: verdicts came too late")
                lost.detail["spans"] = settled.lost
                self._subscription.note_failure(lost)
        self._end(self.ledger.confirmed())

    def _refused(self, error: PenstockError) -> None:
        """The broker will never take these verdicts: the leases run out, and flush tells why."""
        self._tell("verdicts_refused", error=str(error))
        self._subscription.note_failure(error)
        self._end(self.ledger.confirmed())

    def _end(self, grants: list[Grant]) -> None:
        for grant in grants:
            self.grants.pop(grant.lease, None)
        self.ledger.count()
        subscription = self._subscription
        subscription.credits.offer()
        subscription.settled.ring()

    def _extend(self, grant: Grant, extend_ms: int) -> Operation[None]:
        subscription = self._subscription
        request = RenewLeases(
            topic=self.topic,
            partition=self.partition,
            group=self.group,
            member=self.member,
            leases=[grant.lease],
            extend_ms=extend_ms,
        )
        leader = subscription.metadata.leader(self.topic, self.partition)
        try:
            reply = yield from subscription.requests.call(request, RenewLeasesReply, node=leader)
        except PenstockError as error:
            self._tell("extend_failed", error=str(error))
        else:
            self.lose(reply.lost)

    # ----- when it does not go smoothly

    def _search(self, error: PenstockError) -> Operation[None]:
        self._wire = None
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

    def _group_gone(self, error: PenstockError) -> Operation[None]:
        """One that was just made is not known everywhere at once; one that was known is gone."""
        self._wire = None
        subscription = self._subscription
        young = subscription.scheduler.now < subscription.opened_at + subscription.group_grace
        if self.was_attached or not young:
            self._fail(error)
        else:
            yield from self._pause()

    def _pause(self) -> Operation[None]:
        self._attempt += 1
        pool = self._subscription.pool
        yield self._subscription.scheduler.sleep(pool.backoff(self._attempt))

    def _fail(self, error: PenstockError) -> None:
        self.failed = error
        self._wire = None
        self._subscription.share_failed(self, error)

    def _tell(self, kind: str, **detail: object) -> None:
        self._subscription.events.add(kind, topic=self.topic, partition=self.partition, **detail)


def _base(extent: Extent) -> int:
    return extent.base


def _granted_ends(extents: list[Extent], acquired: Acquired) -> dict[int, int]:
    """Position of an extent -> the offset behind the last record of it that was granted."""
    found: dict[int, int] = {}
    place = 0
    for span in acquired.spans:
        end = span.first + span.records
        while place < len(extents) and extents[place].base < end:
            if extents[place].end > span.first:
                found[place] = min(end, extents[place].end)
            if extents[place].end > end:
                break
            place += 1
    return found
