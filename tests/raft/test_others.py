"""What has gone wrong in other systems' consensus, played on purpose on nodes without a network.

More of them, with disks, clocks and clients, are in tests/simulation/test_cluster_scenarios.
"""

from __future__ import annotations

from penstock_broker.raft import Append, AppendResponse, Configuration
from tests.raft.group import Group

LONG = 40
"""Ticks: several election times."""


def test_a_leader_whose_disk_stands_still_gives_up_all_the_same() -> None:
    """etcd 13527: time stood still while a disk did not answer, so a lone leader never gave up.

    Here time passes by itself: the disk's answer is awaited by nobody.
    """
    group = Group()
    leader = group.elect(1)
    group.stalled.add(1)
    group.isolate(1)
    leader.propose([(1, b"never committed")])
    group.tick(LONG)
    assert not leader.is_leader
    assert group.leaders() != [1]
    assert len(group.leaders()) == 1


def test_a_bridge_is_not_kept_loyal_by_a_leader_that_can_not_commit() -> None:
    """openraft 2080: who hears an old leader denied its vote to those who could commit.

    Of five one is dead, and the leader reaches node 2 alone, which reaches everybody.
    """
    group = Group((1, 2, 3, 4, 5))
    old = group.elect(1)
    group.isolate(5)
    group.cut((1, 3), (3, 1), (1, 4), (4, 1))
    old.propose([(1, b"never committed")])
    group.tick(LONG)
    (leader,) = group.leaders()
    assert leader in (2, 3, 4)
    group.propose(leader, b"committed")
    assert group.data(2)[-1] == b"committed"


def test_a_voter_is_replaced_without_four_that_decide() -> None:
    """cockroach 12768, raft-autopilot 55: one was added, then one removed; four decided between.

    With two of the four out of reach nothing could be decided. A change here is one: at no time
    do more than the three old or the three new ones decide.
    """
    group = Group((1, 2, 3), learners=(4,))
    leader = group.elect(1)
    group.propose(1, b"first")
    group.isolate(3)
    seen: set[Configuration] = set()
    leader.propose_configuration((1, 2, 4))
    for _ in range(LONG):
        group.step()
        seen |= {raft.configuration for raft in group.nodes.values()}
    assert leader.configuration.voters == (1, 2, 4)
    assert not leader.configuration.is_joint
    assert all(len(one.voters) == 3 for one in seen)
    group.isolate(1)
    group.tick(LONG, nodes=(2, 4))
    assert any(group[node].is_leader for node in (2, 4))


def test_what_an_old_writer_sends_late_is_kept_by_nobody() -> None:
    """bookkeeper 2614: a writer that was fenced off found one place which still took its entries.

    An append of the old term arrives after the new leader was elected: it is refused and forgotten.
    """
    group = Group()
    old = group.elect(1)
    group.propose(1, b"kept")
    group.isolate(1)
    old.propose([(1, b"late")])
    group.work(1)
    log = old.log
    entries = list(log.slice(log.commit + 1, log.last_index))
    late = Append(1, 3, old.term, log.commit, old.term, entries, log.commit)
    group.elect(2)
    before = group[3].log.last_index
    group[3].step(late)
    group.work(3)
    answers = [message for message in group.wire if isinstance(message, AppendResponse)]
    assert group[3].log.last_index == before
    assert all(answer.rejected or answer.term > old.term for answer in answers)
    group.wire.clear()
    group.heal()
    group.tick(LONG)
    assert group.data(1) == group.data(2) == group.data(3) == [b"kept"]


def test_all_that_lose_their_power_elect_nobody_who_lost_what_was_acknowledged() -> None:
    """NATS 7567: one replica came back with less than it had confirmed, and was elected first.

    What a disk has not confirmed was never counted: whoever has less is refused by those who have.
    """
    group = Group()
    group.elect(1)
    group.stalled.add(3)
    group.propose(1, b"acknowledged")
    assert group.data(1) == [b"acknowledged"]
    for node in (1, 2, 3):
        group.restart(node)
    group.stalled.clear()
    group.wire.clear()
    group.isolate(1)
    group.tick(LONG)
    assert group.leaders() == [2]
    group.heal()
    group.tick(LONG)
    assert all(group.data(node) == [b"acknowledged"] for node in (1, 2, 3))
