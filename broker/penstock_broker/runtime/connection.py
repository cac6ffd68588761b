"""One client socket as the reactor sees it: reading frames in, writing buffers out, never waiting.

Small reads go through the reactor's one scratch buffer; a frame that is larger than what has
arrived gets a buffer of its own and is received straight into it, so its bytes are copied once.
"""

from __future__ import annotations

import socket
from typing import Final

from penstock.errors import Throttled
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import FRAME_HEADER_BYTES, HELLO_BYTES_MAX
from penstock_broker.node.node import Node
from penstock_broker.node.receiving import PUT_OFF
from penstock_broker.node.session import Session

IOV_MAX: Final = 1024
JOIN_BYTES_MAX: Final = 64 * 1024
PROMISED_BYTES_MAX: Final = 256 * 1024 * 1024
FRAME_SECONDS_MAX: Final = 30.0
CROWDED_SECONDS_MAX: Final = 1.0
"""How long a large request may take to arrive when others wait for the room that it has."""
SEND_SECONDS_MAX: Final = 60.0
"""A peer that takes nothing of what is sent for so long is disconnected."""


class Intake:
    """The bytes that all connections together have promised in unfinished large frames."""

    __slots__ = ("promised_bytes", "waiting")

    def __init__(self) -> None:
        self.promised_bytes = 0
        self.waiting: dict[Connection, float] = {}
        """Connections with an unfinished large frame, and since when."""

    def begin(self, connection: Connection, length: int) -> None:
        """A large frame has begun.

        Raises:
            Throttled: too many have.
        """
        while self.promised_bytes + length > PROMISED_BYTES_MAX:
            self._make_room(connection.node.clock)
        self.promised_bytes += length
        self.waiting[connection] = connection.node.clock

    def _make_room(self, now: float) -> None:
        """Give up the one that has had the most time; those who come first can't keep others out.

        Raises:
            Throttled: each of them began just now.
        """
        error = Throttled(f"more than {PROMISED_BYTES_MAX} bytes of requests are under way")
        slowest, since = next(iter(self.waiting.items()), (None, now))
        if slowest is None or now - since < CROWDED_SECONDS_MAX:
            raise error
        slowest.forget_partial()
        slowest.node.refuse(slowest.session, error)

    def end(self, connection: Connection, length: int) -> None:
        """It is complete, or its connection is gone."""
        self.promised_bytes -= length
        del self.waiting[connection]

    def late(self, now: float) -> list[Connection]:
        """Connections that take too long over a frame."""
        return [c for c, since in self.waiting.items() if now - since > FRAME_SECONDS_MAX]


class Connection:
    """A non-blocking socket, its session and its unfinished bytes."""

    __slots__ = ("_filled", "_head", "_intake", "_partial", "_sent_at", "_unsent", "node",
                 "put_off", "session", "sock", "watched")  # fmt: skip

    def __init__(self, sock: socket.socket, session: Session, node: Node, intake: Intake) -> None:
        self.sock = sock
        self.session = session
        self.node = node
        self.watched = 0
        self.put_off = False
        """Whole frames are here for which it was too early: `receive` takes them first."""
        self._intake = intake
        self._head = b""
        self._partial: bytearray | None = None
        self._filled = 0
        self._unsent: list[Buffer] = []
        self._sent_at = session.since

    def stuck(self, now: float) -> bool:
        """Whether the peer has taken nothing of what waits for it for too long."""
        return bool(self._unsent) and now - self._sent_at > SEND_SECONDS_MAX

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait for the socket to become writable."""
        return bool(self._unsent)

    def receive(self, scratch: memoryview) -> None:
        """Read once and hand the whole frames to the node; or hand over those put off.

        Raises:
            EOFError: the peer closed its side.
            BlockingIOError: nothing to read.
            ProtocolError: the bytes are no frames of ours.
            Throttled: too many large requests are under way.
            OSError: the connection broke.
        """
        if self._partial is not None:
            self._receive_partial(self._partial, scratch)
            return
        head = self._head
        if head:
            end = len(head)
            scratch[:end] = head
            if not self.put_off:
                end += self._received(self.sock.recv_into(scratch[end:]))
            self._head = b""  # only now: the read may find nothing
            self.put_off = False
        else:
            end = self._received(self.sock.recv_into(scratch))
        self._hand_over(scratch, end)

    def _hand_over(self, scratch: memoryview, end: int) -> None:
        used, unfinished = self.node.receive(self.session, scratch, end, False)
        if used < end:
            self._keep(scratch[used:end], unfinished)

    @staticmethod
    def _received(count: int) -> int:
        if not count:
            raise EOFError
        return count

    def _receive_partial(self, partial: bytearray, scratch: memoryview) -> None:
        missing = len(partial) - self._filled
        into = [memoryview(partial)[self._filled :], scratch]
        count = self._received(self.sock.recvmsg_into(into)[0])
        if count < missing:
            self._filled += count
            return
        self.forget_partial()
        self.node.receive(self.session, memoryview(partial), len(partial), True)
        self._hand_over(scratch, count - missing)

    def _keep(self, rest: memoryview, length: int) -> None:
        if length <= FRAME_HEADER_BYTES + HELLO_BYTES_MAX:
            self._head = bytes(rest)
            self.put_off = length == PUT_OFF
            return
        if self.session.link is None:
            self._intake.begin(self, length)
        self._partial = bytearray(length)
        self._partial[: len(rest)] = rest
        self._filled = len(rest)

    def forget_partial(self) -> None:
        """The unfinished large frame, if any, is complete or given up."""
        if self._partial is not None:
            if self in self._intake.waiting:
                self._intake.end(self, len(self._partial))
            self._partial = None

    def send(self, buffers: list[Buffer]) -> int:
        """Send what the socket takes now, keep the rest; returns how many bytes are kept."""
        unsent = self._unsent
        if unsent:
            unsent.extend(buffers)
        else:
            unsent = buffers
            self._sent_at = self.node.clock
            if len(buffers) == 1:
                data = buffers[0]
                try:
                    sent = self.sock.send(data)
                except BlockingIOError:
                    sent = 0
                if sent == len(data):
                    return 0
                unsent = [memoryview(data)[sent:]]
        while unsent:
            total = sum(map(len, unsent[:IOV_MAX]))
            sent = self._send_some(unsent, total)
            if sent:
                self._sent_at = self.node.clock
            unsent = unsent[IOV_MAX:] if sent == total else _after(unsent, sent)
            if sent < total:
                break
        self._unsent = unsent
        return sum(map(len, unsent))

    def _send_some(self, unsent: list[Buffer], total: int) -> int:
        try:
            if len(unsent) == 1:
                return self.sock.send(unsent[0])
            if total <= JOIN_BYTES_MAX:
                return self.sock.send(b"".join(unsent[:IOV_MAX]))
            return self.sock.sendmsg(unsent[:IOV_MAX])
        except BlockingIOError:
            return 0


def _after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[number + 1 :]]
        sent -= len(buffer)
    return []
