"""Requests about shared groups as a whole: create, alter, delete; lists that name both modes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from penstock.errors import InvalidConfig, LeaderUnknown, PenstockError, from_wire
from penstock.protocol import messages
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine import commands
from penstock_broker.machine.commands import Refused, encode_command
from penstock_broker.machine.stamp import Stamp
from penstock_broker.machine.topology import (
    SharedAltered,
    SharedCreated,
    SharedDefinition,
    SharedDeleted,
    Topic,
)
from penstock_broker.node import group_parts, group_requests
from penstock_broker.node.gather import (
    Replies,
    by_leader,
    gather,
    log_ends,
    other_leaders,
    raise_first,
    unled,
)
from penstock_broker.node.pending import Request
from penstock_broker.node.questions import (
    AwaitGroup,
    AwaitGroupReply,
    GroupParts,
    GroupPartsReply,
    OrderedPart,
    SharedPart,
)
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
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
    """Call `finish` when the partitions of these topics know the group, wherever they are led."""
    waits = [1]  # for the loop below, which must not be overtaken

    def known(_: object = None) -> None:
        waits[0] -= 1
        if not waits[0]:
            finish()

    def led(_: object) -> None:
        for topic in topics:
            definition = topic.shared.get(group)
            if definition is None:
                continue
            leaders = by_leader(node, (place.group for place in topic.partitions))
            leaders.pop(NOBODY, None)
            for to, gids in leaders.items():
                # Who does not answer is not waited for: its partitions take it over by themselves.
                wanted = AwaitGroup(group=group, revision=definition.revision, partitions=gids)
                waits[0] += 1
                if to == node.node_id:
                    when_configured(node, wanted, known)
                else:
                    node.ask(to, wanted, known)
        known()

    gids = {place.group for topic in topics for place in topic.partitions}
    node.pending.when_ready(gids, request, led)


def when_configured(node: Node, asked: AwaitGroup, finish: Callable[[], None]) -> None:
    """Call `finish` when those of some partitions that are led here know a group."""
    waits = [1]

    def known() -> None:
        waits[0] -= 1
        if not waits[0]:
            finish()

    for gid in asked.partitions:
        partition = node.partitions.get(gid)
        if partition is not None and partition.leading:
            waits[0] += 1
            partition.shared.configuring.when_configured(asked.group, asked.revision, known)
    known()


def await_group(node: Node, session: Session, correlation: int, asked: AwaitGroup) -> None:
    """Another node waits for a group to be known here."""
    when_configured(node, asked, lambda: node.reply(session, correlation, AwaitGroupReply()))


# ----- both modes


def list_groups(node: Node, session: Session, correlation: int, asked: messages.ListGroups) -> None:
    """All groups by name, put together from what the leaders know."""
    request = Request(session, correlation, TYPE_OF[type(asked)])
    coordinators = group_parts.coordinators(node)
    lost = unled(node, coordinators)
    if lost and not asked.partial:
        raise LeaderUnknown(f"{len(lost)} of the groups' coordinators have no leader at the moment")
    coordinating = by_leader(node, set(coordinators) - lost)

    def gathered(replies: Replies) -> None:
        asked_for = {to: replies[to] for to in coordinating.keys() & replies.keys()}
        if not asked.partial:
            raise_first(asked_for)
        silent = [to for to, reply in asked_for.items() if isinstance(reply, PenstockError)]
        missing.extend(gid for to in silent for gid in coordinating[to])
        found = [each for each in replies.values() if isinstance(each, GroupPartsReply)]
        ordered = [part for each in found for part in each.ordered]
        gids = [gid for part in ordered for gid in group_parts.places(node, part).values()]
        log_ends(node, request, gids, lambda ends: answer(ordered, _merged(found), ends))

    def answer(
        ordered: list[OrderedPart],
        shared: dict[tuple[str, str], SharedPart],
        ends: Mapping[int, list[int]],
    ) -> None:
        groups = [_ordered_summary(node, part, ends) for part in ordered]
        for topic, name, definition in group_parts.definitions(node, ""):
            groups.append(_shared_summary(topic, name, definition, shared.get((topic.name, name))))
        groups.sort(key=lambda summary: (summary.group, summary.topics))
        reply = messages.ListGroupsReply(groups=groups, missing=len(missing))
        node.reply(session, correlation, reply)

    missing = list(lost)
    _gather_parts(node, request, GroupParts(), {*coordinating, *_sharing(node, "")}, gathered)


def _sharing(node: Node, group: str) -> list[int]:
    """The other nodes that lead partitions of shared groups."""
    topics = [topic for topic, _, _ in group_parts.definitions(node, group)]
    return other_leaders(node, {place.group for topic in topics for place in topic.partitions})


def _gather_parts(
    node: Node,
    request: Request,
    asked: GroupParts,
    leaders: set[int],
    finish: Callable[[Replies], None],
) -> None:
    """Ask leaders for their parts; this node's own are added."""
    own = group_parts.parts(node, asked)
    rest = dict.fromkeys(leaders - {node.node_id}, asked)
    gather(node, request, rest, lambda replies: finish({**replies, node.node_id: own}))


