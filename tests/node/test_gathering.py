"""Small publishes of a replicated partition wait for those before them, and for each other."""

from __future__ import annotations

from dataclasses import replace

from penstock_broker.node.gathering import BYTES_MAX, RESTS, Gathering
from penstock_broker.node.partition import PartitionGroup
from tests.node.cluster import Cluster, Member
from tests.node.harness import Client


class Publishers:
    """A partition with three copies, its leader, and clients of that."""

    def __init__(self, clients: int = 2, gather_us: int = 0) -> None:
        self.cluster = cluster = Cluster(3)
        (self.gid,) = cluster.topic("orders", 1)
        self.leader: Member = cluster.leader(self.gid)
        cluster.advance(1.0)
        node = self.leader.node
        node.config = replace(node.config, gather_us=gather_us)
        node.gathering = Gathering(node)
        self.clients: list[Client] = [self.leader.client() for _ in range(clients)]

    @property
    def group(self) -> PartitionGroup:
        return self.leader.node.partitions[self.gid]

    def publish(self, *numbers: int, value: bytes = b"x") -> None:
        """These clients publish, and the round ends; what is sent stays on its way."""
        for number in numbers:
            self.clients[number].publish_nowait(self.gid, value)
        self.leader.node.end_round()

    def answered(self) -> list[int]:
        """Everything happens that needs no time; offsets of who has an answer."""
        self.cluster.pump()
        return [client.publish_reply()[0] for client in self.clients if client.session.out]

    def wait(self, seconds: float) -> None:
        node = self.leader.node
        self.cluster.clock += seconds
        node.now(node.wall_us + int(seconds * 1e6), self.cluster.clock)

    def round_of(self, *numbers: int) -> None:
        """These clients are answered after a round that took a millisecond."""
        self.publish(*numbers)
        self.wait(0.001)
        assert len(self.answered()) == len(numbers)


def test_a_small_publish_waits_while_one_before_it_is_on_its_way() -> None:
    both = Publishers()
    both.publish(0)
    proposed = both.group.raft.log.last_index
    both.publish(1)
    assert both.group.raft.log.last_index == proposed
    assert both.answered() == [0, 1]
    assert both.group.raft.log.last_index == proposed + 1


def test_what_is_large_waits_for_nothing() -> None:
    both = Publishers()
    both.publish(0)
    proposed = both.group.raft.log.last_index
    both.publish(1, value=bytes(BYTES_MAX))
    assert both.group.raft.log.last_index == proposed + 1
    assert both.answered() == [0, 1]


def test_members_can_be_changed_while_publishes_wait() -> None:
    both = Publishers()
    both.publish(0)
    both.publish(1)
    others = [number for number in both.cluster.members if number != both.leader.number]
    both.group.change_members([both.leader.number, others[0]])
    assert both.answered() == [0, 1]


def test_who_was_answered_is_waited_for_and_both_go_together() -> None:
    both = Publishers(gather_us=2_000)
    both.round_of(0, 1)
    proposed = both.group.raft.log.last_index
    both.publish(0)
    assert both.group.raft.log.last_index == proposed
    assert both.leader.node.gathering.seconds_left(both.leader.node.clock) > 0
    both.publish(1)
    assert both.group.raft.log.last_index == proposed + 2
    assert both.answered() == [2, 3]


def test_who_does_not_come_back_is_waited_for_no_longer_than_the_last_round_took() -> None:
    both = Publishers(gather_us=2_000)
    both.round_of(0, 1)
    both.publish(0)
    proposed = both.group.raft.log.last_index
    both.wait(0.0005)
    both.leader.node.end_round()
    assert both.group.raft.log.last_index == proposed
    both.wait(0.0006)
    both.leader.node.end_round()
    assert both.group.raft.log.last_index == proposed + 1
    assert not both.leader.node.eager
    assert both.answered() == [2]


def test_after_most_did_not_come_some_rounds_pass_before_they_are_waited_for_again() -> None:
    many = Publishers(clients=5, gather_us=2_000)
    many.round_of(0, 1, 2, 3, 4)
    many.wait(0.002)
    many.publish(0)
    assert many.answered() == [5]
    for _ in range(RESTS - 1):
        many.round_of(0)
    many.round_of(0, 1)
    many.publish(0)
    assert many.leader.node.eager


def test_without_a_shell_that_can_wait_nobody_is_waited_for() -> None:
    both = Publishers()
    both.round_of(0, 1)
    proposed = both.group.raft.log.last_index
    both.publish(0)
    assert both.group.raft.log.last_index == proposed + 1
