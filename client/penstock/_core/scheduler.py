"""Tickets, processes and timers: how the core waits without knowing who drives it.

A `Ticket` is a result that is not there yet. A `Process` is a generator that yields tickets and is
resumed with their values; it is itself a ticket. A `Bell` is a condition with a time limit.

Invariants: a ticket is settled once; a process waits for one ticket at a time; nothing here calls
into a driver except `signal`, which says at most once per turn that a turn is needed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from heapq import heapify, heappop, heappush
from math import inf
from random import Random
from typing import Any, Final, Generic, TypeVar

from penstock.errors import ClientClosed, PenstockError

T = TypeVar("T")
_E = TypeVar("_E", bound=BaseException)
Operation = Generator["Ticket[Any]", Any, T]
"""A process body: yields tickets, is sent their values, returns a T."""

CANCELLED_TIMERS_MAX: Final = 512
SWEEP_SECONDS: Final = 0.05
"""How coarse request deadlines are: they are looked at together, never one by one."""

log = logging.getLogger("penstock.client")


def renewed(error: _E) -> _E:
    """A fresh copy, so that many waiters can raise one error without sharing its traceback."""
    if isinstance(error, PenstockError):
        copy = type(error)(error.message, **error.detail)
        copy.__cause__ = error.__cause__
        return copy
    return error


class Ticket(Generic[T]):
    """A result that is not there yet; abandoning it is always allowed."""

    __slots__ = ("_processes", "done", "error", "value", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self.error: BaseException | None = None
        self.waiters: list[Any] = []
        """What the driver wants back from `Scheduler.take_woken` once this is done."""
        self._processes: list[Process[Any]] | None = None

    def result(self) -> T:
        """The value of a ticket that is done, or its error raised."""
        assert self.done
        if self.error is not None:
            raise renewed(self.error)
        return self.value  # type: ignore[return-value]  # set whenever there is no error


class Process(Ticket[T]):
    """A running generator and, at its end, its result."""

    __slots__ = ("_awaited", "_body", "_essential", "_running", "_scheduler")

    def __init__(self, scheduler: Scheduler, body: Operation[T], essential: bool) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._body = body
        self._essential = essential
        self._awaited: Ticket[Any] | None = None
        self._running = False

    def cancel(self, reason: str = "the operation was cancelled") -> None:
        """End the process where it waits; its `finally` blocks run, its waiters are woken.

        A process that is running at this moment, and calls this itself, goes on.
        """
        if self.done or self._running:
            return
        awaited = self._awaited
        if awaited is not None and awaited._processes is not None and not awaited.done:
            awaited._processes.remove(self)
        self._awaited = None
        self.done = True
        self.error = ClientClosed(reason)
        self._scheduler.processes.discard(self)
        self._body.close()
        self._scheduler._announce(self)

    def step(self) -> None:
        """Run until the next ticket that is not settled."""
        if self.done:
            return
        self._running = True
        self._scheduler.processes.add(self)
        try:
            self._run()
        finally:
            self._running = False
            if self.done:
                self._scheduler.processes.discard(self)

    def _run(self) -> None:
        awaited = self._awaited
        self._awaited = None
        while True:
            try:
                if awaited is None:
                    awaited = next(self._body)
                elif awaited.error is not None:
                    awaited = self._body.throw(renewed(awaited.error))
                else:
                    awaited = self._body.send(awaited.value)
            except StopIteration as stop:
                self._scheduler.complete(self, stop.value)
                return
            except Exception as error:
                self._scheduler._process_failed(self, error, self._essential)
                return
            if not awaited.done:
                self._awaited = awaited
                if awaited._processes is None:
                    awaited._processes = [self]
                else:
                    awaited._processes.append(self)
                return


class Timer:
    """A call to come; `cancel` takes it back."""

    __slots__ = ("_call", "_scheduler", "when")

    def __init__(self, scheduler: Scheduler, when: float, call: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._call: Callable[[], None] | None = call
        self.when = when

    def cancel(self) -> None:
        """Forget the call; harmless when it has happened."""
        if self._call is not None:
            self._call = None
            self._scheduler._timer_cancelled()

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()

    @property
    def cancelled(self) -> bool:
        """Whether nothing will happen any more."""
        return self._call is None


class Scheduler:
    """Time, timers and processes of one client.

    Attributes:
        now: monotonic seconds of the present turn.
        wall_us: wall-clock microseconds of the present turn.
        rng: the randomness that was handed in.
    """

    def __init__(self, rng: Random, signal: Callable[[], None]) -> None:
        self.now = 0.0
        self.wall_us = 0
        self.rng = rng
        self.crashed: BaseException | None = None
        self.processes: set[Process[Any]] = set()
        """Every process that has not ended."""
        self._signal = signal
        self._signalled = False
        self._ready: deque[Process[Any]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_number = 0
        self._cancelled_timers = 0
        self._woken: list[Any] = []
        self._sweepers: list[Callable[[float], float]] = []
        self._sweep_at = inf

    # ----- for the driver

    def advance(self, now: float, wall_us: int) -> None:
        """Tell the time, and do what has come due."""
        self.now = max(self.now, now)
        self.wall_us = wall_us
        timers = self._timers
        while timers and timers[0][0] <= self.now:
            timer = heappop(timers)[2]
            if timer.cancelled:
                self._cancelled_timers -= 1
            timer.fire()
        if self._sweep_at <= self.now:
            self._sweep_at = inf
            for sweeper in self._sweepers:
                self.watch(sweeper(self.now))

    def run(self) -> None:
        """Resume every process whose ticket is settled, until none is left."""
        ready = self._ready
        while ready:
            ready.popleft().step()

    def hold(self) -> None:
        """No signal is needed until `release`: a turn follows at once, or is under way."""
        self._signalled = True

    def release(self) -> None:
        """The turn is over: the next request signals again."""
        self._signalled = False

    def forget(self, ticket: Ticket[Any], waiter: object) -> None:
        """A waiter was cancelled: it must not be woken any more."""
        for waiting in (ticket.waiters, self._woken):
            if waiter in waiting:
                waiting.remove(waiter)

    def take_woken(self) -> list[Any]:
        """The waiters of tickets that were settled since the last call."""
        woken, self._woken = self._woken, []
        return woken

    def next_deadline(self) -> float:
        """When `advance` is needed at the latest; infinity: not before something happens."""
        timers = self._timers
        while timers and timers[0][2].cancelled:
            heappop(timers)
            self._cancelled_timers -= 1
        return min(timers[0][0], self._sweep_at) if timers else self._sweep_at

    @property
    def turn_wanted(self) -> bool:
        """Whether a turn was asked for since the last one."""
        return self._signalled

    def request_turn(self) -> None:
        """Ask the driver for a turn, once."""
        if not self._signalled:
            self._signalled = True
            self._signal()

    # ----- for the core

    def spawn(self, body: Operation[T], *, essential: bool = False) -> Process[T]:
        """Start a process; its first step runs at once.

        An essential process has nobody who waits for it: its failure is a bug that ends the client.
        """
        process = Process(self, body, essential)
        process.step()
        return process

    def complete(self, ticket: Ticket[T], value: T | None = None) -> None:
        """Settle a ticket with a value; one that is settled already stays as it is."""
        if not ticket.done:
            ticket.done = True
            ticket.value = value
            self._announce(ticket)

    def fail(self, ticket: Ticket[Any], error: BaseException) -> None:
        """Settle a ticket with an error; one that is settled already stays as it is."""
        if not ticket.done:
            ticket.done = True
            ticket.error = error
            self._announce(ticket)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make a call at a monotonic time."""
        timer = Timer(self, when, call)
        self._timer_number += 1
        heappush(self._timers, (when, self._timer_number, timer))
        self.request_turn()
        return timer

    def sleep(self, seconds: float) -> Ticket[None]:
        """A ticket that is done after a while."""
        ticket: Ticket[None] = Ticket()
        self.at(self.now + seconds, lambda: self.complete(ticket))
        return ticket

    def add_sweeper(self, sweeper: Callable[[float], float]) -> None:
        """Have a function called with the time when a watched deadline passes.

        It ends what is due and returns the earliest deadline that is left, or infinity.
        """
        self._sweepers.append(sweeper)

    def watch(self, deadline: float) -> None:
        """See to it that the sweepers are called soon after a deadline."""
        if deadline + SWEEP_SECONDS < self._sweep_at:
            self._sweep_at = deadline + SWEEP_SECONDS
            self.request_turn()

    def _announce(self, ticket: Ticket[Any]) -> None:
        if ticket.waiters:
            self._woken.extend(ticket.waiters)
            ticket.waiters = []
        if ticket._processes:
            self._ready.extend(ticket._processes)
        ticket._processes = None
        self.request_turn()

    def _process_failed(self, process: Process[Any], error: Exception, essential: bool) -> None:
        if essential:
            log.error("a part of the client failed", exc_info=error)
            self.crashed = error
        self.fail(process, error)

    def _timer_cancelled(self) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > CANCELLED_TIMERS_MAX:
            self._timers = [entry for entry in self._timers if not entry[2].cancelled]
            heapify(self._timers)
            self._cancelled_timers = 0


class Bell:
    """Wakes all who wait for something to change; they look again for themselves."""

    __slots__ = ("_scheduler", "_waiting")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: dict[Ticket[None], Timer | None] = {}

    def ring(self) -> None:
        """Wake everyone who waits at this moment."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for ticket, timer in waiting.items():
                if timer is not None:
                    timer.cancel()
                self._scheduler.complete(ticket)

    def wait(self, until: float = inf) -> Ticket[None]:
        """A ticket for the next ring, or for a monotonic time."""
        ticket: Ticket[None] = Ticket()
        timer = None
        if until < inf:
            timer = self._scheduler.at(until, lambda: self._time_out(ticket))
        self._waiting[ticket] = timer
        return ticket

    def forget(self, ticket: Ticket[None]) -> None:
        """Give up a wait before its end."""
        timer = self._waiting.pop(ticket, None)
        if timer is not None:
            timer.cancel()

    def _time_out(self, ticket: Ticket[None]) -> None:
        self._waiting.pop(ticket, None)
        self._scheduler.complete(ticket)
