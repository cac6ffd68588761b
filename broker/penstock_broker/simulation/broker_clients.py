"""Clients of the simulated broker: they keep to the protocol and believe nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from penstock.errors import PenstockError, UnknownProducer
from penstock.protocol import frames
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.messages import Hello, Message
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.group_member import GroupMember

if TYPE_CHECKING:
    from penstock_broker.node.session import Session
    from penstock_broker.simulation.broker_world import World

IN_FLIGHT_MAX = 4
Answer = Callable[[int, bytes], None]


class Link:
    """One client's connection: opened again whenever it broke."""

    def __init__(self, world: World, again: Callable[[], None]) -> None:
        self.world = world
        self.session: Session | None = None
        self._again = again
        self._opened = False
        self._waiting: dict[int, Answer] = {}
        self._correlation = 0
        self._open()

    def _open(self) -> None:
        self.session = self.world.connect(self)
        if self.session is None:
            self.world.after(0.05, self._open)
            return
        hello = Hello(magic="penstock", version_min=1, version_max=1)
        self.world.transmit(self.session, encode_message(hello, 0))
        if self._opened:
            self._again()
        self._opened = True

    def send(self, make: Callable[[int], bytes], answer: Answer) -> None:
        """Send a frame made for a correlation id; the answer gets flags and the reply frame."""
        self._correlation += 1
        self._waiting[self._correlation] = answer
        data = make(self._correlation)
        world = self.world
        if self.session is None:
            return  # all is sent anew, in order, when the connection is open again
        if world.faulty and world.random.random() < 0.01:
            world.counts.disconnects += 1
            world.disconnect(self)
            self.broke()
        else:
            world.transmit(self.session, data)

    def ask(self, message: Message, answer: Callable[[Any], None]) -> None:
        """Send a request; the answer gets the reply, or the error."""

        def decoded(flags: int, reply: bytes) -> None:
            if flags & frames.FLAG_ERROR:
                answer(decode_error(reply[16:]))
            else:
                answer(decode_reply(reply[4], reply[16:]))

        self.send(lambda correlation: encode_message(message, correlation), decoded)

    def arrived(self, session: Session, data: bytes) -> None:
        """Replies came, unless they are of a connection that is gone."""
        if session is not self.session:
            return
        found, _ = frames.scan(data, 0, len(data), frames.REPLY_BYTES_MAX)
        for frame in found:
            answer = self._waiting.pop(frame.correlation, None)
            if answer is not None:
                answer(frame.flags, data[frame.start : frame.end])

    def broke(self) -> None:
        """The connection is gone, and with it every answer."""
        if self in self.world.links:
            self.world.links.remove(self)
        self.session = None
        self._waiting.clear()
        self.world.after(self.world.random.random() * 0.1, self._reopen)

    def _reopen(self) -> None:
        if self.session is None:
            self._open()


class Client(Protocol):
    """What the world asks of every client."""

    def begin(self) -> None:
        """Start."""

    def stop(self) -> None:
        """Begin nothing new."""


