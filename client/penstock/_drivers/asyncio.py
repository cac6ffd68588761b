"""Runs a client under asyncio, with any event loop: a buffered protocol per connection.

Nothing here is a task that lives as long as the client: turns and timers are callbacks of the
loop, and only opening a connection is a short task. So a client that was opened in one task, such
as a fixture's set-up, can be closed from another.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from penstock._core.client import ClientCore
from penstock._core.options import Options
from penstock._core.scheduler import Operation, Ticket
from penstock._core.wire import Wire
from penstock._drivers.clocks import Held, clock_of, held, machine_wall_us
from penstock._drivers.renewing import Renewer
from penstock.errors import ConnectionLost
from penstock.protocol.batch import Buffer

T = TypeVar("T")

WRITE_BYTES_MAX: Final = 1024 * 1024
"""What a transport buffers before it says stop."""
CLOSE_SECONDS: Final = 1.0
REST_SECONDS_MAX: Final = 10.0
REST_TURNS: Final = 30
"""Turns of the loop after which what the application does at once is taken to be done."""


class Connection(asyncio.BufferedProtocol):
    """One connection; the transport's callbacks become inputs of its wire."""

    def __init__(self, driver: AsyncioDriver, wire: Wire) -> None:
        self._driver = driver
        self._wire = wire
        self._paused = False
        self._unsent: list[Buffer] = []
        self.transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up."""
        # A cast, not a check: uvloop's transports only look like asyncio's.
        self.transport = made = cast("asyncio.Transport", transport)
        self._driver.connections.add(self)
        made.set_write_buffer_limits(high=WRITE_BYTES_MAX)
        self._wire.handle = self
        if self._wire.closing:
            made.abort()
        else:
            self._wire.opened()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop receives to."""
        return self._wire.space()

    def buffer_updated(self, count: int) -> None:
        """Bytes arrived."""
        driver = self._driver
        driver.core.hold()
        self._wire.received(count, driver.now())
        driver.pump()

    def eof_received(self) -> bool:
        """The broker closed its side: so do we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        reason = error or "the broker closed it"
        self._wire.lost(ConnectionLost(f"the connection to {self._wire.address} broke: {reason}"))
        self._wire.handle = None
        self._driver.connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._paused = False
        unsent, self._unsent = self._unsent, []
        self.send(unsent)
        self._driver.core.drained()

    def send(self, buffers: list[Buffer]) -> None:
        """Hand bytes to the transport, or keep them while it refuses."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._paused:
            self._unsent.extend(buffers)
        elif buffers:
            self.transport.writelines(buffers)
        kept = sum(map(len, self._unsent)) if self._unsent else 0
        self._wire.backlog = kept + self.transport.get_write_buffer_size()


class AsyncioDriver:
    """The asyncio side of one client."""

    def __init__(self, options: Options) -> None:
        self.core = ClientCore(options, random.Random(os.urandom(16)), self._signal)
        self.renewer = Renewer(options, self.core.renewals)
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._clock = clock = clock_of(options.servers)
        self.now = self._loop.time if clock is None else clock.monotonic
        self._wall_us = machine_wall_us if clock is None else clock.wall_us
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._ended = False

    # ----- life

    async def open(self, operation: Operation[None]) -> None:
        """Carry out the first operation; ends everything if it fails."""
        if self._clock is not None:
            self._clock.attach(self)
        try:
            await self.run(operation)
        except BaseException:
            self.core.shut()
            await self._end()
            raise

    async def close(
        self,
        flush_seconds: float,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Close the core within a time and end all connections."""
        try:
            if not self.core.closed:
                await self.run(self.core.close(flush_seconds))
        finally:
            self.core.shut()
            self.renewer.stop()
            await self._end()
        return False

    async def _end(self) -> None:
        self.pump()
        self._ended = True
        if self._clock is not None:
            self._clock.detach(self)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._opening:
            task.cancel()
        ending: list[asyncio.Future[None]] = [*self._opening]
        ending.extend(connection.closed for connection in self.connections)
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_SECONDS)

    # ----- waiting

    def touch(self) -> None:
        """Tell the core the time."""
        self.core.set_time(self.now(), self._wall_us())

    async def run(self, operation: Operation[T]) -> T:
        """Carry out an operation; cancelling ends it."""
        self.touch()
        process = self.core.start(operation)
        try:
            await self.wait(process)
        finally:
            process.cancel()
        return process.result()

    async def finish(self, operation: Operation[T]) -> T:
        """Carry out an operation after the caller was cancelled, perhaps: it was told once."""
        return await self.run(operation)

    async def wait(self, ticket: Ticket[Any]) -> None:
        """Wait until a ticket is settled; cancelling abandons it."""
        if ticket.done:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = self._loop.create_future()
        ticket.waiters.append(future)
        try:
            await future
        except asyncio.CancelledError:
            self.core.forget(ticket, future)
            raise

    async def checkpoint(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)

    # ----- turns

    def _signal(self) -> None:
        self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Take a turn and carry out what came of it."""
        if self._ended:
            return
        core = self.core
        core.turn(self.now(), self._wall_us())
        for wire in core.take_opening():
            task = self._loop.create_task(self._open(wire))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        for wire in core.take_closing():
            if isinstance(wire.handle, Connection) and wire.handle.transport is not None:
                wire.handle.transport.abort()
        for wire in core.take_sending():
            buffers = wire.take_output()
            if isinstance(wire.handle, Connection):
                wire.handle.send(buffers)
        for future in core.take_woken():
            if not future.done():
                future.set_result(None)
        self._set_timer(core.next_deadline())

    def _set_timer(self, deadline: float) -> None:
        if self._clock is not None:
            self._clock.alarm(self, deadline)
            return
        # A later deadline is not worth a new timer: the old one fires early and looks again.
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._time_out)

    def _time_out(self) -> None:
        self._timer_at = inf
        self.pump()

    # ----- for a clock of a test, from other threads

    def wake(self) -> None:
        """Take a turn soon."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.pump)

    def rest(self) -> Held | None:
        """Take a turn, let the loop go on a while, and tell what is under way."""
        if self._ended or not self._loop.is_running():
            return None
        resting = asyncio.run_coroutine_threadsafe(self._rest(), self._loop)
        try:
            return resting.result(REST_SECONDS_MAX)
        except (TimeoutError, asyncio.CancelledError):  # the loop was stopped meanwhile
            resting.cancel()
            return None

    async def _rest(self) -> Held | None:
        self.pump()
        for _ in range(REST_TURNS):
            await asyncio.sleep(0)
        return None if self._ended else held(self.core, _socket_of)

    async def _open(self, wire: Wire) -> None:
        try:
            await self._loop.create_connection(lambda: Connection(self, wire), wire.host, wire.port)
        except OSError as error:
            wire.lost(ConnectionLost(f"no connection to {wire.address}: {error}"))


def _socket_of(connection: Connection | None) -> Any:  # noqa: ANN401 - a loop's own kind of socket
    transport = connection.transport if connection is not None else None
    return transport.get_extra_info("socket") if transport is not None else None
