"""Consumer groups as far as one node leads them: what others put together, and its lag.

An ordered group lies with its coordinator, a shared one with each partition of its topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock.protocol import messages
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.group_views import GroupDescription
from penstock_broker.machine.sharing.state import DONE, SHARED
from penstock_broker.machine.topology import KIND_GROUPS, SharedDefinition, Topic
from penstock_broker.node.certainty import read_all
from penstock_broker.node.questions import (
    GroupParts,
    GroupPartsReply,
    OrderedPart,
    SharedPart,
)

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

ORDERED: Final = "ordered"


def answer(node: Node, session: Session, correlation: int, asked: GroupParts) -> None:
    """Another node puts groups together: that one is not here is said once it is certain."""
    found = parts(node, asked)
    if not asked.group or found.ordered or found.shared:
        node.reply(session, correlation, found)
        return

    def certain(error: PenstockError | None) -> None:
        if error is None:
            node.reply(session, correlation, parts(node, asked))
        else:
            node.reply_error(session, correlation, TYPE_OF[GroupParts], error)

    group = node.groups.get(node.groups.coordinator_group(asked.group))
    read_all([group] if group is not None and group.leading else [], certain)


def parts(node: Node, asked: GroupParts) -> GroupPartsReply:
    """What this node leads of the groups that are asked for."""
    ordered = list(_ordered(node, asked)) if asked.ordered else []
    shared = list(_shared(node, asked)) if asked.shared else []
    return GroupPartsReply(ordered=ordered, shared=shared)


def coordinators(node: Node) -> list[int]:
    """The Raft groups of all coordinators."""
    topics = node.groups.metadata.machine.topics.values()
    return [
        place.group for topic in topics if topic.kind == KIND_GROUPS for place in topic.partitions
    ]


# ----- ordered groups


def _ordered(node: Node, asked: GroupParts) -> Iterator[OrderedPart]:
    for coordinator in node.groups.coordinators.values():
        for summary in coordinator.machine.list_groups() if coordinator.leading else ():
            fits = asked.group in ("", summary.group)
            if fits and (not asked.topic or asked.topic in summary.topics):
                described = coordinator.machine.describe(summary.group)
                if described is not None:
                    yield part_of(described, summary.topics)


def part_of(described: GroupDescription, topics: list[str] | None = None) -> OrderedPart:
    """A group as other nodes are told of it."""
    known: dict[str, set[int]] = {}
    for table in (described.owners, described.targets, described.positions):
        for topic, partitions in table.items():
            known.setdefault(topic, set()).update(partitions)
    return OrderedPart(
        group=described.group,
        generation=described.generation,
        topics=topics or [],
        members={member.id: member.host for member in described.members},
        positions={
            topic: {partition: list(position) for partition, position in positions.items()}
            for topic, positions in described.positions.items()
        },
        owners=described.owners,
        known={topic: sorted(partitions) for topic, partitions in known.items()},
    )


def places(node: Node, part: OrderedPart) -> dict[tuple[str, int], int]:
    """The partitions that a group has to do with, and the Raft group of each that exists.

    These are all of its topics: what it never committed anything of, it has yet to read.
    """
    topics = node.groups.metadata.machine.topics
    return {
        (name, number): place.group
        for name in {*part.known, *part.topics}
        if name in topics
        for number, place in enumerate(topics[name].partitions)
    }


def lags(
    node: Node, part: OrderedPart, ends: Mapping[int, list[int]]
) -> list[messages.PartitionLag]:
    """How far a group is on each of its partitions, given where the logs start and end."""
    gids = places(node, part)
    rows = []
    known = {(topic, number) for topic, numbers in part.known.items() for number in numbers}
    for topic, partition in sorted({*gids, *known}):
        start, end = ends.get(gids.get((topic, partition), -1), (0, 0))
        committed = part.positions.get(topic, {}).get(partition, [-1, 0])[0]
        rows.append(
            messages.PartitionLag(
                topic=topic,
                partition=partition,
                committed=committed,
                log_start_offset=start,
                high_watermark=end,
                lag=max(0, end - max(committed, start)),
                member=part.owners.get(topic, {}).get(partition, ""),
            )
        )
    return rows


# ----- shared groups


def definitions(node: Node, group: str) -> Iterator[tuple[Topic, str, SharedDefinition]]:
    """The shared groups of all topics; empty: of any name."""
    for topic in node.groups.metadata.machine.topics.values():
        for name, definition in topic.shared.items():
            if definition.kind == SHARED and group in ("", name):
                yield topic, name, definition


def _shared(node: Node, asked: GroupParts) -> Iterator[SharedPart]:
    for topic, name, _ in definitions(node, asked.group):
        if asked.topic not in ("", topic.name):
            continue
        rows: list[messages.PartitionLag] = []
        members: dict[str, messages.MemberInfo] = {}
        for partition, group in _places(node, topic, name):
            rows.append(_row(partition, group))
            _add_members(members, partition, topic.name, name)
        if rows:
            found = list(members.values())
            yield SharedPart(topic=topic.name, group=name, rows=rows, members=found)


def _places(node: Node, topic: Topic, name: str) -> Iterator[tuple[PartitionGroup, SharedGroup]]:
    for place in topic.partitions:
        partition = node.partitions.get(place.group)
        if partition is not None and partition.leading:
            group = partition.machine.sharing.groups.get(name)
            if group is not None:
                yield partition, group


def _row(partition: PartitionGroup, group: SharedGroup) -> messages.PartitionLag:
    return messages.PartitionLag(
        topic=partition.topic,
        partition=partition.partition,
        committed=group.start,
        log_start_offset=partition.log.start_offset,
        high_watermark=partition.log.end_offset,
        lag=lag_of(partition, group),
        member="",
    )


def lag_of(partition: PartitionGroup, group: SharedGroup) -> int:
    """Records that are not settled, those never granted included."""
    return max(0, partition.log.end_offset - group.start - group.window.count(DONE))


def _add_members(
    members: dict[str, messages.MemberInfo], partition: PartitionGroup, topic: str, group: str
) -> None:
    for name, member in partition.shared.members_of(group).items():
        found = members.setdefault(
            name,
            messages.MemberInfo(
                member=name, host=member.host, owned={}, generation=0, last_seen_ms=0
            ),
        )
        found.owned.setdefault(topic, []).append(partition.partition)
