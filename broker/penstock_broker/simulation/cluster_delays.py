"""Delayed records and a recurring schedule in a simulated cluster.

Every delayed record must come out in its topic once, and not before some broker's clock has shown
its time since it was sent; every firing of the schedule once, for each time that was due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock.protocol.messages import Metadata, MetadataReply
from penstock.protocol.records import encode_batch
from penstock.protocol.sharing import (
    CreateSchedule,
    CreateScheduleReply,
    EnableDelays,
    EnableDelaysReply,
)
from penstock_broker.machine.topology import TIMER_GROUP
from penstock_broker.simulation.broker_truth import TICK
from penstock_broker.simulation.cluster_clients import Lane, Producer
from penstock_broker.simulation.cluster_host import START_US
from penstock_broker.simulation.delayed_clients import SCHEDULE, Delays, check_firings
from penstock_broker.simulation.shared_world import read_log

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

TOPIC: Final = "t"
PRODUCER: Final = 3000
PUBLISHES: Final = 1.0


class DelayLane(Lane):
    """Publishes records of one partition for later."""

    @property
    def _target(self) -> int:
        assert self.world.delays is not None
        return self.world.delays.gids[self.partition]

    def _encode(self, sequence: int, values: list[bytes]) -> bytearray:
        assert self.world.delays is not None
        return encode_batch(
            list(values),
            codec=0,
            base_ts_us=1,
            producer_id=self.producer,
            base_sequence=sequence,
            deliver_at_us=self.world.delays.at_us(values),
            key_slots=self.world.slots_of(values),
        )

    def _stored(self, offset: int, values: list[bytes]) -> None:
        assert self.world.delays is not None
        self.world.counts.delayed += len(values)
        self.world.delays.times.accepted.update(values)


class Delayer(Producer):
    """Publishes for the same moment, for soon, for after the faults."""

    lane = DelayLane
    first = PRODUCER
    publishes = PUBLISHES


class ClusterDelays:
    """What is published for later in one world, and what has come of it."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.gids: list[int] = []
        """Groups of the companion topic's partitions."""
        self.times = Delays()
        self._topic = ""
        world.truth.came = self._came

    @property
    def wall_us(self) -> int:
        """What the clients' clocks show."""
        return START_US + int(self.world.now * 1e6)

    def create(self) -> None:
        """Have the topic take delayed records, and a record published every second."""
        world = self.world
        world.until_told(EnableDelays(topic=TOPIC), self._enabled)
        world.until_told(Metadata(topics=[self._topic]), self._described)
        world.truth.sent(0, [TICK + b"0-0"])
        schedule = CreateSchedule(
            name=SCHEDULE,
            topic=TOPIC,
            partition=0,
            cron="@every 1s",
            catch_up="all",
            value=TICK + b"0-0",
            replace=True,
        )
        world.until_told(schedule, lambda reply: isinstance(reply, CreateScheduleReply))

    def _enabled(self, reply: EnableDelaysReply | PenstockError) -> bool:
        if isinstance(reply, PenstockError):
            return False
        self._topic = reply.delayed_topic
        return True

    def _described(self, reply: MetadataReply | PenstockError) -> bool:
        if isinstance(reply, PenstockError) or not reply.topics:
            return False
        self.gids = [partition.group for partition in reply.topics[0].partitions]
        return True

    def at_us(self, values: list[bytes]) -> int:
        """The time of a batch: the same however often it is sent."""
        delay = self.world.random.choice((0.0, 0.05, 0.3, 2.0, 12.0))
        return self.times.at_us(values, self.world.now, self.wall_us + int(delay * 1e6))

    def _came(self, value: bytes) -> None:
        """Somebody has seen a record for the first time."""
        self.times.came(value, max(host.wall_us for host in self.world.hosts))

    def waits_for(self) -> list[str]:
        """Partitions in which something waits for its time."""
        found = []
        for number, gid in enumerate(self.gids):
            leader = self.world.leader_of(gid)
            node = leader.node if leader is not None else None
            if node is None:
                found.append(f"nobody leads the delayed records of partition {number}")
                continue
            timer = node.partitions[gid].machine.sharing.groups.get(TIMER_GROUP)
            if timer is None or timer.start != timer.end:
                found.append(f"delayed records of partition {number} wait")
        return found

    def check_end(self) -> None:
        """All that was accepted has come out; each firing has, once."""
        batches = []
        for gid in self.world.gids:
            leader = self.world.leader_of(gid)
            assert leader is not None
            assert leader.node is not None
            batches += read_log(leader.node, gid)
        self.times.check_end([record.value or b"" for batch in batches for record in batch])
        check_firings(self.world, batches)
