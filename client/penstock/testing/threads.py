"""Runs what blocks from async and from blocking code alike.

Invariant: what was begun is carried to its end, also when the async caller is cancelled: a half
started broker would go on running, a half moved clock would leave a test in between two times.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from math import inf
from types import TracebackType
from typing import Generic, TypeVar, cast

Result = TypeVar("Result")


class Done(Generic[Result]):
    """What was done in blocking code; awaiting it gives the result at once."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def __await__(self) -> Generator[None, None, Result]:
        return self._result
        yield


class Running(ABC, Generic[Result]):
    """Something that is started when entered and stopped when left; both block.

    It is a context manager of both kinds, `with` and `async with`: async code does it in a thread.
    """

    @abstractmethod
    def _start(self) -> Result:
        """Start it."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop it, if it was started."""

    def __enter__(self) -> Result:
        return self._start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    async def __aenter__(self) -> Result:
        try:
            return await in_thread(self._start)
        except BaseException:
            # Cancelled while it started: nobody else will stop what runs by now.
            self._stop()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await in_thread(self._stop)


def carry_out(function: Callable[[], Result]) -> Awaitable[Result]:
    """Do it now in blocking code; in async code do it, in a thread, when this is awaited."""
    return in_thread(function) if _in_async_code() else Done(function())


async def in_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking function to its end in a thread of the async library that runs now."""
    if not _in_asyncio():
        return await _in_trio_thread(function)
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _in_trio_thread(function: Callable[[], Result]) -> Result:
    import trio
    from trio.testing import wait_all_tasks_blocked

    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            # Trio's MockClock takes tasks that wait for a thread for idle, and would jump to the
            # next deadline of the test. It does not while somebody waits like this.
            nursery.start_soon(wait_all_tasks_blocked, inf)
            result, error = await trio.to_thread.run_sync(_attempt, function)
            nursery.cancel_scope.cancel()
    if error is not None:  # outside the nursery, which would wrap it
        raise error
    return cast("Result", result)


def _attempt(function: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    try:
        return function(), None
    except BaseException as error:
        return None, error


def _in_async_code() -> bool:
    trio = sys.modules.get("trio")
    return _in_asyncio() or (trio is not None and trio.lowlevel.in_trio_run())


def _in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
