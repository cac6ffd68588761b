"""Requests of members: attach to a partition, renew leases, leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    BadRequest,
    Fenced,
    GroupNotFound,
    LeaderUnknown,
    LimitExceeded,
    NotLeader,
    PartitionNotFound,
    PenstockError,
    TopicNotFound,
    from_wire,
)
from penstock.protocol import sharing as wire
from penstock.protocol.leases import EXTEND_MS_MAX
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.commands import Refused
from penstock_broker.machine.sharing.ops import RELEASE, Extend, Renew, Settle
from penstock_broker.machine.sharing.replies import OpReply, Renewed
from penstock_broker.machine.topology import KIND_GROUPS
from penstock_broker.node.sharing.spans import flat

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.dispatch import Dispatcher
    from penstock_broker.node.sharing.members import Member

ATTACHMENTS_MAX: Final = 10_000
"""Partitions and groups that one connection may be attached to."""
MEMBERS_MAX: Final = 100_000
"""Members of a group in one partition."""
NAME_CHARACTERS_MAX: Final = 200


def dispatcher_of(node: Node, topic: str, partition: int, group: str) -> Dispatcher:
    """The dispatcher of a group's partition that this broker leads.

    Raises:
        TopicNotFound, PartitionNotFound, GroupNotFound: there is no such thing.
        NotLeader, LeaderUnknown: it is led elsewhere, or is being set up.
    """
    place = leader_of(node, topic, partition)
    found = place.shared.dispatchers.get(group)
    if found is not None:
        return found
    known = node.groups.metadata.machine.topics[topic].shared
    if group in known and group not in place.machine.sharing.groups:
        raise LeaderUnknown(f"the group {group!r} is being set up")
    raise GroupNotFound(f"{topic!r} has no shared group {group!r}", topic=topic, group=group)


def leader_of(node: Node, topic: str, partition: int) -> PartitionGroup:
    """The local leader of a partition, of whatever kind of topic.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
        NotLeader: it is led elsewhere, or by nobody.
    """
    gid = gid_of(node, topic, partition)
    group = node.partitions.get(gid)
    if group is None or not group.leading:
        raise NotLeader(leader=node.groups.leader_of(gid)[1])
    return group


def gid_of(node: Node, topic: str, partition: int) -> int:
    """The Raft group of a partition, of whatever kind of topic.

    Raises:
        TopicNotFound, PartitionNotFound: there is no such thing.
    """
    found = node.groups.metadata.machine.topics.get(topic)
    if found is None or found.kind == KIND_GROUPS:
        raise TopicNotFound(f"there is no topic {topic!r}", topic=topic)
    if not 0 <= partition < len(found.partitions):
        raise PartitionNotFound(
            f"{topic!r} has partitions 0 to {len(found.partitions) - 1}", topic=topic
        )
    return found.partitions[partition].group


def attach(node: Node, session: Session, correlation: int, asked: wire.AttachGroup) -> None:
    """Attach, or attach again: leases that are named go on, the member's others are released."""
    if not 0 < len(asked.member) <= NAME_CHARACTERS_MAX or len(asked.host) > NAME_CHARACTERS_MAX:
        raise BadRequest(f"a member's name has 1 to {NAME_CHARACTERS_MAX} characters")
    if asked.max_in_flight < 1:
        raise BadRequest("max_in_flight is 1 at least")
    if len(session.attachments) >= ATTACHMENTS_MAX:
        raise LimitExceeded(f"a connection may have {ATTACHMENTS_MAX} attachments")
    dispatcher = dispatcher_of(node, asked.topic, asked.partition, asked.group)
    if len(dispatcher.members) >= MEMBERS_MAX and asked.member not in dispatcher.members:
        raise LimitExceeded(f"a group may have {MEMBERS_MAX} members in a partition")
    _fence(dispatcher.members.get(asked.member), asked.epoch)
    attachment = dispatcher.attach(session, asked.member, asked.host, asked.max_in_flight)
    attachment.member.epoch = asked.epoch
    release(dispatcher, attachment.member, frozenset(asked.leases))

    def answer(lost: list[int]) -> None:
        group = dispatcher.group
        settings = {
            name: getattr(group.settings, name) for name in group.settings.__struct_fields__
        }
        reply = wire.AttachGroupReply(
            handle=attachment.handle,
            group_id=attachment.gid,
            lease_ms=group.settings.lease_ms,
            lost=lost,
            strict=group.settings.strict == "yes",
            settings=settings,
        )
        node.reply(session, correlation, reply)

    if not asked.leases:
        answer([])
        return
    finish = _Answering(node, session, correlation, TYPE_OF[type(asked)], 1, answer)
    until_us = dispatcher.shared.now_us + dispatcher.group.settings.lease_ms * 1000
    renew(dispatcher, asked.member, asked.leases, until_us, finish.done)


