"""Starts and stops a broker inside this process, from blocking and from async code.

Invariants: the broker listens when `with` begins and has stopped, its thread with it, when `with`
ends. Starting and stopping block for some milliseconds, so async code runs them in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeVar

from penstock import _parts

Result = TypeVar("Result")


class RunningBroker(Protocol):
    """A broker that listens, until `stop` is called."""

    @property
    def address(self) -> str:
        """Where clients connect: `host:port`."""

    def stop(self) -> None:
        """End the broker and wait until it has ended."""


class Starter(Protocol):
    """What the entry point `embed` names."""

    def __call__(self, *, data: str | None, port: int) -> RunningBroker:
        """Start a broker and return when it listens."""


class BrokerContext:
    """Starts a broker when entered and stops it when left, by `with` and by `async with`."""

    def __init__(self, data: str | None, port: int) -> None:
        self._data = data
        self._port = port
        self._running: RunningBroker | None = None

    def __enter__(self) -> RunningBroker:
        start: Starter = _parts.load("embed")
        self._running = start(data=self._data, port=self._port)
        return self._running

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    async def __aenter__(self) -> RunningBroker:
        try:
            return await _in_thread(self.__enter__)
        except BaseException:
            # Cancelled while it started: nobody else will stop what runs by now.
            self.__exit__(None, None, None)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _in_thread(lambda: self.__exit__(kind, error, trace))


def broker(data: str | None = None, *, port: int = 0) -> BrokerContext:
    """Run a broker for the length of a `with` or `async with` block.

    Args:
        data: The data directory; None keeps everything in memory.
        port: The port to listen on, on the loopback interface; 0 takes a free one.

    Raises:
        PenstockError: the broker could not start, or none is installed.
    """
    return BrokerContext(data, port)


async def _in_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking function to its end in a thread of the async library that runs now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        # Not abandoned on cancellation: a half started broker would go on running.
        with trio.CancelScope(shield=True):
            return await trio.to_thread.run_sync(function)
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
