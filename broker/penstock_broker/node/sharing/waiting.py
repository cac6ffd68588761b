"""Acquires that wait for records: members have their turns one after the other.

A member that was served goes behind all others, however many acquires of its own still wait. Each
acquire has a deadline; one that is settled is left in the order of deadlines until it comes up
there, or until such remains are the larger part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from penstock.protocol.frames import FETCH_BYTES_MAX
from penstock.protocol.leases import Acquire

if TYPE_CHECKING:
    from collections.abc import Container

    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.members import Attachment, Member

REMAINS_MIN: Final = 64
_NOTHING_KEPT: Final[Container[int]] = ()


class Outcome(Enum):
    """What came of serving an acquire."""

    SERVED = 0
    """It is answered, or will be by a read that is under way."""
    BLOCKED = 1
    """Its member can't take more now; others may."""
    EMPTY = 2
    """There is nothing for anybody."""


class Asked:
    """One acquire."""

    __slots__ = ("attachment", "correlation", "deadline", "have", "live", "max_bytes",
                 "max_records", "waiting")  # fmt: skip

    def __init__(
        self, attachment: Attachment, correlation: int, wanted: Acquire, deadline: float
    ) -> None:
        self.attachment = attachment
        self.correlation = correlation
        self.max_records = wanted.max_records
        self.max_bytes = min(wanted.max_bytes, FETCH_BYTES_MAX)
        self.have = frozenset(wanted.have) if wanted.have else _NOTHING_KEPT
        self.deadline = deadline
        self.waiting: Waiting | None = None
        self.live = True

    @property
    def session(self) -> Session:
        """Who waits."""
        return self.attachment.session

    @property
    def member(self) -> Member:
        """For whom."""
        return self.attachment.member

    def again(self) -> Asked:
        """The same acquire, to wait once more: this one is settled."""
        made = copy(self)
        made.waiting, made.live = None, True
        return made

    def drop(self) -> None:
        """Nobody waits any more."""
        if self.waiting is not None:
            self.waiting.settle(self)


class Waiting:
    """The acquires of one group in one partition that wait."""

    __slots__ = ("_deadlines", "_live", "_number", "_serving", "_turns")

    def __init__(self) -> None:
        self._turns: dict[Member, deque[Asked]] = {}
        """The next one to be served first."""
        self._deadlines: list[tuple[float, int, Asked]] = []
        self._live = 0
        self._number = 0
        self._serving = False

    def __len__(self) -> int:
        return self._live

    def add(self, asked: Asked) -> None:
        """Let an acquire wait, for the first time."""
        assert asked.waiting is None, "an acquire waits once"
        asked.waiting = self
        self._turns.setdefault(asked.member, deque()).append(asked)
        asked.session.acquires[asked] = None
        self._live += 1
        self._number += 1
        heappush(self._deadlines, (asked.deadline, self._number, asked))

    def settle(self, asked: Asked) -> None:
        """It waits no more."""
        if not asked.live:
            return
        asked.live = False
        self._live -= 1
        asked.session.acquires.pop(asked, None)
        queue = self._turns[asked.member]
        queue.remove(asked)
        if not queue:
            del self._turns[asked.member]
        if len(self._deadlines) > 2 * self._live + REMAINS_MIN:
            self._deadlines = [item for item in self._deadlines if item[2].live]
            heapify(self._deadlines)

    def serve(self, answer: Callable[[Asked], Outcome]) -> None:
        """Give turns until there is nothing more to give, or nobody who can take it.

        An answer may ask for this again, by way of a read that ends at once: whoever is served
        at that moment still waits here, and must not be answered twice.
        """
        if self._serving:
            return
        self._serving = True
        try:
            self._serve(answer)
        finally:
            self._serving = False

    def _serve(self, answer: Callable[[Asked], Outcome]) -> None:
        turns = self._turns
        progress = True
        while progress and turns:
            progress = False
            for member in list(turns):
                if member not in turns:
                    continue
                asked = turns[member][0]
                outcome = answer(asked)
                if outcome is Outcome.EMPTY:
                    return
                if outcome is Outcome.SERVED:
                    progress = True
                    self.settle(asked)
                    if member in turns:
                        turns[member] = turns.pop(member)

    def expired(self, now: float) -> list[Asked]:
        """Take those whose time is over."""
        found: list[Asked] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            asked = heappop(self._deadlines)[2]
            if asked.live:
                self.settle(asked)
                found.append(asked)
        return found

    def end(self) -> list[Asked]:
        """Take all."""
        return self.expired(float("inf"))

    def of(self, member: Member) -> list[Asked]:
        """Take those of one member."""
        found = list(self._turns.get(member, ()))
        for asked in found:
            self.settle(asked)
        return found
