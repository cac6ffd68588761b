"""The whole client without I/O: what a driver holds.

A driver calls `set_time`, then an operation or an input (`Wire.opened`, `Wire.received`,
`Wire.lost`), then `turn`. Then it opens and closes what `take_opening` and `take_closing` say,
sends the output of `take_sending`, wakes the waiters of `take_woken`, and comes back at
`next_deadline` or when `signal` was called, whichever is first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from penstock._core.admin import Admin
from penstock._core.cluster_admin import ClusterAdmin
from penstock._core.delayed import Delays
from penstock._core.events import EventLog
from penstock._core.metadata import Metadata
from penstock._core.options import Options
from penstock._core.pool import Pool
from penstock._core.producer import Producer
from penstock._core.requests import Requests
from penstock._core.scheduler import Operation, Process, Scheduler, Ticket
from penstock._core.sharing.administration import SharedAdmin
from penstock._core.sharing.renewal import Renewals
from penstock._core.sharing.shared_subscription import SharedSubscription
from penstock._core.silence import Silence
from penstock._core.subscription import Subscription
from penstock._core.wire import Wire
from penstock.errors import ClientClosed

T = TypeVar("T")


class ClientCore:
    """One client: connections, metadata, producer, subscriptions."""

    def __init__(self, options: Options, rng: Random, signal: Callable[[], None]) -> None:
        self.options = options
        self.scheduler = Scheduler(rng, signal)
        self.events = EventLog(self.scheduler)
        self.pool = Pool(self.scheduler, options, self.events)
        self.metadata = Metadata(self.scheduler, self.pool, options.request_timeout)
        self.requests = Requests(self.scheduler, self.pool, self.metadata, options)
        self.producer = Producer(self.scheduler, self.pool, self.metadata, options, self.events)
        timeout = options.request_timeout
        self.silence = Silence(self.scheduler, self.pool, self.metadata, timeout)
        self.admin = Admin(self.requests, self.metadata, self.scheduler)
        self.shared_admin = SharedAdmin(self)
        self.cluster_admin = ClusterAdmin(self.requests)
        self.delays = Delays(self)
        self.subscriptions: list[Subscription | SharedSubscription] = []
        self.renewals = Renewals()
        self.closed = False

    def __repr__(self) -> str:
        servers = ",".join(f"{host}:{port}" for host, port in self.options.servers)
        return f"<{servers}{' closed' if self.closed else ''}>"

    # ----- for the driver

    def set_time(self, now: float, wall_us: int) -> None:
        """Tell the time before an operation is started."""
        self.scheduler.now = max(self.scheduler.now, now)
        self.scheduler.wall_us = wall_us

    def turn(self, now: float, wall_us: int) -> None:
        """Let time pass, go on with everything that can go on, and send what can be sent."""
        scheduler = self.scheduler
        scheduler.hold()
        scheduler.advance(now, wall_us)
        scheduler.run()
        while self.producer.pump():
            scheduler.run()
        if scheduler.crashed is not None and not self.closed:
            self.shut()
            scheduler.run()
        scheduler.release()

    def hold(self) -> None:
        """An input and then a turn follow at once: no signal is needed."""
        self.scheduler.hold()

    def drained(self) -> None:
        """A transport took bytes that it had refused."""
        self.producer.feed()

    def forget(self, ticket: Ticket[Any], waiter: object) -> None:
        """A waiter of a ticket was cancelled."""
        self.scheduler.forget(ticket, waiter)

    def take_opening(self) -> list[Wire]:
        """Connections to open."""
        opening, self.pool.opening = self.pool.opening, []
        return [wire for wire in opening if not wire.closing]

    def take_closing(self) -> list[Wire]:
        """Connections to close."""
        closing, self.pool.closing = self.pool.closing, []
        return closing

    def take_sending(self) -> list[Wire]:
        """Connections with output."""
        return self.pool.take_sending()

    def take_woken(self) -> list[Any]:
        """What waited for tickets that are settled now."""
        return self.scheduler.take_woken()

    def next_deadline(self) -> float:
        """When the next turn is due at the latest."""
        return self.scheduler.next_deadline()

    def start(self, operation: Operation[T]) -> Process[T]:
        """Start an operation; wait for the process, then ask its result.

        Raises:
            ClientClosed: the client is closed.
        """
        self.check_open()
        return self.scheduler.spawn(operation)

    # ----- life

    def connect(self) -> Operation[None]:
        """Wait for the first connection.

        Raises:
            ConnectionLost: no broker could be reached in time.
        """
        self.pool.start()
        limit = self.scheduler.now + self.options.request_timeout
        while self.pool.any_wire() is None:
            if self.scheduler.now >= limit:
                raise self.pool.no_connection()
            yield self.pool.bell.wait(limit)

    def close(self, timeout: float) -> Operation[None]:
        """Close subscriptions, wait a while for what was published, then end everything."""
        ending = self.scheduler.spawn(self._finish_work())
        limit = self.scheduler.at(self.scheduler.now + timeout, ending.cancel)
        try:
            with suppress(ClientClosed):
                yield ending
        finally:
            limit.cancel()
            self.shut()

    def _finish_work(self) -> Operation[None]:
        for subscription in list(self.subscriptions):
            yield from subscription.close()
        yield from self.producer.flush()

    def shut(self) -> None:
        """End everything at once."""
        self.closed = True
        self.producer.close()
        for subscription in list(self.subscriptions):
            subscription.shut()
        self.pool.stop()
        self.events.add("closed")
        for process in list(self.scheduler.processes):
            process.cancel("the client was closed")

    def check_open(self) -> None:
        """Refuse to work for a client that is closed.

        Raises:
            ClientClosed: it is.
        """
        if self.scheduler.crashed is not None:
            raise ClientClosed("a part of the client failed") from self.scheduler.crashed
        if self.closed:
            raise ClientClosed()
