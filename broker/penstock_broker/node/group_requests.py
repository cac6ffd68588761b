"""Requests about ordered consumer groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from penstock.errors import (
    GroupNotFound,
    LeaderUnknown,
    OffsetOutOfRange,
    TopicNotFound,
    from_wire,
)
from penstock.protocol import messages
from penstock.protocol.messages import TYPE_OF, Assignment
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, encode_command
from penstock_broker.machine.group_views import MemberView, Sought
from penstock_broker.machine.topology import KIND_RECORDS, Topic
from penstock_broker.node import group_parts
from penstock_broker.node.gather import log_ends, unled
from penstock_broker.node.offset_requests import resolve_all
from penstock_broker.node.pending import Request
from penstock_broker.node.topic_requests import partition_gid

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session


def _request(session: Session, correlation: int, asked: messages.Message) -> Request:
    return Request(session, correlation, TYPE_OF[type(asked)])


def _topic(node: Node, name: str) -> Topic:
    topic = node.groups.metadata.machine.topics.get(name)
    if topic is None or topic.kind != KIND_RECORDS:
        raise TopicNotFound(f"there is no topic {name!r}", topic=name)
    return topic


def _unknown(group: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group!r}", group=group)


def _assignment(view: MemberView) -> Assignment:
    return Assignment(generation=view.generation, owned=view.owned, revoked=view.revoked)


def join(node: Node, session: Session, correlation: int, asked: messages.JoinGroup) -> None:
    """Join, or join again."""
    coordinator = node.groups.coordinator_of(asked.group)
    command = commands.Join(
        group=asked.group,
        member=asked.member,
        topics=asked.topics,
        session_timeout_ms=asked.session_timeout_ms,
        host=asked.host,
        refs=[node.groups.topic_ref(_topic(node, name)) for name in asked.topics],
    )

    def answer(view: object) -> None:
        assert isinstance(view, MemberView)
        reply = messages.JoinGroupReply(
            member=asked.member,
            assignment=_assignment(view),
            offsets=view.offsets,
            heartbeat_ms=max(asked.session_timeout_ms // 4, 20),
        )
        node.reply(session, correlation, reply)

    request = _request(session, correlation, asked)
    node.pending.propose(coordinator, encode_command(command), answer, request)


def heartbeat(
    node: Node, session: Session, correlation: int, asked: messages.GroupHeartbeat
) -> None:
    """Keep a session alive; only a released partition needs an entry in the log."""
    coordinator = node.groups.coordinator_of(asked.group)
    coordinator.touch(asked.group, asked.member)

    def answer(view: object) -> None:
        assert isinstance(view, MemberView)
        reply = messages.GroupHeartbeatReply(assignment=_assignment(view), offsets=view.offsets)
        node.reply(session, correlation, reply)

    if any(asked.released.values()):
        command = commands.Release(
            group=asked.group,
            member=asked.member,
            generation=asked.generation,
            partitions=asked.released,
        )
        request = _request(session, correlation, asked)
        node.pending.propose(coordinator, encode_command(command), answer, request)
        return
    view = coordinator.machine.heartbeat(asked.group, asked.member, asked.generation)
    if isinstance(view, Refused):
        raise from_wire(view.code, view.message, view.detail)
    answer(view)


def leave(node: Node, session: Session, correlation: int, asked: messages.LeaveGroup) -> None:
    """End a membership."""
    coordinator = node.groups.coordinator_of(asked.group)
    command = commands.Leave(group=asked.group, member=asked.member, generation=asked.generation)
    node.pending.propose(
        coordinator,
        encode_command(command),
        lambda _: node.reply(session, correlation, messages.LeaveGroupReply()),
        _request(session, correlation, asked),
    )


def commit(node: Node, session: Session, correlation: int, asked: messages.CommitOffsets) -> None:
    """Commit offsets; none may lie beyond the log's end, as far as that is led here."""
    coordinator = node.groups.coordinator_of(asked.group)
    coordinator.touch(asked.group, asked.member)
    for name, positions in asked.offsets.items():
        for partition, offset in positions.items():
            place = node.groups.find(name, partition)
            if place is not None and place.leading and offset > place.log.end_offset:
                end = place.log.end_offset
                raise OffsetOutOfRange(f"{name}:{partition} ends at {end}, before {offset}")
    refs = (
        []
        if asked.member
        else [node.groups.topic_ref(_topic(node, name)) for name in asked.offsets]
    )
    command = commands.Commit(
        group=asked.group,
        offsets=asked.offsets,
        member=asked.member,
        generation=asked.generation,
        refs=refs,
    )
    node.pending.propose(
        coordinator,
        encode_command(command),
        lambda _: node.reply(session, correlation, messages.CommitOffsetsReply()),
        _request(session, correlation, asked),
    )


