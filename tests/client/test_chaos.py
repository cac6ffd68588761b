"""Random faults against producers and a group, in virtual time; one seed replays a run.

What is acknowledged is stored exactly once and in order, nothing is ever stored twice, and the
group reads all of it.
"""

from __future__ import annotations

from random import Random

import pytest

from penstock._core.outgoing import Outgoing
from penstock._core.subscription import Subscription
from penstock.errors import LeaderUnknown, PenstockError, StorageFull, Throttled
from penstock.protocol.frames import FETCH, PUBLISH
from penstock.protocol.messages import TYPE_OF, CommitOffsets, GroupHeartbeat, JoinGroup
from tests.client.fake_broker import FakeCluster
from tests.client.world import World

PARTITIONS = 3
NODES = 3
STEPS = 80
TYPES = (PUBLISH, FETCH, *(TYPE_OF[each] for each in (CommitOffsets, GroupHeartbeat, JoinGroup)))


class Chaos:
    """Two producers, two members of a group, and one source of trouble."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.cluster = FakeCluster(nodes=NODES, t=PARTITIONS)
        servers = ",".join(f"node{node}:7400" for node in range(1, NODES + 1))
        self.worlds = [
            World(
                self.cluster,
                seed=seed * 10 + number,
                servers=servers,
                request_timeout=3.0,
                # Every other run gives up often, which begins new epochs.
                delivery_timeout=2.0 if seed % 2 else 30.0,
            )
            for number in range(4)
        ]
        for world in self.worlds:
            world.connect()
        self.producers, self.consumers = self.worlds[:2], self.worlds[2:]
        self.members: list[Subscription] = []
        self.sent: list[tuple[int, int, Outgoing]] = []
        self.read: list[tuple[int, int, bytes]] = []
        for world in self.consumers:
            self.members.append(world.subscribe(group="g", commit_interval=1.0))

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all."""
        end = max(world.now for world in self.worlds) + seconds
        while any(world.now < end for world in self.worlds):
            world = min(self.worlds, key=lambda each: each.now)
            world.advance(min(0.1, end - world.now))

    def step(self) -> None:
        """Do one thing, good or bad."""
        action = self.rng.choice(
            [self.publish, self.publish, self.consume, self.consume, self.cut, self.cut_later,
             self.move, self.refuse, self.silence, self.wait]
        )  # fmt: skip
        action()
        self.pass_time(self.rng.choice([0.0, 0.01, 0.3]))

    def publish(self) -> None:
        producer = self.rng.randrange(2)
        for _ in range(self.rng.randint(1, 8)):
            number = len(self.sent)
            partition = self.rng.randrange(PARTITIONS)
            batch = self.producers[producer].publish(b"%d" % number, partition=partition)
            self.sent.append((producer, partition, batch))

    def consume(self) -> None:
        number = self.rng.randrange(2)
        records = self.consumers[number].run(
            self.members[number].fetch(self.rng.randint(1, 20), 0.0)
        )
        self.read.extend((each.partition, each.offset, each.value) for each in records)

    def cut(self) -> None:
        self.rng.choice(self.worlds).cut_all()

    def cut_later(self) -> None:
        self.rng.choice(self.worlds).cut_after = self.rng.randrange(500)

    def move(self) -> None:
        partition = self.cluster.partition("t", self.rng.randrange(PARTITIONS))
        partition.leader = self.rng.randint(1, NODES)

    def refuse(self) -> None:
        error = self.rng.choice([Throttled(), StorageFull(), LeaderUnknown()])
        self.cluster.refusals.append((self.rng.choice([PUBLISH, FETCH]), error))

    def silence(self) -> None:
        deaf = self.rng.choice([self.cluster.deaf, self.cluster.silent])
        deaf.add(self.rng.choice(TYPES))
        self.pass_time(self.rng.uniform(0.0, 4.0))
        self.cluster.deaf.clear()
        self.cluster.silent.clear()

    def wait(self) -> None:
        self.pass_time(self.rng.uniform(0.0, 3.0))

    def heal(self) -> None:
        """End all trouble and let everything come to its end."""
        self.cluster.refusals.clear()
        for world in self.worlds:
            world.cut_after = None
        for _ in range(60):
            self.pass_time(1.0)
            for number in range(2):
                records = self.consumers[number].run(self.members[number].fetch(1000, 0.0))
                self.read.extend((each.partition, each.offset, each.value) for each in records)
            stored = sum(part.end for part in self.cluster.topics["t"].partitions)
            settled = all(batch.done for _, _, batch in self.sent)
            if settled and len({(p, o) for p, o, _ in self.read}) == stored:
                return
        raise AssertionError("it never drains")


@pytest.mark.parametrize("seed", range(12))
def test_nothing_acknowledged_is_lost_or_repeated(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(STEPS):
        chaos.step()
    chaos.heal()
    check(chaos)


def check(chaos: Chaos) -> None:
    stored = [part.values() for part in chaos.cluster.topics["t"].partitions]
    acked = 0
    for number, (_, partition, batch) in enumerate(chaos.sent):
        value = b"%d" % number
        assert stored[partition].count(value) <= 1, "stored twice"
        if batch.error is None:
            acked += 1
            index = batch.values.index(value)
            offset = batch.receipt(index).offset
            assert stored[partition][offset] == value, "not where the receipt says"
        else:
            assert isinstance(batch.error, PenstockError)
    assert acked > len(chaos.sent) // 3
    for producer in range(2):
        for partition in range(PARTITIONS):
            mine = [int(v) for v in stored[partition] if chaos.sent[int(v)][0] == producer]
            assert mine == sorted(mine), "out of order"
    seen = {(partition, offset): value for partition, offset, value in chaos.read}
    assert seen == {
        (partition, offset): value
        for partition, values in enumerate(stored)
        for offset, value in enumerate(values)
    }
