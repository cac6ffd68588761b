"""Non-blocking sending on a raw socket, shared by the trio and the blocking driver."""

from __future__ import annotations

import socket
from typing import Final

from penstock.protocol.batch import Buffer

IOV_MAX: Final = 512
JOIN_BYTES_MAX: Final = 64 * 1024
"""Below this size joining buffers costs less than handing the kernel a list."""


class Outbox:
    """A non-blocking socket and the bytes that it has not taken yet."""

    __slots__ = ("_unsent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._unsent: list[Buffer] = []

    def send(self, buffers: list[Buffer]) -> int:
        """Send what goes at once, keep the rest in order; returns how many bytes are kept.

        Raises:
            OSError: the connection broke.
        """
        unsent = self._unsent + buffers if self._unsent else buffers
        try:
            while unsent:
                part = unsent[:IOV_MAX]
                total = sum(map(len, part))
                if len(part) == 1:
                    sent = self.sock.send(part[0])
                elif total <= JOIN_BYTES_MAX:
                    sent = self.sock.send(b"".join(part))
                else:
                    sent = self.sock.sendmsg(part)
                unsent = unsent[len(part) :] if sent == total else _after(unsent, sent)
                if sent < total:
                    break
        except BlockingIOError:
            pass
        self._unsent = unsent
        return sum(map(len, unsent))


def _after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[number + 1 :]]
        sent -= len(buffer)
    return []