def _merged(found: Iterable[GroupPartsReply]) -> dict[tuple[str, str], SharedPart]:
    """Shared groups by topic and name, of all leaders together."""
    merged: dict[tuple[str, str], SharedPart] = {}
    for part in (part for each in found for part in each.shared):
        key = part.topic, part.group
        before = merged.get(key)
        if before is not None:
            part = SharedPart(
                topic=part.topic,
                group=part.group,
                rows=before.rows + part.rows,
                members=before.members + part.members,
            )
        merged[key] = part
    return merged


def _ordered_summary(
    node: Node, part: OrderedPart, ends: Mapping[int, list[int]]
) -> messages.GroupSummary:
    places = group_parts.places(node, part)
    lost = unled(node, places.values())
    rows = group_parts.lags(node, part, ends)
    return messages.GroupSummary(
        group=part.group,
        mode=group_parts.ORDERED,
        members=len(part.members),
        generation=part.generation,
        topics=part.topics,
        lag=sum(row.lag for row in rows if places.get((row.topic, row.partition)) not in lost),
        missing=len(lost),
    )


def _shared_summary(
    topic: Topic, name: str, definition: SharedDefinition, part: SharedPart | None
) -> messages.GroupSummary:
    rows, members = (part.rows, part.members) if part is not None else ([], [])
    told = {(row.topic, row.partition) for row in rows}
    return messages.GroupSummary(
        group=name,
        mode=MODE,
        members=len({member.member for member in members}),
        generation=definition.revision,
        topics=[topic.name],
        lag=sum(row.lag for row in rows),
        missing=len(_untold(topic, told)),
    )


def describe(node: Node, session: Session, correlation: int, asked: messages.DescribeGroup) -> None:
    """A group in full: the ordered one, or the shared ones of that name."""
    definitions = list(group_parts.definitions(node, asked.group))
    if not definitions or group_requests.is_known(node, asked.group):
        group_requests.describe(node, session, correlation, asked)
        return

    def gathered(replies: Replies) -> None:
        found = [each for each in replies.values() if isinstance(each, GroupPartsReply)]
        merged = _merged(found).values()
        rows = [row for part in merged for row in part.rows]
        told = {(row.topic, row.partition) for row in rows}
        reply = messages.DescribeGroupReply(
            group=asked.group,
            mode=MODE,
            generation=max(definition.revision for _, _, definition in definitions),
            members=_members([member for part in merged for member in part.members]),
            partitions=sorted(rows, key=lambda row: (row.topic, row.partition)),
            missing={
                topic.name: numbers
                for topic, _, _ in definitions
                if (numbers := _untold(topic, told))
            },
        )
        node.reply(session, correlation, reply)

    request = Request(session, correlation, TYPE_OF[type(asked)])
    wanted = GroupParts(group=asked.group, ordered=False)
    _gather_parts(node, request, wanted, set(_sharing(node, asked.group)), gathered)


def _untold(topic: Topic, told: Container[tuple[str, int]]) -> list[int]:
    return [n for n in range(len(topic.partitions)) if (topic.name, n) not in told]


def _members(infos: list[messages.MemberInfo]) -> list[messages.MemberInfo]:
    """Members by name; what one has in several places comes together."""
    members: dict[str, messages.MemberInfo] = {}
    for info in infos:
        found = members.setdefault(info.member, info)
        if found is not info:
            for topic, partitions in info.owned.items():
                known = found.owned.setdefault(topic, [])
                known[:] = sorted({*known, *partitions})
    return sorted(members.values(), key=lambda member: member.member)
