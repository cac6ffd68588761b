"""What clients are told when this broker does not lead a partition any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.errors import LeaderUnknown, NotLeader, PenstockError
from penstock.protocol.messages import ListOffsets
from penstock_broker.raft import Heartbeat, Role
from tests.node.cluster import Cluster
from tests.node.harness import Client, Harness

OTHER = 2

REQUESTS: dict[str, Callable[[Client, int], object]] = {
    "publish": lambda client, group: client.publish(group, b"a"),
    "fetch": lambda client, group: client.fetch(group, 0),
}


def depose(node: Harness, group: int) -> None:
    """Let the partition hear of a leader with a higher term."""
    raft = node.node.partitions[group].raft
    raft.step(Heartbeat(sender=OTHER, to=raft.id, term=raft.term + 1, commit=0, round=1))
    assert raft.role is Role.FOLLOWER
    node.node.mark(node.node.partitions[group])


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_refusal_names_the_leader(request_name: str) -> None:
    node = Harness()
    (group,) = node.topic()
    depose(node, group)
    assert leader_told_by(lambda: REQUESTS[request_name](node.client(), group)) == OTHER


def test_a_question_for_a_leader_out_of_reach_may_be_asked_again() -> None:
    node = Harness()
    (group,) = node.topic()
    depose(node, group)
    with pytest.raises(LeaderUnknown):
        node.client().ask(ListOffsets(topic="orders", positions={0: -1}))


def test_what_was_under_way_is_told_the_leader_too() -> None:
    node = Harness()
    (group,) = node.topic()
    reader, writer = node.client(), node.client()
    reader.fetch_nowait(group, 0, wait_ms=1000)
    writer.publish_nowait(group, b"a")
    node.node.end_round()
    depose(node, group)
    node.node.end_round()
    assert leader_told_by(reader.fetched) == OTHER
    assert leader_told_by(writer.publish_reply) == OTHER


def test_a_full_disk_here_is_no_answer_where_another_broker_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Harness()
    (group,) = node.topic()
    depose(node, group)
    node.node.end_round()
    monkeypatch.setattr(node.node.store, "_low", True)
    client = node.client()
    assert leader_told_by(lambda: client.publish(group, b"a")) == OTHER


def leader_told_by(act: Callable[[], object]) -> object:
    with pytest.raises(PenstockError) as caught:
        act()
    assert isinstance(caught.value, NotLeader)
    return caught.value.detail["leader"]


def test_when_a_leader_dies_the_next_replica_leads_soon_and_in_one_election() -> None:
    cluster = Cluster(3, seed=7)
    gids = cluster.topic("orders", 12)
    cluster.advance(1.0)
    before = {gid: cluster.leader(gid) for gid in gids}
    terms = {gid: before[gid].group(gid).raft.term for gid in gids}
    cluster.kill(1)
    cluster.advance(0.4)
    for gid in gids:
        leader = cluster.leader(gid)
        if before[gid].number != 1:
            assert leader is before[gid]
            continue
        place = leader.node.groups.metadata.machine.locate(gid)
        assert place is not None
        replicas = place[0].partitions[place[1]].replicas
        assert leader.number == next(node for node in replicas if node != 1)
        assert leader.group(gid).raft.term == terms[gid] + 1
