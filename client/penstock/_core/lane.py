"""What one partition still has to be sent: in order, in sequence, a few batches in flight.

Batches move from the queue into the flight, where they keep their sequence until they are
answered. Invariants, for an idempotent producer: sequences of an epoch have no gap and no two
batches share one; after a refusal or a lost connection nothing new is sent before everything in
flight was sent again in the old order; numbers change only together with the epoch, so a broker
can never take an old copy for a new record.

Whose outcome is unknown at its time-out stays in flight as long as a younger batch can still make
it: to be stored late is one of the outcomes. When none is left that anyone waits for, they are
dropped and a new epoch begins, which fences whatever of them is still under way.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from penstock._core.metadata import leader_hint
from penstock._core.outgoing import Outgoing
from penstock._core.slotting import NO_SLOTS
from penstock._core.wire import Wire
from penstock.errors import (
    ClusterUnformed,
    Fenced,
    LeaderUnknown,
    NotLeader,
    OutOfSequence,
    PartitionNotFound,
    PenstockError,
    StorageFull,
    Throttled,
    TimedOut,
    TopicNotFound,
    UnknownProducer,
)
from penstock.protocol.batch import CODEC_NONE, CODEC_ZSTD
from penstock.protocol.encoding import encode_batch
from penstock.protocol.frames import ACKS_NONE, publish_head

if TYPE_CHECKING:
    from penstock._core.producer import Producer

EPOCH_MAX: Final = 0xFFFF
MISDIRECTED: Final = (NotLeader, LeaderUnknown, TopicNotFound, PartitionNotFound)
DEFINITE: Final = (Throttled, StorageFull, OutOfSequence, ClusterUnformed)
"""Refusals that may be repeated and say for sure that nothing was stored."""
UNNUMBERED: Final = (OutOfSequence, UnknownProducer, Fenced)


class Lane:
    """The way to one partition.

    Attributes:
        open: the batch that records with a key or an explicit partition join.
        partials: how many unfilled batches of `open` are in flight, as a one-item list.
    """

    __slots__ = (
        "_epoch",
        "_failures",
        "_flight",
        "_outstanding",
        "_producer",
        "_producer_id",
        "_recovering",
        "_refusal",
        "_renumber",
        "_resume_at",
        "_sequence",
        "_to_leader",
        "dirty",
        "group",
        "open",
        "partials",
        "partition",
        "queue",
        "slotting",
        "topic",
    )

    def __init__(self, producer: Producer, topic: str, partition: int, group: int) -> None:
        self._producer = producer
        self.topic = topic
        self.partition = partition
        self.group = group
        self.open: Outgoing | None = None
        self.slotting = NO_SLOTS
        self.queue: deque[Outgoing] = deque()
        self.partials = [0]
        self.dirty = False
        self._flight: deque[Outgoing] = deque()
        self._outstanding = 0
        """How many of the flight are on a wire; the others are to be sent again."""
        self._producer_id = producer.new_id() if producer.idempotent else 0
        self._to_leader: Wire | None = None
        """The wire that was found last; looked for anew when anything about leaders changes."""
        self._epoch = 0
        self._sequence = 0
        self._recovering = False
        self._refusal: PenstockError | None = None
        """What a broker said last instead of storing a batch."""
        self._renumber = False
        self._resume_at = 0.0
        self._failures = 0

    # ----- what the producer asks

    @property
    def heard(self) -> str:
        """What a broker said last instead of storing a batch, for the error of a batch too late."""
        return f" (last heard: {self._refusal})" if self._refusal is not None else ""

    @property
    def backlog(self) -> int:
        """How many batches are neither settled nor open."""
        return len(self.queue) + len(self._flight)

    @property
    def can_take(self) -> bool:
        """Whether a batch that is put into the queue now would be sent at once."""
        return not (
            self._recovering
            or self.queue
            or len(self._flight) >= self._producer.options.pipelined_requests
            or self._wire() is None
        )

    def unsettled(self) -> list[Outgoing]:
        """Every batch that somebody may wait for."""
        opened = [self.open] if self.open is not None else []
        return [each for each in (*self._flight, *self.queue, *opened) if not each.done]

    def seal(self) -> None:
        """The open batch is complete: nothing joins it any more."""
        batch, self.open = self.open, None
        if batch is not None:
            self.put(batch)

    def put(self, batch: Outgoing) -> None:
        """Queue a batch that is complete."""
        batch.lane = self
        batch.partition = self.partition
        self.queue.append(batch)
        self._producer.mark(self)

    def pump(self) -> None:
        """Send what may be sent now."""
        self._start_clocks()
        if self._recovering and not self._recovered():
            return
        wire = self._wire()
        if wire is None:
            if self.backlog or self.open is not None:
                self._find_leader()
            return
        if len(self._flight) > self._outstanding and not self._resend(wire):
            return
        limit = self._producer.options.pipelined_requests
        while len(self._flight) < limit:
            batch = self._next(wire)
            if batch is None:
                return
            self._start(batch)
            if self._number(batch):
                self._transmit(batch, wire)

    def nudge(self) -> None:
        """Connections or metadata changed: look again, without the rest of a pause."""
        self._to_leader = None
        if self.backlog or self.open is not None:
            self._resume_at = 0.0
            self._producer.mark(self)

    def rebind(self, group: int) -> None:
        """The topic was made anew: what it had is gone, so everything is sent to the new one."""
        self.group = group
        self._renumber = True
        self._recover(0.0)

    def expire(self, now: float) -> float:
        """Time out what is due; returns the next time-out."""
        while self.queue and 0.0 < self.queue[0].expires <= now:
            self._finish(self.queue.popleft(), _not_sent(self))
        batch = self.open
        if batch is not None and 0.0 < batch.expires <= now:
            self.open = None
            self._finish(batch, _not_sent(self))
        for batch in self._flight:
            if batch.expires <= now and not batch.done:
                self._producer.settle(batch, _unknown(self))
        if self._flight and all(batch.done for batch in self._flight):
            self._flight.clear()
            self._new_epoch("nothing in flight was answered in time")
            self._producer.mark(self)
        waiting = [batch.expires for batch in self._flight if not batch.done]
        waiting.extend(batch.expires for batch in self.queue if batch.expires)
        if self.open is not None and self.open.expires:
            waiting.append(self.open.expires)
        return min(waiting, default=inf)

    def abandon(self, error: PenstockError) -> None:
        """Fail everything: the topic is gone, or the client is closing."""
        for batch in self.unsettled():
            self._producer.settle(batch, error)
        self.queue.clear()
        self._flight.clear()
        self.open = None

    # ----- what becomes of a batch in flight

    def acked(self, batch: Outgoing) -> None:
        """The broker has it."""
        self._outstanding -= 1
        self._failures = 0
        self._refusal = None
        self._finish(batch, None)

    def refused(self, batch: Outgoing, error: PenstockError) -> None:
        """The broker did not store it."""
        self._outstanding -= 1
        self._refusal = error
        self._producer.mark(self)
        if error.retriable and not isinstance(error, DEFINITE):
            batch.maybe_stored = True
        if batch not in self._flight:
            return
        if isinstance(error, UNNUMBERED) and self._producer_id:
            self._misnumbered(batch, error)
        elif isinstance(error, MISDIRECTED):
            self._to_leader = None
            hint = leader_hint(error)
            self._producer.metadata.note_leader(self.topic, self.partition, hint)
            self._producer.metadata.refresh(self.topic)
            # Who names the leader saves the pause, unless two brokers name each other.
            self._recover(0.0 if hint and not self._failures else None)
        elif error.retriable:
            self._recover()
        else:
            # Its number stays unused, which the broker takes for a gap before all that follow.
            self._renumber = bool(self._producer_id)
            if batch.maybe_stored:
                self._give_up_unknown(error)
            self._finish(batch, error)
            self._recover(0.0)

    def unanswered(self, batch: Outgoing) -> None:
        """The request ended without an answer: it will be sent again."""
        self._outstanding -= 1
        self._producer.mark(self)
        if batch in self._flight:
            self._recover()

    def _misnumbered(self, batch: Outgoing, error: PenstockError) -> None:
        """A number did not fit. Behind another batch that follows from that one's own failure."""
        if batch is self._flight[0]:
            self._renumber = True
            if isinstance(error, Fenced):
                self._producer_id = self._producer.new_id()
            if not isinstance(error, OutOfSequence):
                self._give_up_unknown(error)
        self._recover()

    def _give_up_unknown(self, error: PenstockError) -> None:
        """Fail what may be stored already: under a new number it could be stored twice.

        A broker that still knows the producer and misses a batch proves that none behind it is
        stored; one that has forgotten the producer proves nothing.
        """
        for batch in list(self._flight):
            if batch.maybe_stored:
                unknown = UnknownProducer(f"it may be stored or not: {error}", outcome="unknown")
                self._finish(batch, unknown)

    # ----- recovery

    def _recover(self, pause: float | None = None) -> None:
        """Send nothing until all requests in flight have ended and a pause is over."""
        if not self._recovering:
            self._recovering = True
            self._failures += 1
            pool, scheduler = self._producer.pool, self._producer.scheduler
            wait = pool.backoff(self._failures) if pause is None else pause
            self._resume_at = scheduler.now + wait
            if wait:
                scheduler.at(self._resume_at, lambda: self._producer.mark(self))
        self._producer.mark(self)

    def _recovered(self) -> bool:
        if self._outstanding or self._producer.scheduler.now < self._resume_at:
            return False
        self._recovering = False
        if self._renumber:
            self._new_epoch("the sequence was interrupted")
        return True

    def _find_leader(self) -> None:
        """Nobody leads, or the leader can't be reached and may be replaced: ask, and try again."""
        self._producer.metadata.refresh(self.topic)
        self._recover()

    def _new_epoch(self, reason: str) -> None:
        """Number everything that is not stored anew."""
        self._renumber = False
        self._sequence = 0
        if not self._producer_id:
            return
        if self._epoch == EPOCH_MAX:
            self._producer_id = self._producer.new_id()
        self._epoch = (self._epoch + 1) % (EPOCH_MAX + 1)
        for batch in self._flight:
            batch.encoded = None
        self._producer.events.add(
            "producer_reset", topic=self.topic, partition=self.partition, reason=reason
        )

    # ----- sending

    def _wire(self) -> Wire | None:
        wire = self._to_leader
        if wire is None or not wire.ready:
            node = self._producer.metadata.leader(self.topic, self.partition)
            wire = self._to_leader = self._producer.pool.wire_to(node) if node else None
        return wire

    def _next(self, wire: Wire) -> Outgoing | None:
        """Take the next batch if there is room for it on the wire."""
        batch = self.queue[0] if self.queue else self.open
        if batch is None:
            return None
        if not self.queue and self.partials[0] >= self._producer.options.partial_requests:
            return None
        if not wire.has_credit(batch.size):
            self._producer.starve(self)
            return None
        if self.queue:
            return self.queue.popleft()
        self.open = None
        batch.partial = self.partials
        self.partials[0] += 1
        return batch

    def _start(self, batch: Outgoing) -> None:
        batch.lane = self
        batch.partition = self.partition
        self._flight.append(batch)

    def _start_clocks(self) -> None:
        """Time runs from the first turn that sees a batch: `publish` itself reads no clock."""
        for batch in reversed(self.queue):
            if batch.expires:
                break
            self._producer.start_clock(batch)
        if self.open is not None:
            self._producer.start_clock(self.open)

    def _number(self, batch: Outgoing) -> bool:
        """Give a batch its sequence and its bytes; what can't be encoded fails alone."""
        idempotent = bool(self._producer_id) and batch.dedup_id is None
        key_slots = tenant_slots = None
        if self.slotting is not NO_SLOTS:
            key_slots, tenant_slots = self.slotting.columns(batch.keys, len(batch.values))
        try:
            batch.encoded = encode_batch(
                batch.values,
                batch.keys,
                batch.timestamps,
                batch.headers,
                codec=CODEC_ZSTD if self._producer.compresses else CODEC_NONE,
                producer_id=self._producer_id if idempotent else 0,
                producer_epoch=self._epoch if idempotent else 0,
                base_sequence=self._sequence if idempotent else 0,
                base_ts_us=self._producer.scheduler.wall_us,
                dedup_id=batch.dedup_id,
                deliver_at_us=batch.deliver_at_us,
                key_slots=key_slots,
                tenant_slots=tenant_slots,
            )
        except PenstockError as error:
            self._finish(batch, error)
            return False
        if idempotent:
            batch.sequence = self._sequence
            self._sequence += len(batch.values)
        return True

    def _resend(self, wire: Wire) -> bool:
        """Send again what lost its wire; False: there is no room for all of it now."""
        for batch in list(self._flight):
            if batch.wire is not None:
                continue
            if batch.encoded is None and not self._number(batch):
                continue
            if not wire.has_credit(batch.size):
                self._producer.starve(self)
                return False
            self._transmit(batch, wire)
        return True

    def _transmit(self, batch: Outgoing, wire: Wire) -> None:
        producer, encoded = self._producer, batch.encoded
        assert encoded is not None
        options = producer.options
        timeout_ms = int(options.request_timeout * 1000)
        if options.acks_code == ACKS_NONE:
            head = publish_head(0, self.group, ACKS_NONE, timeout_ms, len(encoded))
            producer.pool.send(wire, head, encoded)
            self._finish(batch, None)
            return
        batch.wire = wire
        # Without numbers a second copy could be stored: then one request has all the time.
        once = not self._producer_id and batch.dedup_id is None
        batch.deadline = batch.expires if once else producer.scheduler.now + options.request_timeout
        batch.sent_bytes = len(encoded)
        wire.unanswered += batch.sent_bytes
        self._outstanding += 1
        correlation = wire.expect(batch)
        producer.scheduler.watch(batch.deadline)
        head = publish_head(correlation, self.group, options.acks_code, timeout_ms, len(encoded))
        producer.pool.send(wire, head, encoded)

    def _finish(self, batch: Outgoing, error: PenstockError | None) -> None:
        flight = self._flight
        if flight and flight[0] is batch:
            flight.popleft()
        elif batch in flight:
            flight.remove(batch)
        batch.encoded = None
        self._producer.settle(batch, error)
        if self.queue or self.open is not None or self._recovering:
            self._producer.mark(self)


def _not_sent(lane: Lane) -> TimedOut:
    return TimedOut(
        f"not sent to {lane.topic}/{lane.partition} in time; it was not stored{lane.heard}",
        outcome="not stored",
    )


def _unknown(lane: Lane) -> TimedOut:
    place = f"{lane.topic}/{lane.partition}"
    return TimedOut(
        f"no answer from {place} in time; it may be stored or not{lane.heard}", outcome="unknown"
    )
