"""Groups of a topic with very many partitions are made, and ended, a few each round."""

from __future__ import annotations

import pytest

from penstock.protocol.messages import DeleteTopic
from penstock_broker.node import making
from tests.node.cluster import Cluster, Member

COUNT = 40


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(making, "AT_ONCE", 4)
    return Cluster(3)


def create(cluster: Cluster) -> list[int]:
    return cluster.topic("mass", partitions=COUNT)


def here(member: Member, gids: list[int]) -> int:
    return sum(member.node.groups.get(gid) is not None for gid in gids)


def test_the_request_is_answered_when_all_are_made_and_led(cluster: Cluster) -> None:
    gids = create(cluster)
    led = [gid for gid in gids for one in cluster.alive if one.node.groups.get(gid).leading]
    assert sorted(led) == gids
    assert all(here(member, gids) == COUNT for member in cluster.alive)


def test_no_round_makes_more_than_a_few(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    step = making.Making.step

    def counted(self: making.Making, machine: object) -> None:
        before = len(self)
        step(self, machine)
        made.append(before - len(self))

    monkeypatch.setattr(making.Making, "step", counted)
    create(cluster)
    assert max(made) == 4
    assert sum(made) == 3 * (COUNT - 4)


def test_nobody_else_is_elected_meanwhile(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    cluster.advance(1.0)
    leader = cluster.leader(gid)
    term = leader.node.groups.get(gid).raft.term
    create(cluster)
    cluster.advance(2.0)
    assert cluster.leader(gid) is leader
    assert leader.node.groups.get(gid).raft.term == term


def test_what_is_deleted_before_it_was_made_is_never_made(cluster: Cluster) -> None:
    gids = create(cluster)
    cluster.ask(cluster.leader(0).client(), DeleteTopic(name="mass"))
    cluster.pump()
    assert not any(here(member, gids) for member in cluster.alive)
    assert not any(member.node.groups.making for member in cluster.alive)
    assert not any(gid in member.node.store.logs for member in cluster.alive for gid in gids)


def test_a_restart_in_the_middle_goes_on(cluster: Cluster) -> None:
    gids = create(cluster)
    for number in (1, 2, 3):
        cluster.kill(number)
    for number in (1, 2, 3):
        cluster.restart(number)
    cluster.run_until(lambda: all(member.node.ready for member in cluster.alive))
    assert all(here(member, gids) == COUNT for member in cluster.alive)
