"""Runs a client on blocking calls from any number of threads.

The core is guarded by one lock. Of the threads that wait, one *pumps*: it sits in `select`, reads
and takes turns for all; when its own ticket is settled it hands the role to another that waits.
Whoever publishes sends by itself. A keeper thread pumps while no caller does, so that heartbeats,
acks and reconnects go on while the application is busy elsewhere; it keeps away while callers pump,
since a hand-over between threads costs more than a round trip.

After `fork` the child's copy refuses to work: two processes must not share a connection.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakSet

from penstock._core.client import ClientCore
from penstock._core.options import Options
from penstock._core.scheduler import Operation, Process, Ticket
from penstock._core.wire import Wire
from penstock._drivers.clocks import Held, clock_of, held, machine_wall_us
from penstock._drivers.renewing import Renewer
from penstock._drivers.sockets import Outbox
from penstock._drivers.threads import Alarm, Waiter
from penstock.errors import ClientClosed, ConnectionLost

T = TypeVar("T")

POLL_SECONDS_MAX: Final = 60.0
END_SECONDS: Final = 1.0
KEEPER_PAUSE: Final = 0.02
"""The keeper takes over when no caller has pumped for this long."""
COME_BACK_SECONDS: Final = 0.05
"""How long threads that got something may work on it while a test moves its clock."""
COME_BACK_PAUSE: Final = 0.0005


class BlockingDriver:
    """The blocking side of one client."""

    def __init__(self, options: Options) -> None:
        self.core = ClientCore(options, random.Random(os.urandom(16)), lambda: None)
        self.lock = threading.Lock()
        self.renewer = Renewer(options, self.core.renewals)
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._alarm = Alarm()
        self._selector.register(self._alarm.socket, selectors.EVENT_READ, None)
        self._pumping = False
        self._keeper_pumps = False
        self._poll_until = 0.0
        self._pumped_at = 0.0
        self._polls = 0
        self._at_rest = 0
        """How many threads waited when the clock of a test was moved."""
        self._followers: dict[Waiter, None] = {}
        self._forked = False
        self._ended = False
        self._clock = clock = clock_of(options.servers)
        self._now = time.monotonic if clock is None else clock.monotonic
        self._wall_us = machine_wall_us if clock is None else clock.wall_us
        self._keeper = threading.Thread(target=self._keep, name="penstock-keeper", daemon=True)
        _drivers.add(self)

    # ----- life

    def open(self, operation: Operation[None]) -> None:
        """Start the keeper and carry out the first operation; ends everything if it fails."""
        self._keeper.start()
        if self._clock is not None:
            self._clock.attach(self)
        try:
            self.run(operation)
        except BaseException:
            self.end()
            raise

    def close(self, timeout: float) -> None:
        """Close the core within a time and end all connections."""
        if self._ended or self._forked:
            return
        try:
            if not self.core.closed:
                self.run(self.core.close(timeout))
        finally:
            self.end()

    def end(self) -> None:
        """End everything at once; harmless when it has ended."""
        self.renewer.stop()
        with self.lock:
            if self._ended:
                return
            self.core.shut()
            self._ended = True
            self.turn()
            self._alarm.ring()
            for follower in self._followers:
                follower.wake()
        if self._clock is not None:
            self._clock.detach(self)
        self._keeper.join(END_SECONDS)
        give_up = time.monotonic() + END_SECONDS
        while self._pumping and time.monotonic() < give_up:
            # Another thread was just woken in `select`: it must leave before that is closed.
            time.sleep(0.001)
        self._selector.close()
        self._alarm.close()

    # ----- waiting

    def check(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            ClientClosed: this is one.
        """
        if self._forked:
            raise ClientClosed("this client was opened before a fork; open another in the child")

    def touch(self) -> None:
        """Tell the core the time; the lock is held."""
        self.core.set_time(self._now(), self._wall_us())

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call into the core and carry out what comes of it."""
        self.check()
        with self.lock:
            self.touch()
            try:
                return function(*arguments)
            finally:
                self.turn()

    def run(self, operation: Operation[T]) -> T:
        """Carry out an operation; an interrupt ends it."""
        process: Process[T] = self.call(self.core.start, operation)
        try:
            self.wait(process)
        finally:
            if not process.done:
                self.call(process.cancel)
        return process.result()

    def wait(self, ticket: Ticket[Any], timeout: float | None = None) -> bool:
        """Wait until a ticket is settled; False: the time is over first."""
        self.check()
        until = self._now() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        with self.lock:
            try:
                while not ticket.done and not self._ended:
                    if self._now() >= until:
                        return False
                    if self._pumping:
                        self._follow(ticket, until)
                    else:
                        self._poll(until)
                        self._pumped_at = self._now()
            finally:
                self._hand_over()
        if not ticket.done:
            raise ClientClosed()
        return True

    def _follow(self, ticket: Ticket[Any], until: float) -> None:
        waiter = Waiter()
        ticket.waiters.append(waiter)
        self._followers[waiter] = None
        if self._keeper_pumps:
            self._alarm.ring()
        self.lock.release()
        try:
            waiter.sleep(min(until - self._now(), POLL_SECONDS_MAX))
        finally:
            self.lock.acquire()
            self._followers.pop(waiter, None)
            self.core.forget(ticket, waiter)

    def _hand_over(self) -> None:
        if not self._pumping:
            for follower in self._followers:
                follower.wake()
                return

    # ----- pumping

    def turn(self) -> None:
        """Take a turn and carry out what came of it; the lock is held."""
        core = self.core
        core.turn(self._now(), self._wall_us())
        for wire in core.take_opening():
            threading.Thread(target=self._connect, args=(wire,), daemon=True).start()
        for wire in core.take_closing():
            self._close(wire)
        for wire in core.take_sending():
            self._send(wire, wire.take_output())
        for waiter in core.take_woken():
            waiter.wake()
        if self._pumping and core.next_deadline() < self._poll_until:
            self._alarm.ring()
        if self._clock is not None:
            self._clock.alarm(self, core.next_deadline())

    def _poll(self, until: float) -> None:
        """Wait for sockets or time, with the lock released meanwhile, and handle what comes."""
        self._pumping = True
        now = self._now()
        self._poll_until = min(until, self.core.next_deadline(), now + POLL_SECONDS_MAX)
        self.lock.release()
        try:
            ready = self._selector.select(max(0.0, self._poll_until - now))
        finally:
            self.lock.acquire()
            self._pumping = False
            self._polls += 1
        self.core.hold()
        for key, events in ready:
            wire: Wire | None = key.data
            if wire is None:
                self._alarm.silence()
                continue
            if events & selectors.EVENT_WRITE:
                self._send(wire, [])
                self.core.drained()
            if events & selectors.EVENT_READ:
                self._receive(wire)
        self.turn()

    def _keep(self) -> None:
        while not self._ended and not self._forked:
            time.sleep(KEEPER_PAUSE)
            with self.lock:
                while not (self._ended or self._pumping or self._followers or self._busy()):
                    self._keeper_pumps = True
                    self._poll(self._now() + POLL_SECONDS_MAX)
                    self._keeper_pumps = False
                self._hand_over()

    def _busy(self) -> bool:
        return self._now() - self._pumped_at < KEEPER_PAUSE

    # ----- for a clock of a test, from other threads

    def wake(self) -> None:
        """Let every thread that waits look at the time."""
        with self.lock:
            for follower in self._followers:
                follower.wake()
        self._alarm.ring()

    def rest(self) -> Held | None:
        """Have a turn taken, let threads that were woken come back, and tell what is under way."""
        with self.lock:
            if self._ended or self._forked:
                return None
            polls = self._polls
            if self._pumping:
                self._alarm.ring()
            else:
                self._poll(0.0)
                self._hand_over()
        give_up = time.monotonic() + COME_BACK_SECONDS
        while self._polls == polls or self._waiting() < self._at_rest:
            if time.monotonic() > give_up:
                break
            time.sleep(COME_BACK_PAUSE)
        self._at_rest = self._waiting()
        with self.lock:
            return held(self.core, lambda outbox: outbox.sock if outbox else None)

    def _waiting(self) -> int:
        """How many threads of the application wait for something that has not come yet."""
        with self.lock:
            asleep = sum(not follower.woken for follower in self._followers)
            return asleep + (self._pumping and not self._keeper_pumps)

    # ----- connections

    def _connect(self, wire: Wire) -> None:
        timeout = self._options.connect_timeout
        try:
            sock = socket.create_connection((wire.host, wire.port), timeout)
        except OSError as error:
            reason = ConnectionLost(f"no connection to {wire.address}: {error}")
            self.call(wire.lost, reason)
            return
        with self.lock:
            if wire.closing or self._ended:
                sock.close()
                return
            wire.handle = Outbox(sock)
            self._selector.register(sock, selectors.EVENT_READ, wire)
            wire.opened()
            self.turn()

    def _receive(self, wire: Wire) -> None:
        outbox = wire.handle
        if not isinstance(outbox, Outbox):
            return
        try:
            count = outbox.sock.recv_into(wire.space())
        except BlockingIOError:
            return
        except OSError as error:
            wire.lost(ConnectionLost(f"the connection to {wire.address} broke: {error}"))
            return
        wire.received(count, self._now())

    def _send(self, wire: Wire, buffers: list[Any]) -> None:
        outbox = wire.handle
        if not isinstance(outbox, Outbox):
            return
        was_blocked = bool(wire.backlog)
        try:
            wire.backlog = outbox.send(buffers)
        except OSError as error:
            wire.lost(ConnectionLost(f"the connection to {wire.address} broke: {error}"))
            self._close(wire)
            return
        if bool(wire.backlog) is not was_blocked:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wire.backlog else 0)
            self._selector.modify(outbox.sock, events, wire)

    def _close(self, wire: Wire) -> None:
        outbox, wire.handle = wire.handle, None
        if isinstance(outbox, Outbox):
            self._selector.unregister(outbox.sock)
            outbox.sock.close()


_drivers: WeakSet[BlockingDriver] = WeakSet()


def _mark_forked() -> None:
    for driver in _drivers:
        driver._forked = True


os.register_at_fork(after_in_child=_mark_forked)
