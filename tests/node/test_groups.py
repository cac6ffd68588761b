"""Ordered groups through the node: membership, commits, seeks, sessions."""

from __future__ import annotations

import pytest

from penstock.errors import Fenced, GroupNotFound, MemberUnknown, OffsetOutOfRange, TopicNotFound
from penstock.protocol.messages import (
    CommitOffsets,
    DeleteGroup,
    DescribeGroup,
    GroupHeartbeat,
    JoinGroup,
    JoinGroupReply,
    LeaveGroup,
    ListGroups,
    SeekGroup,
    TrimLog,
)
from tests.node.harness import Client, Harness


def join(client: Client, member: str, **more: int) -> JoinGroupReply:
    reply = client.ask(JoinGroup(group="billing", member=member, topics=["orders"], **more))
    assert isinstance(reply, JoinGroupReply)
    return reply


def commit(client: Client, member: str, generation: int, partition: int, offset: int) -> None:
    client.ask(
        CommitOffsets(
            group="billing",
            member=member,
            generation=generation,
            offsets={"orders": {partition: offset}},
        )
    )


def test_the_first_member_owns_everything() -> None:
    node = Harness()
    node.topic(partitions=4)
    reply = join(node.client(), "a")
    assert reply.assignment.owned == {"orders": [0, 1, 2, 3]}


def test_a_second_member_gets_its_share_after_the_first_let_go() -> None:
    node = Harness()
    node.topic(partitions=4)
    client = node.client()
    first = join(client, "a")
    second = join(client, "b")
    assert second.assignment.owned == {}
    seen = client.ask(
        GroupHeartbeat(group="billing", member="a", generation=first.assignment.generation)
    )
    revoked = seen.assignment.revoked
    assert len(revoked["orders"]) == 2
    client.ask(
        GroupHeartbeat(
            group="billing", member="a", generation=seen.assignment.generation, released=revoked
        )
    )
    seen = client.ask(
        GroupHeartbeat(group="billing", member="b", generation=second.assignment.generation)
    )
    assert seen.assignment.owned == revoked


def test_commits_are_found_again_by_the_next_owner_and_after_a_restart() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b", b"c")
    generation = join(client, "a").assignment.generation
    commit(client, "a", generation, 0, 2)
    client.ask(LeaveGroup(group="billing", member="a"))
    assert join(client, "b").offsets == {"orders": {0: 2}}
    node.restart()
    assert join(node.client(), "c").assignment.generation > generation
    (row,) = node.client().ask(DescribeGroup(group="billing")).partitions
    assert (row.committed, row.high_watermark, row.lag) == (2, 3, 1)


def test_a_silent_member_loses_its_partitions() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    join(client, "a", session_timeout_ms=1000)
    join(client, "b", session_timeout_ms=60_000)
    node.advance(2)
    described = client.ask(DescribeGroup(group="billing"))
    assert [member.member for member in described.members] == ["b"]
    with pytest.raises(MemberUnknown):
        client.ask(GroupHeartbeat(group="billing", member="a", generation=1))


def test_a_beating_member_stays() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    generation = join(client, "a", session_timeout_ms=1000).assignment.generation
    for _ in range(10):
        node.advance(0.5)
        client.ask(GroupHeartbeat(group="billing", member="a", generation=generation))


def test_members_get_a_full_session_after_a_restart() -> None:
    node = Harness()
    node.topic()
    join(node.client(), "a", session_timeout_ms=5000)
    node.restart()
    node.advance(4)
    assert len(node.client().ask(DescribeGroup(group="billing")).members) == 1


def test_the_earlier_instance_of_a_member_is_fenced() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    before = join(client, "a").assignment.generation
    join(client, "a")
    with pytest.raises(Fenced):
        commit(client, "a", before, 0, 0)


def test_a_commit_beyond_the_end_is_refused() -> None:
    node = Harness()
    node.topic()
    client = node.client()
    generation = join(client, "a").assignment.generation
    with pytest.raises(OffsetOutOfRange):
        commit(client, "a", generation, 0, 1)


