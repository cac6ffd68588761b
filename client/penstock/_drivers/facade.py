"""The client of async programs: the same class under trio and asyncio, which is detected.

Each method starts an operation of the core and waits for it. Only publishing one record and
iterating are written for speed here: one wait per publish, none per iterated record.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

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
from penstock._core.producer import Producer
from penstock._core.reads import Read
from penstock._core.sharing import shared_subscription
from penstock._core.sharing.shared_subscription import OnError
from penstock._core.subscription import Commit, OutOfRange
from penstock._core.times import Delay
from penstock._drivers.admin import Admin
from penstock._drivers.consuming import Subscription, wait_for
from penstock._drivers.sharing import SharedBatch, SharedRecord, SharedSubscription
from penstock.errors import BadRequest, ClientClosed, QueueFull

if TYPE_CHECKING:
    from penstock._drivers.asyncio import AsyncioDriver
    from penstock._drivers.trio import TrioDriver

    Driver = TrioDriver | AsyncioDriver

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
    """Make a client of the brokers at "host:port,host2:port2"; enter it with `async with`.

    Args:
        servers: some brokers of the cluster; the others are found through them.
        name: shown by the broker beside the connection.
        acks: "quorum": an awaited publish is durable on a majority; "leader": written by the
            leader only; "none": handed to the network, without a place in the receipt.
        compression: "zstd" or "none", per batch and only where it helps.
        delivery_timeout: seconds after which a publish that got no ack ends with `TimedOut`.
        request_timeout: the same for all other requests, and for connecting at first.
        connect_timeout: seconds for one attempt to connect.
        idempotent: brokers drop what had to be sent twice; without it duplicates are possible. The
            default is True, and False with acks="none", which can't have it.
        buffer_bytes: published bytes that may wait for their acks.

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


def make_driver(options: Options) -> Driver:
    """The driver of the async library that runs this code.

    Raises:
        BadRequest: neither trio nor asyncio does.
    """
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_task():
            from penstock._drivers.trio import TrioDriver

            return TrioDriver(options)
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise BadRequest(
            "penstock.connect runs under trio or asyncio; plain code uses penstock.sync.connect"
        ) from None
    from penstock._drivers.asyncio import AsyncioDriver

    return AsyncioDriver(options)