def seek(node: Node, session: Session, correlation: int, asked: messages.SeekGroup) -> None:
    """Move a group's committed offsets, or show what would be moved."""
    coordinator = node.groups.coordinator_of(asked.group)
    topic = _topic(node, asked.topic)
    if not asked.create and coordinator.machine.describe(asked.group) is None:
        raise _unknown(asked.group)
    request = _request(session, correlation, asked)
    wanted = dict(asked.positions)
    if asked.to is not None:
        for partition in range(len(topic.partitions)):
            wanted.setdefault(partition, asked.to)
    exact = {p: at for p, at in asked.positions.items() if at >= 0}
    others = {p: at for p, at in wanted.items() if p not in exact}

    def checked(found: dict[int, int]) -> None:
        resolve_all(node, request, topic.name, others, lambda rest: move(found | rest))

    def move(positions: dict[int, int]) -> None:
        _seek_to(node, request, asked, {p: positions[p] for p in wanted})

    _check_exact(node, request, topic.name, exact, checked)


def _check_exact(
    node: Node,
    request: Request,
    topic: str,
    exact: dict[int, int],
    finish: Callable[[dict[int, int]], None],
) -> None:
    """Call `finish` with the offsets, if the partitions hold them."""
    gids = {partition: partition_gid(node, topic, partition) for partition in exact}

    def told(ends: Mapping[int, list[int]]) -> None:
        for partition, position in exact.items():
            if gids[partition] not in ends:
                raise LeaderUnknown()
            start, end = ends[gids[partition]]
            if not start <= position <= end:
                raise OffsetOutOfRange(f"{topic}:{partition} holds {start} to {end}")
        finish(exact)

    log_ends(node, request, gids.values(), told, strict=True)


def _seek_to(
    node: Node, request: Request, asked: messages.SeekGroup, positions: dict[int, int]
) -> None:
    coordinator = node.groups.coordinator_of(asked.group)
    ref = node.groups.topic_ref(_topic(node, asked.topic))
    command = commands.Seek(group=asked.group, topic=ref, positions=positions)

    def answer(plan: object) -> None:
        assert isinstance(plan, Sought)
        reply = messages.SeekGroupReply(plan=plan.plan)
        node.reply(request.session, request.correlation, reply)

    if asked.dry_run:
        plan = coordinator.machine.plan_seek(command)
        if isinstance(plan, Refused):
            raise from_wire(plan.code, plan.message, plan.detail)
        answer(plan)
        return
    node.pending.propose(coordinator, encode_command(command), answer, request)


def is_known(node: Node, group: str) -> bool:
    """Whether there is an ordered group of that name.

    Raises:
        LeaderUnknown: its coordinator has no leader at the moment.
    """
    return node.groups.coordinator_of(group).machine.describe(group) is not None


def describe(node: Node, session: Session, correlation: int, asked: messages.DescribeGroup) -> None:
    """A group in full."""
    coordinator = node.groups.coordinator_of(asked.group)
    described = coordinator.machine.describe(asked.group)
    if described is None:
        raise _unknown(asked.group)
    members = []
    for member in described.members:
        timer = coordinator.timers.get((asked.group, member.id))
        owned: dict[str, list[int]] = {}
        for topic, owners in described.owners.items():
            mine = sorted(p for p, owner in owners.items() if owner == member.id)
            if mine:
                owned[topic] = mine
        members.append(
            messages.MemberInfo(
                member=member.id,
                host=member.host,
                owned=owned,
                generation=member.joined,
                last_seen_ms=int((node.clock - timer.last_seen) * 1000) if timer else 0,
            )
        )
    part = group_parts.part_of(described)

    def told(ends: Mapping[int, list[int]]) -> None:
        reply = messages.DescribeGroupReply(
            group=asked.group,
            mode=group_parts.ORDERED,
            generation=described.generation,
            members=members,
            partitions=group_parts.lags(node, part, ends),
            missing=missing,
        )
        node.reply(session, correlation, reply)

    places = group_parts.places(node, part)
    lost, missing = unled(node, places.values()), dict[str, list[int]]()
    for (topic, number), gid in sorted(places.items()):
        if gid in lost:
            missing.setdefault(topic, []).append(number)
    log_ends(node, _request(session, correlation, asked), places.values(), told)


def delete(node: Node, session: Session, correlation: int, asked: messages.DeleteGroup) -> None:
    """Delete a group without members."""
    coordinator = node.groups.coordinator_of(asked.group)
    described = coordinator.machine.describe(asked.group)
    if described is None:
        raise _unknown(asked.group)
    if asked.dry_run:
        node.reply(session, correlation, messages.DeleteGroupReply())
        return
    node.pending.propose(
        coordinator,
        encode_command(commands.DeleteGroup(group=asked.group)),
        lambda _: node.reply(session, correlation, messages.DeleteGroupReply()),
        _request(session, correlation, asked),
    )
