"""Penstock for blocking programs: the same names as in `penstock`, without `await`.

A client may be shared by threads; a subscription belongs to one thread at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Literal, Self, overload

from penstock._core import bulk, subscription
from penstock._core.events import ClientEvent
from penstock._core.options import (
    Acks,
    Compression,
    Duration,
    Options,
    parse_servers,
    seconds,
    seconds_or_none,
)
from penstock._core.outgoing import Outgoing, Receipt, Receipts
from penstock._core.positions import Start
from penstock._core.reads import Read
from penstock._core.sharing import shared_subscription
from penstock._core.sharing.shared_subscription import OnError
from penstock._core.subscription import Commit, Offsets, OutOfRange
from penstock._core.times import Delay
from penstock._drivers.blocking import BlockingDriver
from penstock._drivers.blocking_admin import BlockingAdmin
from penstock._drivers.blocking_sharing import (
    SharedBatch,
    SharedRecord,
    SharedSubscription,
)
from penstock.errors import ClientClosed, QueueFull, TimedOut
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch

__all__ = [
    "Client",
    "Pending",
    "SharedBatch",
    "SharedRecord",
    "SharedSubscription",
    "Subscription",
    "connect",
]

CLOSE_SECONDS: Final = 5.0
CLOSE_SECONDS_IN_ERROR: Final = 1.0

Value = bytes | str | None
Key = bytes | str | None
Headers = Mapping[str, bytes | str] | None


def connect(
    servers: str = "localhost:7400",
    *,
    name: str = "",
    acks: Acks = "quorum",
    compression: Compression = "zstd",
    delivery_timeout: Duration = 30.0,
    request_timeout: Duration = 10.0,
    connect_timeout: Duration = 5.0,
    idempotent: bool | None = None,
    buffer_bytes: int = 64 * 1024 * 1024,
) -> Client:
    """Make a blocking client; enter it with `with`. Arguments as of `penstock.connect`.

    Raises:
        BadRequest: an argument is out of its range.
    """
    return Client(
        Options(
            servers=parse_servers(servers),
            name=name,
            host=socket.gethostname(),
            acks=acks,
            compression=compression,
            delivery_timeout=seconds(delivery_timeout, "delivery_timeout"),
            request_timeout=seconds(request_timeout, "request_timeout"),
            connect_timeout=seconds(connect_timeout, "connect_timeout"),
            idempotent=idempotent,
            buffer_bytes=buffer_bytes,
        )
    )


class Client:
    """A client of a Penstock cluster for blocking code, for one `with` block; thread-safe."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._opened: BlockingDriver | None = None

    def __repr__(self) -> str:
        servers = ",".join(f"{host}:{port}" for host, port in self._options.servers)
        return f"<penstock.sync.Client {servers}>"

    def __enter__(self) -> Self:
        if self._opened is not None:
            raise ClientClosed("a client can be entered once; make another with connect()")
        self._opened = driver = BlockingDriver(self._options)
        driver.open(driver.core.connect())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(CLOSE_SECONDS if error is None else CLOSE_SECONDS_IN_ERROR)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait at most `timeout` seconds for what was handed over, then close; may be repeated."""
        if self._opened is not None:
            self._opened.close(timeout)

    @property
    def admin(self) -> BlockingAdmin:
        """Topics, groups and brokers: create, describe, change, delete."""
        return BlockingAdmin(self._driver, self._driver.core.admin)

    # ----- publishing

    def publish(
        self,
        topic: str,
        value: Value,
        *,
        key: Key = None,
        headers: Headers = None,
        partition: int | None = None,
        dedup_id: bytes | str | None = None,
        timestamp: datetime | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Receipt:
        """Publish one record and wait until it is stored as `acks` asks: by default, durable.

        Arguments and errors as of `penstock.Client.publish`.
        """
        driver = self._driver
        if delay is not None or at is not None:
            delays = driver.core.delays
            moment = driver.call(delays.moment, delay, at)
            return driver.run(
                delays.publish(topic, value, key, headers, partition, dedup_id, timestamp, moment)
            )
        batch, index = self._accept(
            driver, True, topic, value, key, headers, partition, dedup_id, timestamp
        )
        driver.wait(batch)
        return batch.receipt(index)

    def publish_many(
        self,
        topic: str,
        values: Iterable[Value],
        *,
        keys: Sequence[Key] | None = None,
        headers: Sequence[Headers] | None = None,
        partition: int | None = None,
        timestamps: Sequence[datetime] | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
    ) -> Receipts:
        """Publish many records in batches and wait until all are stored: the fast way.

        Arguments and errors as of `penstock.Client.publish_many`.
        """
        driver = self._driver
        if delay is not None or at is not None:
            delays = driver.core.delays
            moment = driver.call(delays.moment, delay, at)
            return driver.run(
                delays.publish_many(topic, values, keys, headers, partition, timestamps, moment)
            )
        operation = bulk.publish_many(
            driver.core.producer, topic, values, keys, headers, partition, timestamps
        )
        return driver.run(operation)

    def publish_nowait(
        self,
        topic: str,
        value: Value,
        *,
        key: Key = None,
        headers: Headers = None,
        partition: int | None = None,
        dedup_id: bytes | str | None = None,
        timestamp: datetime | None = None,
    ) -> Pending:
        """Hand over one record without waiting; `wait` on what is returned, or `flush`, later.

        Raises:
            QueueFull: `buffer_bytes` wait for their acks already.
            BadRequest, RecordTooLarge, LimitExceeded: as `publish` raises them.
        """
        driver = self._driver
        batch, index = self._accept(
            driver, False, topic, value, key, headers, partition, dedup_id, timestamp
        )
        return Pending(driver, batch, index)

    def flush(self) -> None:
        """Wait until everything that was handed over is stored or has failed."""
        self._driver.run(self._driver.core.producer.flush())

    # ----- consuming

    @overload
    def subscribe(
        self,
        topics: str | Sequence[str],
        *,
        group: str | None = None,
        mode: Literal["ordered"] = "ordered",
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        commit: Commit = "auto",
        max_bytes: int = 16 * 1024 * 1024,
        on_out_of_range: OutOfRange = "earliest",
        read: Read = "leader",
        commit_interval: Duration = 5.0,
        session_timeout: Duration = 10.0,
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        topics: str | Sequence[str],
        *,
        group: str,
        mode: Literal["shared"],
        start: Start = "earliest",
        max_in_flight: int = 100,
        create: bool | Mapping[str, object] = True,
        on_error: OnError = "nack",
        drain_timeout: Duration = 5.0,
    ) -> SharedSubscription: ...

    def subscribe(
        self,
        topics: str | Sequence[str],
        *,
        group: str | None = None,
        mode: str = "ordered",
        start: Start = "earliest",
        partitions: Sequence[int] | None = None,
        commit: Commit = "auto",
        max_bytes: int = 16 * 1024 * 1024,
        on_out_of_range: OutOfRange = "earliest",
        read: Read = "leader",
        commit_interval: Duration = 5.0,
        session_timeout: Duration = 10.0,
        max_in_flight: int = 100,
        create: bool | Mapping[str, object] = True,
        on_error: OnError = "nack",
        drain_timeout: Duration = 5.0,
    ) -> Subscription | SharedSubscription:
        """Read topics: all partitions, some of them, or what a group gives.

        Arguments as of `penstock.Client.subscribe`; enter it with `with`.

        Raises:
            BadRequest, InvalidName: an argument does not fit.
        """
        names = [topics] if isinstance(topics, str) else topics
        driver = self._driver
        if mode == "shared":
            shared_subscription.check_whole(partitions, commit)
            shared = shared_subscription.SharedSubscription(
                driver.core,
                names,
                SharedRecord,
                SharedBatch,
                group=group,
                start=start,
                max_in_flight=max_in_flight,
                create=create,
                on_error=on_error,
                drain_timeout=seconds_or_none(drain_timeout, "drain_timeout"),
            )
            return SharedSubscription(driver, shared)
        core = subscription.Subscription(
            driver.core,
            names,
            group=group,
            mode=mode,
            partitions=partitions,
            start=start,
            commit=commit,
            max_bytes=max_bytes,
            on_out_of_range=on_out_of_range,
            read=read,
            commit_interval=seconds(commit_interval, "commit_interval"),
            session_timeout=seconds(session_timeout, "session_timeout"),
        )
        return Subscription(driver, core)

    def events(self) -> Iterator[ClientEvent]:
        """What happens to the client from now on: connections, resets, assignments."""
        driver = self._driver
        number, _ = driver.call(driver.core.events.after, 0)
        while not driver.core.closed:
            number, found = driver.call(driver.core.events.after, number)
            yield from found
            if not found:
                driver.wait(driver.call(driver.core.events.bell.wait))

    # ----- inside

    @property
    def _driver(self) -> BlockingDriver:
        driver = self._opened
        if driver is None:
            raise ClientClosed("the client is not open: use `with penstock.sync.connect(...)`")
        return driver

    @staticmethod
    def _accept(
        driver: BlockingDriver, may_wait: bool, topic: str, *record: object
    ) -> tuple[Outgoing, int]:
        driver.check()
        producer = driver.core.producer
        while producer.full:
            if not may_wait:
                raise QueueFull()
            driver.wait(driver.call(producer.room.wait))
        with driver.lock:
            batch = producer.publish(topic, *record)  # type: ignore[arg-type] # typed above
            index = len(batch.values) - 1
            driver.turn()
        return batch, index


class Pending:
    """A record that was handed over; `wait` gives the `Receipt` or raises why not."""

    __slots__ = ("_batch", "_driver", "_index")

    def __init__(self, driver: BlockingDriver, batch: Outgoing, index: int) -> None:
        self._driver = driver
        self._batch = batch
        self._index = index

    @property
    def done(self) -> bool:
        """Whether it is settled, well or not."""
        return self._batch.done

    def wait(self, timeout: float | None = None) -> Receipt:
        """Wait for the receipt.

        Raises:
            TimedOut: it is not settled after `timeout` seconds; it may be asked again.
            PenstockError: why the record is not stored, or not known to be.
        """
        if not self._driver.wait(self._batch, timeout):
            raise TimedOut("the record is still on its way")
        return self._batch.receipt(self._index)


class Subscription:
    """Records of some topics, for one `with` block and one thread at a time."""

    def __init__(self, driver: BlockingDriver, core: subscription.Subscription) -> None:
        self._driver = driver
        self._core = core
        self._delivery = core.delivery

    def __repr__(self) -> str:
        return f"<penstock.sync.Subscription {self._core!r}>"

    def __enter__(self) -> Self:
        self._driver.run(self._core.open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._core.closed:
            self._driver.run(self._core.close(in_error=error is not None))

    # ----- taking records

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        for record in self._delivery.records:
            return record
        while True:
            if self._core.ended:
                raise StopIteration
            if self._driver.call(self._core.take):
                for record in self._delivery.records:
                    return record
            else:
                self._wait()

    def batches(self) -> Iterator[RecordBatch]:
        """Iterate over whole batches: columns `values`, `keys`, `offsets`, decoded when used."""
        while not self._core.ended:
            batch = self._driver.call(self._core.take_batch)
            if batch is None:
                self._wait()
            else:
                yield batch

    def fetch(self, max_records: int = 500, wait: Duration = 1.0) -> list[Record]:
        """Up to `max_records` as soon as there are any; an empty list after `wait` seconds."""
        limit = wait.total_seconds() if isinstance(wait, timedelta) else wait
        try:
            return self._driver.run(self._core.fetch(max_records, limit))
        except BaseException:
            self._driver.call(self._core.fetch_cancelled)
            raise

    # ----- positions

    def commit(self, offsets: Mapping[str, Mapping[int, int]] | None = None) -> None:
        """Commit what was handed out so far, or the given topic -> partition -> next offset.

        Raises:
            Fenced, MemberUnknown: the place in the group was lost; others read on from the last
                commit.
            BadRequest: there is no group.
        """
        self._driver.run(self._core.commit(offsets))

    def seek(self, to: Start, *, topic: str | None = None, partition: int | None = None) -> None:
        """Go on elsewhere, in all partitions that are read or in those named.

        Raises:
            PartitionNotFound: that partition is not read here.
            BadRequest: `to` is no position.
        """
        self._driver.run(self._core.seek(to, topic, partition))

    def pause(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of these partitions until `resume`; membership stays."""
        self._driver.call(self._core.pause, topic, partition)

    def resume(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out records of paused partitions again."""
        self._driver.call(self._core.resume, topic, partition)

    def position(self) -> Offsets:
        """Topic -> partition -> the offset that comes next; -1 while it is not known."""
        return self._driver.call(self._core.position)

    def assignment(self) -> dict[str, list[int]]:
        """Topic -> the partitions that are read now."""
        return self._driver.call(self._core.assignment)

    def lag(self) -> Offsets:
        """Topic -> partition -> records ahead of the position, as of the last fetch."""
        return self._driver.call(self._core.lag)

    def _wait(self) -> None:
        self._driver.wait(self._driver.call(self._core.arrival.wait))
