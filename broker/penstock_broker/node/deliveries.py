"""Batches that a broker publishes itself into a partition: who is to be told of their outcome.

Invariant: they end in log order, and with the lead all of them end before another can be made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from penstock.errors import PenstockError

Done = Callable[[int, PenstockError | None], None]
"""Base offset (`UNKNOWN_OFFSET`: it is too long ago), or the error that left the outcome open."""


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
