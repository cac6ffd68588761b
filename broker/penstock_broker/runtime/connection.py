"""One client socket as the reactor sees it: reading frames in, writing buffers out, never waiting.

Small reads go through the reactor's one scratch buffer; a frame that is larger than what has
arrived gets a buffer of its own and is received straight into it, so its bytes are copied once.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from penstock.protocol.batch import Buffer
from penstock.protocol.frames import (
    FRAME_HEADER_BYTES,
    HELLO_BYTES_MAX,
    REQUEST_BYTES_MAX,
    Frame,
    scan,
)
from penstock_broker.node.session import Session

IOV_MAX: Final = 1024
JOIN_BYTES_MAX: Final = 64 * 1024


class Connection:
    """A non-blocking socket, its session and its unfinished bytes."""

    __slots__ = ("_filled", "_head", "_partial", "_unsent", "session", "sock", "watched")

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self.sock = sock
        self.session = session
        self.watched = 0
        self._head = b""
        self._partial: bytearray | None = None
        self._filled = 0
        self._unsent: list[Buffer] = []

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait for the socket to become writable."""
        return bool(self._unsent)

    def receive(self, scratch: memoryview) -> Iterator[tuple[Buffer, list[Frame], bool]]:
        """Read once and yield (buffer, frames, owned) for each buffer that holds whole frames.

        An owned buffer belongs to its one frame and may be kept; the scratch may not.

        Raises:
            EOFError: the peer closed its side.
            BlockingIOError: nothing to read.
            RemoteProtocolError: the bytes are no frames of ours.
            OSError: the connection broke.
        """
        if self._partial is None:
            head = self._head
            if head:
                scratch[: len(head)] = head
                self._head = b""
            count = self.sock.recv_into(scratch[len(head) :])
            if not count:
                raise EOFError
            yield from self._scan(scratch, len(head) + count)
            return
        yield from self._receive_partial(self._partial, scratch)

    def _receive_partial(
        self, partial: bytearray, scratch: memoryview
    ) -> Iterator[tuple[Buffer, list[Frame], bool]]:
        missing = len(partial) - self._filled
        count = self.sock.recvmsg_into([memoryview(partial)[self._filled :], scratch])[0]
        if not count:
            raise EOFError
        if count < missing:
            self._filled += count
            return
        self._partial = None
        frames, _ = scan(partial, 0, len(partial), REQUEST_BYTES_MAX)
        yield partial, frames, True
        if count > missing:
            yield from self._scan(scratch, count - missing)

    def _scan(self, scratch: memoryview, end: int) -> Iterator[tuple[Buffer, list[Frame], bool]]:
        limit = REQUEST_BYTES_MAX if self.session.ready else HELLO_BYTES_MAX
        frames, unfinished = scan(scratch, 0, end, limit)
        done = frames[-1].end if frames else 0
        if done < end:
            self._keep(scratch[done:end], unfinished)
        if frames:
            yield scratch, frames, False

    def _keep(self, rest: memoryview, length: int) -> None:
        if length <= FRAME_HEADER_BYTES + HELLO_BYTES_MAX:
            self._head = bytes(rest)
            return
        self._partial = bytearray(length)
        self._partial[: len(rest)] = rest
        self._filled = len(rest)

    def send(self, buffers: list[Buffer]) -> int:
        """Send what the socket takes now, keep the rest; returns how many bytes are kept."""
        unsent = self._unsent
        if unsent:
            unsent.extend(buffers)
        else:
            unsent = buffers
        while unsent:
            total = sum(map(len, unsent[:IOV_MAX]))
            try:
                if len(unsent) == 1:
                    sent = self.sock.send(unsent[0])
                elif total <= JOIN_BYTES_MAX:
                    sent = self.sock.send(b"".join(unsent[:IOV_MAX]))
                else:
                    sent = self.sock.sendmsg(unsent[:IOV_MAX])
            except BlockingIOError:
                break
            unsent = unsent[IOV_MAX:] if sent == total else _after(unsent, sent)
            if sent < total:
                break
        self._unsent = unsent
        return sum(map(len, unsent))


def _after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[number + 1 :]]
        sent -= len(buffer)
    return []
