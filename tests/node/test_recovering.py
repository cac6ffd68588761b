"""Most nodes are lost for ever: the cluster goes on with the directory of one."""

from __future__ import annotations

import pytest

from penstock.errors import PreconditionFailed
from penstock_broker.machine.commands import RecoverPartition, SetNodeState
from penstock_broker.node import recovering
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Store
from tests.node.cluster import Cluster
from tests.node.test_moves_of_replicas import make, place, propose


def opened(cluster: Cluster, number: int) -> Store:
    return Store.open(cluster.members[number].files, cluster.storage, fresh_uuid=bytes(16))


def lose_all_but(cluster: Cluster, number: int) -> None:
    for other in cluster.members:
        cluster.kill(other)
        if other != number:
            cluster.wipe(other)


def recovered(cluster: Cluster, number: int) -> list[recovering.Fate]:
    store = opened(cluster, number)
    fates = recovering.plan(store)
    recovering.carry_out(store, fates, cluster.wall_us)
    store.close()
    return fates


@pytest.mark.parametrize("number", [1, 3])
def test_one_of_three_goes_on_and_gets_copies_on_new_nodes(number: int) -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("orders", 1, 3)
    client = cluster.leader(gid).client()
    for value in range(20):
        client.publish(gid, b"%d" % value)
    cluster.advance(1.0)
    lose_all_but(cluster, number)

    fates = {fate.group: fate for fate in recovered(cluster, number)}
    assert {fate.outcome for fate in fates.values()} == {recovering.KEPT}
    assert fates[gid].others == [n for n in (1, 2, 3) if n != number]

    cluster.restart(number)
    assert cluster.leader(0).number == cluster.leader(gid).number == number
    assert len(cluster.contents(number, gid)) == 20
    cluster.members[number].client().publish(gid, b"more")
    for other in [n for n in (1, 2, 3) if n != number]:
        cluster.restart(other)

    def whole() -> bool:
        machine = cluster.members[number].node.groups.metadata.machine
        place = machine.locate(gid)
        assert place is not None
        members = place[0].partitions[place[1]].members
        return len(members) == 3 and not {1, 2, 3} - {number} & set(members)

    cluster.run_until(whole, 90.0)
    cluster.advance(1.0)
    copies = [m for m in cluster.alive if m.node.groups.get(gid) is not None]
    assert [len(cluster.contents(m.number, gid)) for m in copies] == [21] * 3


def test_a_dry_run_changes_nothing_and_a_broken_off_recovery_can_be_repeated() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("orders", 1, 3)
    cluster.advance(1.0)
    lose_all_but(cluster, 2)
    before = opened(cluster, 2)
    plan = recovering.plan(before)
    before.close()
    for _ in range(2):
        assert [fate[:4] for fate in recovered(cluster, 2)] == [fate[:4] for fate in plan]
    cluster.restart(2)
    assert cluster.leader(gid).number == 2


def test_a_partition_without_a_copy_here_is_told_as_lost() -> None:
    cluster = Cluster(3)
    gids = cluster.topic("orders", 3, 1)
    cluster.advance(1.0)
    lose_all_but(cluster, 1)
    fates = {fate.group: fate for fate in recovered(cluster, 1)}
    lost = [gid for gid in gids if fates[gid].outcome == recovering.LOST]
    assert len(lost) == 2
    cluster.restart(1)
    (kept,) = [gid for gid in gids if gid not in lost]
    assert cluster.leader(kept).number == 1


def test_a_directory_of_no_cluster_is_refused() -> None:
    cluster = Cluster(2, form=False)
    store = Store.open(MemoryFiles(), cluster.storage, fresh_uuid=bytes(16))
    with pytest.raises(PreconditionFailed):
        recovering.plan(store)


def test_an_old_directory_that_comes_back_takes_no_part() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic("orders", 1, 3)
    cluster.advance(1.0)
    for number in cluster.members:
        cluster.kill(number)
    recovered(cluster, 1)
    cluster.restart(1)
    assert cluster.leader(gid).number == 1
    cluster.restart(2)
    cluster.advance(5.0)
    cluster.members[1].client().publish(gid, b"more")
    assert cluster.leader(gid).number == 1
    assert not cluster.members[1].node.peers.alive(2)
    assert (
        cluster.members[2].group(gid).raft.log.last_term < cluster.members[1].group(gid).raft.term
    )


def test_a_partition_that_was_about_to_go_on_elsewhere_goes_on_here() -> None:
    cluster = Cluster(5)
    (gid,) = make(cluster, [1, 2, 3, 4])
    for lost in (1, 2):
        cluster.kill(lost)
    for lost in (1, 2):
        propose(cluster, SetNodeState(node=lost, state="removed", force=True))
    cluster.advance(3.0)  # the metadata finds other voters
    cluster.kill(3)
    cluster.advance(2.0)
    revision = place(cluster, gid).revision
    propose(cluster, RecoverPartition(group=gid, node=3, term=99, revision=revision))
    assert place(cluster, gid).survivor == 3
    for other in (4, 5):
        cluster.kill(other)
    recovered(cluster, 4)
    cluster.restart(4)
    assert cluster.leader(gid).number == 4
    assert (place(cluster, gid).members, place(cluster, gid).survivor) == ([4], 0)
