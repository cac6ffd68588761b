"""A definite refusal is told by nobody whom others may have replaced as leader."""

from __future__ import annotations

import pytest

from penstock.errors import (
    Fenced,
    GroupNotFound,
    LeaderUnknown,
    MemberUnknown,
    OffsetOutOfRange,
    PenstockError,
    PreconditionFailed,
    ScheduleNotFound,
    UnknownProducer,
)
from penstock.protocol.cluster import SetNodeState
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import (
    AlterTopic,
    CommitOffsets,
    DescribeGroup,
    GroupHeartbeat,
    JoinGroup,
    Message,
    Metadata,
    MetadataReply,
    SeekGroup,
    TrimLog,
)
from penstock.protocol.sharing import DeleteSchedule, ExplainRecord, StuckRecords
from tests.node.cluster import Cluster
from tests.node.harness import Client

BEYOND = {"orders": {0: 7}}
REFUSED: list[tuple[type[PenstockError], Message]] = [
    (OffsetOutOfRange, CommitOffsets(group="g", member="m", generation=1, offsets=BEYOND)),
    (OffsetOutOfRange, SeekGroup(group="g", topic="orders", positions={0: 7})),
    (OffsetOutOfRange, TrimLog(topic="orders", partition=0, offset=7)),
    (OffsetOutOfRange, ExplainRecord(topic="orders", partition=0, offset=7)),
    (GroupNotFound, SeekGroup(group="nobody", topic="orders", to=-2)),
    (GroupNotFound, DescribeGroup(group="nobody")),
    (GroupNotFound, StuckRecords(topic="orders", partition=0, group="nobody")),
    (MemberUnknown, GroupHeartbeat(group="g", member="stranger", generation=1)),
    (Fenced, GroupHeartbeat(group="g", member="m", generation=0)),
    (ScheduleNotFound, DeleteSchedule(topic="orders", name="nothing")),
]


def grown() -> Cluster:
    """Three brokers; the first leads all that the requests are about."""
    cluster = Cluster(3)
    cluster.topic()
    cluster.advance(15.0)  # the coordinators get their replicas
    groups = cluster.members[1].node.groups
    topic = groups.metadata.machine.topics["orders"]
    named = [groups.coordinator_group(name) for name in ("g", "nobody")]
    wanted = [cluster.members[1].group(gid) for gid in {0, topic.partitions[0].group, *named}]
    for group in wanted:
        if cluster.leader(group.gid).number != 1:
            cluster.leader(group.gid).group(group.gid).transfer(1)
    cluster.run_until(lambda: all(group.leading for group in wanted))
    joined = JoinGroup(group="g", member="m", topics=["orders"], session_timeout_ms=60_000)
    cluster.ask(cluster.members[1].client(), joined)
    return cluster


def errors(client: Client) -> list[PenstockError]:
    found = []
    for frame, data in client.take():
        with pytest.raises(PenstockError) as caught:
            client.decode(frame, data)
        found.append(caught.value)
    return found


def test_what_is_refused_for_good_is_refused_through_every_broker() -> None:
    cluster = grown()
    for error, message in REFUSED:
        for member in cluster.alive:
            with pytest.raises(error):
                cluster.ask(member.client(), message)


def test_a_leader_that_others_may_have_replaced_refuses_nothing_for_good() -> None:
    cluster = grown()
    client = cluster.members[1].client()
    (place,) = cluster.members[1].node.groups.metadata.machine.topics["orders"].partitions
    cluster.isolate(1)
    for number, (_, message) in enumerate(REFUSED):
        client.send(encode_message(message, number + 1))
    cluster.advance(0.3)
    assert errors(client) == []
    others = [member for member in cluster.alive if member.number != 1]
    cluster.run_until(lambda: any(member.group(place.group).leading for member in others))
    leader = next(member for member in others if member.group(place.group).leading)
    leader.client().publish(place.group, b"a")
    cluster.advance(18.0)
    told = errors(client)
    assert len(told) == len(REFUSED)
    assert all(error.retriable for error in told), told
    cluster.heal()
    commit = CommitOffsets(group="g", member="m", generation=1, offsets={"orders": {0: 1}})
    cluster.ask(client, commit)


def partitions_told(reply: Message) -> int:
    assert isinstance(reply, MetadataReply)
    (topic,) = reply.topics
    return len(topic.partitions)


@pytest.mark.parametrize("topics", [None, ["orders"]])
def test_metadata_is_as_new_as_the_question_where_that_is_asked_for(
    topics: list[str] | None,
) -> None:
    cluster = grown()
    nearest, linearizable = Metadata(topics=topics), Metadata(topics=topics, linearizable=True)
    client = cluster.members[3].client()
    cluster.isolate(3)
    cluster.ask(cluster.members[1].client(), AlterTopic(name="orders", partitions=2))
    assert partitions_told(cluster.ask(client, nearest)) == 1
    client.send(encode_message(linearizable, 1))
    cluster.advance(0.3)
    assert client.take() == []
    cluster.advance(8.0)
    (error,) = errors(client)
    assert error.retriable
    cluster.heal()
    for member in cluster.alive:
        assert partitions_told(cluster.ask(member.client(), linearizable)) == 2


def test_a_definite_refusal_is_told_also_while_a_broker_of_three_is_dead() -> None:
    cluster, dry_run = grown(), SetNodeState(node=2, state="removed", dry_run=True)
    cluster.kill(2)
    for member in cluster.alive:
        with pytest.raises(PreconditionFailed, match="holds"):
            cluster.ask(member.client(), dry_run, seconds=2.0)


def test_a_producer_is_not_refused_by_a_leader_that_stood_still() -> None:
    """What it lacks may have been appended by the next one."""
    cluster = Cluster(3)
    (gid,) = cluster.topic()
    leader = cluster.leader(gid)
    client = leader.client()
    cluster.isolate(leader.number)
    cluster.clock += 3.0
    leader.node.now(cluster.wall_us, cluster.clock)
    with pytest.raises(LeaderUnknown):
        client.publish(gid, b"the second", producer_id=7, base_sequence=1)
    cluster.heal()
    cluster.advance(0.3)
    with pytest.raises(UnknownProducer):
        client.publish(gid, b"the second", producer_id=7, base_sequence=1)
