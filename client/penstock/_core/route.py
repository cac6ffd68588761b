"""A topic as the producer sees it: its lanes, and the open batch of records without a place.

Invariants: lane n leads to partition n; a batch whose topic is not known yet waits here and is
placed in the order of arrival; records of a topic with one partition keep their order whether they
have keys or not.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from penstock._core.lane import Lane
from penstock._core.outgoing import Outgoing
from penstock._core.scheduler import Operation, Process
from penstock._core.slotting import slotting_of
from penstock.errors import (
    ClusterUnformed,
    PartitionNotFound,
    PenstockError,
    RetriableError,
    TimedOut,
    TopicNotFound,
)
from penstock.protocol.partitioning import partition_for_key

if TYPE_CHECKING:
    from penstock._core.producer import Producer


class Route:
    """The way to one topic."""

    __slots__ = ("_next", "_partials", "_producer", "_resolving", "_waiting", "dirty", "lanes",
                 "open", "topic")  # fmt: skip

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self.topic = topic
        self.lanes: list[Lane] = []
        """Empty until the topic is known."""
        self.open: Outgoing | None = None
        self.dirty = False
        self._partials = [0]
        self._next = 0
        self._resolving: Process[None] | None = None
        self._waiting: list[tuple[Outgoing, bytes | None, int | None]] = []

    # ----- records

    def join(self, size: int, *, timed: bool = False) -> Outgoing:
        """The open batch for a record of that size that may go to any partition."""
        batch = self.open
        if batch is not None and self._no_room(batch, size, timed=timed):
            self.seal()
            batch = None
        if batch is None:
            batch = self.open = _begin(self.topic, timed)
            self._producer.mark_route(self)
        return batch

    def join_lane(self, lane: Lane, size: int, *, timed: bool) -> Outgoing:
        """The open batch for a record of that size that belongs into a lane."""
        if len(self.lanes) == 1:
            # With or without a key, all records of a topic with one partition keep their order.
            return self.join(size, timed=timed)
        batch = lane.open
        if batch is not None and self._no_room(batch, size, timed=timed):
            lane.seal()
            batch = None
        if batch is None:
            batch = lane.open = _begin(self.topic, timed)
            self._producer.mark(lane)
        return batch

    def lane_for(self, key: bytes | None, partition: int | None) -> Lane | None:
        """Where a record belongs; None: anywhere.

        Raises:
            PartitionNotFound: the topic has no such partition.
        """
        if partition is not None:
            if not 0 <= partition < len(self.lanes):
                raise self._no_partition(partition)
            return self.lanes[partition]
        if key is not None:
            return self.lanes[partition_for_key(key, len(self.lanes))]
        return None

    def knows(self, partition: int | None) -> bool:
        """Whether there is a lane for a record, as far as the metadata tells."""
        return partition < len(self.lanes) if partition is not None else bool(self.lanes)

    def place(self, batch: Outgoing, key: bytes | None, partition: int | None) -> None:
        """Send a whole batch where its key or partition says, or anywhere.

        Raises:
            PartitionNotFound: the topic has no such partition.
        """
        if not self.knows(partition):
            if self.open is not None and not self.lanes:
                self._waiting.append((self.open, None, None))
                self.open = None
            self._waiting.append((batch, key, partition))
            self._producer.mark_route(self)
            return
        lane = self.lane_for(key, partition)
        if lane is None or len(self.lanes) == 1:
            self.seal()
        lane = lane or self._choose()
        lane.seal()
        lane.put(batch)

    def next_lane(self) -> Lane:
        """Where a record that may go anywhere goes next."""
        return self._choose()

    def seal(self) -> None:
        """The open batch is complete: let it go."""
        batch, self.open = self.open, None
        if batch is None:
            return
        if self.lanes:
            lane = self._choose()
            lane.seal()
            lane.put(batch)
        else:
            self._waiting.append((batch, None, None))

    def pump(self) -> None:
        """Let the open batch go, however small, unless enough of its kind are under way."""
        for batch in self._homeless():
            self._producer.start_clock(batch)
        if self._waiting or not self.lanes:
            self._resolve()
        if not self.lanes or self.open is None:
            return
        if self._partials[0] >= self._producer.options.partial_requests:
            return
        lane = self._choose()
        if not lane.can_take and any(each.backlog for each in self.lanes):
            return
        batch, self.open = self.open, None
        batch.partial = self._partials
        self._partials[0] += 1
        lane.put(batch)

    # ----- life

    def _resolve(self) -> None:
        running = self._resolving is not None and not self._resolving.done
        if self._homeless() and not running:
            search = self._producer.scheduler.spawn(self._find(), essential=True)
            self._resolving = search

    def _find(self) -> Operation[None]:
        """Look for the topic, or the partition, for as long as somebody waits for it."""
        attempt = 0
        while self._waiting or (self.open is not None and not self.lanes):
            try:
                if self.lanes:
                    # Partitions may have been added since.
                    yield self._producer.metadata.refresh(self.topic)
                else:
                    yield from self._producer.metadata.ensure(self.topic)
                self.update()
            except RetriableError:
                attempt += 1
                yield self._producer.scheduler.sleep(self._producer.pool.backoff(attempt))
            except PenstockError as error:
                self._producer.drop_route(self, error)
                return

    def update(self) -> None:
        """The metadata changed: new partitions, a topic made anew, or a topic gone."""
        metadata = self._producer.metadata
        found = metadata.topic(self.topic)
        if found is None:
            if self.lanes:
                gone = TopicNotFound(f"topic {self.topic} was deleted")
                self._producer.drop_route(self, gone)
            return
        known, slotting = metadata.partitions(self.topic), slotting_of(found.config)
        for number in range(len(known)):
            if number == len(self.lanes):
                self.lanes.append(Lane(self._producer, self.topic, number, known[number].group))
            elif self.lanes[number].group != known[number].group:
                self.lanes[number].rebind(known[number].group)
            self.lanes[number].slotting = slotting
        self._place_waiting()
        self.nudge()

    def _place_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and self.open is not None:
            # It is younger than those that wait, so it must not pass them.
            waiting.append((self.open, None, None))
            self.open = None
        for batch, key, partition in waiting:
            if batch.done:
                continue
            if self.knows(partition):
                self.place(batch, key, partition)
            else:
                self._producer.settle(batch, self._no_partition(partition))

    def nudge(self) -> None:
        """Something changed for the better, maybe: look at everything again."""
        self._producer.mark_route(self)
        for lane in self.lanes:
            lane.nudge()

    def unsettled(self) -> list[Outgoing]:
        """Every batch that somebody may wait for."""
        found = [each for each in self._homeless() if not each.done]
        for lane in self.lanes:
            found.extend(lane.unsettled())
        return found

    def expire(self, now: float) -> float:
        """Time out what is due; returns the next time-out."""
        earliest = min((lane.expire(now) for lane in self.lanes), default=inf)
        for batch in self._homeless():
            if not batch.expires:
                continue
            if batch.expires > now:
                earliest = min(earliest, batch.expires)
                continue
            self._waiting = [each for each in self._waiting if each[0] is not batch]
            self.open = None if self.open is batch else self.open
            self._producer.settle(batch, self._not_found())
        return earliest

    def abandon(self, error: PenstockError) -> None:
        """Fail everything."""
        for batch in self._homeless():
            self._producer.settle(batch, error)
        self._waiting = []
        self.open = None
        for lane in self.lanes:
            lane.abandon(error)

    # ----- inside

    def _no_partition(self, partition: int | None) -> PartitionNotFound:
        count = len(self.lanes)
        return PartitionNotFound(f"topic {self.topic} has no partition {partition}, only {count}")

    def _not_found(self) -> PenstockError:
        """Nobody said where the topic is: the last thing that was heard is told."""
        pool, heard = self._producer.pool, self._producer.metadata.refusal
        if isinstance(heard, ClusterUnformed):
            return ClusterUnformed(heard.message, outcome="not stored")
        if pool.any_wire() is None:
            heard = pool.no_connection()
        reason = f": {heard}" if heard is not None else ""
        return TimedOut(f"topic {self.topic} was not found in time{reason}", outcome="not stored")

    def _homeless(self) -> list[Outgoing]:
        found = [batch for batch, _, _ in self._waiting]
        if self.open is not None:
            found.append(self.open)
        return found

    def _no_room(self, batch: Outgoing, size: int, *, timed: bool) -> bool:
        options = self._producer.options
        return (
            batch.size + size > options.batch_bytes
            or len(batch.values) >= options.batch_records
            or (batch.timestamps is not None) is not timed
        )

    def _choose(self) -> Lane:
        """The next lane in turn that can take a batch at once, else the next in turn."""
        lanes, count = self.lanes, len(self.lanes)
        for step in range(count):
            number = (self._next + step) % count
            if lanes[number].can_take:
                break
        else:
            number = self._next % count
        self._next = number + 1
        return lanes[number]


def _begin(topic: str, timed: bool) -> Outgoing:
    batch = Outgoing(topic)
    if timed:
        batch.timestamps = []
    return batch
