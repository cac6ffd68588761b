"""A partition that lost its majority for ever goes on with one copy: when, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from penstock_broker.machine.commands import (
    ChangeReplicas,
    CreateTopic,
    RecoverPartition,
    Refused,
    RegisterNode,
    SettleReplicas,
)
from penstock_broker.machine.effects import ReplicaRemoved, ReplicasChanged
from penstock_broker.machine.replica_recovery import TERM_MAX, is_bereft
from penstock_broker.machine.topology import PartitionRecovered
from tests.machine.test_nodes_and_replicas import Cluster

TERM = 5000


class Bereft(Cluster):
    """The topic `pair` is on nodes 1 and 2; 2 is removed by force."""

    def __init__(self, *replicas: int, lost: tuple[int, ...] = (2,)) -> None:
        super().__init__()
        places = list(replicas or (1, 2))
        self.apply(CreateTopic(name="pair", id="p", replication=len(places), replicas=[places]))
        self.pair = self.place.group
        for node in lost:
            self.lose(node)

    @property
    def place(self) -> Any:
        return self.machine.topics["pair"].partitions[0]

    def lose(self, node: int) -> None:
        self.apply(self.state(node, "removed", force=True))

    def recover(self, node: int, term: int = TERM, **more: Any) -> Any:
        wanted = {"group": self.pair, "node": node, "term": term, "revision": self.place.revision}
        return self.apply(RecoverPartition(**wanted | more))

    def refuses(self, node: int, term: int = TERM, **more: Any) -> str:
        """Recovery is refused and changes nothing; in what words."""
        before = self.place
        reply = self.recover(node, term, **more)
        assert isinstance(reply, Refused)
        assert (self.effects, self.place) == ([], before)
        return reply.message

    def move(self, *replicas: int) -> Any:
        return self.apply(ChangeReplicas(group=self.pair, replicas=list(replicas)))

    def settled(self, *members: int) -> Any:
        revision = self.place.revision
        return self.apply(SettleReplicas(group=self.pair, members=list(members), revision=revision))


def test_it_is_refused_while_a_majority_may_come_back() -> None:
    for cluster in (Bereft(1, 2, lost=()), Bereft(1, 2, 3), Bereft(1, 2, 3, 4, lost=(4,))):
        assert "bring these brokers back, or remove" in cluster.refuses(1)


def test_it_goes_on_with_the_copy_that_is_left() -> None:
    cluster = Bereft()
    reply = cluster.recover(1)
    assert isinstance(reply, PartitionRecovered)
    (changed,) = cluster.effects
    assert isinstance(changed, ReplicasChanged)
    assert (changed.replicas, changed.holders) == ([1], [1, 2])
    place = cluster.place
    assert (place.replicas, place.members, place.moving) == ([1], [1, 2], True)
    assert (place.survivor, place.recovery_term, place.astray) == (1, TERM, [3, 4, 5])
    assert place.revision == cluster.index


def test_a_node_that_was_replaced_is_lost_as_well() -> None:
    cluster = Bereft(1, 2, lost=())
    cluster.apply(RegisterNode(uuid="new disk", address="host-2:1", host="host-2"))
    reply = cluster.recover(1)
    assert isinstance(reply, PartitionRecovered)


def test_saying_it_twice_changes_nothing() -> None:
    cluster = Bereft()
    revision = cluster.place.revision
    cluster.recover(1)
    place = cluster.place
    reply = cluster.recover(1, revision=revision)
    assert isinstance(reply, PartitionRecovered)
    assert (cluster.effects, cluster.place) == ([], place)
    cluster.refuses(1, TERM + 1)


def test_only_who_had_a_whole_copy_and_is_a_member_goes_on() -> None:
    cluster = Bereft(1, 2, 3, 4, lost=(3, 4))
    for node in (3, 5, 99):
        assert "whole copies are on nodes [1, 2]" in cluster.refuses(node)


def test_nobody_goes_on_when_nobody_is_left() -> None:
    cluster = Bereft(2, 3, lost=(2, 3))
    assert "delete the topic" in cluster.refuses(2)


def test_what_was_looked_at_must_be_so_still() -> None:
    cluster = Bereft()
    assert "by now" in cluster.refuses(1, revision=cluster.place.revision - 1)
    assert "no partition has the group 999" in cluster.refuses(1, group=999)


@pytest.mark.parametrize("term", [0, -1, TERM_MAX + 1])
def test_terms_stay_in_bounds(term: int) -> None:
    assert "goes on in term" in Bereft().refuses(1, term)


def test_nobody_moves_it_until_it_is_settled() -> None:
    cluster = Bereft()
    cluster.recover(1)
    reply = cluster.move(1, 3)
    assert isinstance(reply, Refused)
    assert "being recovered on node 1" in reply.message
    cluster.settled(1)
    place = cluster.place
    assert (place.members, place.moving, place.founded) == ([1], False, False)
    assert (place.survivor, place.recovery_term) == (0, TERM)
    cluster.move(1, 3)
    assert cluster.place.replicas == [1, 3]


def test_an_older_report_does_not_settle_it() -> None:
    cluster = Bereft()
    revision = cluster.place.revision
    cluster.recover(1)
    before = cluster.place
    cluster.apply(SettleReplicas(group=cluster.pair, members=[1], revision=revision))
    cluster.settled(1, 2)
    assert cluster.place == before


def test_a_copy_that_was_given_up_is_known_until_its_node_takes_part_again() -> None:
    cluster = Bereft(1, 2, 3, 4, lost=(3, 4))
    cluster.recover(1)
    assert cluster.place.astray == [2, 5]
    assert cluster.place.holders == [1, 2, 3, 4]
    cluster.settled(1)
    assert [effect.node for effect in cluster.effects_of(ReplicaRemoved)] == [2, 3, 4]
    assert (cluster.place.holders, cluster.place.astray) == ([1], [2, 5])
    cluster.move(1, 5)
    cluster.settled(1, 5)
    assert cluster.place.astray == [2]
    cluster.move(1, 2)
    cluster.settled(1, 2)
    assert cluster.place.astray == []


def test_a_move_under_way_ends() -> None:
    cluster = Bereft(lost=())
    cluster.move(1, 3)
    cluster.lose(2)
    cluster.recover(1)
    place = cluster.place
    assert (place.replicas, place.moving, place.leaving) == ([1], True, [3])
    assert place.astray == [3, 4, 5]
    cluster.settled(1)
    assert cluster.place.holders == [1]


def test_a_move_whose_target_has_lost_its_majority_may_be_over_already() -> None:
    cluster = Bereft(lost=())
    cluster.move(3, 4)
    cluster.lose(3)
    reply = cluster.recover(4)
    assert isinstance(reply, PartitionRecovered)
    assert cluster.place.astray == [1, 2, 5]


def test_who_was_lost_on_the_way_may_have_been_a_voter() -> None:
    cluster = Bereft()
    cluster.recover(1)
    cluster.settled(1)
    cluster.move(1, 3)
    assert "are a majority" in cluster.refuses(1, TERM + 1)
    cluster.lose(3)
    cluster.move(1, 4)
    assert cluster.place.leaving == [3]
    assert is_bereft(cluster.place, cluster.machine.members)
    assert isinstance(cluster.recover(1, TERM + 1), PartitionRecovered)


def test_a_repair_of_three_copies_under_way_is_not_taken_for_a_loss() -> None:
    cluster = Bereft(1, 2, 3)
    cluster.move(1, 3, 4)
    assert not is_bereft(cluster.place, cluster.machine.members)


def test_another_copy_is_taken_when_the_survivor_is_lost_too() -> None:
    cluster = Bereft(1, 2, 3, 4, lost=(3, 4))
    cluster.recover(1)
    assert "copies on nodes [1] are" in cluster.refuses(2, TERM + 1)
    cluster.lose(1)
    assert "goes on in term" in cluster.refuses(2, TERM)
    reply = cluster.recover(2, TERM + 1)
    assert isinstance(reply, PartitionRecovered)
    assert (cluster.place.survivor, cluster.place.recovery_term) == (2, TERM + 1)


def test_replicas_may_be_changed_when_the_survivor_is_gone() -> None:
    cluster = Bereft(1, 2, 3, 4, lost=(3, 4))
    cluster.recover(1)
    cluster.lose(1)
    cluster.move(2)
    assert (cluster.place.replicas, cluster.place.survivor) == ([2], 0)


def test_a_snapshot_keeps_all_of_it() -> None:
    cluster = Bereft(1, 2, 3, 4, lost=(3, 4))
    cluster.recover(1)
    blob = cluster.machine.snapshot()
    again = type(cluster.machine)()
    again.restore(blob)
    assert again.snapshot() == blob
    assert again.topics["pair"].partitions[0] == cluster.place
