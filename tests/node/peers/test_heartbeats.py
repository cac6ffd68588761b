from __future__ import annotations

from random import Random

import pytest

from penstock.errors import PenstockError
from penstock_broker.node.peers import heartbeats
from penstock_broker.node.peers.frames import HEARTBEAT_ACK_TABLE, HEARTBEAT_TABLE, Channel
from penstock_broker.node.peers.heartbeats import Rounds
from penstock_broker.node.peers.marks import Marks
from penstock_broker.node.peers.peer import ROUNDS_MAX
from penstock_broker.node.peers.peers import BEAT_SECONDS
from penstock_broker.raft import Role
from tests.node.cluster import STEP, Cluster, Member


def sent_to(member: Member, other: int) -> list[bytes]:
    """What waits to be sent to another member over the control channel."""
    session = member.node.peers.all()[other].control.session
    assert session is not None
    return [bytes(part) for part in session.out]


def beats_in(frames: list[bytes]) -> list[tuple[int, ...]]:
    """(group, term, commit) of all rounds of heartbeats."""
    found: list[tuple[int, ...]] = []
    for frame in frames:
        if frame[4] == HEARTBEAT_TABLE.type:
            columns = HEARTBEAT_TABLE.unpack(frame, 0, len(frame))[1]
            found += zip(*columns, strict=True)
    return found


def beat(cluster: Cluster, member: Member) -> None:
    """Let time pass for one member until its next round."""
    cluster.clock += BEAT_SECONDS
    member.node.tick(cluster.wall_us, cluster.clock)
    member.node.end_round()


def test_one_frame_names_all_groups_that_are_led() -> None:
    cluster = Cluster(3)
    gids = cluster.topic(partitions=6)
    cluster.advance(1.0)
    member = cluster.leader(gids[0])
    led = [gid for gid in gids if member.group(gid).leading]

    beat(cluster, member)

    for peer in member.node.peers.all():
        frames = sent_to(member, peer)
        assert len([frame for frame in frames if frame[4] == HEARTBEAT_TABLE.type]) == 1
        rows = beats_in(frames)
        assert set(led) <= {gid for gid, _, _ in rows}
        for gid, term, commit in rows:
            raft = member.group(gid).raft
            assert (raft.role, term) == (Role.LEADER, raft.term)
            assert commit <= raft.log.commit


def test_a_process_that_leads_nothing_shows_that_it_lives() -> None:
    cluster = Cluster(3)
    member = next(m for m in cluster.alive if m is not cluster.leader(0))

    beat(cluster, member)

    for peer in member.node.peers.all():
        frames = sent_to(member, peer)
        assert [frame[4] for frame in frames] == [HEARTBEAT_TABLE.type]
        assert 0 not in {gid for gid, _, _ in beats_in(frames)}


def test_leaders_stay_as_long_as_they_are_heard() -> None:
    cluster = Cluster(3)
    gids = [0, *cluster.topic(partitions=4)]
    cluster.advance(1.0)
    leaders = {gid: (cluster.leader(gid).number, cluster.leader(gid).group(gid).raft.term)
               for gid in gids}  # fmt: skip

    cluster.advance(10.0)

    now = {gid: (cluster.leader(gid).number, cluster.leader(gid).group(gid).raft.term)
           for gid in gids}  # fmt: skip
    assert now == leaders


def test_a_leader_that_nobody_hears_steps_down_and_another_one_leads() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    cluster.advance(1.0)
    old = cluster.leader(gid)

    cluster.isolate(old.number)
    cluster.advance(4.0)

    assert not old.group(gid).leading
    new = [member for member in cluster.alive if member.group(gid).leading]
    assert len(new) == 1
    assert new[0] is not old
    cluster.heal()
    cluster.advance(3.0)
    assert cluster.leader(gid) is new[0]
    assert old.group(gid).raft.leader == new[0].number


def test_followers_hear_of_the_commit() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    leader.client().publish(gid, b"one")

    cluster.advance(2 * BEAT_SECONDS)

    assert [cluster.contents(number, gid) for number in cluster.members] == [[b"one"]] * 3


def test_a_member_that_missed_appends_gets_them_after_its_next_answer() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    lame = next(number for number in cluster.members if number != leader.number)
    leader.node.peers.all()[lame].lines[Channel.APPENDS].give_up()
    leader.client().publish(gid, b"missed")

    cluster.advance(1.0)

    assert cluster.contents(lame, gid) == [b"missed"]


