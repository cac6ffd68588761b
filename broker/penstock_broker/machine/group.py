"""One ordered group: members, who owns which partition, committed offsets (the KIP-848 model).

`owner` alone says who may consume a partition and commit for it: member, and the generation at
which it was given. `target` says who should. They meet step by step:

    partition without owner      -> given to its target at the new generation
    owner is its target          -> stays; a seek gives it anew, which fences commits under way
    owner is not its target      -> revoked: the owner stops, commits, releases; then see above
    owner left, expired, rejoined -> without owner

The generation rises with every such change and never falls, so that a commit proves by its
generation that the member knew what it owned. A commit is allowed where the committing member is
the owner and the partition was given to it no later than the generation that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from penstock_broker.machine.assignor import Key, assign
from penstock_broker.machine.commands import Offsets, Partitions
from penstock_broker.machine.group_views import (
    GroupDescription,
    GroupSummary,
    Member,
    MemberView,
    Position,
    Session,
)

_V = TypeVar("_V")

Owner = tuple[str, int]
"""Member, and the generation at which it was given the partition."""


class Group:
    """An ordered group.

    Attributes:
        touched_us: when it was last used; a group that is empty for long expires.
    """

    __slots__ = (
        "_views",
        "generation",
        "members",
        "name",
        "owner",
        "positions",
        "target",
        "touched_us",
    )

    def __init__(self, name: str, generation: int, touched_us: int) -> None:
        self.name = name
        self.generation = generation
        self.touched_us = touched_us
        self.members: dict[str, Member] = {}
        self.target: dict[Key, str] = {}
        self.owner: dict[Key, Owner] = {}
        self.positions: dict[str, dict[int, Position]] = {}
        self._views: dict[str, tuple[Partitions, Partitions]] = {}

    # ----- queries

    def knows(self, topic: str) -> bool:
        """Whether a member wants the topic or an offset is committed on it."""
        return topic in self.positions or self.wants(topic)

    def wants(self, topic: str) -> bool:
        """Whether a member wants the topic."""
        return any(topic in member.topics for member in self.members.values())

    def topics(self) -> list[str]:
        """Topics that members want or that have committed offsets."""
        names = [topic for member in self.members.values() for topic in member.topics]
        return sorted(dict.fromkeys([*names, *self.positions]))

    def view(self, member: str, since: int) -> MemberView:
        """A member's assignment, with the offsets of what it was given after a generation."""
        if not self._views:
            self._build_views()
        owned, revoked = self._views[member]
        offsets: Offsets = {}
        if since < self.generation:
            for topic, partitions in owned.items():
                positions = self.positions.get(topic, {})
                given = {
                    partition: positions[partition][0]
                    for partition in partitions
                    if partition in positions and self.owner[(topic, partition)][1] > since
                }
                if given:
                    offsets[topic] = given
        return MemberView(self.generation, owned, revoked, offsets)

    def _build_views(self) -> None:
        self._views = {member: ({}, {}) for member in self.members}
        for key in sorted(self.owner):
            member = self.owner[key][0]
            part = self._views[member][0 if self.target.get(key) == member else 1]
            part.setdefault(key[0], []).append(key[1])

    def forbidden(self, member: str, generation: int, offsets: Offsets) -> Partitions:
        """Partitions that the member may not commit at this generation."""
        found: Partitions = {}
        for topic, partitions in offsets.items():
            for partition in partitions:
                owner = self.owner.get((topic, partition))
                if owner is None or owner[0] != member or owner[1] > generation:
                    found.setdefault(topic, []).append(partition)
        return found

    def sessions(self) -> list[Session]:
        """The sessions of all members."""
        return [
            Session(self.name, member.id, member.joined, member.session_timeout_ms)
            for _, member in sorted(self.members.items())
        ]

    def summary(self) -> GroupSummary:
        """One line about the group."""
        return GroupSummary(
            self.name, self.generation, len(self.members), self.topics(), self.touched_us
        )

    def describe(self) -> GroupDescription:
        """The group in full."""
        return GroupDescription(
            self.name,
            self.generation,
            [member for _, member in sorted(self.members.items())],
            by_topic({key: owner[0] for key, owner in self.owner.items()}),
            by_topic(self.target),
            {topic: dict(sorted(found.items())) for topic, found in sorted(self.positions.items())},
            self.touched_us,
        )

    # ----- changes; `sizes` is the number of partitions of each known topic

    def join(
        self,
        member: str,
        host: str,
        topics: Sequence[str],
        session_timeout_ms: int,
        sizes: Mapping[str, int],
    ) -> None:
        """Add a member, or put a new instance in the place of an earlier one."""
        self._disown(member)
        wants = sorted(dict.fromkeys(topics))
        joined = self.generation + 1
        self.members[member] = Member(member, host, wants, session_timeout_ms, joined)
        self.reassign(sizes)

    def leave(self, member: str, sizes: Mapping[str, int]) -> None:
        """Remove a member; what it owned goes on at once."""
        self._disown(member)
        del self.members[member]
        self.reassign(sizes)

    def release(self, member: str, generation: int, partitions: Partitions) -> bool:
        """Take partitions from a member that stopped consuming them; whether any was its own."""
        released = [
            key
            for topic, numbers in partitions.items()
            for key in ((topic, number) for number in numbers)
            if (owner := self.owner.get(key)) and owner[0] == member and owner[1] <= generation
        ]
        for key in dict.fromkeys(released):
            del self.owner[key]
        if released:
            self.generation += 1
            self._grant()
        return bool(released)

    def commit(self, offsets: Offsets, time_us: int) -> None:
        """Store offsets that are allowed."""
        for topic, positions in offsets.items():
            for partition, offset in positions.items():
                self.positions.setdefault(topic, {})[partition] = (offset, time_us)
        self.touched_us = time_us

    def seek(self, topic: str, positions: Mapping[int, int], time_us: int) -> None:
        """Store offsets whoever owns the partitions, and give them anew to their owners."""
        self.commit({topic: dict(positions)}, time_us)
        self.generation += 1
        for partition in positions:
            owner = self.owner.get((topic, partition))
            if owner is not None:
                self.owner[(topic, partition)] = (owner[0], self.generation)

    def forget_topic(self, topic: str) -> None:
        """The topic is gone, with its offsets; nobody owns its partitions any more."""
        self.positions.pop(topic, None)
        self.owner = {key: owner for key, owner in self.owner.items() if key[0] != topic}
        self.target = {key: member for key, member in self.target.items() if key[0] != topic}

    def reassign(self, sizes: Mapping[str, int]) -> None:
        """Set a new target, and give what is free."""
        wants = {member.id: member.topics for member in self.members.values()}
        held = {key: owner[0] for key, owner in self.owner.items()}
        held |= {
            key: member
            for key, member in self.target.items()
            if member in self.members and key[0] in self.members[member].topics
        }
        self.target = assign(wants, sizes, held)
        self.generation += 1
        self._grant()

    def _disown(self, member: str) -> None:
        self.owner = {key: owner for key, owner in self.owner.items() if owner[0] != member}

    def _grant(self) -> None:
        self._views = {}
        for key, member in self.target.items():
            if key not in self.owner:
                assert member in self.members, "only members get partitions"
                self.owner[key] = (member, self.generation)


def by_topic(flat: Mapping[Key, _V]) -> dict[str, dict[int, _V]]:
    """(topic, partition) -> value as topic -> partition -> value, in order."""
    nested: dict[str, dict[int, _V]] = {}
    for topic, partition in sorted(flat):
        nested.setdefault(topic, {})[partition] = flat[(topic, partition)]
    return nested
