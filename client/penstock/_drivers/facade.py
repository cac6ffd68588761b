"""The client of async programs: the same class under trio and asyncio, which is detected.

Each method starts an operation of the core and waits for it. Only publishing one record and
iterating are written for speed here: one wait per publish, none per iterated record.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from penstock._core import bulk, subscription
from penstock._core.events import ClientEvent
from penstock._core.options import (
    Acks,
    Compression,
    Duration,
    Options,
    parse_servers,
    seconds,
)
from penstock._core.outgoing import Outgoing, Receipt, Receipts
from penstock._core.positions import Start
from penstock._core.producer import Producer
from penstock._core.subscription import Commit, Offsets, OutOfRange
from penstock._drivers.admin import Admin
from penstock.errors import BadRequest, ClientClosed, QueueFull
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch

if TYPE_CHECKING:
    from penstock._drivers.asyncio import AsyncioDriver
    from penstock._drivers.trio import TrioDriver

    Driver = TrioDriver | AsyncioDriver

CLOSE_SECONDS: Final = 5.0
CLOSE_SECONDS_IN_ERROR: Final = 1.0
RECORDS_PER_CHECKPOINT: Final = 512

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
    idempotent: bool = True,
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
        idempotent: brokers drop what had to be sent twice; without it duplicates are possible.
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

        Raises:
            TimedOut: no ack came in time; `detail["outcome"]` says if it may be stored.
            TopicNotFound, PartitionNotFound: there is no such place.
            RecordTooLarge, LimitExceeded, BadRequest: the record can't be.
            ClientClosed: the client is closed.
        """
        producer = self._producer
        while producer.full:
            await self._driver.wait(producer.room.wait())
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
    ) -> Receipts:
        """Publish many records in batches and wait until all are stored: the fast way.

        Args:
            topic: where to; it must exist.
            values: the payloads, bytes where speed matters.
            keys: one for each value, if given.
            headers: one for each value, if given.
            partition: one partition for all.
            timestamps: one for each value, if given.

        Raises:
            PenstockError: the first failure, as `publish` raises it; its `detail["receipts"]`
                holds the `Receipts`, whose `errors` say which records it met.
        """
        operation = bulk.publish_many(
            self._producer, topic, values, keys, headers, partition, timestamps
        )
        return await self._driver.run(operation)

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

    def subscribe(
        self,
        topics: str | Sequence[str],
        *,
        group: str | None = None,
        mode: str = "ordered",
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        commit: Commit = "auto",
        max_bytes: int = 16 * 1024 * 1024,
        on_out_of_range: OutOfRange = "earliest",
        commit_interval: Duration = 5.0,
        session_timeout: Duration = 10.0,
    ) -> Subscription:
        """Read topics: all partitions, some of them, or what a group assigns.

        Args:
            topics: one name or several.
            group: an ordered group: its members share the partitions, one owner each, and go on
                from the committed offsets.
            mode: "ordered".
            partitions: read these only, without a group.
            start: where a partition without a committed offset begins: "earliest", "latest", an
                offset, an aware datetime, or "-1h".
            commit: "auto" commits what the loop has finished, every `commit_interval` seconds, when
                a partition is given away and at the end; "manual" leaves it to `commit()`.
            max_bytes: how much is fetched ahead.
            on_out_of_range: where to go on when the wanted records are gone; "error" raises.
            commit_interval: seconds.
            session_timeout: seconds without a heartbeat after which the group gives the
                partitions to others.

        Raises:
            BadRequest, InvalidName: an argument does not fit.
        """
        core = subscription.Subscription(
            self._driver.core,
            [topics] if isinstance(topics, str) else topics,
            group=group,
            mode=mode,
            partitions=partitions,
            start=start,
            commit=commit,
            max_bytes=max_bytes,
            on_out_of_range=on_out_of_range,
            commit_interval=seconds(commit_interval, "commit_interval"),
            session_timeout=seconds(session_timeout, "session_timeout"),
        )
        return Subscription(self._driver, core)

    async def events(self) -> AsyncIterator[ClientEvent]:
        """What happens to the client from now on: connections, resets, assignments."""
        log = self._driver.core.events
        number, _ = log.after(0)
        while not self._driver.core.closed:
            number, found = log.after(number)
            for event in found:
                yield event
            if not found:
                await self._driver.wait(log.bell.wait())


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


class Subscription:
    """Records of some topics, for one `async with` block and one task at a time."""

    __slots__ = ("_core", "_delivery", "_driver", "_since_checkpoint")

    def __init__(self, driver: Driver, core: subscription.Subscription) -> None:
        self._driver = driver
        self._core = core
        self._delivery = core.delivery
        self._since_checkpoint = 0

    def __repr__(self) -> str:
        return f"<penstock.Subscription {self._core!r}>"

    async def __aenter__(self) -> Self:
        await self._driver.run(self._core.open())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._driver.finish(self._core.close(in_error=error is not None))

    # ----- taking records

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        for record in self._delivery.records:
            return record
        return await self._next_run()

    async def _next_run(self) -> Record:
        while True:
            if self._core.ended:
                raise StopAsyncIteration
            if self._core.take():
                await self._breathe()
                for record in self._delivery.records:
                    self._since_checkpoint += self._delivery.size
                    return record
            else:
                await self._wait()

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Iterate over whole batches: columns `values`, `keys`, `offsets`, decoded when used."""
        while not self._core.ended:
            batch = self._core.take_batch()
            if batch is None:
                await self._wait()
                continue
            await self._breathe()
            self._since_checkpoint += len(batch)
            yield batch

    async def fetch(self, max_records: int = 500, wait: Duration = 1.0) -> list[Record]:
        """Up to `max_records` as soon as there are any; an empty list after `wait` seconds."""
        limit = wait.total_seconds() if isinstance(wait, timedelta) else wait
        return await self._driver.run(self._core.fetch(max_records, limit))

    # ----- positions

    async def commit(self, offsets: Mapping[str, Mapping[int, int]] | None = None) -> None:
        """Commit what was handed out so far, or the given topic -> partition -> next offset.

        Raises:
            Fenced, MemberUnknown: the place in the group was lost; others read on from the last
                commit.
            BadRequest: there is no group.
        """
        await self._driver.run(self._core.commit(offsets))

    async def seek(
        self, to: Start, *, topic: str | None = None, partition: int | None = None
    ) -> None:
        """Go on elsewhere, in all partitions that are read or in those named.

        Raises:
            PartitionNotFound: that partition is not read here.
            BadRequest: `to` is no position.
        """
        await self._driver.run(self._core.seek(to, topic, partition))

    def pause(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of these partitions until `resume`; membership stays."""
        self._core.pause(topic, partition)

    def resume(self, *, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out records of paused partitions again."""
        self._core.resume(topic, partition)

    def position(self) -> Offsets:
        """Topic -> partition -> the offset that comes next; -1 while it is not known."""
        return self._core.position()

    def assignment(self) -> dict[str, list[int]]:
        """Topic -> the partitions that are read now."""
        return self._core.assignment()

    def lag(self) -> Offsets:
        """Topic -> partition -> records ahead of the position, as of the last fetch."""
        return self._core.lag()

    async def _wait(self) -> None:
        self._since_checkpoint = 0
        await self._driver.wait(self._core.arrival.wait())

    async def _breathe(self) -> None:
        """Let others run once in a while, however much has been fetched ahead."""
        if self._since_checkpoint >= RECORDS_PER_CHECKPOINT:
            self._since_checkpoint = 0
            await self._driver.checkpoint()
