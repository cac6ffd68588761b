"""Which clock a client lives by: the machine's, or one that a test has put in its place.

A test's broker announces its clock here under its own address, and every client of this process
that names that address among its servers takes it: application code under test opens its clients
as ever. Without such an announcement drivers read the machine's clocks themselves.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from penstock.errors import BadRequest

if TYPE_CHECKING:
    from penstock._core.client import ClientCore

CLOCKS_MAX: Final = 1024

Address = tuple[str, int]
Held = dict[str, set[int]]
"""Own address of a connection -> correlation ids of the requests that wait on it for a reply."""
UNSETTLED: Final = -1
"""Stands among the correlation ids of a connection that is not ready yet."""


class Driver(Protocol):
    """What a clock wants of a client's driver; both methods are called from other threads."""

    def wake(self) -> None:
        """Take a turn soon: a deadline has passed."""

    def rest(self) -> Held | None:
        """Take a turn, let the application go on until it waits, and tell what is under way.

        None: the client has ended, or its event loop stands still.
        """


class Clock(Protocol):
    """A clock that a broker and its clients share."""

    def monotonic(self) -> float:
        """Seconds from some fixed point."""

    def wall_us(self) -> int:
        """Microseconds since 1970."""

    def attach(self, driver: Driver) -> None:
        """A client was opened."""

    def detach(self, driver: Driver) -> None:
        """A client was closed; harmless when it is not attached."""

    def alarm(self, driver: Driver, when: float) -> None:
        """Have the driver woken at a monotonic time; it replaces the one asked for before."""


def machine_wall_us() -> int:
    """Microseconds since 1970 by the machine's clock."""
    return time.time_ns() // 1000


_clocks: dict[Address, Clock] = {}


def announce(address: Address, clock: Clock) -> None:
    """Have clients of an address live by a clock.

    Raises:
        BadRequest: too many clocks are announced.
    """
    if len(_clocks) >= CLOCKS_MAX:
        raise BadRequest(
            f"at most {CLOCKS_MAX} clocks at a time; stop the brokers of earlier tests"
        )
    _clocks[address] = clock


def withdraw(address: Address) -> None:
    """Let new clients of an address live by the machine's clocks again."""
    _clocks.pop(address, None)


def clock_of(servers: Sequence[Address]) -> Clock | None:
    """The clock that was announced for one of these addresses; None: the machine's."""
    if not _clocks:
        return None
    return next((_clocks[address] for address in servers if address in _clocks), None)


def held(core: ClientCore, socket_of: Callable[[Any], socket.socket | None]) -> Held:
    """What waits on each connection of a client, for `Driver.rest`."""
    found: Held = {}
    for wire in core.pool.wires:
        sock = socket_of(wire.handle)
        ready = wire.ready and sock is not None
        found[_name(sock)] = set(wire.calls) if ready else {UNSETTLED}
    return found


def _name(sock: socket.socket | None) -> str:
    if sock is None or sock.fileno() < 0:
        return ""
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"
