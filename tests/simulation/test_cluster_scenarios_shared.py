"""Shared groups and repeated trouble, played on purpose: leaders die in turn, disks are lost.

As in the other scenarios all promises are checked at every event; with members of a shared group at
work, so are leases, attempts, verdicts and dead letters, and in the end every record is settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from penstock.errors import RetriableError
from penstock.protocol.cluster import TransferLeader
from penstock.protocol.sharing import AttachGroup, AttachGroupReply
from penstock_broker.simulation.cluster_clients import Link
from penstock_broker.simulation.cluster_mutations import mutated
from penstock_broker.simulation.cluster_shared import SharedGroup
from penstock_broker.simulation.disk import SimDisk
from tests.simulation.test_cluster_scenarios import Scene


class SharedScene(Scene):
    """A scene with a shared group at work."""

    def __init__(self) -> None:
        super().__init__()
        self.swarm = replace(
            self.swarm, shared=2, publishes=3.0, by_key=True, attempts_max=2, topics=True
        )
        self.shared = SharedGroup(self)


pytestmark = pytest.mark.no_cover


@pytest.fixture
def scene() -> Iterator[SharedScene]:
    world = SharedScene()
    with world.checks.watching():
        world.form()
        world.begin_clients()
        world.wait(2.0)
        yield world
        world.settle()
        assert world.counts.verdicts


def test_leaders_that_die_one_after_the_other_take_no_verdict_along(scene: SharedScene) -> None:
    for _ in range(4):
        scene.leader().died(power=True, down=1.0)
        scene.wait(3.0)


def test_a_rolling_restart_of_all_brokers_goes_on_settling(scene: SharedScene) -> None:
    for host in scene.hosts:
        before = scene.counts.verdicts
        host.died(power=False, down=0.5)
        scene.wait(5.0)
        assert scene.counts.verdicts > before


def test_a_lead_that_is_handed_on_takes_its_leases_along(scene: SharedScene) -> None:
    link = Link(scene, lambda: None)
    link.go(scene.leader().number)
    scene.wait(0.3)
    leaders = [scene.leader()]
    for turn in range(8):
        host = scene.followers()[turn % 2]
        assert host.node is not None
        link.ask(TransferLeader(topic="t", partition=0, to=host.node.node_id), lambda _: None)
        scene.wait(0.5)
        leaders.append(scene.leader())
    link.end()
    moves = sum(one is not other for one, other in pairwise(leaders))
    assert moves > 4, leaders
    assert not scene.counts.forgotten


def test_what_a_stranded_leader_goes_on_granting_harms_nobody(scene: SharedScene) -> None:
    stranded = scene.leader()
    scene.cut_off(stranded)
    before = scene.counts.verdicts
    scene.wait(6.0)
    assert scene.leader() is not stranded
    assert scene.counts.verdicts > before
    scene.network.heal()
    scene.wait(2.0)


@pytest.mark.parametrize(
    ("broken", "answer"), [("", RetriableError), ("stale-leader-grants", AttachGroupReply)]
)
def test_a_leader_that_is_cut_off_gives_nothing_away(broken: str, answer: type) -> None:
    """And one that never gives up would be noticed by a member that comes to it late."""
    world, told = SharedScene(), list[object]()
    with world.checks.watching(), mutated(broken):
        world.form()
        stranded = world.leader()
        world.cut_off(stranded)
        world.wait(4.0)
        ask = AttachGroup(
            topic="t", partition=0, group="s", member="late", max_in_flight=5, leases=[]
        )
        link = Link(world, lambda: link.ask(ask, told.append))
        link.go(stranded.number)
        world.wait(0.3)
    assert isinstance(told[0], answer)


def test_a_leader_that_slept_longer_than_its_leases_settles_nothing_twice(
    scene: SharedScene,
) -> None:
    scene.leader().paused_until = scene.now + 5.0
    scene.wait(7.0)


def test_leases_outlive_a_power_cut_of_everything(scene: SharedScene) -> None:
    for _ in range(2):
        for host in scene.hosts:
            if host.node is not None:
                host.died(power=True, down=0.1)
        scene.wait(5.0)


def test_disks_that_are_lost_one_after_the_other_lose_nothing(scene: SharedScene) -> None:
    for number in (0, 1):
        assert scene.advance(lambda: not scene.waits_for_replicas(), 30.0)
        host = scene.hosts[number]
        host.died(power=True, down=0.5)
        host.wipe(SimDisk(number + 11))
        scene.wait(6.0)


def test_a_leader_whose_disk_is_slow_neither_loses_nor_repeats(scene: SharedScene) -> None:
    leader = scene.leader()
    leader.disk_delay = 1.0
    scene.wait(6.0)
    leader.disk_delay = 0.001
    before = scene.counts.verdicts
    scene.wait(4.0)
    assert scene.counts.verdicts > before


def test_leaders_whose_clocks_disagree_give_no_record_to_two_members(scene: SharedScene) -> None:
    first, second = scene.followers()
    first.clock_off_us, second.clock_off_us = 20_000_000, -20_000_000
    scene.clocks_moved = True
    for _ in range(2):
        scene.leader().died(power=True, down=1.0)
        scene.wait(4.0)
    for host in scene.hosts:
        host.clock_off_us = 0
