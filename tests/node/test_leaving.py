"""A replica goes when it is certain that it was removed; until then it is silent."""

from __future__ import annotations

from penstock_broker.machine.commands import ChangeReplicas
from tests.node.cluster import Cluster
from tests.node.test_moves_of_replicas import make, numbers, on, propose, publish


def test_a_replica_that_is_wanted_back_before_it_heard_that_it_was_removed_keeps_its_log() -> None:
    cluster = Cluster(4)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 20)
    replica = cluster.members[3].group(gid)
    cluster.isolate(3)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 4]))
    cluster.run_until(lambda: 3 not in cluster.leader(gid).group(gid).raft.progress)
    cluster.advance(1.0)
    propose(cluster, ChangeReplicas(group=gid, replicas=[1, 2, 3]))
    cluster.advance(1.0)
    cluster.heal()
    cluster.run_until(lambda: on(cluster, gid, 1, 2, 3))
    assert cluster.members[3].group(gid) is replica
    assert numbers(cluster, 3, gid) == list(range(20))


def test_who_can_not_make_sure_answers_nobody_and_keeps_what_it_has() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2, 3])
    publish(cluster, gid, 0, 20)
    leader = cluster.leader(gid)
    member = next(one for one in cluster.alive if one is not leader)
    replica, leaving = member.group(gid), member.node.groups.leaving
    cluster.isolate(member.number)
    leaving.add(gid)
    cluster.advance(20.0)
    assert gid in leaving.silent
    cluster.heal()
    cluster.run_until(lambda: gid not in leaving.silent)
    assert member.group(gid) is replica
    publish(cluster, gid, 20, 1)
    cluster.run_until(lambda: numbers(cluster, member.number, gid) == list(range(21)))
    assert leader.group(gid).raft.progress[member.node.node_id].match


def test_a_question_does_not_answer_for_who_was_wanted_and_removed_since() -> None:
    cluster = Cluster(3)
    (gid,) = make(cluster, [1, 2, 3])
    member = next(one for one in cluster.alive if one is not cluster.leader(0))
    leaving, dropped = member.node.groups.leaving, list[int]()
    leaving._drop = dropped.append
    member.node.groups.metadata.machine.locate = lambda _: None  # type: ignore[method-assign]  # as if removed
    leaving.add(gid)
    leaving.discard(gid)
    leaving.add(gid)
    cluster.run_until(lambda: not leaving._asking)
    assert not dropped
    leaving.step()
    cluster.run_until(lambda: dropped)