class Producer:
    """Publishes unique values idempotently, several batches in flight, until it is stopped."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.id = number + 1000
        self._next = [0, 0]
        self._began: set[int] = set()
        """Partitions on which something was acknowledged: from then on the broker knows us."""
        self._flight: dict[int, list[tuple[int, list[bytes]]]] = {0: [], 1: []}
        self._stopped = self._resending = False

    def __str__(self) -> str:
        return f"producer {self.number}: {self._flight}"

    @property
    def idle(self) -> bool:
        """Whether everything was acknowledged."""
        return not any(self._flight.values())

    def begin(self) -> None:
        """Start."""
        self.link = Link(self.world, self._resend)
        self._go_on()

    def stop(self) -> None:
        """Publish nothing new."""
        self._stopped = True

    def _go_on(self) -> None:
        if self._stopped:
            return
        random = self.world.random
        self.world.after(random.expovariate(40), self._go_on)
        partition = random.randrange(2)
        if len(self._flight[partition]) >= IN_FLIGHT_MAX:
            return
        sequence = self._next[partition]
        count = random.choice((1, 1, 3, 20))
        size = random.choice((0, 10, 300))
        values = [
            b"%d-%d-%d" % (self.number, partition, sequence + i) + b"." * size for i in range(count)
        ]
        self._next[partition] += count
        self._flight[partition].append((sequence, values))
        self._send(partition, sequence, values)

    def _send(self, partition: int, sequence: int, values: list[bytes]) -> None:
        batch = self._encode(sequence, values)
        group = self._target(partition)

        def make(correlation: int) -> bytes:
            head = frames.publish_head(correlation, group, frames.ACKS_QUORUM, 0, len(batch))
            return head + bytes(batch)

        self.link.send(make, lambda flags, reply: self._acked(partition, sequence, flags, reply))

    def _acked(self, partition: int, sequence: int, flags: int, reply: bytes) -> None:
        flight = self._flight[partition]
        batch = next((batch for batch in flight if batch[0] == sequence), None)
        if batch is None:
            return
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            early = isinstance(error, UnknownProducer) and partition not in self._began
            assert error.retriable or early, f"producer {self.number}: {error!r}"
            if not self._resending:
                self._resending = True
                self.world.after(0.05, self._resend)
            return
        offset = frames.PUBLISH_REPLY.unpack(reply)[6]
        self.world.counts.duplicates += bool(flags & frames.FLAG_DUPLICATE)
        flight.remove(batch)
        self._began.add(partition)
        self._stored(partition, offset, batch[1])

    def _encode(self, sequence: int, values: list[bytes]) -> bytearray:
        return encode_batch(
            list(values),
            codec=0,
            base_ts_us=1,
            producer_id=self.id,
            base_sequence=sequence,
            key_slots=self.world.slots_of(values),
        )

    def _target(self, partition: int) -> int:
        return self.world.groups[partition]

    def _stored(self, partition: int, offset: int, values: list[bytes]) -> None:
        self.world.truth.acked(partition, offset, values)

    def _resend(self) -> None:
        self._resending = False
        for partition, flight in self._flight.items():
            for sequence, values in list(flight):
                self._send(partition, sequence, values)


class Reader:
    """Reads every partition from its start, by long polls, once and in order."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self._offsets = [0, 0]

    @property
    def caught_up(self) -> bool:
        """Whether it has read all there is."""
        return self._offsets == [self.world.end_offset(0), self.world.end_offset(1)]

    def begin(self) -> None:
        """Start."""
        self.link = Link(self.world, self._fetch_all)
        self._fetch_all()

    def stop(self) -> None:
        """Read on: only what is published ends."""

    def _fetch_all(self) -> None:
        for partition in range(2):
            self._fetch(partition)

    def _fetch(self, partition: int) -> None:
        offset = self._offsets[partition]
        group = self.world.groups[partition]
        size = self.world.random.choice((1, 700, 1 << 16))
        self.link.send(
            lambda correlation: frames.fetch_request(correlation, group, offset, size, 1, 500),
            lambda flags, reply: self._fetched(partition, offset, flags, reply),
        )

    def _fetched(self, partition: int, offset: int, flags: int, reply: bytes) -> None:
        from penstock_broker.simulation.broker_world import records_of

        if offset != self._offsets[partition]:
            return
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            assert error.retriable, f"reader {self.number}: {error!r}"
            self.world.after(0.05, lambda: self._fetch(partition))
            return
        records = records_of(reply, offset)
        self.world.truth.seen(partition, records)
        if records:
            assert records[0][0] == offset, f"asked for {offset}, got {records[0][0]}"
            self._offsets[partition] = records[-1][0] + 1
        self._fetch(partition)


class Member(GroupMember):
    """A member of one ordered group, which commits what it could have read."""

    SESSION_MS = 1000
    BEATS = (0.1, 0.3, 1.5)

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.world = world

    def begin(self) -> None:
        """Start."""
        self.link = Link(self.world, self.join)
        self.join()
        self.beat()

    def join_later(self, error: PenstockError) -> None:
        self.world.after(0.1, self.join)

    def found_committed(self, partition: int, offset: int) -> None:
        if self.world.node is not None:
            end = self.world.end_offset(partition)
            self.world.truth.found_committed(partition, offset, end)

    def readable_end(self, partition: int) -> int | None:
        return None if self.world.node is None else self.world.end_offset(partition)