def test_a_read_that_must_be_fresh_does_not_wait_for_the_next_round() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(1.0)
    answers: list[PenstockError | None] = []

    leader.group(gid).read(answers.append)
    assert not answers
    cluster.pump()

    assert answers == [None]


def test_a_read_is_not_answered_by_a_leader_that_is_cut_off() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.isolate(leader.number)
    answers: list[PenstockError | None] = []

    leader.group(gid).read(answers.append)
    cluster.advance(5.0)

    assert len(answers) == 1
    assert answers[0] is not None


def test_an_answer_to_a_round_of_another_life_means_nothing() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    cluster.advance(1.0)
    follower = next(number for number in cluster.members if number != leader.number)
    peer = leader.node.peers.all()[follower]
    progress = leader.group(gid).raft.progress[follower]
    beat(cluster, leader)
    (number, rows), before = list(peer.rounds.items())[-1], progress.acked_round
    rounds = leader.node.peers._rounds

    for wrong in (number - 1, number + 1, number ^ (1 << 40)):
        frame = HEARTBEAT_ACK_TABLE.pack((wrong, len(rows)), ((), ()))
        rounds.answered(peer, memoryview(frame), 0, len(frame))
    frame = HEARTBEAT_ACK_TABLE.pack((number, len(rows) + 1), ((), ()))
    rounds.answered(peer, memoryview(frame), 0, len(frame))

    assert progress.acked_round == before


def test_a_group_that_is_not_there_does_not_follow() -> None:
    cluster = Cluster(3)
    leader = cluster.leader(0)
    number = next(number for number in cluster.members if number != leader.number)
    member = cluster.members[number]
    frame = HEARTBEAT_TABLE.pack((77, 0), ((0, 999), (leader.group(0).raft.term, 5), (0, 0)))

    member.node.peers._rounds.heard(
        member.node.peers.all()[leader.number], memoryview(frame), 0, len(frame)
    )

    (answer,) = sent_to(member, leader.number)
    assert HEARTBEAT_ACK_TABLE.unpack(answer, 0, len(answer)) == ((77, 2), [(999,), (0,)])


def test_a_leader_of_an_old_term_is_told_of_the_newer_one() -> None:
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    follower = next(m for m in cluster.alive if m is not leader)
    raft = follower.group(gid).raft
    frame = HEARTBEAT_TABLE.pack((78, 0), ((gid,), (raft.term - 1,), (0,)))

    follower.node.peers._rounds.heard(
        follower.node.peers.all()[leader.number], memoryview(frame), 0, len(frame)
    )

    (answer,) = sent_to(follower, leader.number)
    assert HEARTBEAT_ACK_TABLE.unpack(answer, 0, len(answer))[1] == [(gid,), (raft.term,)]


def test_rounds_that_nobody_answers_are_forgotten() -> None:
    cluster = Cluster(3)
    leader = cluster.leader(0)
    other = next(number for number in cluster.members if number != leader.number)
    peers, group = leader.node.peers.all(), leader.group(0)
    for _ in range(ROUNDS_MAX + 10):
        leader.node.peers._rounds.send([group], peers, everybody=False)

    assert len(peers[other].rounds) == ROUNDS_MAX


def test_many_groups_go_in_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(2)
    gids = cluster.topic(partitions=5, replication=2)
    cluster.advance(1.0)
    member = cluster.leader(gids[0])
    led = {gid for gid in [0, *gids] if member.group(gid).leading}
    monkeypatch.setattr(heartbeats, "ROWS_MAX", 2)
    beat(cluster, member)

    (other,) = member.node.peers.all()
    frames = [f for f in sent_to(member, other) if f[4] == HEARTBEAT_TABLE.type]
    assert led <= {gid for gid, _, _ in beats_in(frames)}
    assert all(len(beats_in([frame])) <= 2 for frame in frames)
    assert len({frame[16:24] for frame in frames}) == len(frames)


def test_rounds_of_two_lives_have_no_number_in_common() -> None:
    cluster = Cluster(1)
    node = cluster.members[1].node

    one, other = (Rounds(node, Random(seed), Marks(node))._number for seed in (1, 2))

    assert abs(one - other) > 1 << 20
    assert max(one, other) < 1 << 63
    assert STEP < BEAT_SECONDS
