"""A shared group under random faults: connections cut, leaders moved, answers lost, leases over.

Whatever happens, every record ends done, what was confirmed is not delivered again, and no credit
is lost: this is the whole promise of the client's side.
"""

from random import Random

import pytest

from penstock._core.sharing.shared_record import SharedRecord
from penstock._core.sharing.shared_subscription import SharedSubscription
from penstock.errors import StorageFull, Throttled
from penstock.protocol.leases import ACQUIRE, SETTLE
from tests.client.fake_broker import FakeCluster
from tests.client.world import World

RECORDS = 120
STEPS = 250


class Chaos:
    """One or two members on three brokers, and a source of trouble."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = FakeCluster(nodes=3, t=3)
        servers = "node1:7400,node2:7400,node3:7400"
        self.there = World(self.cluster, seed=seed, servers=servers).connect()
        for number in range(RECORDS):
            self.there.publish(b"%d" % number)
            if self.random.random() < 0.3:
                self.there.advance(0.01)
        self.there.advance(0.1)
        self.credit = self.random.choice([1, 2, 7, 30, 200])
        self.members = [self.there.share(max_in_flight=self.credit) for _ in range(2)]
        self.hands: list[SharedRecord] = []
        self.confirmed: set[tuple[int, int]] = set()
        self.twice: set[tuple[int, int]] = set()
        """Whose lease was lost: a late ack may settle what another member has by now."""

    @property
    def groups(self):
        return [self.cluster.shared[("t", "g", number)] for number in range(3)]

    def step(self) -> None:
        """Do something to somebody."""
        roll = self.random.random()
        if roll < 0.45:
            self.take(self.random.choice(self.members))
        elif roll < 0.75:
            self.settle()
        elif roll < 0.80:
            self.there.cut_all()
        elif roll < 0.84:
            wire = self.random.choice(list(self.there.links) or [None])
            if wire is not None:
                self.there.cut(wire)
        elif roll < 0.88:
            partition = self.random.choice(self.cluster.topics["t"].partitions)
            partition.leader = self.random.randrange(1, 4)
        elif roll < 0.92:
            kind = self.random.choice([ACQUIRE, SETTLE])
            error = self.random.choice([Throttled(), StorageFull()])
            self.cluster.refusals.append((kind, error))
        elif roll < 0.95:
            self.there.cut_after = self.random.randrange(600)
        elif roll < 0.97:
            self.expire(self.random.randrange(3))
        else:
            self.there.advance(self.random.random())

    def expire(self, number: int) -> None:
        group = self.groups[number]
        self.twice |= {(number, o) for o, state in group.states.items() if state == "leased"}
        group.expire()

    def take(self, member: SharedSubscription) -> None:
        for record in self.there.take(member, self.random.randrange(1, 20), 0.02):
            assert (record.partition, record.offset) not in self.confirmed - self.twice
            self.hands.append(record)

    def settle(self) -> None:
        self.random.shuffle(self.hands)
        for record in self.hands[: self.random.randrange(1, 12)]:
            roll = self.random.random()
            if roll < 0.8:
                record.ack()
            elif roll < 0.9:
                record.release()
            else:
                record.nack(delay=self.random.choice([0.0, 0.05, 1.0]))
        self.hands = [record for record in self.hands if not record.settled]
        if self.random.random() < 0.2:
            for member in self.members:
                self.there.run(member.flush())
            for number, group in enumerate(self.groups):
                done = {offset for offset, state in group.states.items() if state == "done"}
                self.confirmed |= {(number, offset) for offset in done}

    def finish(self) -> None:
        """Faults stop: everything drains."""
        self.cluster.refusals.clear()
        self.there.cut_after = None
        for _ in range(2000):
            for member in self.members:
                self.take(member)
            for record in self.hands:
                record.ack()
            self.hands.clear()
            if all(group.state(o) == "done" for group in self.groups for o in self.offsets(group)):
                return
        raise AssertionError([group.states for group in self.groups])

    @staticmethod
    def offsets(group) -> range:
        return range(group.partition.end)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_and_no_credit_leaks(seed):
    chaos = Chaos(seed)
    for group in chaos.groups:
        group.attempts_max = 10**9
    for _ in range(STEPS):
        chaos.step()
        for member in chaos.members:
            assert 0 <= member.credits.held + member.credits.asked <= chaos.credit
    chaos.finish()
    for member in chaos.members:
        chaos.there.run(member.flush())
        assert member.credits.held == 0
        chaos.there.run(member.close())
    assert all(not share.grants for member in chaos.members for share in member.shares.values())