def test_a_seek_moves_a_live_group_and_fences_commits_under_way() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b", b"c")
    generation = join(client, "a").assignment.generation
    commit(client, "a", generation, 0, 3)
    preview = client.ask(SeekGroup(group="billing", topic="orders", to=-2, dry_run=True))
    assert preview.plan == {0: [3, 0]}
    assert client.ask(SeekGroup(group="billing", topic="orders", to=-2)).plan == {0: [3, 0]}
    with pytest.raises(Fenced):
        commit(client, "a", generation, 0, 3)
    seen = client.ask(GroupHeartbeat(group="billing", member="a", generation=generation))
    assert seen.offsets == {"orders": {0: 0}}
    commit(client, "a", seen.assignment.generation, 0, 1)


def test_a_seek_needs_an_offset_within_the_log() -> None:
    node = Harness()
    node.topic()
    asked = SeekGroup(group="billing", topic="orders", positions={0: 5}, create=True)
    with pytest.raises(OffsetOutOfRange):
        node.client().ask(asked)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_seek_makes_a_group_only_when_it_is_told_to(dry_run: bool) -> None:
    node = Harness()
    node.topic()
    client = node.client()
    with pytest.raises(GroupNotFound):
        client.ask(SeekGroup(group="biling", topic="orders", to=-2, dry_run=dry_run))
    assert client.ask(ListGroups()).groups == []
    asked = SeekGroup(group="new", topic="orders", to=-2, create=True, dry_run=dry_run)
    assert client.ask(asked).plan == {0: [-1, 0]}
    assert [group.group for group in client.ask(ListGroups()).groups] == (
        [] if dry_run else ["new"]
    )


def test_groups_are_listed_with_their_lag_and_deleted_when_empty() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b")
    join(client, "a")
    (summary,) = client.ask(ListGroups()).groups
    assert (summary.group, summary.members, summary.lag) == ("billing", 1, 2)
    client.ask(LeaveGroup(group="billing", member="a"))
    client.ask(DeleteGroup(group="billing"))
    with pytest.raises(GroupNotFound):
        client.ask(DescribeGroup(group="billing"))


def test_the_lag_counts_partitions_of_which_nothing_was_committed_when_all_members_are_gone() -> (
    None
):
    node = Harness()
    first, second = node.topic(partitions=2)
    client = node.client()
    client.publish(first, b"a", b"b")
    generation = join(client, "a").assignment.generation
    commit(client, "a", generation, 0, 2)
    client.ask(LeaveGroup(group="billing", member="a"))
    client.publish(second, b"x", b"y", b"z")
    rows = client.ask(DescribeGroup(group="billing")).partitions
    assert [(row.partition, row.committed, row.lag) for row in rows] == [(0, 2, 0), (1, -1, 3)]
    (summary,) = client.ask(ListGroups()).groups
    assert summary.lag == 3


def test_joining_an_unknown_topic_is_refused() -> None:
    with pytest.raises(TopicNotFound):
        join(Harness().client(), "a")


def test_until_acked_topics_keep_what_a_group_still_needs() -> None:
    node = Harness(segment_bytes=4096)
    (group,) = node.topic(retention="until_acked", retention_ms=1000)
    client = node.client()
    for number in range(40):
        client.publish(group, b"%d" % number + b"x" * 500)
    generation = join(client, "a", session_timeout_ms=3_600_000).assignment.generation
    commit(client, "a", generation, 0, 10)
    node.advance(60)
    client.publish(group, b"new")
    node.advance(30)
    (row,) = client.ask(DescribeGroup(group="billing")).partitions
    assert 0 < row.log_start_offset <= 10


def test_a_trim_is_a_persons_decision_even_below_a_groups_offset() -> None:
    node = Harness()
    (group,) = node.topic()
    client = node.client()
    client.publish(group, b"a", b"b")
    join(client, "a")
    assert client.ask(TrimLog(topic="orders", partition=0, offset=2)).log_start_offset == 2
