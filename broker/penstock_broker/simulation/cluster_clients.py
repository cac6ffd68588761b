"""Clients of a simulated cluster: they find leaders, follow hints, and believe nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import (
    NotLeader,
    PenstockError,
    TopicNotFound,
    UnknownProducer,
)
from penstock.protocol import frames
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.messages import Hello, Message
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.broker_world import records_of
from penstock_broker.simulation.cluster_network import OUTSIDE, End
from penstock_broker.simulation.group_member import GroupMember

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

Answer = Callable[[int, bytes], None]
IN_FLIGHT_MAX: Final = 4
PATIENCE: Final = 3.0
"""Seconds without an answer after which a client tries another broker."""
PAUSE: Final = 0.05
ANY_REPLICA: Final = 1
STRICT: Final = 2
STRICT_EVERY: Final = 0.25
_HELLO: Final = Hello(magic="penstock", version_min=1, version_max=1)


class Link:
    """A client's connection to one broker after another."""

    def __init__(
        self, world: ClusterWorld, opened: Callable[[], None], patience: float = PATIENCE
    ) -> None:
        self.world = world
        self._patience = patience
        self.place = 0
        """The host that it is, or shall be, connected to."""
        self._opened = opened
        self._end: End | None = None
        self._waiting: dict[int, tuple[float, Answer]] = {}
        self._correlation = 0
        self._opening = self._ended = False
        self._watch()

    @property
    def open(self) -> bool:
        """Whether requests can be sent."""
        return self._end is not None

    def go(self, place: int = 0) -> None:
        """Connect to a host (0: any other than the present one); what was asked is dropped."""
        hosts = len(self.world.hosts)
        if not place:
            place = 1 + self.world.random.randrange(hosts)
        self.place = place
        if self._end is not None:
            self.world.network.close(self._end)
            self._end = None
        self._waiting.clear()
        if not self._opening:
            self._opening = True
            self.world.after(self.world.random.random() * PAUSE, self._open)

    def _open(self) -> None:
        self._opening = False
        if self._ended:
            return
        world = self.world
        host = world.hosts[self.place - 1]
        if host.node is None or world.network.is_cut(OUTSIDE, self.place):
            self.go()
            return
        self._end = world.network.connect(OUTSIDE, self, self.place, host)
        host.accept(self._end.other)
        world.network.send(self._end, encode_message(_HELLO, 0))
        self._opened()

    def send(self, make: Callable[[int], bytes], answer: Answer) -> None:
        """Send a frame made for a correlation id; the answer gets flags and the reply frame."""
        if self._end is None:
            return  # all is sent anew when the connection is open
        world = self.world
        self._correlation += 1
        self._waiting[self._correlation] = (world.now, answer)
        if world.faulty and world.random.random() < world.swarm.client_break:
            world.counts.disconnects += 1
            self.go()
        else:
            world.network.send(self._end, make(self._correlation))

    def ask(self, message: Message, answer: Callable[[Any], None]) -> None:
        """Send a request; the answer gets the reply, or the error."""

        def decoded(flags: int, reply: bytes) -> None:
            if flags & frames.FLAG_ERROR:
                answer(decode_error(reply[16:]))
            else:
                answer(decode_reply(reply[4], reply[16:]))

        self.send(lambda correlation: encode_message(message, correlation), decoded)

    def arrived(self, end: End) -> None:
        """Replies came, unless they are of a connection that is gone."""
        if end is not self._end:
            return
        data = bytes(end.inbox)
        end.inbox.clear()
        found, _ = frames.scan(data, 0, len(data), frames.REPLY_BYTES_MAX)
        for frame in found:
            waiting = self._waiting.pop(frame.correlation, None)
            if waiting is not None:
                waiting[1](frame.flags, data[frame.start : frame.end])

    def hung_up(self, end: End) -> None:
        """The connection is gone, and with it every answer."""
        if end is self._end:
            self._end = None
            self.go()

    def end(self) -> None:
        """Close for good."""
        self._ended = True
        if self._end is not None:
            self.world.network.close(self._end)
            self._end = None

    def _watch(self) -> None:
        if not self._ended:
            self.world.after(1.0, self._watch)
        if self._waiting and self._end is not None:
            oldest = min(since for since, _ in self._waiting.values())
            if self.world.now - oldest > self._patience:
                self.go()

    def follow(self, error: PenstockError, again: Callable[[], None]) -> None:
        """Try again where a refusal points to, or elsewhere, or after a pause."""
        place = 0
        if isinstance(error, NotLeader):
            place = self.world.place_of(error.detail)
        if place and place != self.place:
            self.go(place)
        elif isinstance(error, (NotLeader, TopicNotFound)) or self.world.random.random() < 0.3:
            self.go()
        else:
            self.world.after(PAUSE, again)


