"""A topic with two copies that loses one of them for ever, and goes on with the other.

One client publishes into it and notes what was acknowledged. Now and then the disk of one of its
brokers burns, also while it moves; half of the time an operator removes the broker, else another
takes its address. Then the operator has the partition recovered, from the copy that goes furthest.
Whatever else goes wrong meanwhile, all that was acknowledged is there in the end: it was on both.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError, TopicNotFound
from penstock.protocol import frames
from penstock.protocol.cluster import (
    MovePartition,
    RecoverPartition,
    RecoverPartitionReply,
    SetNodeState,
)
from penstock.protocol.codec import decode_error
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.cluster_clients import PAUSE, Link
from penstock_broker.simulation.disk import SimDisk

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_host import Host
    from penstock_broker.simulation.cluster_world import ClusterWorld

TOPIC: Final = "pair"
PRODUCER: Final = 5000
PUBLISH_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 0.7
"""Between two looks of the operator."""
MOVED: Final = 0.2
"""So often it is moved when it is looked at."""
LOSE_SECONDS: Final = 1.5
DOWN_SECONDS: Final = 0.5


class Pair:
    """Publishes one record after the other, loses copies, and has the topic recovered."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        (self.gid,) = world.pairs
        self.acked: dict[int, bytes] = {}
        """Offset -> value of what was acknowledged."""
        self._sequence = 0
        self._waits = self._stopped = False
        """Whether a record is under way; whether no other one shall begin."""
        self._turns = 0
        self.link = Link(world, self._publish)
        self.operator = Link(world, self._nothing)
        self.link.go()
        self.operator.go()
        world.after(LOOK_SECONDS, self._look)
        world.after(self._until_lost(), self._lose)

    def __str__(self) -> str:
        waits = f", waits for {self._sequence}" if self._waits else ""
        return f"{TOPIC} of group {self.gid} has {len(self.acked)} records{waits}"

    @property
    def idle(self) -> bool:
        """Whether everything was acknowledged."""
        return not self._waits

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopped = True

    def _nothing(self) -> None:
        """What was asked is not asked again at once."""

    # ----- the client

    def _refused(self, error: PenstockError) -> None:
        turn = self._turns

        def again() -> None:
            if turn == self._turns:
                self._publish()

        self.world.after(PAUSE, partial(self.link.follow, error, again))

    def _publish(self) -> None:
        """Publish the next record, or the last one again if its answer was lost."""
        self._turns += 1
        if self._stopped and not self._waits:
            return
        self._waits = True
        value = b"%d" % self._sequence
        batch = encode_batch(
            [value], codec=0, base_ts_us=1, producer_id=PRODUCER, base_sequence=self._sequence
        )

        def make(correlation: int) -> bytes:
            head = frames.publish_head(correlation, self.gid, frames.ACKS_QUORUM, 0, len(batch))
            return head + bytes(batch)

        self.link.send(make, partial(self._published, self._sequence))

    def _published(self, sequence: int, flags: int, reply: bytes) -> None:
        if sequence != self._sequence or not self._waits:
            return
        if flags & frames.FLAG_ERROR:
            error = decode_error(reply[16:])
            gone = isinstance(error, TopicNotFound)  # that broker is behind
            assert error.retriable or gone or not self.acked, f"{self}: {error!r}"
            self._refused(error)
            return
        offset = frames.PUBLISH_REPLY.unpack(reply)[6]
        assert offset not in self.acked, f"{self}: offset {offset} was given twice"
        self.acked[offset] = b"%d" % sequence
        self._sequence += 1
        self._waits = False
        self.world.after(PUBLISH_SECONDS, self._publish)

    # ----- what is lost

    def _until_lost(self) -> float:
        return self.world.random.expovariate(1 / LOSE_SECONDS)

    def _lose(self) -> None:
        """One of the two disks burns, while all else is whole."""
        world = self.world
        if self._stopped:
            return
        world.after(self._until_lost(), self._lose)
        led = world.leader_of(self.gid) is not None
        if world.faulty and led and world.may_lose_a_disk():
            self._burn(world.random.choice(world.replicas_of(self.gid)))

    def _burn(self, host: Host) -> None:
        world = self.world
        assert host.node is not None
        node_id = host.node.node_id
        host.died(power=True, down=world.random.expovariate(1 / DOWN_SECONDS))
        host.wipe(SimDisk(world.random.getrandbits(32)))
        if world.random.random() < 0.5:
            removal = SetNodeState(node=node_id, state="removed", force=True)
            self.operator.ask(removal, lambda _: None)

    # ----- the operator

    def _look(self) -> None:
        """See whether it has to be recovered, and from where."""
        world = self.world
        world.after(LOOK_SECONDS, self._look)
        if world.faulty and world.random.random() < MOVED:
            nodes = sorted({host.node.node_id for host in world.alive if host.node is not None})
            to = world.random.sample(nodes, min(2, len(nodes)))
            move = MovePartition(topic=TOPIC, partition=0, replicas=to)
            self.operator.ask(move, lambda _: None)
        asked = RecoverPartition(topic=TOPIC, partition=0, dry_run=True)
        self.operator.ask(asked, self._planned)

    def _planned(self, reply: object) -> None:
        if not isinstance(reply, RecoverPartitionReply):
            return  # there is nothing to recover, or not yet
        found = [copy for copy in reply.copies if copy.answered]
        best = max(found, key=lambda copy: (copy.last_term, copy.last_index))
        asked = RecoverPartition(topic=TOPIC, partition=0, node=best.node)
        self.operator.ask(asked, self._recovered)

    def _recovered(self, reply: object) -> None:
        self.world.counts.recovered += isinstance(reply, RecoverPartitionReply)

    # ----- the end

    def check_end(self, replica: list[tuple[int, bytes]]) -> None:
        """Each record is where it was acknowledged, and there is none twice.

        Raises:
            AssertionError: it is not so.
        """
        values = dict(replica)
        for offset, value in self.acked.items():
            found = values.get(offset)
            assert found == value, f"{self}: {offset} was {value!r}, and is {found!r}"
        assert len(set(values.values())) == len(replica), f"{self}: a record is there twice"
