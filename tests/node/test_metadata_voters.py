"""Who votes in group 0 as nodes come, die and drain."""

from __future__ import annotations

from penstock_broker.machine.commands import SetNodeState, encode_command
from tests.node.cluster import Cluster


def voters(cluster: Cluster) -> tuple[int, ...]:
    configuration = cluster.leader(0).group(0).raft.configuration
    return () if configuration.is_joint else configuration.voters


def learners(cluster: Cluster) -> tuple[int, ...]:
    return cluster.leader(0).group(0).raft.configuration.learners


def test_five_of_six_vote_and_all_know_everything() -> None:
    cluster = Cluster(6)
    cluster.run_until(lambda: len(voters(cluster)) == 5, 20.0)
    assert len(learners(cluster)) == 1
    indexes = {m.group(0).applied_index for m in cluster.alive}
    assert len(indexes) == 1


def test_a_dead_voter_is_replaced_after_a_while() -> None:
    cluster = Cluster(4)
    cluster.run_until(lambda: len(voters(cluster)) == 3, 20.0)
    dead = cluster.leader(0).number
    cluster.kill(dead)
    cluster.advance(20.0)
    assert dead in voters(cluster)
    cluster.run_until(lambda: dead not in voters(cluster), 30.0)
    assert len(voters(cluster)) == 3
    assert learners(cluster) == (dead,)
    cluster.restart(dead)
    cluster.advance(5.0)
    assert len(voters(cluster)) == 3
    assert cluster.members[dead].group(0).applied_index == cluster.leader(0).group(0).applied_index


def test_two_of_three_dead_voters_are_waited_for() -> None:
    cluster = Cluster(3)
    cluster.run_until(lambda: voters(cluster) == (1, 2, 3), 20.0)
    away = [number for number in (1, 2, 3) if number != cluster.leader(0).number]
    for number in away:
        cluster.kill(number)
    cluster.advance(60.0)
    for number in away:
        cluster.restart(number)
    cluster.run_until(lambda: voters(cluster) == (1, 2, 3), 20.0)


def test_a_leader_that_drains_leaves_the_metadata_to_others() -> None:
    cluster = Cluster(4)
    cluster.run_until(lambda: len(voters(cluster)) == 3, 20.0)
    cluster.advance(12.0)
    leader = cluster.leader(0)
    command = SetNodeState(node=leader.number, state="draining")
    leader.node.groups.metadata.propose_command(encode_command(command))
    cluster.advance(20.0)
    assert cluster.leader(0) is not leader
    assert leader.number not in voters(cluster)
    assert len(voters(cluster)) == 3
    assert leader.number in learners(cluster)
