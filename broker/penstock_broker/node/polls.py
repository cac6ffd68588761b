"""Long polls of one partition: fetches that wait for the log to grow.

Thousands may wait, and each record that arrives must not cost a look at all of them: they are
ordered by how far the log must grow for them, and by when their time is over. One that is settled
is left in the other order until it comes up there, or until such remains are the larger part.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.node import fetches

if TYPE_CHECKING:
    from penstock_broker.node.fetches import Fetch
    from penstock_broker.node.partition import PartitionGroup

REMAINS_MIN: Final = 64


class Poll:
    """One waiting fetch; its session lists it until it is settled."""

    __slots__ = ("fetch", "live", "owner")

    def __init__(self, owner: Polls, fetch: Fetch) -> None:
        self.owner = owner
        self.fetch = fetch
        self.live = True

    def drop(self) -> None:
        """Nobody waits any more."""
        self.owner.settle(self)


_Order = list[tuple[float, int, Poll]]


class Polls:
    """Waiting fetches; each has a deadline, and a session a limited number of them."""

    __slots__ = ("_by_deadline", "_by_position", "_live", "_number", "_partition")

    def __init__(self, partition: PartitionGroup) -> None:
        self._partition = partition
        self._by_position: _Order = []
        self._by_deadline: _Order = []
        self._live = 0
        self._number = 0

    def __len__(self) -> int:
        return self._live

    def add(self, fetch: Fetch, position: int) -> None:
        """Let a fetch wait until the log's tail has grown to a position."""
        poll = Poll(self, fetch)
        self._partition.node.polling[self._partition.gid] = self._partition
        fetch.session.polls[poll] = None
        self._live += 1
        self._number += 1
        heappush(self._by_position, (position, self._number, poll))
        heappush(self._by_deadline, (fetch.deadline, self._number, poll))

    def settle(self, poll: Poll) -> None:
        """It waits no more."""
        poll.live = False
        poll.fetch.session.polls.pop(poll, None)
        self._live -= 1
        for order in (self._by_position, self._by_deadline):
            if len(order) > 2 * self._live + REMAINS_MIN:
                order[:] = [item for item in order if item[2].live]
                heapify(order)

    def _due(self, order: _Order, now: float) -> list[Fetch]:
        due = []
        while order and order[0][0] <= now:
            poll = heappop(order)[2]
            if poll.live:
                self.settle(poll)
                due.append(poll.fetch)
        return due

    def _all(self) -> list[Fetch]:
        return self._due(self._by_deadline, float("inf"))

    def retry(self) -> None:
        """Something was applied: answer those that waited for it."""
        for fetch in self._due(self._by_position, self._partition.log.tail.end):
            fetches.retry(self._partition, fetch)

    def expire(self, now: float) -> None:
        """Answer those whose time is over with what there is."""
        for fetch in self._due(self._by_deadline, now):
            fetches.answer_late(self._partition, fetch)

    def end(self) -> None:
        """Answer all now: the broker stops."""
        for fetch in self._all():
            fetches.answer_late(self._partition, fetch)

    def refuse_led(self, error: PenstockError) -> None:
        """The lead is lost: refuse all that no follower may answer."""
        for fetch in self._all():
            if fetches.may_follow(fetch):
                fetches.retry(self._partition, fetch)
            else:
                fetches.refuse(self._partition, fetch, error)

    def refuse(self, error: PenstockError) -> None:
        """Answer all with an error."""
        for fetch in self._all():
            fetches.refuse(self._partition, fetch, error)
