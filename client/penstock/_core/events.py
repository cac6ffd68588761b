"""What happened to a client, for those who want to watch: a bounded list, oldest dropped first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from penstock._core.scheduler import Bell, Scheduler

EVENTS_MAX: Final = 256


class ClientEvent(msgspec.Struct, frozen=True):
    """Something that happened, for logs and metrics.

    Kinds: connected, disconnected, producer_reset, offset_reset, joined, assigned, revoked,
    membership_lost, commit_failed, attached, handler_failed, lease_lost, verdicts_lost,
    verdicts_refused, extend_failed, records_unreadable, closed.
    """

    kind: str
    time_us: int
    detail: Mapping[str, object]


class EventLog:
    """The recent events, and a bell for new ones."""

    __slots__ = ("_scheduler", "bell", "dropped", "events", "first")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.events: deque[ClientEvent] = deque(maxlen=EVENTS_MAX)
        self.first = 0
        """The number of the oldest event that is kept."""
        self.bell = Bell(scheduler)

    def add(self, kind: str, **detail: object) -> None:
        """Note an event."""
        if len(self.events) == EVENTS_MAX:
            self.first += 1
        self.events.append(ClientEvent(kind, self._scheduler.wall_us, detail))
        self.bell.ring()

    def after(self, number: int) -> tuple[int, list[ClientEvent]]:
        """The events from a number on, and the number to ask with next."""
        start = max(number, self.first) - self.first
        return self.first + len(self.events), list(self.events)[start:]
