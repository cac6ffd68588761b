"""Who takes part: voters, learners, and the joint form in between (Raft 6, thesis 4).

A configuration is a value. It is in force on a node as soon as its entry is *appended* there, so
the history keeps every configuration that a truncation could bring back.

Invariants: ids are sorted and unique; nobody is voter and learner at once; going from one
configuration to the next, either at most one voter differs or the step is joint, hence two
neighbouring configurations never have disjoint quorums.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MEMBERS_MAX: Final = 4096
_FORMAT: Final = 1
_HEAD: Final = struct.Struct("<B4H")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Voters and learners; `outgoing` is the old set of voters while a change is joint.

    `learners_next` are outgoing voters that become learners when the joint phase ends.
    Without any voter it means "not yet known": such a node waits to be told.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()

    @classmethod
    def of(cls, voters: Iterable[int], learners: Iterable[int] = ()) -> "Configuration":
        """Build a plain configuration; raises ValueError when the sets make no sense."""
        result = cls(tuple(sorted(voters)), tuple(sorted(learners)))
        members = result.voters + result.learners
        if not result.voters:
            raise ValueError("a configuration needs at least one voter")
        if len(set(members)) != len(members):
            raise ValueError(f"a member is listed twice: {members}")
        if members and min(members) <= 0:
            raise ValueError(f"member ids are positive: {members}")
        if len(members) > MEMBERS_MAX:
            raise ValueError(f"{len(members)} members, at most {MEMBERS_MAX}")
        return result

    @property
    def is_joint(self) -> bool:
        """True while decisions need both majorities."""
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[int, ...]:
        """All ids that receive the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    @property
    def electors(self) -> tuple[int, ...]:
        """All ids whose vote may count, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing})) if self.outgoing else self.voters

    def is_sole_voter(self, node: int) -> bool:
        """True when `node` alone decides."""
        return self.voters == (node,) and not self.outgoing

    def changed_to(self, voters: Iterable[int], learners: Iterable[int]) -> "Configuration":
        """Return the next configuration on the way to the wanted one: plain if it may be, or joint.

        Raises:
            ValueError: The wanted sets make no sense.
        """
        assert not self.is_joint, f"change of a joint configuration {self}"
        target = Configuration.of(voters, learners)
        if len(set(self.voters).symmetric_difference(target.voters)) <= 1:
            return target  # thesis 4.1: majorities overlap when one voter differs
        old = set(self.voters)
        return Configuration(
            voters=target.voters,
            learners=tuple(node for node in target.learners if node not in old),
            outgoing=self.voters,
            learners_next=tuple(node for node in target.learners if node in old),
        )

    def left(self) -> "Configuration":
        """Return the configuration that ends the joint phase."""
        return Configuration(self.voters, tuple(sorted(self.learners + self.learners_next)))

    def encode(self) -> bytes:
        """Return the data of a CONFIG entry."""
        parts = (self.voters, self.learners, self.outgoing, self.learners_next)
        ids = [node for part in parts for node in part]
        return _HEAD.pack(_FORMAT, *map(len, parts)) + struct.pack(f"<{len(ids)}Q", *ids)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> "Configuration":
        """Read what `encode` wrote; raises ValueError when it is anything else."""
        if len(data) < _HEAD.size or data[0] != _FORMAT:
            raise ValueError(f"not a configuration: {bytes(data[:16])!r}")
        counts = _HEAD.unpack_from(data)[1:]
        if len(data) != _HEAD.size + 8 * sum(counts):
            raise ValueError(f"a configuration of {counts} members in {len(data)} bytes")
        ids = struct.unpack_from(f"<{sum(counts)}Q", data, _HEAD.size)
        parts, start = [], 0
        for count in counts:
            parts.append(ids[start : start + count])
            start += count
        return cls(*parts)


class ConfigurationHistory:
    """Which configuration came with which index, oldest first; the last is in force."""

    __slots__ = ("_changes",)

    def __init__(self, index: int, configuration: Configuration) -> None:
        self._changes = [(index, configuration)]

    @property
    def index(self) -> int:
        """Index of the entry that brought the configuration in force."""
        return self._changes[-1][0]

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._changes[-1][1]

    def push(self, index: int, configuration: Configuration) -> None:
        """Take a configuration into force."""
        assert index > self.index, f"configuration at {index} after one at {self.index}"
        self._changes.append((index, configuration))

    def truncate(self, index: int) -> bool:
        """Undo what came after `index`; True if the configuration in force changed."""
        count = len(self._changes)
        while self._changes[-1][0] > index:
            self._changes.pop()
            assert self._changes, f"truncated the configurations to {index}, before the first"
        return len(self._changes) != count

    def compact(self, index: int) -> None:
        """Forget what no truncation to `index` or later could bring back."""
        while len(self._changes) > 1 and self._changes[1][0] <= index:
            del self._changes[0]

    def at(self, index: int) -> Configuration:
        """Return the configuration in force after `index`."""
        for start, configuration in reversed(self._changes):
            if start <= index:
                return configuration
        raise AssertionError(f"no configuration kept for {index}, first {self._changes[0][0]}")
