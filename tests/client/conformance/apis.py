"""One way to write a test for every driver: coroutines, run by trio, asyncio, uvloop or by nobody.

The blocking client is dressed up with `async` methods that never suspend, so that the very same
test drives it; what runs together elsewhere as tasks runs there in threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import trio

import penstock
from penstock import sync

Thunk = Callable[[], Awaitable[Any]]


class Api:
    """What a conformance test may use."""

    name: str

    def run(self, test: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
        """Run a test to its end."""
        raise AssertionError("each API has its own")

    def connect(self, address: str, **options: Any) -> Any:
        """A client that is not open yet."""
        return penstock.connect(address, **options)

    def handling(self, record: Any) -> Any:
        """A record of a shared group as an async context."""
        return record

    async def together(self, *thunks: Thunk) -> None:
        """Run several things at once and wait for all."""
        raise AssertionError("each API has its own")

    async def cancelled_after(self, seconds: float, thunk: Thunk) -> bool:
        """Run something and cancel it after a while; whether it had to be cancelled."""
        raise AssertionError("each API has its own")

    async def sleep(self, seconds: float) -> None:
        """Let real time pass."""
        raise AssertionError("each API has its own")


class TrioApi(Api):
    """trio."""

    name = "trio"

    def run(self, test: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
        trio.run(test, self)

    async def together(self, *thunks: Thunk) -> None:
        async with trio.open_nursery() as nursery:
            for thunk in thunks:
                nursery.start_soon(thunk)

    async def cancelled_after(self, seconds: float, thunk: Thunk) -> bool:
        with trio.move_on_after(seconds) as scope:
            await thunk()
        return scope.cancelled_caught

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class AsyncioApi(Api):
    """asyncio with its own event loop."""

    name = "asyncio"

    def run(self, test: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory()) as runner:
            runner.run(test(self))

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Makes the loop."""
        return None

    async def together(self, *thunks: Thunk) -> None:
        async with asyncio.TaskGroup() as group:
            for thunk in thunks:
                group.create_task(_coroutine(thunk))

    async def cancelled_after(self, seconds: float, thunk: Thunk) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await thunk()
        except TimeoutError:
            return True
        return False

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class UvloopApi(AsyncioApi):
    """asyncio with uvloop."""

    name = "uvloop"

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        import uvloop

        return uvloop.new_event_loop


class BlockingApi(Api):
    """The blocking client; tasks are threads."""

    name = "blocking"

    def run(self, test: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
        run_without_suspending(test(self))

    def connect(self, address: str, **options: Any) -> Any:
        return Dressed(sync.connect(address, **options))

    def handling(self, record: Any) -> Any:
        return Handled(record)

    async def together(self, *thunks: Thunk) -> None:
        errors: list[BaseException] = []

        def work(thunk: Thunk) -> None:
            try:
                run_without_suspending(_coroutine(thunk))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(thunk,)) for thunk in thunks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
        if errors:
            raise errors[0]

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop here


class Awaited:
    """A value that is there already and may be awaited or used as a context."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        return self.value
        yield


class Handled:
    """A blocking context as an async one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aenter__(self) -> Any:
        return self.inner.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        return self.inner.__exit__(kind, error, trace)


class Dressed:
    """A blocking object whose methods may be awaited."""

    PLAIN = frozenset(
        {
            "subscribe",
            "publish_nowait",
            "position",
            "assignment",
            "lag",
            "pause",
            "resume",
            "ack_many",
        }
    )

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aenter__(self) -> Dressed:
        self.inner.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.inner.__exit__(kind, error, trace)

    def __aiter__(self) -> Dressed:
        iter(self.inner)
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    def __await__(self) -> Any:
        return self.inner.wait()
        yield

    def __repr__(self) -> str:
        return repr(self.inner)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name == "admin":
            return Dressed(found)
        if not callable(found):
            return found
        return self._dress(name, found)

    def _dress(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in ("subscribe", "publish_nowait", "batches"):
                return Dressed(method(*args, **kwargs))
            if name in self.PLAIN:
                return method(*args, **kwargs)
            return self._later(method, args, kwargs)

        return call

    @staticmethod
    async def _later(method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return method(*args, **kwargs)


async def _coroutine(thunk: Thunk) -> None:
    await thunk()


def run_without_suspending(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that never waits for an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a blocking method tried to suspend")


APIS: dict[str, Api] = {
    api.name: api for api in (TrioApi(), AsyncioApi(), UvloopApi(), BlockingApi())
}
ASYNC_APIS = {name: api for name, api in APIS.items() if name != "blocking"}
