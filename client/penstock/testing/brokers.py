"""Starts and stops a broker inside this process, from blocking and from async code.

Invariants: the broker listens when `with` begins and has stopped, its thread with it, when `with`
ends. Starting and stopping block for some milliseconds, so async code runs them in a thread.
"""

from __future__ import annotations

from typing import Protocol

from penstock import _parts
from penstock._core.options import parse_address
from penstock._drivers import clocks
from penstock.testing.clock import Resting, VirtualClock
from penstock.testing.threads import Running


class RunningBroker(Resting, Protocol):
    """A broker that listens, until `stop` is called."""

    @property
    def address(self) -> str:
        """Where clients connect: `host:port`."""

    def stop(self) -> None:
        """End the broker and wait until it has ended."""


class Starter(Protocol):
    """What the entry point `embed` names."""

    def __call__(self, *, data: str | None, port: int, clock: VirtualClock | None) -> RunningBroker:
        """Start a broker, by the machine's clock if none is given; return when it listens."""


class BrokerContext(Running[RunningBroker]):
    """Starts a broker when entered and stops it when left, by `with` and by `async with`."""

    def __init__(self, data: str | None, port: int, clock: VirtualClock | None) -> None:
        self._data = data
        self._port = port
        self._clock = clock
        self._running: RunningBroker | None = None

    def _start(self) -> RunningBroker:
        start: Starter = _parts.load("embed")
        self._running = running = start(data=self._data, port=self._port, clock=self._clock)
        if self._clock is not None:
            self._clock.serve(running, running.address)
            clocks.announce(parse_address(running.address), self._clock)
        return running

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if self._clock is not None:
            clocks.withdraw(parse_address(running.address))
            self._clock.serve(None)
        running.stop()


def broker(
    data: str | None = None, *, port: int = 0, clock: VirtualClock | None = None
) -> BrokerContext:
    """Run a broker for the length of a `with` or `async with` block.

    Args:
        data: The data directory; None keeps everything in memory.
        port: The port to listen on, on the loopback interface; 0 takes a free one.
        clock: A clock of the test's own, for the broker and for all clients of it that are opened
            in this process while it runs; None takes the machine's.

    Raises:
        PenstockError: the broker could not start, or none is installed.
    """
    return BrokerContext(data, port, clock)
