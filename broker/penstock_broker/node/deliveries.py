"""Batches that a broker publishes itself into a partition: who is to be told of their outcome.

Invariant: they end in log order, and with the lead all of them end before another can be made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.errors import NotLeader, PenstockError, TopicNotFound

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

Done = Callable[[int, PenstockError | None], None]
"""Base offset (`UNKNOWN_OFFSET`: it is too long ago), or the error that left the outcome open."""


def deliver(node: Node, gid: int, batch: bytearray, done: Done, skips_from: int = -1) -> None:
    """Publish into a partition wherever it is led; see `PartitionGroup.deliver`.

    Raises:
        TopicNotFound: the partition is deleted.
        NotLeader: nobody leads it at the moment.
        PenstockError: it does not take the batch.
    """
    partition = node.partitions.get(gid)
    if partition is None:
        if node.groups.metadata.machine.is_deleted(gid):
            raise TopicNotFound("the target of a move was deleted")
        raise NotLeader("the target of a move is not led from here")
    partition.deliver(batch, done, skips_from)


class Deliveries:
    """What one partition's leader appended for other parts of the broker."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: deque[tuple[int, int, Done]] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, index: int, offset: int, done: Done) -> None:
        """Remember whom to tell when an entry is applied; indexes never go down."""
        self._flights.append((index, offset, done))

    def applied(self, index: int) -> None:
        """Entries up to this one are committed."""
        flights = self._flights
        while flights and flights[0][0] <= index:
            _, offset, done = flights.popleft()
            done(offset, None)

    def refuse(self, error: PenstockError) -> None:
        """The lead is lost, or the partition is gone."""
        flights, self._flights = self._flights, deque()
        for _, _, done in flights:
            done(0, error)
