"""Runs a client under trio: one reader task per connection, one task for turns, one for time.

Reading and sending use raw sockets: a reader waits until its socket is readable and then does
everything in one synchronous stretch: receive, handle, send what came of it, wake the tasks. The
nursery belongs to the `async with` of the client. No trio primitive is paid per record.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from penstock._core.client import ClientCore
from penstock._core.options import Options
from penstock._core.scheduler import Operation, Ticket
from penstock._core.wire import Wire
from penstock._drivers.clocks import Held, clock_of, held, machine_wall_us
from penstock._drivers.renewing import Renewer
from penstock._drivers.sockets import Outbox
from penstock._drivers.trio_dial import dial
from penstock.errors import ConnectionLost

T = TypeVar("T")

READS_PER_WAIT: Final = 8
"""Reads of a full buffer before other tasks get their turn."""


class TrioDriver:
    """The trio side of one client."""

    def __init__(self, options: Options) -> None:
        self.core = ClientCore(options, random.Random(os.urandom(16)), self._signal)
        self.renewer = Renewer(options, self.core.renewals)
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self._parked: Task | None = None
        self._timer: trio.CancelScope | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._clock = clock = clock_of(options.servers)
        self._now = trio.current_time if clock is None else clock.monotonic
        self._wall_us = machine_wall_us if clock is None else clock.wall_us

    # ----- life

    async def open(self, operation: Operation[None]) -> None:
        """Start the background tasks and carry out the first operation."""
        outer = await self._manager.__aenter__()
        try:
            await outer.start(self._work)
            await self.run(operation)
        except BaseException as error:
            self.core.shut()
            if not await self._end(type(error), error, error.__traceback__):
                raise

    async def close(
        self,
        flush_seconds: float,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Close the core within a time and end the background tasks."""
        if not self.core.closed:
            await self.finish(self.core.close(flush_seconds))
        self.renewer.stop()
        return await self._end(kind, error, trace)

    async def _end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._nursery is not None:
            self._pump()
            self._nursery.cancel_scope.cancel()
        if self._clock is not None:
            self._clock.detach(self)
        try:
            return bool(await self._manager.__aexit__(kind, error, trace))
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):
                # The application's own error: it leaves the block as it was raised.
                return False
            raise

    async def _work(self, task_status: trio.TaskStatus[None]) -> None:
        """Hold the background tasks.

        They are shielded, since a cancelled application still closes its client in order and needs
        them for that; `_end` ends them.
        """
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            self._nursery = nursery
            nursery.start_soon(self._take_turns)
            if self._clock is None:
                nursery.start_soon(self._keep_time)
            else:
                self._clock.attach(self)
            task_status.started()

    # ----- waiting

    def touch(self) -> None:
        """Tell the core the time."""
        self.core.set_time(self._now(), self._wall_us())

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
        """Carry out an operation that is bounded in time even if the caller is cancelled."""
        with trio.CancelScope() as scope:
            scope.shield = True
            result = await self.run(operation)
        return result

    def wait(self, ticket: Ticket[Any]) -> Awaitable[Any]:
        """Wait until a ticket is settled; to be awaited at once. Cancelling abandons it.

        Not `async` itself: one frame less in every publish.
        """
        if ticket.done:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - awaited by the caller
        task = trio.lowlevel.current_task()
        ticket.waiters.append(task)

        def abort(_: RaiseCancelT) -> Abort:
            self.core.forget(ticket, task)
            return Abort.SUCCEEDED

        return trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105 - as above

    async def checkpoint(self) -> None:
        """Let others run."""
        await trio.lowlevel.checkpoint()

    # ----- turns

    def _signal(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def _take_turns(self) -> None:
        task = trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._parked = None
            return Abort.SUCCEEDED

        while True:
            self._pump()
            self._parked = task
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self.core.next_deadline()) as self._timer:
                await trio.sleep_forever()
            self._timer = None
            self._pump()

    def _pump(self) -> None:
        core = self.core
        assert self._nursery is not None
        core.turn(self._now(), self._wall_us())
        for wire in core.take_opening():
            self._nursery.start_soon(self._serve, wire)
        for wire in core.take_closing():
            self._close(wire)
        for wire in core.take_sending():
            self._send(wire)
        for task in core.take_woken():
            trio.lowlevel.reschedule(task)
        timer = self._timer
        if timer is not None:
            deadline = core.next_deadline()
            # A later deadline is not worth moving the timer: it fires early and looks again.
            if deadline < timer.deadline:
                timer.deadline = deadline
        elif self._clock is not None:
            self._clock.alarm(self, core.next_deadline())

    # ----- for a clock of a test, from other threads

    def wake(self) -> None:
        """Take a turn soon."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._turn_unless_closed)

    def rest(self) -> Held | None:
        """Take a turn, let all tasks go on until they wait, and tell what is under way."""
        try:
            return trio.from_thread.run(self._rest, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            return None

    async def _rest(self) -> Held | None:
        from trio.testing import wait_all_tasks_blocked

        self._turn_unless_closed()
        await wait_all_tasks_blocked()
        if self.core.closed:
            return None
        return held(self.core, lambda outbox: outbox.sock if outbox else None)

    def _turn_unless_closed(self) -> None:
        if not self.core.closed:
            self._pump()

    # ----- connections

    async def _serve(self, wire: Wire) -> None:
        try:
            sock = await dial(wire.host, wire.port)
        except OSError as error:
            wire.lost(ConnectionLost(f"no connection to {wire.address}: {error}"))
            return
        with sock:
            wire.handle = Outbox(sock)
            wire.opened()
            try:
                await self._read(wire, sock)
            except (OSError, trio.ClosedResourceError) as error:
                wire.lost(ConnectionLost(f"the connection to {wire.address} broke: {error}"))
            finally:
                wire.handle = None

    async def _read(self, wire: Wire, sock: socket.socket) -> None:
        core = self.core
        while not wire.closing:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(READS_PER_WAIT):
                space = wire.space()
                try:
                    count = sock.recv_into(space)
                except BlockingIOError:
                    break
                core.hold()
                wire.received(count, self._now())
                self._pump()
                if count < len(space) or wire.closing:
                    break

    def _send(self, wire: Wire) -> None:
        outbox, buffers = wire.handle, wire.take_output()
        if not isinstance(outbox, Outbox):
            return
        assert self._nursery is not None
        was_blocked = wire.backlog
        try:
            wire.backlog = outbox.send(buffers)
        except OSError as error:
            wire.lost(ConnectionLost(f"the connection to {wire.address} broke: {error}"))
            return
        if wire.backlog and not was_blocked:
            self._nursery.start_soon(self._drain, wire, outbox)

    async def _drain(self, wire: Wire, outbox: Outbox) -> None:
        try:
            while wire.backlog and not wire.closing:
                await trio.lowlevel.wait_writable(outbox.sock)
                wire.backlog = outbox.send([])
                self.core.drained()
        except (OSError, trio.ClosedResourceError) as error:
            wire.lost(ConnectionLost(f"the connection to {wire.address} broke: {error}"))

    def _close(self, wire: Wire) -> None:
        outbox = wire.handle
        if isinstance(outbox, Outbox):
            trio.lowlevel.notify_closing(outbox.sock)
            outbox.sock.close()
