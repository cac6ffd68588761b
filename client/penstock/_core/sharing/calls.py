"""Acquires and settles in flight, see `wire.Call`."""

from __future__ import annotations

from penstock._core.scheduler import Scheduler, Ticket
from penstock.errors import PenstockError, RemoteProtocolError, TimedOut
from penstock.protocol.frames import Frame
from penstock.protocol.leases import (
    ACQUIRE,
    SETTLE,
    Acquired,
    Settled,
    read_acquired,
    read_settled,
)


class AcquireCall:
    """An acquire in flight."""

    __slots__ = ("_scheduler", "deadline", "ticket")

    def __init__(self, scheduler: Scheduler, deadline: float) -> None:
        self._scheduler = scheduler
        self.deadline = deadline
        self.ticket: Ticket[Acquired] = Ticket()

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """Keep the batches: the buffer itself if it is ours, a copy otherwise."""
        if frame.type != ACQUIRE:
            raise RemoteProtocolError("an acquire was answered by something else")
        found = read_acquired(buffer, frame.start, frame.end)
        if not owned:
            found = found._replace(run=bytes(found.run))
        self._scheduler.complete(self.ticket, found)

    def refused(self, error: PenstockError) -> None:
        """Pass the error on."""
        self._scheduler.fail(self.ticket, error)

    lost = refused

    def expired(self) -> None:
        """The broker forgot about it."""
        self.refused(TimedOut("an acquire was not answered in time"))


class SettleCall:
    """Verdicts in flight."""

    __slots__ = ("_scheduler", "deadline", "ticket")

    def __init__(self, scheduler: Scheduler, deadline: float) -> None:
        self._scheduler = scheduler
        self.deadline = deadline
        self.ticket: Ticket[Settled] = Ticket()

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """They are durable."""
        if frame.type != SETTLE:
            raise RemoteProtocolError("a settle was answered by something else")
        self._scheduler.complete(self.ticket, read_settled(buffer, frame.start, frame.end))

    def refused(self, error: PenstockError) -> None:
        """Pass the error on."""
        self._scheduler.fail(self.ticket, error)

    lost = refused

    def expired(self) -> None:
        """No answer came."""
        self.refused(TimedOut("verdicts were not confirmed in time"))
