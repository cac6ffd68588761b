"""Replicas move: by hand, off dead, draining and wiped nodes, and onto new ones."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from penstock.protocol.messages import BrokerStatus
from penstock_broker.machine.commands import (
    ChangeReplicas,
    Command,
    CreateTopic,
    SetNodeState,
    encode_command,
)
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.topology import Partition
from penstock_broker.node.cluster_view import state_of
from penstock_broker.node.peers.frames import HEARTBEAT_ACK_TABLE, HEARTBEAT_TABLE
from penstock_broker.node.questions import GroupLead
from penstock_broker.raft import Configuration, Raft
from penstock_broker.storage.files import Beneath
from penstock_broker.storage.inspect import FileReport, inspect_files
from tests.node.cluster import Cluster


def machine(cluster: Cluster) -> MetadataMachine:
    return cluster.leader(0).node.groups.metadata.machine


def propose(cluster: Cluster, command: Command) -> None:
    cluster.leader(0).node.groups.metadata.propose_command(encode_command(command))
    cluster.pump()


def make(cluster: Cluster, *replicas: list[int]) -> list[int]:
    """A topic on these nodes; returns its groups."""
    propose(
        cluster,
        CreateTopic(
            name="orders", id="o", partitions=len(replicas), replication=len(replicas[0]),
            replicas=list(replicas),
        ),
    )  # fmt: skip
    cluster.advance(2.0)
    return [p.group for p in machine(cluster).topics["orders"].partitions]


def place(cluster: Cluster, gid: int) -> Partition:
    found = machine(cluster).locate(gid)
    assert found is not None
    return found[0].partitions[found[1]]


def on(cluster: Cluster, gid: int, *nodes: int) -> bool:
    """Whether a partition is on exactly these nodes, according to everybody."""
    partition = place(cluster, gid)
    if partition.moving or partition.members != sorted(nodes):
        return False
    if any((m.node.groups.get(gid) is not None) != (n in nodes) for n, m in cluster.members.items()
           if m.running is not None):  # fmt: skip
        return False
    return cluster.leader(gid).group(gid).raft.configuration.voters == tuple(sorted(nodes))


def all_off(cluster: Cluster, node: int) -> bool:
    return all(
        node not in p.holders for t in machine(cluster).topics.values() for p in t.partitions
    )


def publish(cluster: Cluster, gid: int, first: int, count: int) -> None:
    client = cluster.leader(gid).client()
    for number in range(first, first + count):
        client.publish(gid, b"%d" % number)


def numbers(cluster: Cluster, number: int, gid: int) -> list[int]:
    return [int(value or b"") for value in cluster.contents(number, gid)]


def quarantined(cluster: Cluster, number: int) -> list[int]:
    client = cluster.members[number].client()
    reply = cluster.ask(client, BrokerStatus())
    return [one["group"] for one in reply.figures.get("quarantine", [])]


def inspected(cluster: Cluster, number: int) -> list[FileReport]:
    """What the oldest quarantined replica of a member holds, by its intact files."""
    member = cluster.members[number]
    (oldest, *_) = member.node.store.quarantined()
    reports = list(inspect_files(Beneath(member.files, oldest.path)))
    assert not [report for report in reports if report.damage]
    return reports


def test_a_partition_moves_with_all_its_records() -> None:
    cluster = Cluster(5)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 50)
    propose(cluster, ChangeReplicas(group=gid, replicas=[4, 5, 3]))
    publish(cluster, gid, 50, 10)
    cluster.run_until(lambda: on(cluster, gid, 3, 4, 5), 30.0)
    publish(cluster, gid, 60, 10)
    cluster.advance(1.0)
    for number in (3, 4, 5):
        assert numbers(cluster, number, gid) == list(range(70))
    for number in (1, 2):
        assert quarantined(cluster, number) >= [gid]
        records = sum(report.records for report in inspected(cluster, number))
        assert 60 <= records <= 70  # it left before or after the last ones came
    cluster.run_until(lambda: cluster.leader(gid).number == 4, 30.0)
    assert not cluster.errors


def test_what_moves_lacks_no_copy_while_those_that_it_had_are_whole() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 4]))
    node = cluster.leader(0).node
    topic = machine(cluster).topics["orders"]
    partition = replace(place(cluster, gid), replicas=[1, 2, 4], members=[1, 2, 3], moving=True)
    lead = GroupLead(group=gid, term=1, voters=[1, 2, 3], learners=[4], behind={4: 5_000})
    assert state_of(node, topic, partition, lead) == "moving"
    lead.behind[3] = -1  # it is away, but not among those that shall have it
    cluster.kill(3)
    cluster.advance(3.0)
    node = cluster.leader(0).node
    assert state_of(node, topic, partition, lead) == "under-replicated"
    lead.behind[4] = 10
    assert state_of(node, topic, partition, lead) == "moving"
    cluster.kill(4)
    cluster.advance(3.0)
    assert state_of(cluster.alive[0].node, topic, partition, lead) == "under-replicated"


def test_a_partition_of_one_replica_moves_too() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1])
    publish(cluster, gid, 0, 20)
    propose(cluster, ChangeReplicas(group=gid, replicas=[3]))
    cluster.run_until(lambda: on(cluster, gid, 3), 30.0)
    assert numbers(cluster, 3, gid) == list(range(20))


def test_a_move_is_called_off_and_comes_back_later() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 20)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 4]))
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 3]))
    cluster.run_until(lambda: on(cluster, gid, 1, 2, 3), 30.0)
    for replicas in ([1, 2, 4], [1, 2, 3], [4, 2, 3]):
        propose(cluster, ChangeReplicas(group=gid, replicas=replicas))
        cluster.run_until(lambda nodes=replicas: on(cluster, gid, *nodes), 30.0)  # type: ignore[misc]  # bound
        publish(cluster, gid, 20, 0)
    publish(cluster, gid, 20, 5)
    cluster.advance(1.0)
    for number in (2, 3, 4):
        assert numbers(cluster, number, gid) == list(range(25))
    assert not cluster.errors


def test_replicas_of_a_dead_node_are_made_anew() -> None:
    cluster = Cluster(4)
    gids = make(cluster, [1, 2, 3], [3, 1, 2], [2, 3, 1])
    cluster.advance(40.0)  # until all is even
    for gid in gids:
        publish(cluster, gid, 0, 10)
    before = [place(cluster, gid) for gid in gids]
    cluster.kill(3)
    cluster.advance(20.0)
    assert [place(cluster, gid) for gid in gids] == before
    cluster.run_until(lambda: all(on(cluster, gid, 1, 2, 4) for gid in gids), 60.0)
    cluster.run_until(lambda: all_off(cluster, 3), 60.0)
    for gid in gids:
        assert numbers(cluster, 4, gid) == list(range(10))
    cluster.restart(3)
    cluster.advance(3.0)
    assert all(cluster.members[3].node.groups.get(gid) is None for gid in gids)


def test_a_draining_node_is_emptied_and_can_be_removed() -> None:
    cluster = Cluster(4)
    make(cluster, [1, 2, 3], [2, 3, 1])
    cluster.advance(10.0)
    propose(cluster, SetNodeState(node=2, state="draining"))
    cluster.run_until(lambda: all_off(cluster, 2), 60.0)
    raft = cluster.leader(0).group(0).raft
    assert 2 not in raft.configuration.voters
    assert not [group for group in cluster.members[2].node.groups.led() if group.gid]
    propose(cluster, SetNodeState(node=2, state="removed"))
    assert 2 not in machine(cluster).members
    cluster.run_until(lambda: 2 not in cluster.leader(0).group(0).raft.configuration.members, 30.0)


def test_a_node_that_is_away_for_a_moment_keeps_its_replicas_and_gets_its_leads_back() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [3, 1, 2])
    cluster.run_until(lambda: cluster.leader(gid).number == 3)
    cluster.kill(3)
    cluster.advance(10.0)
    assert cluster.leader(gid).number != 3
    cluster.restart(3)
    cluster.run_until(lambda: cluster.leader(gid).number == 3, 30.0)
    assert place(cluster, gid).members == [1, 2, 3]


def test_a_wiped_disk_is_a_new_node_that_takes_over_the_replicas() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 10)
    cluster.kill(2)
    cluster.wipe(2)
    cluster.restart(2)
    cluster.run_until(lambda: place(cluster, gid).members == [1, 3, 4], 60.0)
    assert machine(cluster).nodes[2].state == "replaced"
    assert numbers(cluster, 2, gid) == list(range(10))


def test_what_joins_gets_replicas_and_leads() -> None:
    cluster = Cluster(3)
    gids = make(cluster, *[[1, 2]] * 6)
    cluster.advance(60.0)
    every = [p for t in machine(cluster).topics.values() for p in t.partitions]
    held = [sum(number in p.members for p in every) for number in (1, 2, 3)]
    led = [sum(cluster.leader(p.group).number == n for p in every) for n in (1, 2, 3)]
    assert max(held) - min(held) <= 1
    assert max(led) - min(led) <= 2
    assert any(3 in place(cluster, gid).members for gid in gids)


def moved_there_and_back() -> tuple[Cluster, int]:
    """A replica of twenty records was on the third of four, on the fourth, and is back."""
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 20)
    for replicas in ([1, 2, 4], [1, 2, 3]):
        propose(cluster, ChangeReplicas(group=gid, replicas=replicas))
        cluster.run_until(lambda nodes=replicas: on(cluster, gid, *nodes), 30.0)  # type: ignore[misc]  # bound
    return cluster, gid


def test_a_replica_that_came_back_survives_a_stop_and_the_old_copy_does_not() -> None:
    cluster, gid = moved_there_and_back()
    publish(cluster, gid, 20, 5)
    cluster.advance(1.0)
    for number in (3, 4):
        cluster.restart(number)
    cluster.advance(5.0)
    assert numbers(cluster, 3, gid) == list(range(25))
    assert cluster.members[4].node.groups.get(gid) is None
    assert not cluster.members[4].node.store.recovered[gid].entries


def test_a_copy_that_a_stop_left_behind_goes_at_the_next_start() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    cluster.advance(30.0)
    publish(cluster, gid, 0, 20)
    away = next(n for n in place(cluster, gid).members if n != cluster.leader(gid).number)
    rest = [n for n in place(cluster, gid).members if n != away]
    there = next(n for n in (1, 2, 3, 4) if n not in place(cluster, gid).members)
    cluster.kill(away)
    propose(cluster, ChangeReplicas(group=gid, replicas=[*rest, there]))
    cluster.run_until(lambda: place(cluster, gid).members == sorted([*rest, there]), 20.0)
    cluster.restart(away)
    cluster.advance(5.0)
    assert cluster.members[away].node.groups.get(gid) is None
    assert gid not in cluster.members[away].node.store.logs
    assert quarantined(cluster, away) == [gid]
    assert sum(report.records for report in inspected(cluster, away)) >= 19  # the commits it knew
    cluster.wall_us += 24 * 3600 * 1_000_000
    cluster.advance(1.0)
    assert quarantined(cluster, away) == []


def test_a_replica_that_answered_as_a_member_before_it_was_dropped_is_fed_from_the_start() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 20)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 4]))
    cluster.run_until(lambda: on(cluster, gid, 1, 2, 4), 30.0)
    end = cluster.leader(gid).group(gid).raft.log.last_index
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 3]))
    cluster.run_until(lambda: 3 in cluster.leader(gid).group(gid).raft.progress)
    assert cluster.members[3].node.groups.get(gid) is None
    # Its metadata was behind: it answered for what it had, and dropped that a moment later.
    cluster.leader(gid).group(gid).raft.progress[3].acknowledge(end)
    cluster.run_until(lambda: on(cluster, gid, 1, 2, 3), 30.0)
    cluster.advance(1.0)
    assert numbers(cluster, 3, gid) == list(range(20))
    assert not cluster.errors


def test_a_replica_that_its_leader_did_not_miss_says_that_it_was_dropped() -> None:
    cluster, gid = moved_there_and_back()
    leader, member = cluster.leader(gid), cluster.members[3]
    term, promised = member.group(gid).raft.term, member.group(gid).raft.promised
    assert promised[1]
    empty = Raft(3, randomness=Random(1), configuration=Configuration(), promised=promised)
    member.group(gid).raft = empty  # as it began
    frame = HEARTBEAT_TABLE.pack((77, 0), ((gid,), (term,), (promised[1],)))
    receiver = member.node.peers.receivers[HEARTBEAT_TABLE.type]
    receiver(leader.number, memoryview(frame), 0, len(frame), True)
    session = member.node.peers.all()[leader.number].control.session
    assert session is not None
    assert bytes(session.out[-1]) == HEARTBEAT_ACK_TABLE.pack((77, 1), ((gid,), (0,)))