def _fence(member: Member | None, epoch: int) -> None:
    """A network may bring what a connection sent after the member has given that up.

    The leases that such an attach names are those of then: it would release newer ones.
    """
    if member is not None and 0 < epoch < member.epoch:
        raise Fenced("the member has attached over a newer connection")


def release(dispatcher: Dispatcher, member: Member, kept: frozenset[int]) -> None:
    """Give back what a member holds under other leases than these; no attempt is counted."""
    group = dispatcher.group
    for id_ in member.leases:
        if id_ in kept:
            continue
        spans = member.flying.get(id_)
        if spans is None:
            spans = group.held_by(group.leases[id_]) if id_ in group.leases else []
        if spans:
            dispatcher.settle(Settle(group.name, id_, RELEASE, flat(spans), member=member.name))


def renew(
    dispatcher: Dispatcher,
    member: str,
    leases: list[int],
    until_us: int,
    done: Callable[[OpReply | PenstockError], None],
) -> None:
    """Let leases of a member run until a time."""
    op = Renew(dispatcher.group.name, member, sorted(set(leases)), until_us)
    dispatcher.shared.offer(op, done, 32 + 9 * len(leases))


class _Answering:
    """Gathers the replies of some ops about leases; answers when the last is there."""

    __slots__ = ("_answer", "_correlation", "_lost", "_node", "_open", "_session", "_type")

    def __init__(
        self,
        node: Node,
        session: Session,
        correlation: int,
        type_: int,
        ops: int,
        answer: Callable[[list[int]], None],
    ) -> None:
        self._node = node
        self._session = session
        self._correlation = correlation
        self._type = type_
        self._open = ops
        self._answer = answer
        self._lost: list[int] = []

    def done(self, reply: OpReply | PenstockError) -> None:
        """One of the ops was applied."""
        self._open -= 1
        if isinstance(reply, Refused):
            self._fail(from_wire(reply.code, reply.message, reply.detail))
        elif isinstance(reply, PenstockError):
            self._fail(reply)
        elif isinstance(reply, Renewed):
            self._lost += reply.lost
        if not self._open:
            self._answer(self._lost)

    def _fail(self, error: PenstockError) -> None:
        if self._open >= 0:
            self._open = -1  # answered; what still comes is not looked at
            self._node.reply_error(self._session, self._correlation, self._type, error)


def renew_leases(node: Node, session: Session, correlation: int, asked: wire.RenewLeases) -> None:
    """Renew leases of a member, whatever connection says so."""
    dispatcher = dispatcher_of(node, asked.topic, asked.partition, asked.group)
    if not 0 <= asked.extend_ms <= EXTEND_MS_MAX:
        raise BadRequest(f"a lease is extended by at most {EXTEND_MS_MAX} ms")

    def answer(lost: list[int]) -> None:
        node.reply(session, correlation, wire.RenewLeasesReply(lost=sorted(set(lost))))

    group, member = dispatcher.group, asked.member
    leases = [id_ for id_ in asked.leases if dispatcher.holder_of(id_) == member]
    others = [id_ for id_ in asked.leases if dispatcher.holder_of(id_) != member]
    if others and not dispatcher.shared.partition.sure:
        raise LeaderUnknown("another broker may lead, and have granted these leases")
    if not leases:
        answer(others)
        return
    type_ = TYPE_OF[type(asked)]
    if asked.extend_ms:
        until_us = dispatcher.shared.now_us + asked.extend_ms * 1000
        finish = _Answering(
            node, session, correlation, type_, len(leases), lambda lost: answer(lost + others)
        )
        for id_ in leases:
            dispatcher.shared.offer(Extend(group.name, id_, until_us), finish.done)
        return
    until_us = dispatcher.shared.now_us + group.settings.lease_ms * 1000
    finish = _Answering(node, session, correlation, type_, 1, lambda lost: answer(lost + others))
    renew(dispatcher, member, leases, until_us, finish.done)


def detach(node: Node, session: Session, correlation: int, asked: wire.DetachGroup) -> None:
    """A member leaves: what it holds is released; answered when that is durable."""
    dispatcher = dispatcher_of(node, asked.topic, asked.partition, asked.group)
    member = dispatcher.members.get(asked.member)
    attachment = member.attachment if member is not None else None
    if member is None or (attachment is not None and attachment.session is not session):
        # Another process of the same name took its place: what is held is in its hands.
        node.reply(session, correlation, wire.DetachGroupReply())
        return
    if attachment is not None:
        dispatcher.detach(attachment)
    release(dispatcher, member, frozenset())
    # An op that changes nothing: its reply says that those before it are durable.
    finish = _Answering(
        node, session, correlation, TYPE_OF[type(asked)], 1,
        lambda lost: node.reply(session, correlation, wire.DetachGroupReply()),
    )  # fmt: skip
    renew(dispatcher, asked.member, [], dispatcher.shared.now_us, finish.done)
