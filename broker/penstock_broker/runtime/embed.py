"""A whole broker inside this process, in a thread of its own: for tests and small programs."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import trio

from penstock.errors import PenstockError, TimedOut
from penstock_broker.runtime.broker import Broker, BrokerOptions
from penstock_broker.runtime.clock import Clock
from penstock_broker.runtime.resting import come_to_rest
from penstock_broker.simulation.memory_files import MemoryFiles

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 15.0

log = logging.getLogger("penstock.broker")


class EmbeddedBroker:
    """A running broker; `address` is where clients connect. Stop it, or use it in a `with`."""

    def __init__(self, options: BrokerOptions) -> None:
        self.address = ""
        self._options = options
        if options.data is None:  # so that it finds its bytes again when it is started again
            self._options = replace(options, files=MemoryFiles())
        self._broker: Broker | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Start the thread and wait until the broker listens; once more after its end, too.

        Raises:
            PenstockError: the broker could not start.
        """
        assert self._thread is None or not self._thread.is_alive(), "it runs already"
        if self._thread is not None:  # again, where others look for it
            port = int(self.address.rpartition(":")[2])
            self._options = replace(self._options, port=port, listener=None)
        self._error = None
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="penstock-broker", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS_MAX):
            raise TimedOut("the embedded broker did not start in time")
        if self._error is not None:
            raise _cause(self._error)
        return self

    def stop(self) -> None:
        """End the broker in order; harmless when it has ended already."""
        if self._broker is not None:
            self._end(self._broker.stop)

    def kill(self) -> None:
        """End the broker as a killed process would; it may be started again."""
        if self._broker is not None:
            self._end(self._broker.kill)

    def _end(self, order: Callable[[], None]) -> None:
        if self._thread is None:
            return
        if self._token is not None and self._thread.is_alive():
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(order)
        self._thread.join(STOP_SECONDS_MAX)
        if self._thread.is_alive():
            raise TimedOut("the embedded broker did not stop in time")

    def rest(self, *, thorough: bool) -> tuple[float, Mapping[str, set[int]]]:
        """Carry out all that is due and wait until nothing is under way; for a clock of a test.

        Returns:
            Seconds until something else is due, and the correlation ids of the requests that wait
            for something to happen, by their client's address.
        """
        assert self._token is not None
        assert self._broker is not None
        reactor = self._broker.reactor
        return trio.from_thread.run(come_to_rest, reactor, thorough, trio_token=self._token)

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
            if self._started.is_set():  # else it is told by `start`
                log.error("the embedded broker failed", exc_info=error)
            self._error = error
        finally:
            files = self._options.files
            if isinstance(files, MemoryFiles):  # else they live until garbage is collected
                self._options = replace(self._options, files=files.handed_over())
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


def start(
    *,
    data: str | None = None,
    port: int = 0,
    clock: Clock | None = None,
    listener: socket.socket | None = None,
    join: Sequence[str] = (),
    host_label: str | None = None,
) -> EmbeddedBroker:
    """Start a broker in this process, in memory unless a data directory is given.

    It goes by the machine's clocks unless another one is given, and takes a port of its own unless
    it gets a bound socket. The other options are those of `penstock serve`.
    """
    options = BrokerOptions(
        data=data, port=port, clock=clock, listener=listener, join=join, host_label=host_label
    )
    return EmbeddedBroker(options).start()
