"""Brokers that fall silent without closing a connection: found out, and left for others."""

from __future__ import annotations

from penstock._core.silence import ASK_PATIENT_SECONDS, ASK_SECONDS, LOST_SECONDS
from penstock.protocol.messages import TYPE_OF, Metadata
from tests.client.fake_broker import FakeCluster
from tests.client.world import World


class Deaf(World):
    """Some nodes take what is sent and answer nothing."""

    silent: frozenset[int] = frozenset()

    def _requests(self) -> bool:
        for wire in self.core.take_sending():
            output = b"".join(wire.take_output())
            if wire in self.links and self.links[wire].node not in self.silent:
                self.links[wire].receive(output)
        return False


def several(nodes: int = 3) -> Deaf:
    """A client that is connected to the leader, and knows of the others."""
    world = Deaf(FakeCluster(nodes=nodes, t=1), servers="node1:7400", request_timeout=10.0)
    world.connect()
    lead(world, 1)
    world.finish(world.publish(b"first"))
    return world


def lead(world: World, node: int) -> None:
    world.cluster.topics["t"].partitions[0].leader = node


def test_a_publish_to_a_leader_that_fell_silent_goes_to_the_next_one_soon() -> None:
    world = several()
    world.silent = frozenset({1})
    ticket = world.publish(b"second")
    lead(world, 2)
    began = world.now
    world.finish(ticket)
    assert world.now - began < ASK_SECONDS + 2.0
    assert world.cluster.values("t") == [b"first", b"second"]


def test_a_silent_broker_that_is_still_the_leader_is_given_up_in_the_end() -> None:
    world = several()
    world.silent = frozenset({1})
    ticket = world.publish(b"second")
    world.advance(ASK_SECONDS + 1.0)
    assert any(wire.node == 1 and wire.ready for wire in world.links)
    world.advance(LOST_SECONDS + 1.0)
    assert not any(wire.node == 1 and wire.ready for wire in world.links)
    assert not ticket.done
    world.silent = frozenset()
    world.finish(ticket)


def test_a_broker_that_is_alone_is_waited_for() -> None:
    world = several(nodes=1)
    world.silent = frozenset({1})
    world.publish(b"second")
    world.advance(8.0)
    assert all(wire.ready for wire in world.links)


def test_a_broker_that_answers_is_never_in_doubt() -> None:
    world = several()
    with_poll = world.subscribe(start=0)
    world.advance(3 * ASK_PATIENT_SECONDS)
    assert with_poll.readers
    assert not any(wire.doubtful for wire in world.links)
    assert all(wire.ready for wire in world.links)


def test_an_idle_connection_costs_no_questions() -> None:
    world = several()
    world.advance(1.0)
    before = world.cluster.seen[TYPE_OF[Metadata]]
    world.advance(30.0)
    assert world.cluster.seen[TYPE_OF[Metadata]] == before


def test_time_in_which_the_program_did_not_let_us_run_does_not_count() -> None:
    world = several()
    world.subscribe(start=0)
    world.advance(0.3)
    world.now += 60.0
    world.cluster.now = world.now
    world.settle()
    assert all(wire.ready for wire in world.links)
