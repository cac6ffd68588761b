"""A node that is started on an older copy of its directory takes no part, and stops with a word."""

from __future__ import annotations

from copy import deepcopy

import pytest

from penstock.errors import StaleDirectory
from penstock_broker.node.peers.frames import HEARTBEAT_TABLE
from penstock_broker.simulation.memory_files import MemoryFiles
from tests.node.cluster import Cluster


def copy_of(cluster: Cluster, number: int) -> MemoryFiles:
    """What is on a member's disk now, as a backup takes it."""
    files = deepcopy(cluster.members[number].files)
    files.unlock()
    return files


def with_topic(cluster: Cluster) -> int:
    (gid,) = cluster.topic("orders", 1, 3)
    publish(cluster, gid, 10)
    cluster.advance(1.0)
    return gid


def publish(cluster: Cluster, gid: int, count: int) -> None:
    client = cluster.leader(gid).client()
    for number in range(count):
        client.publish(gid, b"%d" % number)


def away_with_an_older_copy(cluster: Cluster, gid: int) -> int:
    """A follower that acknowledged ten records more than its directory will have."""
    number = next(n for n in cluster.members if n not in (cluster.leader(gid).number, 1))
    backup = copy_of(cluster, number)
    publish(cluster, gid, 10)
    cluster.advance(1.0)
    cluster.kill(number)
    cluster.members[number].files = backup
    return number


def refused(cluster: Cluster, number: int, seconds: float = 1.0) -> StaleDirectory:
    """The member starts, stops with an error, and is gone."""

    def run() -> None:
        cluster.restart(number)
        cluster.advance(seconds)

    with pytest.raises(StaleDirectory) as caught:
        run()
    cluster.kill(number)
    return caught.value


def test_an_older_copy_is_refused_by_whoever_knew_the_original() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    number = away_with_an_older_copy(cluster, gid)
    error = refused(cluster, number)
    assert error.code == 75
    assert f"node {number}" in str(error)
    assert "wipe" in error.hint
    publish(cluster, gid, 1)  # the others go on


def test_no_entry_counts_as_being_on_an_older_copy() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    number = away_with_an_older_copy(cluster, gid)
    leader = cluster.leader(gid)
    (other,) = [n for n in cluster.members if n not in (leader.number, number)]
    cluster.kill(other)
    log = leader.group(gid).raft.log
    before = log.commit
    leader.client().publish_nowait(gid, b"alone")
    cluster.advance(0.1)
    assert log.last_index > before
    refused(cluster, number)
    assert log.commit == before


def test_the_same_directory_and_a_later_copy_are_welcome() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    for _ in range(3):
        cluster.restart(2)
        publish(cluster, gid, 3)
        cluster.advance(1.0)
    cluster.kill(2)
    cluster.members[2].files = copy_of(cluster, 2)
    cluster.restart(2)
    publish(cluster, gid, 3)
    cluster.advance(1.0)
    assert len(cluster.contents(2, gid)) == 22


def test_who_was_started_since_hears_of_it_from_the_others() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    number = away_with_an_older_copy(cluster, gid)
    for other in [n for n in cluster.members if n != number]:
        cluster.restart(other)  # one after the other: what it knew is told by the one that stayed
        cluster.advance(3.0)
    refused(cluster, number)


def test_who_lacks_what_its_leader_counts_on_stops() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    leader = cluster.leader(gid)
    member = next(m for m in cluster.alive if m is not leader)
    raft = member.group(gid).raft
    rows = (gid,), (raft.term,), (raft.log.last_index + 1,)
    frame = HEARTBEAT_TABLE.pack((77, 0), rows)
    receiver = member.node.peers.receivers[HEARTBEAT_TABLE.type]
    with pytest.raises(StaleDirectory) as caught:
        receiver(leader.number, memoryview(frame), 0, len(frame), True)
    assert caught.value.detail["group"] == gid


def test_all_restored_to_one_time_go_on_from_there() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    backups = {number: copy_of(cluster, number) for number in cluster.members}
    publish(cluster, gid, 5)
    for number in cluster.members:
        cluster.kill(number)
    for number, files in backups.items():
        cluster.members[number].files = files
        cluster.restart(number)
    publish(cluster, gid, 2)
    cluster.advance(1.0)
    assert len(cluster.contents(1, gid)) == 12


def test_a_wiped_directory_is_a_new_node() -> None:
    cluster = Cluster(3)
    gid = with_topic(cluster)
    number = away_with_an_older_copy(cluster, gid)
    cluster.wipe(number)
    cluster.restart(number)
    cluster.run_until(lambda: cluster.members[number].node.node_id == 4)
