"""Long polls of one partition: fetches that wait at the log's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import PenstockError
from penstock_broker.node import fetches

if TYPE_CHECKING:
    from penstock_broker.node.fetches import Fetch
    from penstock_broker.node.partition import PartitionGroup


class Polls:
    """Waiting fetches; each has a deadline, and a session a limited number of them."""

    __slots__ = ("_partition", "_waiting")

    def __init__(self, partition: PartitionGroup) -> None:
        self._partition = partition
        self._waiting: list[Fetch] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, fetch: Fetch) -> None:
        """Let a fetch wait."""
        fetch.session.polls += 1
        self._waiting.append(fetch)

    def _take(self) -> list[Fetch]:
        waiting, self._waiting = self._waiting, []
        for fetch in waiting:
            fetch.session.polls -= 1
        return [fetch for fetch in waiting if not fetch.session.closing]

    def retry(self) -> None:
        """Something was applied: answer, or go on waiting."""
        for fetch in self._take():
            fetches.retry(self._partition, fetch)

    def expire(self, now: float) -> None:
        """Answer those whose time is over with what there is."""
        for fetch in self._take():
            if fetch.deadline > now:
                self.add(fetch)
            else:
                fetches.answer_late(self._partition, fetch)

    def end(self) -> None:
        """Answer all now: the broker stops."""
        for fetch in self._take():
            fetches.answer_late(self._partition, fetch)

    def refuse(self, error: PenstockError) -> None:
        """Answer all with an error."""
        for fetch in self._take():
            fetches.refuse(self._partition, fetch, error)
