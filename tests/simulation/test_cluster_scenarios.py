"""What has gone wrong in other systems, played on purpose: each test names what must not happen.

The order of events is scripted, everything else comes from a seed; all promises are checked at
every event, as in the campaign, and once more when all is quiet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from penstock.protocol.cluster import MovePartition
from penstock_broker.simulation.cluster_clients import Link
from penstock_broker.simulation.cluster_host import Host
from penstock_broker.simulation.cluster_swarm import draw
from penstock_broker.simulation.cluster_world import ClusterWorld
from penstock_broker.simulation.disk import SimDisk

QUIET = {
    "publishes": 10.0,
    "members": 1,
    "disk_crash": 0.0,
    "client_break": 0.0,
    "disk_delay": 0.001,
    "operate_every": 0.0,
}


class Scene(ClusterWorld):
    """A world in which only what a test does goes wrong."""

    def __init__(self, nodes: int = 3) -> None:
        swarm = draw(Random(1), nodes)
        super().__init__(1, nodes, replace(swarm, **QUIET))  # type: ignore[arg-type]  # of several kinds

    def wait(self, seconds: float) -> None:
        self.advance(lambda: False, seconds)

    def leader(self) -> Host:
        """Who leads the first partition, when somebody does."""
        assert self.advance(lambda: self.leader_of(self.gids[0]) is not None, 20.0)
        host = self.leader_of(self.gids[0])
        assert host is not None
        return host

    def followers(self) -> list[Host]:
        leader = self.leader()
        return [host for host in self.hosts if host is not leader]

    def acked(self) -> int:
        return self.counts.acked_batches

    def cut_off(self, lone: Host) -> None:
        """Nothing passes between a host and the other brokers; clients reach it."""
        for other in self.hosts:
            if other is not lone:
                self.network.cut(lone.number, other.number)
                self.network.cut(other.number, lone.number)


@pytest.fixture
def scene() -> Iterator[Scene]:
    world = Scene()
    with world.checks.watching():
        world.form()
        world.begin_clients()
        world.wait(2.0)
        yield world
        world.settle()


def test_a_replica_that_lost_its_unsynced_tail_does_not_elect_a_leader_without_it(
    scene: Scene,
) -> None:
    """NATS 7567: power cut of one broker while the others are paused, and it is back first."""
    late, first = scene.followers()
    leader = scene.leader()
    first.died(power=True, down=0.2)
    leader.paused_until = scene.now + 4.0
    scene.wait(1.0)
    late.paused_until = scene.now + 0.5
    scene.wait(6.0)


def test_a_power_cut_of_everything_loses_nothing_that_was_acknowledged(scene: Scene) -> None:
    """NATS 7564: a coordinated power failure of all brokers at once, again and again."""
    for _ in range(4):
        before = scene.acked()
        for host in scene.hosts:
            if host.node is not None:
                host.died(power=True, down=0.1)
        scene.wait(6.0)
        assert scene.acked() > before


def test_the_last_replica_that_was_whole_is_not_passed_over(scene: Scene) -> None:
    """Kafka KIP-966: followers lag, the leader dies without a clean stop, a follower is first."""
    leader = scene.leader()
    scene.cut_off(leader)
    scene.wait(0.3)
    leader.died(power=True, down=8.0)
    scene.network.heal()
    scene.wait(4.0)
    for host in scene.followers():
        if host.node is not None:
            host.died(power=True, down=0.2)
    scene.wait(6.0)


def test_a_leader_that_slept_answers_nobody_from_the_past(scene: Scene) -> None:
    """etcd 20418: a stale read after the pause of a process."""
    sleeper = scene.leader()
    before = scene.acked()
    sleeper.paused_until = scene.now + 6.0
    scene.wait(5.0)
    assert scene.leader() is not sleeper
    assert scene.acked() > before
    scene.wait(3.0)


def test_a_leader_that_hears_but_is_not_heard_is_replaced(scene: Scene) -> None:
    """A cut one way: heartbeats vanish while everything arrives."""
    deaf = scene.leader()
    for other in scene.followers():
        scene.network.cut(deaf.number, other.number)
    before = scene.acked()
    scene.wait(8.0)
    assert scene.acked() > before


def test_a_follower_that_hears_nothing_disturbs_nobody(scene: Scene) -> None:
    """The disruptive server: cut off, it must not raise terms that depose a leader later."""
    lone, _ = scene.followers()
    leader = scene.leader()
    group = leader.group(scene.gids[0])
    assert group is not None
    term = group.raft.term
    scene.cut_off(lone)
    scene.wait(10.0)
    scene.network.heal()
    scene.wait(3.0)
    assert scene.leader() is leader
    assert group.raft.term == term


def test_a_move_in_a_partition_with_deaths_loses_nothing() -> None:
    """NATS 7545: members change while the leader is cut off and brokers are killed."""
    world = Scene(5)
    with world.checks.watching():
        world.form()
        world.begin_clients()
        world.wait(2.0)
        nodes = [host.node.node_id for host in world.hosts if host.node is not None]
        for chosen in (nodes[:3], nodes[2:], nodes[1:4]):
            link = Link(world, lambda: None)
            link.go(world.leader().number)
            world.wait(0.2)
            link.ask(MovePartition(topic="t", partition=0, replicas=chosen), lambda _: None)
            world.wait(0.05)
            leader = world.leader()
            world.cut_off(leader)
            world.wait(1.0)
            leader.died(power=True, down=0.5)
            world.network.heal()
            world.wait(2.0)
            link.end()
        world.settle()


def test_a_wiped_disk_comes_back_as_another_node_and_gets_its_copies(scene: Scene) -> None:
    """An empty broker that votes as if it had what it lost elects leaders without it."""
    scene.advance(lambda: not scene.waits_for_replicas(), 20.0)
    host, _ = scene.followers()
    assert host.node is not None
    before = host.node.node_id
    host.died(power=True, down=0.5)
    host.wipe(SimDisk(7))
    scene.wait(5.0)
    assert host.node is not None
    assert host.node.node_id > before


def test_a_full_disk_of_a_leader_ends_when_there_is_room(scene: Scene) -> None:
    leader = scene.leader()
    leader.disk.capacity = leader.disk.used()
    scene.wait(5.0)
    leader.disk.capacity = 1 << 40
    before = scene.acked()
    scene.wait(5.0)
    assert scene.acked() > before


def test_a_clock_that_leaps_moves_no_lead(scene: Scene) -> None:
    leader = scene.leader()
    leader.clock_off_us = 3_600_000_000
    scene.followers()[0].clock_off_us = -3_600_000_000
    scene.wait(5.0)
    assert scene.leader() is leader
