"""Positions of a topic turned into offsets, with the broker's help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.cli.units import Position
from penstock.errors import LeaderUnknown, PartitionNotFound

if TYPE_CHECKING:
    from penstock.protocol.messages import DescribeTopicReply, PartitionFigures
    from penstock.sync import Client


def partitions_of(client: Client, topic: str, partition: int | None) -> list[PartitionFigures]:
    """The figures of one partition of a topic, or of all.

    Raises:
        TopicNotFound: there is no such topic.
        PartitionNotFound: it has no such partition.
        LeaderUnknown: nobody could say how it is, or how one of them is.
    """
    reply = client.admin.describe_topic(topic)
    if silent := [number for number in unheard(reply) if partition in (None, number)]:
        named = ", ".join(map(str, silent))
        raise LeaderUnknown(f"topic {topic} has no leader of partition {named} at the moment")
    chosen = [p for p in reply.partitions if partition is None or p.partition == partition]
    if not chosen:
        raise PartitionNotFound(f"topic {topic} has no partition {partition}")
    return chosen


def unheard(reply: DescribeTopicReply) -> list[int]:
    """Partitions whose leader did not say how they are, since there is none at the moment."""
    heard = {figures.partition for figures in reply.partitions}
    return [each.partition for each in reply.topic.partitions if each.partition not in heard]


def resolve(
    client: Client, topic: str, partitions: Sequence[int], position: Position
) -> dict[int, int]:
    """The offset of a position in each of the partitions; a number is one already."""
    if isinstance(position, int):
        return dict.fromkeys(partitions, position)
    return dict(client.admin.list_offsets(topic, dict.fromkeys(partitions, position)))
