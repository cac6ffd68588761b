"""Publishing for later: batches for one moment, in the topic of delayed records.

Delayed batches lie in a companion topic, partition for partition, until the broker moves them.
Records that are handed over in one turn for the same partition and millisecond share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from penstock._core import bulk
from penstock._core.bulk import Raw, RawHeaders
from penstock._core.outgoing import Outgoing, Receipt, Receipts
from penstock._core.positions import microseconds_of
from penstock._core.producer import record_size
from penstock._core.scheduler import Operation
from penstock._core.texts import as_bytes, as_dedup_id, as_headers, as_key
from penstock._core.times import Delay, ready_at_us
from penstock.errors import TopicNotFound

if TYPE_CHECKING:
    from penstock._core.client import ClientCore
    from penstock._core.route import Route

Slot = tuple[str, int, int, bool]
"""Topic, partition, moment, and whether the records have times of their own."""


class Delays:
    """The delayed publishing of one client."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self._companions: dict[str, str] = {}
        """Topic -> the topic where its delayed batches are published."""
        self._open: dict[Slot, tuple[Route, Outgoing]] = {}

    def companion(self, topic: str) -> Operation[str]:
        """The topic for delayed batches of a topic, made on first use.

        Raises:
            TopicNotFound: there is no such topic.
        """
        found = self._companions.get(topic)
        if found is None or self._core.metadata.topic(found) is None:
            found = yield from self._core.shared_admin.enable_delays(topic)
            yield from self._core.metadata.ensure(found)
            self._companions[topic] = found
        return found

    def moment(self, delay: Delay | None, at: datetime | None) -> int:
        """When records are to be delivered, in microseconds since 1970.

        Raises:
            BadRequest: both are given, or one is out of its range.
        """
        return ready_at_us(delay, at, self._core.scheduler.wall_us)

    def publish_many(
        self,
        topic: str,
        values: Iterable[Raw],
        keys: Sequence[Raw] | None,
        headers: Sequence[RawHeaders] | None,
        partition: int | None,
        timestamps: Sequence[datetime] | None,
        deliver_at_us: int,
    ) -> Operation[Receipts]:
        """Publish many records for one moment, and wait until they are stored."""
        companion = yield from self.companion(topic)
        return (
            yield from bulk.publish_many(
                self._core.producer,
                topic,
                values,
                keys,
                headers,
                partition,
                timestamps,
                deliver_at_us,
                companion,
            )
        )

    def publish(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        headers: Mapping[str, bytes | str] | None,
        partition: int | None,
        dedup_id: bytes | str | None,
        timestamp: datetime | None,
        deliver_at_us: int,
    ) -> Operation[Receipt]:
        """Publish one record for later, and wait until it is stored."""
        companion = yield from self.companion(topic)
        producer = self._core.producer
        while producer.full:
            yield producer.room.wait()
        route = yield from producer.route(companion)
        found_key, found_id = as_key(key), as_dedup_id(dedup_id)
        found_headers, data = as_headers(headers), as_bytes(value)
        number = self._place(route, found_key, partition)
        slot = companion, number, deliver_at_us, timestamp is not None
        size = record_size(data, found_key, found_headers)
        batch = None if found_id is not None else self._joined(slot, size)
        if batch is None:
            batch = Outgoing(companion)
            batch.dedup_id = found_id
            batch.deliver_at_us, batch.target = deliver_at_us, topic
            batch.timestamps = None if timestamp is None else []
            if not self._open:
                self._core.scheduler.at(self._core.scheduler.now, self._put)
            if found_id is None:
                self._open[slot] = route, batch
            else:
                self._open[(*slot[:2], -1 - len(self._open), slot[3])] = route, batch
        if timestamp is not None and batch.timestamps is not None:
            batch.timestamps.append(microseconds_of(timestamp) // 1000)
        batch.add(data, found_key, found_headers, size)
        producer.buffered_bytes += size
        index = len(batch.values) - 1
        try:
            yield batch
        except TopicNotFound:
            self._companions.pop(topic, None)
            raise
        return batch.receipt(index)

    def _joined(self, slot: Slot, size: int) -> Outgoing | None:
        """The open batch for a slot, if there is room in it."""
        if slot not in self._open:
            return None
        route, batch = self._open[slot]
        options = self._core.options
        if batch.size + size <= options.batch_bytes and len(batch.values) < options.batch_records:
            return batch
        del self._open[slot]
        self._send(route, batch, slot[1])
        return None

    def _put(self) -> None:
        """The turn begins: what was collected goes."""
        opened, self._open = self._open, {}
        for (_, number, _, _), (route, batch) in opened.items():
            self._send(route, batch, number)

    @staticmethod
    def _send(route: Route, batch: Outgoing, number: int) -> None:
        route.lanes[number].seal()
        route.lanes[number].put(batch)

    @staticmethod
    def _place(route: Route, key: bytes | None, partition: int | None) -> int:
        lane = route.lane_for(key, partition)
        return route.next_lane().partition if lane is None else lane.partition
