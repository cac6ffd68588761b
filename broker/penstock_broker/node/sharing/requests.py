"""Requests about shared groups as a whole: create, alter, delete; lists that name both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from penstock.errors import InvalidConfig, LeaderUnknown, from_wire
from penstock.protocol import messages
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, encode_command
from penstock_broker.machine.sharing.state import DONE, SHARED
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import (
    SharedAltered,
    SharedCreated,
    SharedDefinition,
    SharedDeleted,
    Topic,
)
from penstock_broker.node import group_requests
from penstock_broker.node.pending import Request

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session

MODE: Final = "shared"


def info(topic: Topic, group: str) -> wire.SharedGroupInfo:
    """A group as clients see it."""
    definition = topic.shared[group]
    return wire.SharedGroupInfo(
        topic=topic.name,
        group=group,
        settings=dict(definition.settings),
        revision=definition.revision,
        dead_topic=definition.dead_topic,
    )


def _scalars(settings: dict[str, object]) -> dict[str, commands.Scalar]:
    found: dict[str, commands.Scalar] = {}
    for name, value in settings.items():
        if not isinstance(value, bool | int | float | str | None):
            raise InvalidConfig(f"{name[:80]!r} must be a number, a word or nothing")
        found[name] = value
    return found


def create(node: Node, session: Session, correlation: int, asked: wire.CreateGroup) -> None:
    """Create a group; answered when every partition here knows it."""
    command = commands.CreateSharedGroup(
        topic=asked.topic,
        group=asked.group,
        id=f"{node.rng.getrandbits(128):032x}",
        settings=_scalars(asked.settings),
        start=asked.start,
        if_not_exists=asked.if_not_exists,
    )

    def answer(reply: object) -> None:
        assert isinstance(reply, SharedCreated)
        found = wire.CreateGroupReply(group=info(reply.topic, asked.group), created=reply.created)
        node.reply(session, correlation, found)

    def applied(reply: object) -> None:
        assert isinstance(reply, SharedCreated)
        topics = [reply.topic] if reply.dead is None else [reply.topic, reply.dead]
        when_known(node, request, asked.group, topics, lambda: answer(reply))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    _change(node, request, command, applied, answer if asked.dry_run else None)


def alter(node: Node, session: Session, correlation: int, asked: wire.AlterGroup) -> None:
    """Change settings; answered when every partition here has them."""
    command = commands.AlterSharedGroup(
        topic=asked.topic, group=asked.group, settings=_scalars(asked.settings)
    )

    def answer(reply: object) -> None:
        assert isinstance(reply, SharedAltered)
        node.reply(session, correlation, wire.AlterGroupReply(group=info(reply.topic, asked.group)))

    def applied(reply: object) -> None:
        assert isinstance(reply, SharedAltered)
        topics = [reply.topic] if reply.dead is None else [reply.topic, reply.dead]
        when_known(node, request, asked.group, topics, lambda: answer(reply))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    _change(node, request, command, applied, answer if asked.dry_run else None)


def delete(node: Node, session: Session, correlation: int, asked: messages.DeleteGroup) -> None:
    """Delete a group: a shared one of a topic, or an ordered one."""
    if not asked.topic:
        group_requests.delete(node, session, correlation, asked)
        return
    command = commands.DeleteSharedGroup(topic=asked.topic, group=asked.group)

    def answer(reply: object) -> None:
        assert isinstance(reply, SharedDeleted)
        node.reply(session, correlation, messages.DeleteGroupReply())

    request = Request(session, correlation, TYPE_OF[type(asked)])
    _change(node, request, command, answer, answer if asked.dry_run else None)


def _change(
    node: Node,
    request: Request,
    command: commands.CreateSharedGroup | commands.AlterSharedGroup | commands.DeleteSharedGroup,
    applied: Callable[[object], None],
    dry_run: Callable[[object], None] | None,
) -> None:
    group = node.groups.metadata
    if not group.leading:
        raise LeaderUnknown("the metadata has no leader at the moment")
    if dry_run is None:
        node.pending.propose(group, encode_command(command), applied, request)
        return
    at = Stamp(group.next_index, group.raft.term, node.wall_us)
    reply = group.machine.preview(command, at)
    if isinstance(reply, Refused):
        raise from_wire(reply.code, reply.message, reply.detail)
    dry_run(reply)


def when_known(
    node: Node, request: Request, group: str, topics: list[Topic], finish: Callable[[], None]
) -> None:
    """Call `finish` when the partitions of these topics that are led here know the group."""
    waits = [1]  # for the loop below, which must not be overtaken

    def known() -> None:
        waits[0] -= 1
        if not waits[0]:
            finish()

    def led(_: object) -> None:
        for topic in topics:
            definition = topic.shared.get(group)
            for place in topic.partitions if definition is not None else ():
                assert definition is not None
                partition = node.partitions.get(place.group)
                if partition is not None and partition.leading:
                    waits[0] += 1
                    configuring = partition.shared.configuring
                    configuring.when_configured(group, definition.revision, known)
        known()

    gids = {place.group for topic in topics for place in topic.partitions}
    node.pending.when_ready(gids, request, led)


# ----- both modes


def _definitions(node: Node, group: str | None) -> Iterator[tuple[Topic, str, SharedDefinition]]:
    for topic in node.groups.metadata.machine.topics.values():
        for name, definition in topic.shared.items():
            if definition.kind == SHARED and group in (None, name):
                yield topic, name, definition


def _places(node: Node, topic: Topic, name: str) -> Iterator[tuple[PartitionGroup, SharedGroup]]:
    for place in topic.partitions:
        partition = node.partitions.get(place.group)
        group = partition.machine.sharing.groups.get(name) if partition is not None else None
        if partition is not None and group is not None:
            yield partition, group


def lag_of(partition: PartitionGroup, group: SharedGroup) -> int:
    """Records that are not settled, those never granted included."""
    return max(0, partition.log.end_offset - group.start - group.window.count(DONE))


def list_groups(node: Node, session: Session, correlation: int, asked: messages.ListGroups) -> None:
    """All groups by name."""
    del asked
    found = group_requests.summaries(node)
    for topic, name, definition in _definitions(node, None):
        places = list(_places(node, topic, name))
        members = {
            member for partition, _ in places for member in partition.shared.members_of(name)
        }
        found.append(
            messages.GroupSummary(
                group=name,
                mode=MODE,
                members=len(members),
                generation=definition.revision,
                topics=[topic.name],
                lag=sum(lag_of(partition, group) for partition, group in places),
            )
        )
    found.sort(key=lambda summary: (summary.group, summary.topics))
    node.reply(session, correlation, messages.ListGroupsReply(groups=found))


def describe(node: Node, session: Session, correlation: int, asked: messages.DescribeGroup) -> None:
    """A group in full: the ordered one, or the shared ones of that name."""
    definitions = list(_definitions(node, asked.group))
    if not definitions or group_requests.is_known(node, asked.group):
        group_requests.describe(node, session, correlation, asked)
        return
    members: dict[str, messages.MemberInfo] = {}
    rows: list[messages.PartitionLag] = []
    for topic, name, _ in definitions:
        for partition, group in _places(node, topic, name):
            rows.append(
                messages.PartitionLag(
                    topic=topic.name,
                    partition=partition.partition,
                    committed=group.start,
                    log_start_offset=partition.log.start_offset,
                    high_watermark=partition.log.end_offset,
                    lag=lag_of(partition, group),
                    member="",
                )
            )
            _add_members(members, partition, topic.name, name)
    reply = messages.DescribeGroupReply(
        group=asked.group,
        mode=MODE,
        generation=max(definition.revision for _, _, definition in definitions),
        members=sorted(members.values(), key=lambda member: member.member),
        partitions=rows,
    )
    node.reply(session, correlation, reply)


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