class Client:
    """A client of a Penstock cluster, for one `async with` block.

    Not for use from several threads; any number of tasks may share it.
    """

    _driver: Driver
    _producer: Producer

    def __init__(self, options: Options) -> None:
        self._options = options
        self._entered = False

    def __repr__(self) -> str:
        servers = ",".join(f"{host}:{port}" for host, port in self._options.servers)
        return f"<penstock.Client {servers}>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ClientClosed("a client can be entered once; make another with connect()")
        self._entered = True
        driver = make_driver(self._options)
        await driver.open(driver.core.connect())
        self._driver = driver
        self._producer = driver.core.producer
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        timeout = CLOSE_SECONDS if error is None else CLOSE_SECONDS_IN_ERROR
        return await self._driver.close(timeout, kind, error, trace)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - only ever raises
        if name in ("_driver", "_producer"):
            raise ClientClosed("the client is not open: use `async with penstock.connect(...)`")
        raise AttributeError(name)

    @property
    def admin(self) -> Admin:
        """Topics, groups and brokers: create, describe, change, delete."""
        return Admin(self._driver, self._driver.core.admin)

    # ----- publishing

    async def publish(
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

        Waits through reconnects and changes of leader up to `delivery_timeout`. Many tasks that
        publish at once share batches. Cancelling leaves the outcome open: the record may be stored.

        Args:
            topic: where to; it must exist.
            value: the payload; text is sent as UTF-8; None deletes a key of a compacted topic.
            key: records with equal keys go to one partition, in order.
            headers: up to 64 names with bytes or text.
            partition: an explicit partition instead of the key's.
            dedup_id: at most one record of this id is stored within the topic's dedup window.
            timestamp: an aware datetime to be kept instead of the time of appending.
            delay: deliver it that much later: seconds, a timedelta, or text such as "10m". The
                receipt's offset is then the id by which it can be cancelled.
            at: deliver it at that time, an aware datetime.

        Raises:
            TimedOut: no ack came in time; `detail["outcome"]` says if it may be stored.
            TopicNotFound, PartitionNotFound: there is no such place.
            RecordTooLarge, LimitExceeded, BadRequest: the record can't be.
            ClientClosed: the client is closed.
        """
        if delay is not None or at is not None:
            return await self._publish_later(
                topic, value, key, headers, partition, dedup_id, timestamp, delay, at
            )
        producer = self._producer
        while producer.buffered_bytes >= producer.buffer_bytes:
            await wait_for(self._driver, producer.room)
        batch = producer.publish(topic, value, key, headers, partition, dedup_id, timestamp)
        index = len(batch.values) - 1
        await self._driver.wait(batch)
        return batch.receipt(index)

    async def publish_many(
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

        Args:
            topic: where to; it must exist.
            values: the payloads, bytes where speed matters.
            keys: one for each value, if given.
            headers: one for each value, if given.
            partition: one partition for all.
            timestamps: one for each value, if given.
            delay: deliver all of them that much later, as of `publish`.
            at: deliver all of them at that time.

        Raises:
            PenstockError: the first failure, as `publish` raises it; its `detail["receipts"]`
                holds the `Receipts`, whose `errors` say which records it met.
        """
        if delay is not None or at is not None:
            self._driver.touch()
            delays = self._driver.core.delays
            moment = delays.moment(delay, at)
            return await self._driver.run(
                delays.publish_many(topic, values, keys, headers, partition, timestamps, moment)
            )
        operation = bulk.publish_many(
            self._producer, topic, values, keys, headers, partition, timestamps
        )
        return await self._driver.run(operation)

    async def _publish_later(
        self,
        topic: str,
        value: Value,
        key: Key,
        headers: Headers,
        partition: int | None,
        dedup_id: bytes | str | None,
        timestamp: datetime | None,
        delay: Delay | None,
        at: datetime | None,
    ) -> Receipt:
        self._driver.touch()
        delays = self._driver.core.delays
        moment = delays.moment(delay, at)
        return await self._driver.run(
            delays.publish(topic, value, key, headers, partition, dedup_id, timestamp, moment)
        )

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
        """Hand over one record without waiting; await what is returned, or `flush`, later.

        Raises:
            QueueFull: `buffer_bytes` wait for their acks already.
            BadRequest, RecordTooLarge, LimitExceeded: as `publish` raises them.
        """
        producer = self._producer
        if producer.full:
            raise QueueFull()
        batch = producer.publish(topic, value, key, headers, partition, dedup_id, timestamp)
        return Pending(self._driver, batch, len(batch.values) - 1)

    async def flush(self) -> None:
        """Wait until everything that was handed over is stored or has failed."""
        await self._driver.run(self._producer.flush())

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

        Args:
            topics: one name or several.
            group: with mode="ordered" its members share the partitions, one owner each, and go on
                from the committed offsets; with mode="shared" they share the records, each of
                which is acquired under a lease and settled by itself.
            mode: "ordered" or "shared".
            partitions: read these only, without a group.
            start: where a partition without a committed offset, or a new shared group, begins:
                "earliest", "latest", an offset, an aware datetime, or "-1h".
            commit: "auto" commits what the loop has finished, every `commit_interval` seconds, when
                a partition is given away and at the end; "manual" leaves it to `commit()`.
            max_bytes: how much is fetched ahead.
            on_out_of_range: where to go on when the wanted records are gone; "error" raises.
            read: who answers: the "leader"; the leader when it has made sure that it still leads
                ("linearizable"); or the replica among the servers given to `connect` that comes
                first ("nearest"), which may be some way behind. Committed records in all cases.
            commit_interval: seconds.
            session_timeout: seconds without a heartbeat after which the group gives the
                partitions to others.
            max_in_flight: shared: how many records may be with this member at once.
            create: shared: make the group if there is none, with these settings if any.
            on_error: shared: whether an exception in a record's block ends there ("nack") or is
                raised when the attempt has been failed ("raise").
            drain_timeout: shared: how long leaving waits for records that were handed out, seconds.

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

    def events(self) -> Events:
        """What happens to the client from now on, as an async iterator of `ClientEvent`."""
        return Events(self._driver)


class Events:
    """The events of a client; iteration ends when it is closed."""

    __slots__ = ("_driver", "_found", "_number")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._number, _ = driver.core.events.after(0)
        self._found: deque[ClientEvent] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        core = self._driver.core
        while not self._found:
            if core.closed:
                raise StopAsyncIteration
            self._number, found = core.events.after(self._number)
            self._found.extend(found)
            if not found:
                await wait_for(self._driver, core.events.bell)
        return self._found.popleft()


class Pending:
    """A record that was handed over; awaiting it gives the `Receipt` or raises why not."""

    __slots__ = ("_batch", "_driver", "_index")

    def __init__(self, driver: Driver, batch: Outgoing, index: int) -> None:
        self._driver = driver
        self._batch = batch
        self._index = index

    @property
    def done(self) -> bool:
        """Whether it is settled, well or not."""
        return self._batch.done

    def __await__(self) -> Generator[Any, Any, Receipt]:
        return self._wait().__await__()

    async def _wait(self) -> Receipt:
        if not self._batch.done:
            await self._driver.wait(self._batch)
        return self._batch.receipt(self._index)
