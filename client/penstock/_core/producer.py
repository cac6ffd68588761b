"""Publishing: which partition a record goes to, and how many bytes may wait for their ack.

A `Route` is a topic with its lanes. Records without key or partition join the route's open batch,
which finds its partition only when it leaves, so that it never waits for a slow one; while few
such batches are in flight they leave at once, and under load records pile up into larger ones
without any linger time. Invariants: what was accepted is settled exactly once; accepted bytes are
at most `buffer_bytes` and one record or batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from math import inf

from penstock._core.events import EventLog
from penstock._core.lane import Lane
from penstock._core.metadata import Metadata
from penstock._core.options import Options
from penstock._core.outgoing import RECORD_OVERHEAD_BYTES, Headers, Outgoing, Value
from penstock._core.pool import Pool
from penstock._core.positions import microseconds_of
from penstock._core.route import Route
from penstock._core.scheduler import Bell, Operation, Scheduler
from penstock._core.texts import as_bytes, as_dedup_id, as_headers, as_key, headers_size
from penstock._core.wire import Wire
from penstock.errors import BadRequest, ClientClosed, PenstockError


class Producer:
    """The publishing half of a client."""

    def __init__(
        self,
        scheduler: Scheduler,
        pool: Pool,
        metadata: Metadata,
        options: Options,
        events: EventLog,
    ) -> None:
        self.scheduler = scheduler
        self.pool = pool
        self.metadata = metadata
        self.options = options
        self.events = events
        self.idempotent = bool(options.idempotent)
        self.compresses = options.compression == "zstd"
        self.buffered_bytes = 0
        """Bytes of records that were accepted and are not settled."""
        self.buffer_bytes = options.buffer_bytes
        self.room = Bell(scheduler)
        self._closed = False
        self._batch_bytes = options.batch_bytes
        self._batch_records = options.batch_records
        self._routes: dict[str, Route] = {}
        self._dirty_lanes: list[Lane] = []
        self._dirty_routes: list[Route] = []
        self._starved: dict[Lane, None] = {}
        scheduler.add_sweeper(self._expire)
        metadata.on_refresh.append(self._metadata_changed)
        pool.on_change.append(self._wire_changed)

    # ----- publishing

    @property
    def full(self) -> bool:
        """Whether publishing has to wait for `room`."""
        return self.buffered_bytes >= self.buffer_bytes

    def publish(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes | str] | None = None,
        partition: int | None = None,
        dedup_id: bytes | str | None = None,
        timestamp: datetime | None = None,
    ) -> Outgoing:
        """Accept one record; it is the last of the batch that is returned.

        Raises:
            BadRequest, RecordTooLarge, LimitExceeded: the record can't be.
            ClientClosed: the client is closed.
        """
        if self._closed:
            raise ClientClosed()
        if type(value) is not bytes:
            value = as_bytes(value)
        route = self._routes.get(topic)
        if route is None:
            route = self._new_route(topic)
        if key is None and partition is None and dedup_id is None and timestamp is None:
            size = RECORD_OVERHEAD_BYTES + (len(value) if value is not None else 0)
            found = None
            if headers:
                found = as_headers(headers)
                size = record_size(value, None, found)
            self.buffered_bytes += size
            batch = route.open
            if (
                batch is None
                or batch.size + size > self._batch_bytes
                or len(batch.values) >= self._batch_records
                or batch.timestamps is not None
            ):
                batch = route.join(size)
            if found is None and batch.keys is None and batch.headers is None:
                batch.values.append(value)
                batch.size += size
            else:
                batch.add(value, None, found, size)
            return batch
        return self._publish_placed(route, value, key, headers, partition, dedup_id, timestamp)

    def _publish_placed(
        self,
        route: Route,
        value: Value,
        raw_key: bytes | str | None,
        raw_headers: Mapping[str, bytes | str] | None,
        partition: int | None,
        raw_dedup_id: bytes | str | None,
        timestamp: datetime | None,
    ) -> Outgoing:
        """Accept a record that has a place, a time or an id of its own."""
        key, headers, dedup_id = as_key(raw_key), as_headers(raw_headers), as_dedup_id(raw_dedup_id)
        time_ms = None if timestamp is None else microseconds_of(timestamp) // 1000
        lane = route.lane_for(key, partition) if route.knows(partition) else None
        size = record_size(value, key, headers)
        if lane is None or dedup_id is not None:
            # On its own: its place is not known yet, or its id speaks for the whole batch.
            batch = Outgoing(route.topic)
            batch.dedup_id = dedup_id
            batch.timestamps = None if time_ms is None else [time_ms]
            batch.add(value, key, headers, size)
            self.accept(batch)
            route.place(batch, key, partition)
            return batch
        batch = route.join_lane(lane, size, timed=time_ms is not None)
        if time_ms is not None and batch.timestamps is not None:
            batch.timestamps.append(time_ms)
        self.buffered_bytes += size
        batch.add(value, key, headers, size)
        return batch

    def route(self, topic: str) -> Operation[Route]:
        """The route to a topic, once its partitions are known.

        Raises:
            TopicNotFound: there is no such topic.
            TimedOut, ConnectionLost: nobody could tell in time.
        """
        found = self._routes.get(topic)
        if found is None or not found.lanes:
            yield from self.metadata.ensure(topic)
            # Asking may have dropped the old one, had somebody waited for the topic too long.
            found = self._routes.get(topic) or self._new_route(topic)
            found.update()
        return found

    def accept(self, batch: Outgoing) -> None:
        """Count a batch that was made elsewhere."""
        if self._closed:
            raise ClientClosed()
        self.buffered_bytes += batch.size

    def flush(self) -> Operation[None]:
        """Wait until everything accepted so far is settled, well or not."""
        for route in list(self._routes.values()):
            for batch in route.unsettled():
                with suppress(PenstockError):
                    yield batch

    def close(self) -> None:
        """Accept nothing more; what is not settled fails."""
        self._closed = True
        for route in self._routes.values():
            route.abandon(ClientClosed("the client was closed before the record was acknowledged"))
        self._routes.clear()
        self._dirty_routes.clear()
        self._dirty_lanes.clear()
        self.room.ring()

    # ----- turns

    def mark(self, lane: Lane) -> None:
        """Have a lane looked at in the next turn."""
        if not lane.dirty:
            lane.dirty = True
            self._dirty_lanes.append(lane)
            self.scheduler.request_turn()

    def mark_route(self, route: Route) -> None:
        """Have a route looked at in the next turn."""
        if not route.dirty:
            route.dirty = True
            self._dirty_routes.append(route)
            self.scheduler.request_turn()

    def starve(self, lane: Lane) -> None:
        """Have a lane looked at when a connection takes more."""
        self._starved[lane] = None

    def feed(self) -> None:
        """A connection takes more."""
        if self._starved:
            starved, self._starved = self._starved, {}
            for lane in starved:
                self.mark(lane)

    def pump(self) -> bool:
        """Send what can be sent; returns whether there was anything to look at."""
        if not self._dirty_routes and not self._dirty_lanes:
            return False
        while self._dirty_routes or self._dirty_lanes:
            routes, self._dirty_routes = self._dirty_routes, []
            for route in routes:
                route.dirty = False
                route.pump()
            lanes, self._dirty_lanes = self._dirty_lanes, []
            for lane in lanes:
                lane.dirty = False
                lane.pump()
        return True

    def start_clock(self, batch: Outgoing) -> None:
        """Let the delivery time-out run, if it does not yet."""
        if not batch.expires:
            batch.expires = self.scheduler.now + self.options.delivery_timeout
            self.scheduler.watch(batch.expires)

    def settle(self, batch: Outgoing, error: PenstockError | None) -> None:
        """Tell those who wait for a batch; the first word counts."""
        if batch.done:
            return
        was_full = self.full
        self.buffered_bytes -= batch.size
        if batch.partial is not None:
            batch.partial[0] -= 1
            batch.partial = None
        if error is None:
            self.scheduler.complete(batch, batch)
        else:
            self.scheduler.fail(batch, error)
        route = self._routes.get(batch.topic)
        if route is not None and route.open is not None:
            self.mark_route(route)
        self.feed()
        if was_full and not self.full:
            self.room.ring()

    def new_id(self) -> int:
        """A random producer id: never 0, nor one of the brokers' own."""
        return self.scheduler.rng.getrandbits(63) or 1

    def drop_route(self, route: Route, error: PenstockError) -> None:
        """A topic is gone or can't be found: its batches fail, the next record asks anew."""
        if self._routes.get(route.topic) is route:
            del self._routes[route.topic]
        route.abandon(error)

    # ----- inside

    def _new_route(self, topic: str) -> Route:
        if not isinstance(topic, str) or not topic:
            raise BadRequest("a topic is named by a str")
        route = self._routes[topic] = Route(self, topic)
        if self.metadata.topic(topic) is not None:
            route.update()
        return route

    def _expire(self, now: float) -> float:
        return min((route.expire(now) for route in list(self._routes.values())), default=inf)

    def _metadata_changed(self) -> None:
        for route in list(self._routes.values()):
            route.update()

    def _wire_changed(self, _: Wire) -> None:
        for route in self._routes.values():
            route.nudge()
        self.feed()


def record_size(value: Value, key: bytes | None, headers: Headers | None) -> int:
    """What a record counts towards the limits, in bytes."""
    size = RECORD_OVERHEAD_BYTES + (len(value) if value is not None else 0)
    if key is not None:
        size += len(key)
    return size + headers_size(headers) if headers else size
