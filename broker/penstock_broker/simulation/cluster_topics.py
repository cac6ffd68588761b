"""Topics that come and go while a simulated cluster is hurt.

One client creates a topic, publishes into it, reads that back through whoever leads, and deletes
it, over and over, under one name: so it stands for one topic after another, each of which must
begin empty and leave nothing behind. A name is not used again after something was asked twice:
what was asked first may still be under way, and create or delete the topic once more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    PartitionNotFound,
    PenstockError,
    PreconditionFailed,
    TopicExists,
    TopicNotFound,
)
from penstock.protocol import frames
from penstock.protocol.codec import decode_error
from penstock.protocol.messages import (
    CreateTopic,
    CreateTopicReply,
    DeleteTopic,
    DeleteTopicReply,
    Message,
    Metadata,
    MetadataReply,
)
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.broker_world import records_of
from penstock_broker.simulation.cluster_clients import PAUSE, Link, fetch_request

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

RECORDS: Final = 3
REST: Final = 0.3
_NOT_THERE: Final = (TopicNotFound, PartitionNotFound)


class TopicMaker:
    """Creates, fills, reads and deletes one topic at a time."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self._name = ""
        self._gid = 0
        self._number = self._version = 0
        self._next: Callable[[], None] = self._create
        self._stopped = False
        self._asked = self._turns = 0
        """How often the step was done, and any of them."""
        self.link = Link(world, self._go_on)
        self.link.go()

    def __str__(self) -> str:
        step = getattr(self._next, "__name__", "?")
        return f"maker of topics at {step} of {self._name!r} ({self._gid}) on {self.link.place}"

    @property
    def idle(self) -> bool:
        """Whether no topic of it is there."""
        return self._stopped and not self._name

    def stop(self) -> None:
        """Delete what there is, begin nothing."""
        self._stopped = True

    # ----- steps

    def _go_on(self) -> None:
        """Do the step that is due, again if its answer was lost."""
        self._asked += 1
        self._turns += 1
        self._version += self._asked == 2
        self._next()

    def _step(self, step: Callable[[], None]) -> None:
        self._next, self._asked = step, 0
        self._go_on()

    def _rest_before(self, step: Callable[[], None]) -> None:
        """Nothing is due for a while, also if the connection is opened again."""
        self._next = self._rest
        self.world.after(REST, partial(self._step, step))

    def _rest(self) -> None:
        """Nothing to do."""

    def _refused(self, error: PenstockError) -> None:
        fleeting = isinstance(error, (*_NOT_THERE, PreconditionFailed))  # brokers are drained
        assert error.retriable or fleeting, f"{self}: {error!r}"
        turn = self._turns

        def again() -> None:
            if turn == self._turns:
                self._go_on()

        self.world.after(PAUSE, partial(self.link.follow, error, again))

    def _ask(self, message: Message, take: Callable[[object], bool]) -> None:
        def answered(reply: object) -> None:
            if not take(reply):
                assert isinstance(reply, PenstockError), f"{self}: {reply}"
                self._refused(reply)

        self.link.ask(message, answered)

    def _create(self) -> None:
        if not self._name:
            if self._stopped:
                return
            self._number += 1
            self._name = f"x{self._version}"
        replicas = min(3, len(self.world.hosts))
        create = CreateTopic(name=self._name, partitions=1, replication=replicas)

        def take(reply: object) -> bool:
            made = isinstance(reply, (CreateTopicReply, TopicExists))
            if made:
                self._step(self._find)
            return made

        self._ask(create, take)

    def _find(self) -> None:
        def take(reply: object) -> bool:
            if not isinstance(reply, MetadataReply):
                return False
            found = [topic.partitions[0].group for topic in reply.topics]
            stale = not self.world.gone.isdisjoint(found)
            assert not (stale and asked.linearizable), f"{self}: it has the group of another topic"
            if not found or stale:  # that broker is behind
                self._refused(TopicNotFound())
                return True
            self._gid = found[0]
            self._step(self._publish)
            return True

        asked = Metadata(topics=[self._name], linearizable=self._turns % 2 == 0)
        self._ask(asked, take)

    def _publish(self) -> None:
        values = [f"{self._number}-{at}".encode() for at in range(RECORDS)]
        batch = encode_batch(
            values,
            codec=0,
            base_ts_us=1,
            producer_id=2000 + self._number,
            base_sequence=0,
        )

        def make(correlation: int) -> bytes:
            head = frames.publish_head(correlation, self._gid, frames.ACKS_QUORUM, 0, len(batch))
            return head + bytes(batch)

        def answered(flags: int, reply: bytes) -> None:
            if flags & frames.FLAG_ERROR:
                self._refused(decode_error(reply[16:]))
                return
            offset = frames.PUBLISH_REPLY.unpack(reply)[6]
            assert offset == 0, f"{self}: a new topic began with {offset} records"
            self._step(self._read)

        self.link.send(make, answered)

    def _read(self) -> None:
        def answered(flags: int, reply: bytes) -> None:
            if flags & frames.FLAG_ERROR:
                self._refused(decode_error(reply[16:]))
                return
            found = [value for _, value in records_of(reply, 0)]
            expected = [f"{self._number}-{at}".encode() for at in range(RECORDS)]
            assert found == expected, f"{self}: {found} is there instead of {expected}"
            self._rest_before(self._delete)

        gid = self._gid
        self.link.send(
            lambda correlation: fetch_request(correlation, gid, 0, 1 << 16, 0, 0), answered
        )

    def _delete(self) -> None:
        self.world.gone.add(self._gid)

        def take(reply: object) -> bool:
            done = isinstance(reply, (DeleteTopicReply, TopicNotFound))
            if done:
                self.world.counts.topics += 1
                self._name = ""
                self._rest_before(self._create)
            return done

        self._ask(DeleteTopic(name=self._name), take)
