"""A whole broker inside this process, in a thread of its own: for tests and small programs."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Final, Self

import trio

from penstock.errors import PenstockError, TimedOut
from penstock_broker.runtime.broker import Broker, BrokerOptions

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 15.0


class EmbeddedBroker:
    """A running broker; `address` is where clients connect. Stop it, or use it in a `with`."""

    def __init__(self, options: BrokerOptions) -> None:
        self.address = ""
        self._broker: Broker | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._options = options
        self._thread = threading.Thread(target=self._run, name="penstock-broker", daemon=True)

    def start(self) -> Self:
        """Start the thread and wait until the broker listens.

        Raises:
            PenstockError: the broker could not start.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS_MAX):
            raise TimedOut("the embedded broker did not start in time")
        if self._error is not None:
            raise _cause(self._error)
        return self

    def stop(self) -> None:
        """End the broker in order; harmless when it has ended already."""
        if self._token is not None and self._thread.is_alive() and self._broker is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._broker.stop)
        self._thread.join(STOP_SECONDS_MAX)
        if self._thread.is_alive():
            raise TimedOut("the embedded broker did not stop in time")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._broker = Broker(self._options)
        async with trio.open_nursery() as nursery:
            self.address = await nursery.start(self._broker.run)
            self._started.set()


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, PenstockError) else RuntimeError(f"broker failed: {error!r}")


def start(*, data: str | None = None, port: int = 0) -> EmbeddedBroker:
    """Start a broker in this process, in memory unless a data directory is given."""
    return EmbeddedBroker(BrokerOptions(data=data, port=port)).start()
