"""Brokers compare what they made of the metadata; who parted ends, and the others say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from penstock.errors import MetadataDiverged, RemoteProtocolError, ShuttingDown
from penstock.protocol.cluster import ClusterStatus, SetNodeState
from penstock_broker.machine.commands import AlterTopic, Command, encode_command
from penstock_broker.machine.effects import Effect
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import MetadataReply
from penstock_broker.node import agreement
from penstock_broker.node.agreement import (
    DIGEST_TABLE,
    HEARD_MAX,
    ROWS_MAX,
    STRIDE,
    TELL_SECONDS,
    Agreement,
    Past,
)
from penstock_broker.raft import Configuration
from tests.node.cluster import Cluster


class Wayward(MetadataMachine):
    """Takes another value than it was told, each kind in its own way."""

    bytes_max = 1 << 16

    def apply(self, command: Command, at: Stamp) -> tuple[MetadataReply, list[Effect]]:
        if isinstance(command, AlterTopic):
            command = replace(command, config={"max_batch_bytes": self.bytes_max})
        return super().apply(command, at)


class Contrary(Wayward):
    bytes_max = 1 << 17


def lead_astray(cluster: Cluster, number: int, kind: type[Wayward] = Wayward) -> None:
    metadata = cluster.members[number].node.groups.metadata
    wayward = kind()
    wayward.restore(metadata.machine.snapshot())
    metadata.machine = wayward


def alter(cluster: Cluster, value: int = 1 << 18) -> None:
    """A command that a wayward machine gets wrong."""
    group = cluster.leader(0).group(0)
    command = AlterTopic(name="orders", config={"max_batch_bytes": value})
    group.propose_command(encode_command(command))
    cluster.pump()


def parted(cluster: Cluster, number: int) -> dict[int, bool]:
    found = cluster.members[number].node.agreement.parted
    return {node: each.proven for node, each in found.items()}


def ended(cluster: Cluster) -> list[int]:
    return [
        member.number
        for member in cluster.alive
        if isinstance(member.node.membership.removed, MetadataDiverged)
    ]


def formed(count: int) -> Cluster:
    cluster = Cluster(count)
    cluster.topic()
    return cluster


@pytest.mark.parametrize("count", [2, 3])
def test_brokers_that_make_the_same_of_the_metadata_say_nothing(count: int) -> None:
    cluster = formed(count)
    for number in range(1, count + 1):
        alter(cluster, 1 << (17 + number))
        cluster.restart(number)
        cluster.advance(TELL_SECONDS)
    cluster.advance(2 * TELL_SECONDS)
    for number, member in cluster.members.items():
        applied = member.node.groups.metadata.applied_index
        assert member.node.agreement._agreeing == dict.fromkeys(
            set(cluster.members) - {number}, applied
        )
        assert not member.node.agreement.parted
    assert not ended(cluster)


@pytest.mark.parametrize("leads", [True, False])
def test_the_one_of_three_that_parted_ends_and_the_others_name_it(leads: bool) -> None:
    cluster = formed(3)
    wrong = next(n for n in cluster.members if (n == cluster.leader(0).number) is leads)
    others = sorted(set(cluster.members) - {wrong})
    lead_astray(cluster, wrong)
    alter(cluster)
    cluster.run_until(lambda: ended(cluster), 2 * TELL_SECONDS + 1)
    cluster.run_until(lambda: all(parted(cluster, number) == {wrong: True} for number in others))
    assert ended(cluster) == [wrong]
    membership = cluster.members[wrong].node.membership
    assert f"node {wrong}) made something else of the cluster's metadata" in str(membership.removed)
    assert f"nodes {others[0]}, {others[1]}" in str(membership.removed)
    assert isinstance(membership.refusal(), ShuttingDown)
    cluster.kill(wrong)
    status = cluster.ask(cluster.members[others[0]].client(), ClusterStatus())
    assert [(node.id, node.diverged) for node in status.nodes if node.parted_at] == [(wrong, True)]


def test_one_that_ends_at_once_is_named_all_the_same() -> None:
    cluster = formed(3)
    node = cluster.members[3].node
    lead_astray(cluster, 3)
    alter(cluster)
    while node.membership.removed is None:
        cluster.advance(0.05)
    cluster.kill(3)
    cluster.run_until(lambda: parted(cluster, 1) == parted(cluster, 2) == {3: True}, 1.0)


def test_one_that_starts_anew_and_makes_it_right_is_well() -> None:
    cluster = formed(3)
    lead_astray(cluster, 3)
    alter(cluster)
    cluster.run_until(lambda: ended(cluster), 2 * TELL_SECONDS + 1)
    cluster.restart(3)
    cluster.run_until(lambda: not parted(cluster, 1) and not parted(cluster, 2))
    cluster.advance(2 * TELL_SECONDS)
    assert not ended(cluster)


def test_one_whose_checkpoint_is_wrong_ends_again_as_soon_as_it_is_connected() -> None:
    cluster = formed(3)
    lead_astray(cluster, 3)
    alter(cluster)
    node = cluster.members[3].node
    node.checkpoints.request()
    cluster.run_until(lambda: node.checkpoints.done)
    cluster.restart(3)
    cluster.run_until(lambda: ended(cluster) == [3], 1.5)


def test_of_two_both_tell_and_none_ends() -> None:
    cluster = formed(2)
    lead_astray(cluster, 2)
    alter(cluster)
    cluster.run_until(lambda: parted(cluster, 1) and parted(cluster, 2))
    cluster.advance(2 * TELL_SECONDS)
    assert (parted(cluster, 1), parted(cluster, 2)) == ({2: False}, {1: False})
    assert not ended(cluster)


def test_where_all_differ_nobody_is_right() -> None:
    cluster = formed(3)
    lead_astray(cluster, 2)
    lead_astray(cluster, 3, Contrary)
    alter(cluster)
    cluster.run_until(lambda: all(len(parted(cluster, number)) == 2 for number in (1, 2, 3)))
    cluster.advance(2 * TELL_SECONDS)
    assert not any(proven for number in (1, 2, 3) for proven in parted(cluster, number).values())
    assert not ended(cluster)


def test_while_a_third_is_away_nobody_has_a_majority_until_it_is_back() -> None:
    cluster = formed(3)
    lead_astray(cluster, 3)
    cluster.kill(2)
    alter(cluster)
    cluster.run_until(lambda: parted(cluster, 1) and parted(cluster, 3))
    cluster.advance(TELL_SECONDS)
    assert not ended(cluster)
    cluster.restart(2)
    cluster.run_until(lambda: ended(cluster) == [3])
    cluster.run_until(lambda: parted(cluster, 1) == {3: True})


def test_while_nobody_knows_who_is_right_no_snapshot_makes_a_second_witness() -> None:
    cluster = formed(3)
    cluster.kill(3)
    leader = cluster.leader(0)
    other = 3 - leader.number
    lead_astray(cluster, other)
    alter(cluster)
    cluster.run_until(lambda: leader.node.agreement.doubtful)
    group = leader.group(0)
    group.raft.progress[3].become_snapshot()
    leader.node.catchup.wanted(group, 3)
    assert not leader.node.catchup.sending
    cluster.kill(other)
    assert not leader.node.agreement.doubtful
    leader.node.catchup.wanted(group, 3)
    assert leader.node.catchup.sending


def test_a_node_that_is_removed_is_named_no_more() -> None:
    cluster = formed(3)
    lead_astray(cluster, 3)
    alter(cluster)
    cluster.run_until(lambda: parted(cluster, 1) == {3: True})
    cluster.kill(3)
    cluster.ask(cluster.members[1].client(), SetNodeState(node=3, state="removed", force=True))
    cluster.advance(2 * TELL_SECONDS)
    assert not parted(cluster, 1)


def test_it_is_told_seldom_and_only_when_there_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = formed(3)
    cluster.advance(20.0)
    told: list[float] = []
    node = cluster.members[1].node
    tell = node.agreement.tell
    monkeypatch.setattr(
        node.agreement, "tell", lambda peer: (told.append(cluster.clock), tell(peer))
    )
    cluster.advance(3 * TELL_SECONDS)
    assert not told
    for number in range(20):
        alter(cluster, (1 << 17) + number)
        cluster.advance(0.25)
    assert len(set(told)) <= 5.0 / TELL_SECONDS + 1
    assert len(told) == 2 * len(set(told))


# ----- the parts


def test_the_past_holds_each_digest_until_the_next_and_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "PAST_MAX", 4)
    past = Past(10, 100)
    assert past.at(9) is None
    past.note(12, 100)
    past.note(13, 130)
    assert [past.at(index) for index in (10, 12, 13, 99)] == [100, 100, 130, 130]
    for index in range(14, 40):
        past.note(index, index * 10)
        assert past.at(index) == index * 10
        assert past.at(max(13, index - 3)) == max(13, index - 3) * 10
    assert past.at(20) is None


class Peers(SimpleNamespace):
    """Takes what is posted."""

    def __init__(self) -> None:
        super().__init__(receivers={}, watchers=[], posted=[])

    def all(self) -> dict[int, None]:
        return {2: None}

    def post(self, to: int, channel: int, frames: list[bytes]) -> bool:
        self.posted.append((to, channel, frames[0]))
        return True


def alone(applied: int, members: int = 5) -> tuple[Agreement, Any]:
    """Of node 1; its digest at each entry is ten times its index."""
    metadata = SimpleNamespace(
        applied_index=applied,
        digest_at=lambda index: index * 10 if index <= applied else None,
        machine=SimpleNamespace(members=range(1, members + 1)),
        raft=SimpleNamespace(configuration=Configuration.of(range(1, min(members, 5) + 1))),
    )
    ends: list[object] = []
    node = SimpleNamespace(
        clock=0.0, node_id=1, peers=Peers(), groups=SimpleNamespace(metadata=metadata, node_id=1),
        membership=SimpleNamespace(ends=ends.append, reasons=ends, removed=None),
    )  # fmt: skip
    return Agreement(cast("Any", node)), node


def hear(agreement: Agreement, sender: int, rows: dict[int, int]) -> None:
    frame = DIGEST_TABLE.pack((), [tuple(rows), tuple(rows.values())])
    agreement.received(sender, memoryview(frame), 0, len(frame), False)


def test_the_last_entry_is_told_and_the_strides_before_it() -> None:
    one, node = alone(5 * STRIDE + 7)
    one.tell(2)
    ((to, channel, frame),) = node.peers.posted
    _, (indexes, digests) = DIGEST_TABLE.unpack(frame, 0, len(frame))
    assert (to, channel) == (2, 0)
    assert list(indexes) == [5 * STRIDE + 7, *(n * STRIDE for n in (5, 4, 3, 2, 1))]
    assert list(digests) == [index * 10 for index in indexes]
    one, node = alone(500 * STRIDE)
    one.tell(2)
    frame = node.peers.posted[0][2]
    assert len(DIGEST_TABLE.unpack(frame, 0, len(frame))[1][0]) <= ROWS_MAX


def test_only_equal_entries_are_compared_and_later_ones_wait() -> None:
    one, node = alone(100)
    hear(one, 2, {101: 7})
    one.tick()
    assert not one.parted
    node.groups.metadata.applied_index = 101
    node.groups.metadata.digest_at = lambda index: index * 10 if index <= 101 else None
    one.tick()
    assert one.parted[2].index == 101


def test_a_majority_must_tell_the_same_at_the_same_entry() -> None:
    one, node = alone(600)
    hear(one, 2, {600: 7})
    hear(one, 3, {600: 8})
    hear(one, 4, {599: 7})
    hear(one, 5, {256: 9})
    one.tick()
    assert set(one.parted) == {2, 3, 4, 5}
    assert not node.membership.reasons
    for sender in (2, 3):
        hear(one, sender, {512: 6, 600 + sender: 5})
    one.tick()
    assert not node.membership.reasons
    hear(one, 4, {512: 6})
    one.tick()
    assert node.membership.reasons[0].detail["entry"] == 512


def test_what_a_process_said_that_ended_counts_no_more() -> None:
    one, node = alone(600)
    for sender in (2, 3):
        hear(one, sender, {600: 7})
        one.tick()
        one.forget(sender)
    hear(one, 4, {600: 7})
    one.tick()
    assert not node.membership.reasons
    assert set(one.parted) == {2, 3, 4}


def test_in_the_midst_of_a_change_both_sets_of_voters_count_and_all_members() -> None:
    one, node = alone(10, members=3)
    node.groups.metadata.raft.configuration = Configuration(voters=(1, 2, 3), outgoing=(1, 4, 5))
    for sender in (2, 3):
        hear(one, sender, {10: 7})
    one.tick()
    assert not node.membership.reasons
    node.groups.metadata.raft.configuration = Configuration(voters=(1, 2, 3))
    node.groups.metadata.machine.members = range(1, 6)
    hear(one, 3, {10: 7})
    one.tick()
    assert not node.membership.reasons
    node.groups.metadata.machine.members = range(1, 4)
    hear(one, 3, {10: 7})
    one.tick()
    assert node.membership.reasons


def test_what_is_remembered_of_another_node_is_bounded() -> None:
    one, _ = alone(10)
    for first in range(100, 200, ROWS_MAX):
        hear(one, 2, dict.fromkeys(range(first, first + ROWS_MAX), 1))
    assert len(one._heard[2]) == HEARD_MAX
    assert max(one._heard[2]) >= 199


@pytest.mark.parametrize("rows", [0, ROWS_MAX + 1])
def test_frames_of_another_size_are_refused(rows: int) -> None:
    one, _ = alone(10)
    with pytest.raises(RemoteProtocolError):
        hear(one, 2, dict.fromkeys(range(rows), 1))


def test_who_is_not_known_as_a_member_is_not_judged() -> None:
    one, _ = alone(10, members=3)
    hear(one, 9, {10: 7})
    one.tick()
    assert not one.parted