class Lane:
    """What one producer has in flight on one partition: idempotent, in order."""

    def __init__(self, world: ClusterWorld, producer: int, partition: int) -> None:
        self.world = world
        self.partition = partition
        self.producer = producer
        self.flight: list[tuple[int, list[bytes]]] = []
        self._next = 0
        self._began = False
        """Whether something was acknowledged: from then on the brokers know us."""
        self._resending = False
        self.link = Link(world, self._resend)
        self.link.go()

    def publish(self) -> None:
        """Publish unique values, unless enough is in flight."""
        if len(self.flight) >= IN_FLIGHT_MAX:
            return
        random, sequence = self.world.random, self._next
        count, size = random.choice((1, 1, 3, 20)), random.choice((0, 10, 300))
        head = f"{self.producer}-{self.partition}-"
        values = [f"{head}{sequence + at}".encode() + b"." * size for at in range(count)]
        self._next += count
        self.flight.append((sequence, values))
        self._send(sequence, values)

    def _send(self, sequence: int, values: list[bytes]) -> None:
        batch, gid = self._encode(sequence, values), self._target

        def make(correlation: int) -> bytes:
            head = frames.publish_head(correlation, gid, frames.ACKS_QUORUM, 0, len(batch))
            return head + bytes(batch)

        self.world.truth.sent(self.partition, values)
        self.link.send(make, partial(self._answered, sequence))

    @property
    def _target(self) -> int:
        return self.world.gids[self.partition]

    def _encode(self, sequence: int, values: list[bytes]) -> bytearray:
        return encode_batch(
            list(values),
            codec=0,
            base_ts_us=1,
            producer_id=self.producer,
            base_sequence=sequence,
            key_slots=self.world.slots_of(values),
        )

    def _stored(self, offset: int, values: list[bytes]) -> None:
        self.world.truth.acked(self.partition, offset, values)

    def _answered(self, sequence: int, flags: int, reply: bytes) -> None:
        batch = next((batch for batch in self.flight if batch[0] == sequence), None)
        if batch is None:
            return
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            early = isinstance(error, UnknownProducer) and not self._began
            gone = isinstance(error, TopicNotFound)  # it is not on that broker
            assert error.retriable or early or gone, f"producer {self.producer}: {error!r}"
            if not self._resending:
                self._resending = True
                self.link.follow(error, self._resend)
            return
        offset = frames.PUBLISH_REPLY.unpack(reply)[6]
        self.world.counts.duplicates += bool(flags & frames.FLAG_DUPLICATE)
        self.flight.remove(batch)
        self._began = True
        self._stored(offset, batch[1])

    def _resend(self) -> None:
        self._resending = False
        for sequence, values in list(self.flight):
            self._send(sequence, values)


class Producer:
    """Publishes to all partitions until it is stopped."""

    lane = Lane
    first = 1000
    """The first of such producers' ids."""
    publishes = 0.0
    """A second; 0: as the swarm has it."""

    def __init__(self, world: ClusterWorld, number: int) -> None:
        self.world = world
        self.lanes = [self.lane(world, self.first + number, at) for at in range(len(world.gids))]
        self._stopped = False
        self._go_on()

    def __str__(self) -> str:
        flights = {lane.partition: [batch[0] for batch in lane.flight] for lane in self.lanes}
        return f"producer {self.lanes[0].producer} waits for {flights}"

    @property
    def idle(self) -> bool:
        """Whether everything was acknowledged."""
        return not any(lane.flight for lane in self.lanes)

    def stop(self) -> None:
        """Publish nothing new."""
        self._stopped = True

    def publish_everywhere(self) -> None:
        """Publish something to each partition."""
        for lane in self.lanes:
            lane.publish()

    def _go_on(self) -> None:
        if not self._stopped:
            random = self.world.random
            publishes = self.publishes or self.world.swarm.publishes
            self.world.after(random.expovariate(publishes), self._go_on)
            random.choice(self.lanes).publish()


