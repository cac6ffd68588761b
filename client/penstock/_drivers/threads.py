"""What threads that share a blocking client use to wake each other."""

from __future__ import annotations

import socket
import threading


class Waiter:
    """A thread that waits for another one to pump."""

    __slots__ = ("_lock", "woken")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.woken = False

    def wake(self) -> None:
        """Let the thread look again."""
        if not self.woken:
            self.woken = True
            self._lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait to be woken."""
        self._lock.acquire(timeout=seconds)


class Alarm:
    """Wakes a thread that sits in `select`."""

    __slots__ = ("_in", "socket")

    def __init__(self) -> None:
        self._in, self.socket = socket.socketpair()
        self._in.setblocking(False)
        self.socket.setblocking(False)

    def ring(self) -> None:
        """Make the socket readable."""
        try:
            self._in.send(b"\0")
        except OSError:
            return  # full, and so ringing, or closed

    def silence(self) -> None:
        """Make the socket unreadable again."""
        try:
            self.socket.recv(4096)
        except OSError:
            return  # somebody else did, or it is closed

    def close(self) -> None:
        """Close both ends."""
        self._in.close()
        self.socket.close()
