"""Renewals, in virtual time: a second world plays the thread with its own connection."""

from penstock.protocol.messages import TYPE_OF
from penstock.protocol.sharing import RenewLeases
from tests.client.fake_broker import FakeCluster
from tests.client.world import World

RENEW = TYPE_OF[RenewLeases]


class Two:
    """The application's world, whose loop may be blocked, and the renewing thread's."""

    def __init__(self, lease_ms: int = 3000) -> None:
        self.cluster = FakeCluster(t=1)
        self.cluster.lease_ms = lease_ms
        self.main = World(self.cluster).connect()
        for number in range(10):
            self.main.publish(b"%d" % number)
        self.main.advance(0.1)
        self.shared = self.main.share()
        self.records = self.main.take(self.shared, 5)
        self.thread = World(self.cluster, seed=2)
        self.thread.now = self.main.now
        self.thread.start(self.main.core.renewals.keep(self.thread.core))

    @property
    def group(self):
        return self.cluster.shared[("t", "g", 0)]


def test_leases_are_renewed_while_the_application_does_nothing():
    two = Two()
    two.thread.advance(10.0)
    assert 8 <= two.group.renewed.count(1) <= 12
    assert not two.main.core.renewals._lost


def test_what_is_settled_is_not_renewed():
    two = Two()
    for record in two.main.take(two.shared, 100) + two.records:
        record.ack()
    two.main.run(two.shared.flush())
    two.thread.advance(10.0)
    assert two.group.renewed == []
    assert two.cluster.seen[RENEW] == 0


def test_a_lease_that_is_found_lost_stops_the_loop():
    two = Two()
    assert len(list(two.shared.handout.records)) <= 5
    two.group.expire()
    two.thread.advance(2.0)
    assert list(two.shared.handout.records) == []
    two.main.settle()
    again = two.main.take(two.shared, 100)
    assert all(record.lease_lost for record in two.records)
    assert {record.failed for record in again} == {1}


def test_leases_that_nobody_confirms_count_as_lost():
    two = Two()
    two.cluster.deaf.add(RENEW)
    two.thread.advance(2.0)
    assert not two.main.core.renewals._lost
    two.thread.advance(3.0)
    assert two.main.core.renewals._lost


def test_a_subscription_with_short_leases_is_noticed_at_once():
    two = Two(lease_ms=60_000)
    two.thread.advance(1.0)
    two.cluster.create("quick", 1)
    two.cluster.lease_ms = 900
    two.main.publish(b"x", "quick")
    two.main.advance(0.1)
    two.main.take(two.main.share("quick"))
    two.main.core.renewals.look()
    two.thread.advance(3.0)
    assert len(two.cluster.shared[("quick", "g", 0)].renewed) >= 8


def test_a_cut_of_the_renewing_connection_is_overcome():
    two = Two()
    for _ in range(6):
        two.thread.advance(0.9)
        two.thread.cut_all()
    two.thread.advance(1.5)
    assert len(two.group.renewed) >= 3
    assert not two.main.core.renewals._lost


def test_a_subscription_that_left_is_forgotten():
    two = Two()
    two.main.run(two.shared.close(in_error=True))
    two.thread.advance(10.0)
    assert two.group.renewed == []
    assert two.main.core.renewals._alive == {}
