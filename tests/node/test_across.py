"""Records that one leader moves to a partition that another node leads: each exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.protocol import messages as m
from penstock.protocol import sharing as s
from penstock_broker.machine.sharing.ops import REJECT, Grant, Settle
from penstock_broker.machine.sharing.state import MOVING
from penstock_broker.node.partition import PartitionGroup
from tests.node.cluster import Cluster

DEAD = "dead.orders.billing"


@pytest.fixture(autouse=True)
def leads_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they go back to the nodes that the metadata prefers, which may be one and the same."""
    monkeypatch.setattr("penstock_broker.node.controller.leads.SETTLED_SECONDS", 1e9)


class Apart:
    """A topic with a shared group, whose dead letters and delayed records are led elsewhere."""

    def __init__(self, **settings: Any) -> None:
        self.cluster = Cluster(3)
        (self.gid,) = self.cluster.topic("orders")
        client = self.cluster.members[1].client()
        asked = s.CreateGroup(topic="orders", group="billing", settings=settings)
        self.cluster.ask(client, asked)
        self.cluster.ask(client, s.EnableDelays(topic="orders"))
        self.lease = 1 << 40
        self.dead = self.gid_of(DEAD)
        self.delayed = self.gid_of("__delayed.orders")
        self.cluster.advance(1.0)

    def gid_of(self, topic: str) -> int:
        (found,) = self.cluster.ask(
            self.cluster.members[1].client(), m.Metadata(topics=[topic])
        ).topics
        return int(found.partitions[0].group)

    def part(self, gid: int) -> None:
        """Have a partition led by another node than the topic's."""
        here, there = self.cluster.leader(self.gid), self.cluster.leader(gid)
        if here is not there:
            return
        other = next(member for member in self.cluster.alive if member is not here)
        there.group(gid).transfer(other.node.node_id)
        self.cluster.run_until(lambda: self.cluster.leader(gid) is not here)

    def leads(self, gid: int) -> PartitionGroup:
        return self.cluster.leader(gid).node.partitions[gid]

    def publish(self, gid: int, *values: bytes, **batch: Any) -> None:
        client = self.cluster.leader(gid).client()
        client.publish_nowait(gid, *values, **batch)
        self.cluster.run_until(lambda: client.session.out)
        client.publish_reply()

    def offer(self, op: Any) -> Any:
        replies: list[Any] = []
        self.leads(self.gid).shared.offer(op, replies.append)
        self.cluster.run_until(lambda: replies)
        return replies[0]

    def reject(self, first: int, count: int) -> None:
        """Have records rejected: they become dead letters."""
        self.lease += 1
        node = self.cluster.leader(self.gid).node
        self.offer(Grant(group="billing", lease=self.lease, member="m", host="h",
                         spans=[first, count], deadline_us=node.wall_us + 30_000_000))  # fmt: skip
        self.offer(Settle(group="billing", lease=self.lease, verdict=REJECT,
                          spans=[first, count], reason="poison"))  # fmt: skip

    def dead_values(self) -> list[bytes | None]:
        number = self.cluster.leader(self.dead).number
        return self.cluster.contents(number, self.dead)

    def settled(self, gid: int, name: str) -> bool:
        """Whether nothing moves any more."""
        group = self.leads(gid).machine.sharing.groups[name]
        return not group.moves.begun and not group.window.count(MOVING)


def values(first: int, count: int) -> list[bytes]:
    return [b"v%d" % number for number in range(first, first + count)]


def test_dead_letters_go_to_a_partition_that_is_led_elsewhere() -> None:
    apart = Apart()
    apart.part(apart.dead)
    apart.publish(apart.gid, *values(0, 50))
    apart.reject(0, 30)
    apart.cluster.run_until(lambda: len(apart.dead_values()) == 30)
    assert apart.dead_values() == values(0, 30)
    apart.cluster.run_until(lambda: apart.settled(apart.gid, "billing"))


def test_every_node_explains_a_dead_letter_to_its_end() -> None:
    apart = Apart()
    apart.part(apart.dead)
    apart.publish(apart.gid, *values(0, 5))
    apart.reject(2, 1)
    apart.cluster.run_until(lambda: apart.dead_values() == [b"v2"])
    apart.cluster.run_until(lambda: apart.settled(apart.gid, "billing"))
    for member in apart.cluster.alive:
        asked = s.ExplainRecord(topic="orders", partition=0, offset=2)
        (state,) = apart.cluster.ask(member.client(), asked).states
        assert (state.dead_topic, state.dead_partition, state.dead_offset) == (DEAD, 0, 0)
        assert "There: it " in state.text


@pytest.mark.parametrize("victim", ["target", "origin"])
def test_a_leader_that_dies_while_records_move_neither_loses_nor_doubles_any(victim: str) -> None:
    apart = Apart()
    cluster = apart.cluster
    apart.part(apart.dead)
    apart.publish(apart.gid, *values(0, 3000))
    for number in range(3):
        apart.reject(number * 500, 500)
    gid = apart.dead if victim == "target" else apart.gid
    killed = cluster.leader(gid).number
    cluster.kill(killed)
    cluster.run_until(lambda: len(set(apart.dead_values())) == 1500, 60)
    cluster.restart(killed)
    cluster.advance(2.0)
    apart.reject(1500, 500)
    cluster.run_until(lambda: len(apart.dead_values()) >= 2000, 60)
    cluster.advance(2.0)
    assert apart.dead_values() == values(0, 2000)


def test_no_answer_from_the_target_repeats_nothing() -> None:
    apart = Apart()
    cluster = apart.cluster
    apart.part(apart.dead)
    here, there = cluster.leader(apart.gid), cluster.leader(apart.dead)
    apart.publish(apart.gid, *values(0, 100))
    cluster.cut(here.number, there.number)
    apart.reject(0, 10)
    cluster.advance(3.0)
    cluster.heal()
    apart.reject(10, 10)
    cluster.run_until(lambda: len(apart.dead_values()) >= 20, 60)
    cluster.advance(2.0)
    assert apart.dead_values() == values(0, 20)


@pytest.mark.parametrize("more", [10, 1500])
def test_a_lost_answer_is_made_good_though_the_next_batch_is_another(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = Apart()
    cluster = apart.cluster
    apart.part(apart.dead)
    there = cluster.leader(apart.dead)
    apart.publish(apart.gid, *values(0, 2000))
    with monkeypatch.context() as patch:
        patch.setattr(there.node.relay, "_send_back", lambda *_: None)
        apart.reject(0, 10)
        cluster.advance(0.5)
        assert apart.dead_values() == values(0, 10)
        apart.reject(10, more)
        cluster.advance(1.0)
        assert apart.dead_values() == values(0, 10), "one batch of a producer at a time"
    cluster.run_until(lambda: len(apart.dead_values()) >= 10 + more, 60)
    cluster.run_until(lambda: apart.settled(apart.gid, "billing"))
    assert apart.dead_values() == values(0, 10 + more)


def test_delayed_records_come_out_where_another_node_leads() -> None:
    apart = Apart()
    cluster = apart.cluster
    apart.part(apart.delayed)
    due = cluster.wall_us + 2_000_000
    apart.publish(apart.delayed, *values(0, 40), deliver_at_us=due)
    cluster.advance(1.0)
    assert cluster.contents(cluster.leader(apart.gid).number, apart.gid) == []
    cluster.advance(2.0)
    assert cluster.contents(cluster.leader(apart.gid).number, apart.gid) == values(0, 40)
