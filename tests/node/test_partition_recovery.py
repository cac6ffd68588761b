"""A partition without a majority goes on with one copy; what comes back later changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import PreconditionFailed
from penstock.protocol import cluster as protocol
from penstock.protocol.sharing import EnableDelays
from penstock_broker.machine.commands import ChangeReplicas, RecoverPartition, SetNodeState
from penstock_broker.node import surviving
from tests.node.cluster import Cluster
from tests.node.test_moves_of_replicas import (
    machine,
    make,
    numbers,
    on,
    place,
    propose,
    publish,
    quarantined,
)


def lose(cluster: Cluster, *nodes: int) -> None:
    """Their machines burn; an operator says so."""
    for node in nodes:
        if cluster.members[node].running is not None:
            cluster.kill(node)
    for node in nodes:
        propose(cluster, SetNodeState(node=node, state="removed", force=True))
    cluster.advance(2.0)


def recover(cluster: Cluster, topic: str = "orders", **more: Any) -> protocol.RecoverPartitionReply:
    asked = protocol.RecoverPartition(topic=topic, partition=0, **more)
    reply = cluster.ask(cluster.leader(0).client(), asked)
    assert isinstance(reply, protocol.RecoverPartitionReply)
    return reply


def alone(cluster: Cluster, gid: int, node: int) -> bool:
    group = cluster.members[node].node.groups.get(gid)
    return group is not None and group.leading and not place(cluster, gid).survivor


def test_all_that_was_acknowledged_is_there_and_copies_are_made_again() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    lose(cluster, 1)
    assert not cluster.members[2].group(gid).leading
    planned = recover(cluster, dry_run=True)
    assert (planned.node, planned.lost, planned.complete) == (2, [1], True)
    assert place(cluster, gid).survivor == 0
    assert recover(cluster) == planned
    cluster.run_until(lambda: alone(cluster, gid, 2))
    assert numbers(cluster, 2, gid) == list(range(20))
    publish(cluster, gid, 20, 5)
    cluster.run_until(lambda: len(place(cluster, gid).members) == 2)
    other = next(node for node in place(cluster, gid).members if node != 2)
    cluster.run_until(lambda: numbers(cluster, other, gid) == list(range(25)))


def test_it_is_refused_while_a_majority_may_come_back() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 3)
    cluster.kill(1)
    cluster.advance(2.0)
    with pytest.raises(PreconditionFailed, match=r"nodes \[1, 2\] are a majority"):
        recover(cluster)
    assert place(cluster, gid).recovery_term == 0


@pytest.mark.parametrize("moment", ["before it hears", "when it heard"])
def test_a_crash_of_the_survivor_changes_nothing(moment: str) -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    lose(cluster, 1)
    if moment == "before it hears":
        cluster.kill(2)
        revision = place(cluster, gid).revision
        propose(cluster, RecoverPartition(group=gid, node=2, term=1 << 16, revision=revision))
        assert place(cluster, gid).survivor == 2
    else:
        recover(cluster)
        cluster.kill(2)
    cluster.restart(2)
    cluster.run_until(lambda: alone(cluster, gid, 2))
    term = cluster.members[2].group(gid).raft.term
    cluster.restart(2)
    cluster.run_until(lambda: alone(cluster, gid, 2))
    group = cluster.members[2].group(gid)
    assert group.raft.term <= term + 8, "it went alone once"
    assert numbers(cluster, 2, gid) == list(range(20))
    publish(cluster, gid, 20, 1)
    cluster.run_until(lambda: len(place(cluster, gid).members) == 2)


def behind(cluster: Cluster, gid: int, away: int, count: int) -> None:
    """Publish what one replica does not get."""
    cluster.isolate(away)
    cluster.advance(3.0)
    publish(cluster, gid, 20, count)
    cluster.advance(1.0)
    for node in (1, 2):
        cluster.kill(node)
    cluster.advance(3.0)
    cluster.heal()


def check_choice(cluster: Cluster) -> None:
    """Copies are left on 3 and 4; that on 3 is longer."""
    planned = recover(cluster, dry_run=True)
    assert (planned.node, planned.lost, planned.complete) == (0, [1, 2], False)
    longer, shorter = planned.copies
    assert (longer.node, shorter.node) == (3, 4)
    assert (longer.last_term, longer.last_index) > (shorter.last_term, shorter.last_index)
    assert (longer.end_offset, shorter.end_offset) == (50, 20)
    with pytest.raises(PreconditionFailed, match="name the one"):
        recover(cluster)
    assert recover(cluster, node=3, dry_run=True).complete
    assert not recover(cluster, node=4, dry_run=True).complete
    with pytest.raises(PreconditionFailed, match="whole copies are on nodes"):
        recover(cluster, node=5)


def test_a_longer_copy_that_was_given_up_is_dropped_before_its_node_is_fed() -> None:
    cluster = Cluster(5)
    (gid,) = make(cluster, [1, 2, 3, 4])
    publish(cluster, gid, 0, 20)
    behind(cluster, gid, 4, 30)
    lose(cluster, 1, 2)
    check_choice(cluster)
    cluster.kill(3)
    recover(cluster, node=4)
    cluster.run_until(lambda: alone(cluster, gid, 4))
    assert numbers(cluster, 4, gid) == list(range(20))
    publish(cluster, gid, 100, 3)
    propose(cluster, ChangeReplicas(group=gid, replicas=[4, 3]))
    cluster.restart(3)
    cluster.run_until(lambda: on(cluster, gid, 3, 4), 60.0)
    wanted = [*range(20), 100, 101, 102]
    cluster.run_until(lambda: numbers(cluster, 3, gid) == wanted)
    assert quarantined(cluster, 3) == [gid]
    cluster.kill(4)
    cluster.restart(4)
    publish(cluster, gid, 103, 1)
    assert not cluster.errors


def test_an_old_replica_of_a_removed_broker_does_not_take_part_again() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    lose(cluster, 1)
    recover(cluster)
    cluster.run_until(lambda: alone(cluster, gid, 2))
    publish(cluster, gid, 20, 3)
    cluster.members[1].start()
    cluster.run_until(lambda: cluster.members[1].node.membership.removed is not None)
    cluster.kill(1)
    cluster.run_until(lambda: on(cluster, gid, 2, 3))
    assert numbers(cluster, 2, gid) == list(range(23))


def test_the_coordinators_of_ordered_groups_are_recovered_by_name() -> None:
    cluster = Cluster(3)
    topic = cluster.leader(0).node.groups.metadata.machine.topics["__groups"]
    gid = topic.partitions[0].group
    cluster.run_until(lambda: len(place(cluster, gid).members) == 3, 60.0)
    cluster.run_until(lambda: not place(cluster, gid).moving)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2]))
    cluster.run_until(lambda: place(cluster, gid).members == [1, 2])
    lose(cluster, 2)
    group = cluster.members[1].group(gid)
    if group.leading:
        cluster.advance(3.0)
    asked = protocol.RecoverPartition(topic="__groups", partition=0)
    cluster.ask(cluster.leader(0).client(), asked)
    cluster.run_until(lambda: alone(cluster, gid, 1))


def test_a_copy_that_was_catching_up_does_not_go_on_alone() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    lose(cluster, 1)
    partition = cluster.members[2].node.partitions[gid]
    partition.log.last_index = partition.raft.log.last_index + 1
    assert surviving.is_torn(partition)
    with pytest.raises(PreconditionFailed, match="not whole"):
        recover(cluster)


def test_a_partition_that_is_led_is_left_alone() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    moved = cluster.leader(gid)
    propose(cluster, ChangeReplicas(group=gid, replicas=[3, 4]))
    cluster.run_until(lambda: on(cluster, gid, 3, 4))
    assert moved.number in (1, 2)
    with pytest.raises(PreconditionFailed, match=r"nodes \[3, 4\] are a majority"):
        recover(cluster)


def test_during_a_move_everybody_who_may_have_got_a_copy_is_heard() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2])
    publish(cluster, gid, 0, 20)
    cluster.kill(4)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 4]))
    cluster.advance(2.0)
    cluster.kill(2)
    cluster.restart(4)
    cluster.run_until(lambda: 4 in cluster.leader(0).group(0).raft.configuration.members)
    cluster.kill(4)
    propose(cluster, SetNodeState(node=2, state="removed", force=True))
    cluster.advance(3.0)
    with pytest.raises(PreconditionFailed, match=r"nodes \[4\].*not heard of"):
        recover(cluster)
    cluster.restart(4)
    cluster.run_until(lambda: cluster.members[4].node.groups.get(gid) is not None)
    cluster.advance(1.0)
    with pytest.raises(PreconditionFailed, match="had only begun"):
        recover(cluster, node=4)
    planned = recover(cluster, dry_run=True)
    assert (planned.node, planned.complete) == (1, False)
    recover(cluster)
    cluster.run_until(lambda: alone(cluster, gid, 1))
    assert numbers(cluster, 1, gid) == list(range(20))


def test_what_is_moved_afterwards_is_not_taken_for_what_the_lost_copies_had_moved() -> None:
    cluster = Cluster(5)
    (gid,) = make(cluster, [4, 5, 1])
    cluster.ask(cluster.leader(0).client(), EnableDelays(topic="orders"))
    cluster.advance(2.0)
    delayed = machine(cluster).topics["__delayed.orders"].partitions[0].group
    propose(cluster, ChangeReplicas(group=delayed, replicas=[1, 2, 3]))
    cluster.run_until(lambda: on(cluster, delayed, 1, 2, 3))

    def come_due(first: int, count: int) -> None:
        client = cluster.leader(delayed).client()
        for number in range(first, first + count):
            client.publish(delayed, b"%d" % number, deliver_at_us=cluster.wall_us + 100_000)
        cluster.advance(2.0)

    come_due(0, 3)
    cluster.isolate(3)
    cluster.advance(3.0)
    come_due(3, 4)
    assert numbers(cluster, 4, gid) == list(range(7))
    for node in (1, 2):
        cluster.kill(node)
    cluster.advance(3.0)
    cluster.heal()
    lose(cluster, 1, 2)
    recover(cluster, topic="__delayed.orders")
    cluster.run_until(lambda: alone(cluster, delayed, 3))
    come_due(7, 6)
    cluster.run_until(lambda: numbers(cluster, 4, gid) == list(range(13)))