class Reader:
    """Reads one partition from its start, once and in order; some from any replica."""

    def __init__(self, world: ClusterWorld, partition: int, flags: int = 0) -> None:
        self.world = world
        self.partition = partition
        self.offset = 0
        self._flags = flags
        self.link = Link(world, self._fetch)
        self.link.go()

    def __str__(self) -> str:
        return f"reader {self._flags} of {self.partition} at {self.offset} on {self.link.place}"

    @property
    def idle(self) -> bool:
        """Whether it has read all that is known."""
        return self.offset >= self.world.truth.end(self.partition)

    def stop(self) -> None:
        """Read on: only what is published ends."""

    def _fetch(self) -> None:
        offset, gid, flags = self.offset, self.world.gids[self.partition], self._flags
        size = self.world.random.choice((1, 700, 1 << 16))
        self.link.send(
            lambda correlation: fetch_request(correlation, gid, offset, size, 500, flags),
            partial(self._fetched, offset),
        )

    def _fetched(self, offset: int, flags: int, reply: bytes) -> None:
        world = self.world
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            gone = isinstance(error, TopicNotFound)
            assert error.retriable or gone, f"{self}: {error!r}"
            self.link.follow(error, self._fetch)
            return
        records = records_of(reply, offset)
        world.truth.seen(self.partition, records)
        if records and offset == self.offset:
            assert records[0][0] == offset, f"asked for {offset}, got {records[0][0]}"
            self.offset = records[-1][0] + 1
        world.after(0.0 if records else 0.01, self._fetch)


class StrictReader:
    """Asks again and again for linearizable reads: all that was known when it asked is there.

    It does not wait for an answer before it asks again, so that a leader which was stopped, or cut
    off, finds its questions when it goes on.
    """

    def __init__(self, world: ClusterWorld, partition: int) -> None:
        self.world = world
        self.partition = partition
        self._answered_at = 0.0
        self._waits = False
        self.link = Link(world, self._again, patience=20.0)
        self.link.go()
        self._ask()

    def __str__(self) -> str:
        return f"strict reader of {self.partition} on {self.link.place}"

    @property
    def idle(self) -> bool:
        """Whether it has an answer that is not old."""
        return self.world.now - self._answered_at < 2.0

    def stop(self) -> None:
        """Read on."""

    def _again(self) -> None:
        self._waits = False

    def _ask(self) -> None:
        self.world.after(STRICT_EVERY, self._ask)
        known = self.world.truth.end(self.partition)
        gid = self.world.gids[self.partition]
        self.link.send(
            lambda correlation: fetch_request(correlation, gid, known, 1 << 10, 0, STRICT),
            partial(self._told, known),
        )

    def _told(self, known: int, flags: int, reply: bytes) -> None:
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            gone = isinstance(error, TopicNotFound)
            assert error.retriable or gone, f"{self}: {known} was known when it asked: {error!r}"
            if not self._waits:
                self._waits = True
                self.link.follow(error, self._again)
            return
        self._answered_at = self.world.now
        self.world.counts.strict_reads += 1
        self.world.truth.seen(self.partition, records_of(reply, known))


def fetch_request(
    correlation: int, gid: int, offset: int, size: int, wait_ms: int, flags: int
) -> bytes:
    """A fetch with flags in its last field."""
    request = bytearray(frames.fetch_request(correlation, gid, offset, size, 1, wait_ms))
    request[-4:] = flags.to_bytes(4, "little")
    return bytes(request)


class Member(GroupMember):
    """A member of one ordered group, which commits what is known to be there."""

    SESSION_MS = 2000
    BEATS = (0.2, 0.5, 1.5)

    def __init__(self, world: ClusterWorld, number: int) -> None:
        super().__init__(world, number)
        self.world = world
        self.link: Link = Link(world, self.join)
        self.link.go()
        self.beat()

    def __str__(self) -> str:
        return f"member {self.name} of generation {self.generation} owns {self.owned}"

    @property
    def idle(self) -> bool:
        """Whether it takes part."""
        return self.generation > 0

    def join_later(self, error: PenstockError) -> None:
        self.generation = 0
        self.world.after(0.1, partial(self.link.follow, error, self.join))

    def found_committed(self, partition: int, offset: int) -> None:
        self.world.truth.found_committed(partition, offset)

    def readable_end(self, partition: int) -> int:
        return self.world.truth.end(partition)
