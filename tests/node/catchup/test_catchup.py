"""A replica that lacks what its leader has in memory no more copies records, then the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest

from penstock.protocol.messages import BrokerStatus, BrokerStatusReply, TrimLog
from penstock_broker.node.catchup import catchup, pull, source
from penstock_broker.node.peers.frames import SNAPSHOT, Channel
from tests.node.cluster import Cluster, Member

VALUE = bytes(20_000)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(3, segment_bytes=256 << 10)


def publish(leader: Member, gid: int, first: int, count: int) -> None:
    client = leader.client()
    for number in range(first, first + count):
        client.publish(gid, b"%d" % number + VALUE)


def numbers(cluster: Cluster, member: int, gid: int) -> list[int]:
    return [int(value[: -len(VALUE)]) for value in cluster.contents(member, gid)]


def figures(cluster: Cluster, member: Member) -> Mapping[str, int]:
    reply = cluster.ask(member.client(), BrokerStatus())
    assert isinstance(reply, BrokerStatusReply)
    return cast("Mapping[str, int]", reply.figures)


def step_once(cluster: Cluster) -> bool:
    """One round of every member, then what was sent arrives; whether anything was done."""
    busy = [member.work() for member in cluster.alive]
    for member in cluster.alive:
        busy += [member.receive(end) for end in list(member.ends.values())]
    return any(busy)


def step_until(cluster: Cluster, done: Callable[[], object], otherwise: str) -> None:
    """Stop within the round in which something begins to hold."""
    for _ in range(200):
        cluster.clock += 0.05
        cluster.wall_us += 50_000
        for member in cluster.alive:
            member.node.tick(cluster.wall_us, cluster.clock)
        while step_once(cluster):
            if done():
                return
    raise AssertionError(otherwise)


def run_until_it_copies(cluster: Cluster, away: int) -> None:
    """Stop within the round in which a replica begins to copy."""
    step_until(cluster, lambda: cluster.members[away].node.catchup.pulls, "nothing is copied")


def run_until_it_assembles(cluster: Cluster, away: int) -> None:
    """Stop when a part of a snapshot has arrived."""
    receiver = cluster.members[away].node.peers.receivers[SNAPSHOT]
    assembly = receiver.__self__._assembly  # type: ignore[attr-defined]  # it is a method
    step_until(cluster, lambda: assembly.size_bytes, "no part of a snapshot arrives")


def leave_behind(cluster: Cluster, gid: int, count: int = 60) -> int:
    """Kill a follower and publish more than memory keeps; returns who it was."""
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    publish(leader, gid, 0, 5)
    away = next(member.number for member in cluster.alive if member is not leader)
    cluster.kill(away)
    publish(leader, gid, 5, count)
    return away


def caught_up(cluster: Cluster, gid: int) -> bool:
    groups = [member.node.groups.get(gid) for member in cluster.members.values() if member.running]
    ends = {group.applied_index if group is not None else -1 for group in groups}
    return len(ends) == 1 and len(groups) == len(cluster.members)


def test_it_copies_what_it_lacks_and_follows_then(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    copied = figures(cluster, cluster.members[away])["copied_bytes"]
    assert copied > 20 * len(VALUE)
    assert copied == sum(figures(cluster, member)["served_bytes"] for member in cluster.alive)
    assert numbers(cluster, away, gid) == list(range(65))
    publish(cluster.leader(gid), gid, 65, 3)
    cluster.advance(0.5)
    assert numbers(cluster, away, gid) == list(range(68))
    assert not cluster.errors


def test_leaders_and_followers_measure_how_long_others_wait_for_them(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    for number in range(10):
        publish(leader, gid, number, 1)
        cluster.advance(0.1)
    for member in cluster.alive:
        waits = member.node.waits
        assert waits.flushes.count >= 10
        assert waits.flushes.since is None
        assert 0.0 <= waits.flushes.usual < 0.1
        assert (waits.commits.count >= 10) == (member is leader)


def test_only_while_it_copies_its_records_pass_by_the_memory(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    run_until_it_copies(cluster, away)
    log = cluster.members[away].node.partitions[gid].log
    assert log.passing
    cluster.run_until(lambda: caught_up(cluster, gid))
    assert not log.passing


def test_one_answer_follows_the_other_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "COPY_BYTES", 2 * len(VALUE))
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid), seconds=6.0)
    assert numbers(cluster, away, gid) == list(range(65))


def test_many_pieces_answer_one_request(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PIECE_BYTES", 3 * len(VALUE))
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid), seconds=6.0)
    assert numbers(cluster, away, gid) == list(range(65))
    assert cluster.members[away].node.catchup.next_number() < 5


def test_few_copy_at_a_time_when_little_room_is_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "WINDOW_BYTES", 1)
    gids = cluster.topic(partitions=4)
    away = next(m.number for m in cluster.alive if m is not cluster.leader(0))
    cluster.advance(0.5)
    cluster.kill(away)
    cluster.run_until(lambda: all(cluster.leader(gid) for gid in gids))
    for gid in gids:
        publish(cluster.leader(gid), gid, 0, 60)
    cluster.restart(away)
    cluster.run_until(lambda: all(caught_up(cluster, gid) for gid in gids))
    for gid in gids:
        assert numbers(cluster, away, gid) == list(range(60))


def test_it_begins_where_the_leaders_log_starts_when_its_end_was_trimmed(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    leader = cluster.leader(gid)
    cluster.ask(leader.client(), TrimLog(topic="orders", partition=0, offset=40))
    publish(leader, gid, 65, 60)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    assert cluster.members[away].node.partitions[gid].log.start_offset == 40
    assert numbers(cluster, away, gid) == list(range(40, 125))
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    assert numbers(cluster, away, gid) == list(range(40, 125))


def test_a_snapshot_whose_records_are_trimmed_meanwhile_is_not_taken(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    leader = cluster.leader(gid)
    cluster.restart(away)
    with monkeypatch.context() as lost:
        lost.setattr(cluster.members[away].node.peers, "post", lambda *_: True)
        run_until_it_copies(cluster, away)
        publish(leader, gid, 65, 20)
        cluster.ask(leader.client(), TrimLog(topic="orders", partition=0, offset=80))
    publish(leader, gid, 85, 5)
    cluster.run_until(lambda: caught_up(cluster, gid), seconds=6.0)
    assert numbers(cluster, away, gid) == list(range(80, 90))
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    assert numbers(cluster, away, gid) == list(range(80, 90))


def test_it_can_lead_afterwards_and_knows_producers(cluster: Cluster) -> None:
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(0.5)
    batch = {"producer_id": 7, "base_sequence": 0}
    away = next(member.number for member in cluster.alive if member is not leader)
    cluster.kill(away)
    leader.client().publish(gid, b"once", **batch)
    for number in range(60):
        leader.client().publish(gid, VALUE, producer_id=8, base_sequence=number)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    leader.node.partitions[gid].transfer(away)
    cluster.run_until(lambda: cluster.leader(gid).number == away)
    assert cluster.leader(gid).client().publish(gid, b"once", **batch) == (0, True)


@pytest.mark.parametrize("step", range(0, 40, 3))
def test_it_may_die_at_any_step(cluster: Cluster, step: int) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    run_until_it_copies(cluster, away)
    for _ in range(step):
        step_once(cluster)
    cluster.kill(away)
    publish(cluster.leader(gid), gid, 65, 40)
    cluster.restart(away)
    cluster.run_until(lambda: caught_up(cluster, gid))
    assert numbers(cluster, away, gid) == list(range(105))


@pytest.mark.parametrize("step", range(0, 40, 5))
def test_the_leader_may_die_at_any_step(cluster: Cluster, step: int) -> None:
    (gid,) = cluster.topic()
    away = leave_behind(cluster, gid)
    cluster.restart(away)
    run_until_it_copies(cluster, away)
    for _ in range(step):
        step_once(cluster)
    old = cluster.leader(gid).number
    cluster.kill(old)
    publish(cluster.leader(gid), gid, 65, 40)
    cluster.restart(old)
    cluster.run_until(lambda: caught_up(cluster, gid))
    for member in (1, 2, 3):
        assert numbers(cluster, member, gid) == list(range(105))


def test_the_metadata_catches_up_by_a_snapshot_too(cluster: Cluster) -> None:
    leader = cluster.leader(0)
    away = next(member.number for member in cluster.alive if member is not leader)
    cluster.kill(away)
    gids = [cluster.topic(f"topic-{number}")[0] for number in range(5)]
    metadata = leader.node.groups.metadata
    metadata.raft.compact(metadata.applied_index)
    cluster.restart(away)
    cluster.run_until(lambda: all(caught_up(cluster, gid) for gid in gids))
    assert cluster.members[away].node.catchup.installed


@pytest.mark.parametrize("breaks", [0, 1, 4])
def test_a_snapshot_goes_in_many_pieces_and_again_when_some_are_lost(
    cluster: Cluster, breaks: int
) -> None:
    leader = cluster.leader(0)
    away = next(member.number for member in cluster.alive if member is not leader)
    cluster.kill(away)
    gids = [cluster.topic(f"topic-{number}")[0] for number in range(5)]
    metadata = leader.node.groups.metadata
    metadata.raft.compact(metadata.applied_index)
    leader.node.peers.piece_bytes = 20
    cluster.members[away].start()
    for _ in range(breaks):
        run_until_it_assembles(cluster, away)
        for end in list(leader.ends.values()):
            if end.other.member.number == away:
                cluster.disconnect(end)
    cluster.run_until(lambda: all(caught_up(cluster, gid) for gid in gids))
    assert cluster.members[away].node.catchup.installed
    assert not cluster.errors


def test_a_snapshot_whose_connection_breaks_comes_anew_though_its_taker_lives(
    cluster: Cluster,
) -> None:
    leader = cluster.leader(0)
    away = next(member.number for member in cluster.alive if member is not leader)
    cluster.kill(away)
    (gid,) = cluster.topic()
    metadata = leader.node.groups.metadata
    metadata.raft.compact(metadata.applied_index)
    leader.node.peers.piece_bytes = 20
    cluster.members[away].start()
    run_until_it_assembles(cluster, away)
    line = leader.node.peers.all()[away].lines[Channel.BULK]
    cluster.disconnect(next(end for end in leader.ends.values() if end.session is line.session))
    cluster.run_until(lambda: caught_up(cluster, gid), seconds=3.0)
