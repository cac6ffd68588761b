"""Partitions without a leader are told from those that do not exist."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.cli.positions import partitions_of
from penstock.errors import LeaderUnknown, PartitionNotFound
from penstock.protocol.messages import (
    DescribeTopicReply,
    PartitionFigures,
    PartitionInfo,
    TopicInfo,
)


class Client:
    """A client of a cluster in which nobody leads partition 1 of the topic's two."""

    @property
    def admin(self) -> Any:
        return self

    def describe_topic(self, name: str) -> DescribeTopicReply:
        """What the broker says."""
        there = [
            PartitionInfo(partition=n, group=9 + n, leader=1 - n, term=1, replicas=[1 + n])
            for n in (0, 1)
        ]
        led = PartitionFigures(
            partition=0, group=9, leader=1, term=1, replicas=[1], log_start_offset=0,
            high_watermark=5, size_bytes=100, segments=1, producers=1,
        )  # fmt: skip
        topic = TopicInfo(name=name, id="", partitions=there, config={})
        return DescribeTopicReply(topic=topic, partitions=[led])


def test_a_partition_without_a_leader_is_none_that_does_not_exist() -> None:
    client: Any = Client()
    for partition in (1, None):
        with pytest.raises(LeaderUnknown, match="no leader of partition 1 "):
            partitions_of(client, "orders", partition)
    with pytest.raises(PartitionNotFound):
        partitions_of(client, "orders", 2)
    assert [figures.high_watermark for figures in partitions_of(client, "orders", 0)] == [5]
