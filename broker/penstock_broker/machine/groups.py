"""The machine of ordered groups: one partition of `__groups` coordinates the groups hashed to it.

Membership and committed offsets are one state, so whether a commit is allowed and the commit
itself are one step. Session timers are no part of it: the coordinator's leader keeps them and
proposes `Expire`; a new leader gives every member a full session first.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock.errors import (
    BadRequest,
    Fenced,
    GroupNotEmpty,
    GroupNotFound,
    InvalidName,
    LimitExceeded,
    MemberUnknown,
    OffsetOutOfRange,
    PartitionNotFound,
    PreconditionFailed,
    TopicNotFound,
)
from penstock_broker.machine import encoding
from penstock_broker.machine.commands import (
    Bundle,
    Command,
    Commit,
    DeleteGroup,
    Expire,
    ExpireGroup,
    Join,
    Leave,
    Offsets,
    Refused,
    Release,
    Seek,
    TopicChanged,
    TopicRef,
    refuse,
)
from penstock_broker.machine.effects import (
    AssignmentChanged,
    Effect,
    GroupForgotten,
    SessionEnded,
    SessionStarted,
)
from penstock_broker.machine.group import Group, by_topic
from penstock_broker.machine.group_views import (
    Bundled,
    GroupDescription,
    GroupRemoved,
    GroupReply,
    GroupSummary,
    Left,
    Member,
    MemberView,
    OffsetsCommitted,
    Position,
    Session,
    Sought,
    TopicNoted,
)
from penstock_broker.machine.names import TEXT_LENGTH_MAX, is_name
from penstock_broker.machine.stamp import Stamp

GROUPS_MAX: Final = 10_000
MEMBERS_MAX: Final = 1_000
TOPICS_PER_MEMBER_MAX: Final = 100
SESSION_MS_MIN: Final = 100
SESSION_MS_MAX: Final = 3_600_000
PARTITIONS_PER_TOPIC_MAX: Final = 10_000
_OFFSET_END: Final = 1 << 63

_VERSION: Final = 1

Outcome = tuple[GroupReply, list[Effect]]


class _GroupRow(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    generation: int
    touched_us: int
    members: list[Member]
    target: dict[str, dict[int, str]]
    owner: dict[str, dict[int, tuple[str, int]]]
    positions: dict[str, dict[int, Position]]


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    retired_generation: int
    topics: list[TopicRef]
    groups: list[_GroupRow]


_DECODER: Final = encoding.decoder_of(_State)


class GroupsMachine:
    """The machine of one partition of `__groups`."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._topics: dict[str, TopicRef] = {}
        self._sizes: dict[str, int] = {}
        self._retired_generation = 0

    # ----- queries

    @property
    def topics(self) -> dict[str, TopicRef]:
        """Topics as known here; a new leader proposes `TopicChanged` where metadata differs."""
        return self._topics

    def heartbeat(self, group: str, member: str, generation: int) -> MemberView | Refused:
        """A member's assignment as it stands; needs no entry in the log."""
        found = self._find_member(group, member, generation)
        if isinstance(found, Refused):
            return found
        return found.view(member, generation)

    def list_groups(self) -> list[GroupSummary]:
        """All groups by name."""
        return [group.summary() for _, group in sorted(self._groups.items())]

    def describe(self, group: str) -> GroupDescription | None:
        """A group in full; None: there is no such group."""
        found = self._groups.get(group)
        return None if found is None else found.describe()

    def sessions(self) -> list[Session]:
        """The sessions of all members, for a new leader's timers."""
        return [
            session for _, group in sorted(self._groups.items()) for session in group.sessions()
        ]

    def idle_groups(self, now_us: int, retention_us: int) -> list[ExpireGroup]:
        """Commands for groups without members that were not used for so long."""
        return [
            ExpireGroup(group=name, touched_us=group.touched_us)
            for name, group in sorted(self._groups.items())
            if not group.members and group.touched_us + retention_us < now_us
        ]

    def plan_seek(self, command: Seek) -> Sought | Refused:
        """The reply that a seek would get now; changes nothing (dry runs)."""
        topic = self._newer(command.topic)
        if not is_name(command.group) or not _is_ref(command.topic):
            return refuse(InvalidName, "a group or topic has no allowed name")
        if not topic.partitions:
            return refuse(TopicNotFound, f"there is no topic {topic.name!r}", topic=topic.name)
        for partition, offset in sorted(command.positions.items()):
            if not 0 <= partition < topic.partitions:
                return refuse(PartitionNotFound, f"{topic.name!r} has no partition {partition}")
            if not 0 <= offset < _OFFSET_END:
                return refuse(OffsetOutOfRange, f"{offset} is no offset")
        group = self._groups.get(command.group)
        stored = group.positions.get(topic.name, {}) if group else {}
        same = topic.name in self._topics and self._topics[topic.name].id == topic.id
        return Sought(
            {
                partition: [stored[partition][0] if same and partition in stored else -1, offset]
                for partition, offset in sorted(command.positions.items())
            }
        )

    # ----- commands

    def apply(self, command: Command, at: Stamp) -> Outcome:
        """Carry out a committed command."""
        match command:
            case Commit():
                return self._commit(command, at)
            case Release():
                return self._release(command)
            case Join():
                return self._join(command, at)
            case Leave() | Expire():
                return self._leave(command, at)
            case Seek():
                return self._seek(command, at)
            case TopicChanged():
                return self._topic_changed(command)
            case DeleteGroup() | ExpireGroup():
                return self._delete(command)
            case Bundle():
                outcomes = [self.apply(part, at) for part in command.commands]
                effects = [effect for _, its in outcomes for effect in its]
                return Bundled([reply for reply, _ in outcomes]), effects
        return refuse(BadRequest, f"a coordinator takes no {type(command).__name__}"), []

    def _join(self, command: Join, at: Stamp) -> Outcome:
        refused = _check_join(command) or self._check_room(command.group)
        if refused is not None:
            return refused, []
        group = self._groups.get(command.group)
        if group and command.member not in group.members and len(group.members) >= MEMBERS_MAX:
            return refuse(LimitExceeded, f"a group has at most {MEMBERS_MAX} members"), []
        effects = self._learn(command.refs)
        group = self._open(command.group, at)
        timeout_ms = command.session_timeout_ms
        group.join(command.member, command.host, command.topics, timeout_ms, self._sizes)
        group.touched_us = at.time_us
        joined = group.generation
        started = SessionStarted(command.group, command.member, joined, timeout_ms)
        return group.view(command.member, 0), [*effects, started, _changed(group)]

    def _release(self, command: Release) -> Outcome:
        group = self._find_member(command.group, command.member, command.generation)
        if isinstance(group, Refused):
            return group, []
        moved = group.release(command.member, command.generation, command.partitions)
        view = group.view(command.member, command.generation)
        return view, [_changed(group)] if moved else []

    def _leave(self, command: Leave | Expire, at: Stamp) -> Outcome:
        group = self._groups.get(command.group)
        member = group.members.get(command.member) if group else None
        if group is None or member is None:
            return refuse(MemberUnknown, f"{command.group!r} has no such member"), []
        if isinstance(command, Leave):
            fenced = 0 < command.generation < member.joined
        else:
            fenced = command.joined != member.joined
        if fenced:
            return refuse(Fenced, "the member has joined again", generation=group.generation), []
        group.leave(command.member, self._sizes)
        group.touched_us = at.time_us
        return Left(), [SessionEnded(command.group, command.member), _changed(group)]

    def _commit(self, command: Commit, at: Stamp) -> Outcome:
        if not command.member:
            return self._commit_outside(command, at)
        group = self._find_member(command.group, command.member, command.generation)
        if isinstance(group, Refused):
            return group, []
        forbidden = group.forbidden(command.member, command.generation, command.offsets)
        if forbidden:
            return refuse(
                Fenced,
                "the member does not own these partitions, or they were given anew",
                generation=group.generation,
                partitions=forbidden,
            ), []
        refused = _check_offsets(command.offsets, self._sizes)
        if refused is None:
            group.commit(command.offsets, at.time_us)
        return refused or OffsetsCommitted(), []

    def _commit_outside(self, command: Commit, at: Stamp) -> Outcome:
        """A consumer outside the membership commits: allowed while there are no members."""
        group = self._groups.get(command.group)
        if group and group.members:
            return refuse(GroupNotEmpty, "a group's members commit its offsets, nobody else"), []
        if not is_name(command.group) or not all(map(_is_ref, command.refs)):
            return refuse(InvalidName, "a group or topic has no allowed name"), []
        sizes = self._sizes | {ref.name: self._newer(ref).partitions for ref in command.refs}
        refused = self._check_room(command.group) or _check_offsets(command.offsets, sizes)
        if refused is not None:
            return refused, []
        effects = self._learn(command.refs)
        self._open(command.group, at).commit(command.offsets, at.time_us)
        return OffsetsCommitted(), effects

    def _seek(self, command: Seek, at: Stamp) -> Outcome:
        plan = self._check_room(command.group) or self.plan_seek(command)
        if isinstance(plan, Refused):
            return plan, []
        effects = self._learn([command.topic])
        group = self._open(command.group, at)
        group.seek(command.topic.name, command.positions, at.time_us)
        return plan, [*effects, _changed(group)]

    def _topic_changed(self, command: TopicChanged) -> Outcome:
        if not _is_ref(command.topic):
            return refuse(BadRequest, "the topic is malformed"), []
        if command.topic.name not in self._topics and not self._is_used(command.topic.name):
            return TopicNoted(), []
        effects = self._learn([command.topic])
        self._forget_unused_topics()
        return TopicNoted(), effects

    def _delete(self, command: DeleteGroup | ExpireGroup) -> Outcome:
        group = self._groups.get(command.group)
        if group is None:
            return refuse(GroupNotFound, f"there is no group {command.group!r}"), []
        if group.members:
            count = len(group.members)
            return refuse(GroupNotEmpty, f"{command.group!r} has {count} members"), []
        if isinstance(command, ExpireGroup) and command.touched_us != group.touched_us:
            return refuse(PreconditionFailed, "the group was used since"), []
        # A group of the same name must never reach a generation that old members still hold.
        self._retired_generation = max(self._retired_generation, group.generation)
        del self._groups[command.group]
        return GroupRemoved(), [GroupForgotten(command.group)]

    # ----- groups and members

    def _open(self, name: str, at: Stamp) -> Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name, self._retired_generation, at.time_us)
        return group

    def _check_room(self, name: str) -> Refused | None:
        if name in self._groups or len(self._groups) < GROUPS_MAX:
            return None
        return refuse(LimitExceeded, f"a coordinator has at most {GROUPS_MAX} groups")

    def _find_member(self, name: str, member: str, generation: int) -> Group | Refused:
        group = self._groups.get(name)
        found = group.members.get(member) if group else None
        if group is None or found is None:
            return refuse(MemberUnknown, f"{name[:TEXT_LENGTH_MAX]!r} has no such member")
        if not found.joined <= generation <= group.generation:
            return refuse(Fenced, "the member has joined again", generation=group.generation)
        return group

    # ----- topics

    def _newer(self, topic: TopicRef) -> TopicRef:
        known = self._topics.get(topic.name)
        return known if known is not None and known.revision >= topic.revision else topic

    def _learn(self, topics: list[TopicRef]) -> list[Effect]:
        """Take over what is newer; groups that use a changed topic are assigned anew."""
        effects: list[Effect] = []
        for topic in topics:
            known = self._topics.get(topic.name)
            if self._newer(topic) is known:
                continue
            self._topics[topic.name] = topic
            self._sizes[topic.name] = topic.partitions
            another = known is not None and known.id != topic.id
            for _, group in sorted(self._groups.items()):
                if not group.knows(topic.name):
                    continue
                if another or not topic.partitions:
                    group.forget_topic(topic.name)
                group.reassign(self._sizes)
                effects.append(_changed(group))
        return effects

    def _is_used(self, topic: str) -> bool:
        return any(group.knows(topic) for group in self._groups.values())

    def _forget_unused_topics(self) -> None:
        used: dict[str, None] = {}
        for group in self._groups.values():
            used.update(dict.fromkeys(group.topics()))
        self._topics = {name: topic for name, topic in self._topics.items() if name in used}
        self._sizes = {name: topic.partitions for name, topic in self._topics.items()}

    # ----- snapshots

    def snapshot(self) -> bytes:
        """The whole state; equal on all replicas that applied the same commands."""
        rows = [
            _GroupRow(
                name,
                group.generation,
                group.touched_us,
                [member for _, member in sorted(group.members.items())],
                by_topic(group.target),
                by_topic(group.owner),
                {
                    topic: dict(sorted(its.items()))
                    for topic, its in sorted(group.positions.items())
                },
            )
            for name, group in sorted(self._groups.items())
        ]
        topics = [topic for _, topic in sorted(self._topics.items())]
        return encoding.encode(_VERSION, _State(self._retired_generation, topics, rows))

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot.

        Raises:
            UnsupportedFormat, CorruptData: it can't be read; the state is as before.
        """
        state: _State = encoding.decode(_VERSION, _DECODER, blob, "a snapshot of ordered groups")
        self._retired_generation = state.retired_generation
        self._topics = {topic.name: topic for topic in state.topics}
        self._sizes = {topic.name: topic.partitions for topic in state.topics}
        self._groups = {row.name: _group_of(row) for row in state.groups}


def _group_of(row: _GroupRow) -> Group:
    group = Group(row.name, row.generation, row.touched_us)
    group.members = {member.id: member for member in row.members}
    group.target = {(t, p): member for t, its in row.target.items() for p, member in its.items()}
    group.owner = {(t, p): owner for t, its in row.owner.items() for p, owner in its.items()}
    group.positions = row.positions
    return group


def _changed(group: Group) -> AssignmentChanged:
    return AssignmentChanged(group.name, group.generation)


def _is_ref(topic: TopicRef) -> bool:
    sizes_fit = 0 <= topic.partitions <= PARTITIONS_PER_TOPIC_MAX
    return is_name(topic.name) and sizes_fit and len(topic.id) <= TEXT_LENGTH_MAX


def _check_join(command: Join) -> Refused | None:
    names = [command.group, command.member, *command.topics]
    if not all(map(is_name, names)) or not all(map(_is_ref, command.refs)):
        return refuse(InvalidName, "a group, member or topic has no allowed name")
    if len(command.host) > TEXT_LENGTH_MAX:
        return refuse(BadRequest, "the member's host is too long")
    if not 1 <= len(command.topics) <= TOPICS_PER_MEMBER_MAX:
        return refuse(LimitExceeded, f"a member wants 1 to {TOPICS_PER_MEMBER_MAX} topics")
    if not SESSION_MS_MIN <= command.session_timeout_ms <= SESSION_MS_MAX:
        limits = f"between {SESSION_MS_MIN} and {SESSION_MS_MAX} ms"
        return refuse(BadRequest, f"a session timeout is {limits}")
    return None


def _check_offsets(offsets: Offsets, sizes: dict[str, int]) -> Refused | None:
    for topic, positions in offsets.items():
        size = sizes.get(topic, 0)
        for partition, offset in positions.items():
            if not 0 <= partition < size:
                return refuse(PartitionNotFound, f"{topic!r} has no partition {partition}")
            if not 0 <= offset < _OFFSET_END:
                return refuse(OffsetOutOfRange, f"{offset} is no offset")
    return None
