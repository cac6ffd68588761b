"""Outgoing connections: names to addresses in a thread, connects without waiting.

Each dial ends once, in a connected socket or in a failure. Its descriptor lies in the reactor's
epoll while the connect is under way; names are looked up in a thread that is started for the first
of them, since a look-up may block for seconds.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from penstock_broker.node.link import Dial
from penstock_broker.runtime.worker import Worker

CONNECT_SECONDS_MAX: Final = 2.0
LOOKUPS_MAX: Final = 64
UNANSWERED_MS_MAX: Final = 10_000
"""How long sent bytes may stay without the other kernel's word before the connection is over."""

_TCP_USER_TIMEOUT: Final = 18

Outcome = Callable[[Dial, socket.socket | None], None]


class Attempt(NamedTuple):
    """A connect that is under way."""

    dial: Dial
    sock: socket.socket
    until: float


class Lookup:
    """Finds the address behind a name; a job for a thread."""

    def __init__(self, dial: Dial, host: str, port: int) -> None:
        self.dial = dial
        self.found: tuple[socket.AddressFamily, tuple[str, int]] | None = None
        self._place = (host, port)

    def run(self) -> None:
        try:
            known = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
        except OSError:
            return
        family, _, _, _, place = known[0]
        self.found = (family, (str(place[0]), int(place[1])))


class Dialing:
    """The dials under way; `outcome` is called with each one's end."""

    def __init__(self, epoll: select.epoll, outcome: Outcome) -> None:
        self._epoll = epoll
        self._outcome = outcome
        self._attempts: dict[int, Attempt] = {}
        self._resolver: Worker | None = None

    def begin(self, dial: Dial, now: float) -> None:
        """Start to connect."""
        host, _, port = dial.address.rpartition(":")
        host = host.strip("[]")
        if not port.isdigit() or int(port) > 65_535 or not host:
            self._outcome(dial, None)
            return
        family = _family(host)
        if family is not None:
            self._connect(dial, family, (host, int(port)), now)
        else:
            self._look_up(Lookup(dial, host, int(port)))

    def _look_up(self, lookup: Lookup) -> None:
        if self._resolver is None:
            self._resolver = Worker("penstock-resolver")
            self._epoll.register(self._resolver.eventfd, select.EPOLLIN)
        if self._resolver.busy >= LOOKUPS_MAX:
            self._outcome(lookup.dial, None)
        else:
            self._resolver.submit(lookup)

    def _connect(
        self, dial: Dial, family: socket.AddressFamily, place: tuple[str, int], now: float
    ) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            self._outcome(dial, None)
            return
        sock.setblocking(False)
        if sock.connect_ex(place) not in (0, errno.EINPROGRESS):
            sock.close()
            self._outcome(dial, None)
            return
        self._attempts[sock.fileno()] = Attempt(dial, sock, now + CONNECT_SECONDS_MAX)
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def ready(self, fd: int, now: float) -> None:
        """Something happened to a descriptor that may be one of ours."""
        attempt = self._attempts.pop(fd, None)
        if attempt is not None:
            self._epoll.unregister(fd)
            self._finish(attempt)
        elif self._resolver is not None and fd == self._resolver.eventfd:
            for lookup, _ in self._resolver.finished():
                assert isinstance(lookup, Lookup), "the resolver gets nothing else"
                if lookup.found is None:
                    self._outcome(lookup.dial, None)
                else:
                    self._connect(lookup.dial, *lookup.found, now)

    def _finish(self, attempt: Attempt) -> None:
        dial, sock, _ = attempt
        if not _connected(sock):
            sock.close()
            self._outcome(dial, None)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, UNANSWERED_MS_MAX)
        self._outcome(dial, sock)

    def give_up_late(self, now: float) -> None:
        """End the connects that take too long."""
        for fd in [fd for fd, attempt in self._attempts.items() if attempt.until < now]:
            attempt = self._attempts.pop(fd)
            self._epoll.unregister(fd)
            attempt.sock.close()
            self._outcome(attempt.dial, None)

    def close(self) -> None:
        """Drop everything that is under way."""
        for attempt in self._attempts.values():
            attempt.sock.close()
        self._attempts.clear()
        if self._resolver is not None:
            self._resolver.close(0.0)


def _family(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address; None: it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


def _connected(sock: socket.socket) -> bool:
    """Whether it is, and not to itself: on loopback a connect may meet its own port."""
    try:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        return bool(sock.getpeername() != sock.getsockname())
    except OSError:
        return False
