"""Heartbeats of many groups at once: the same as one group after another."""

from penstock_broker.raft import Beat, Options, Raft, Role, acknowledged, tell, tick
from tests.raft.group import Group

OUTSIDE = Options(external_heartbeats=True)


def several() -> list[Group]:
    """Groups in the same states each time: idle, with a member that lags, with reads, not led."""
    groups = [Group(options=OUTSIDE) for _ in range(4)]
    for group in groups[:3]:
        group.elect(1)
    groups[1].isolate(3)
    groups[1].propose(1, b"a")
    groups[2][1].read_index("read")
    groups[3].elect(2)
    return groups


def seen(raft: Raft) -> list[object]:
    """What a round and its answers change."""
    progress = [(node, at.active, at.acked_round, at.nudge, at.paused) for node, at in raft.peers]
    reads = raft.reads
    return [raft.role, raft.term, progress, reads.round, list(reads.rounds), reads.waiting,
            reads.done, raft.send_wanted]  # fmt: skip


def test_all_groups_are_told_what_each_would_be_told() -> None:
    rafts = dict(enumerate(group[1] for group in several()))
    others = dict(enumerate(group[1] for group in several()))
    expected: dict[int, list[tuple[int, int, int]]] = {}
    for label, raft in others.items():
        for node, commit in raft.heartbeats(7):
            expected.setdefault(node, []).append((label, raft.term, commit))

    told = tell(rafts.items(), 7)

    assert {node: [beat[:3] for beat in beats] for node, beats in told.items()} == expected
    assert [label for label, _, _ in expected[2]] == [0, 1, 2]
    assert [seen(raft) for raft in rafts.values()] == [seen(raft) for raft in others.values()]


def test_answers_for_all_groups_do_what_one_after_the_other_does() -> None:
    rafts = dict(enumerate(group[1] for group in several()))
    others = dict(enumerate(group[1] for group in several()))
    worth: set[int] = set()
    found: set[int] = set()
    told = tell(rafts.items(), 7)
    for raft in others.values():
        raft.heartbeats(7)
    for raft in (*rafts.values(), *others.values()):
        for _, progress in raft.peers:
            progress.active = False

    for node in (2, 3):
        found.update(acknowledged(told[node], node, 7, refused=()))
        worth.update(
            label
            for label, raft in others.items()
            if raft.role is Role.LEADER and raft.on_heartbeat_ack(node, raft.term, 7)
        )

    assert [seen(raft) for raft in rafts.values()] == [seen(raft) for raft in others.values()]
    assert found == worth == {1, 2}
    assert rafts[2].reads.done


def test_a_tick_of_all_groups_is_a_tick_of_each() -> None:
    rafts = [group[node] for group in several() for node in (1, 2, 3)]
    others = [group[node] for group in several() for node in (1, 2, 3)]
    rafts[0].transfer(2)
    others[0].transfer(2)
    for _ in range(3 * OUTSIDE.election_ticks):
        found = tick(list(enumerate(rafts)))
        assert found == [label for label, raft in enumerate(others) if raft.tick()]
        assert [(*seen(raft), raft.elapsed, raft.transferee, raft.messages) for raft in rafts] == [
            (*seen(raft), raft.elapsed, raft.transferee, raft.messages) for raft in others
        ]


def test_a_group_that_refused_or_has_moved_on_is_left_out() -> None:
    one, two, three = (group[1] for group in several()[:3])
    beats: list[Beat[str]] = tell({"one": one, "two": two, "three": three}.items(), 7)[2]
    for raft in (one, two, three):
        raft.progress[2].active = False
    two.on_heartbeat_ack(3, two.term + 1, 7)

    acknowledged(beats, 2, 7, refused={"one"})

    assert [raft.progress[2].active for raft in (one, three)] == [False, True]
    assert two.role is Role.FOLLOWER


def test_who_is_no_member_any_more_counts_for_nothing() -> None:
    (group, *_) = several()
    beats = tell([("a", group[1])], 7)[2]

    assert acknowledged(beats, 9, 7, refused=()) == []


def test_a_read_needs_one_answer_of_two_however_large_the_number_of_the_round() -> None:
    for number in (1, 1 << 31, 1 << 62, (1 << 63) - 1, (1 << 64) - 1):
        group = Group(options=OUTSIDE)
        group.elect(1)
        leader = group[1]
        leader.read_index("read")
        told = tell([(0, leader)], number)
        acknowledged(told[3], 3, number, refused=())
        assert [read.context for read in leader.reads.done] == ["read"], number
