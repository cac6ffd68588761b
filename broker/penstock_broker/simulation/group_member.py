"""A member of an ordered group, whoever simulates its brokers: joins, beats, commits.

It commits what it could have read, and tells the world's truth what it owns and what it found
committed. How it reaches a broker, and what that one lets it read, its heirs know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Protocol

from penstock.errors import PenstockError
from penstock.protocol.messages import (
    CommitOffsets,
    GroupHeartbeat,
    GroupHeartbeatReply,
    JoinGroup,
    JoinGroupReply,
    Message,
)
from penstock_broker.simulation.broker_truth import Truth

Assigned = JoinGroupReply | GroupHeartbeatReply


class GroupWorld(Protocol):
    """What a member needs of its world."""

    @property
    def random(self) -> Random:
        """The one source of chance."""

    @property
    def truth(self) -> Truth:
        """What must hold."""

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""


class Asks(Protocol):
    """A connection."""

    def ask(self, message: Message, answer: Callable[[Any], None]) -> None:
        """Send a request; the answer gets the reply, or the error."""


class GroupMember(ABC):
    """A member of the group `g` of the topic `t`."""

    SESSION_MS: ClassVar[int]
    BEATS: ClassVar[tuple[float, ...]]
    """Seconds from one beat to the next, one of these each time."""

    link: Asks

    def __init__(self, world: GroupWorld, number: int) -> None:
        self.name = f"m{number}"
        self.generation = 0
        self.owned: list[int] = []
        self._group_world = world
        self._stopped = self._joining = False

    @abstractmethod
    def join_later(self, error: PenstockError) -> None:
        """Have `join` called in a while, because of an error."""

    @abstractmethod
    def found_committed(self, partition: int, offset: int) -> None:
        """The brokers know this offset as committed."""

    @abstractmethod
    def readable_end(self, partition: int) -> int | None:
        """Up to where it could have read; None: that can't be told now."""

    def stop(self) -> None:
        """Go on beating; nothing else is asked of it."""
        self._stopped = True

    def join(self) -> None:
        """Take part, anew."""
        self._joining = False
        self.generation, self.owned = 0, []
        ask = JoinGroup(
            group="g", member=self.name, topics=["t"], session_timeout_ms=self.SESSION_MS
        )
        self.link.ask(ask, self._told)

    def _join_soon(self, error: PenstockError) -> None:
        if not self._joining:
            self._joining = True
            self.join_later(error)

    def _told(self, reply: Assigned | PenstockError) -> None:
        if isinstance(reply, PenstockError):
            self._join_soon(reply)
            return
        assignment = reply.assignment
        if assignment.generation < self.generation:
            return
        self.generation = assignment.generation
        owned = assignment.owned.get("t", [])
        self._group_world.truth.owns(self.name, assignment.generation, owned)
        for partition, offset in reply.offsets.get("t", {}).items():
            self.found_committed(partition, offset)
        self.owned = list(owned)
        if assignment.revoked:
            self._heartbeat(assignment.revoked)

    def _heartbeat(self, released: dict[str, list[int]]) -> None:
        beat = GroupHeartbeat(
            group="g", member=self.name, generation=self.generation, released=released
        )
        self.link.ask(beat, self._told)

    def beat(self) -> None:
        """Commit or say that it is there, now and from now on."""
        random = self._group_world.random
        self._group_world.after(random.choice(self.BEATS), self.beat)
        if not self.generation:
            return
        if self.owned and not self._stopped and random.random() < 0.7:
            self._commit(random.choice(self.owned))
        else:
            self._heartbeat({})

    def _commit(self, partition: int) -> None:
        end = self.readable_end(partition)
        if end is None:
            return
        truth = self._group_world.truth
        offset = max(truth.committed.get(partition, 0), end)
        ask = CommitOffsets(
            group="g",
            member=self.name,
            generation=self.generation,
            offsets={"t": {partition: offset}},
        )

        def answered(reply: object) -> None:
            if isinstance(reply, PenstockError):
                self._join_soon(reply)
            else:
                truth.commit(partition, offset)

        self.link.ask(ask, answered)
