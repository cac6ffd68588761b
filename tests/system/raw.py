"""A client that says whatever a test wants, byte by byte."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Final, Self

from penstock.protocol.codec import encode_message
from penstock.protocol.frames import FLAG_ERROR, FRAME_HEADER_BYTES, fetch_request
from penstock.protocol.messages import PROTOCOL_MAGIC, VERSION_MAX, VERSION_MIN, Hello

SECONDS_MAX: Final = 10.0
HELLO: Final = encode_message(
    Hello(magic=PROTOCOL_MAGIC, version_min=VERSION_MIN, version_max=VERSION_MAX, client="raw"), 1
)


class Raw:
    """A blocking socket to a broker, with the frames that come back."""

    def __init__(self, address: str, *, hello: bool = True, receive_bytes: int = 0) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.socket()
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(SECONDS_MAX)
        self.sock.connect((host, int(port)))
        if hello:
            self.send(HELLO)
            self.frame()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: type, flags, correlation, body; EOFError when there is none."""
        head = self.read(FRAME_HEADER_BYTES)
        length, type_, flags, _, correlation, _ = struct.unpack("<IBBHII", head)
        return type_, flags, correlation, self.read(length - FRAME_HEADER_BYTES)

    def read(self, count: int) -> bytes:
        """Exactly so many bytes; EOFError at the end of the stream."""
        parts = []
        while count:
            part = self.sock.recv(min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def fetch(self, group: int, offset: int, max_bytes: int = 1 << 20, wait_ms: int = 0) -> bytes:
        """Fetch once; the body of the reply."""
        self.send(fetch_request(7, group, offset, max_bytes, 1, wait_ms))
        _, flags, _, body = self.frame()
        assert not flags & FLAG_ERROR, body
        return body

    def ends(self) -> bool:
        """Whether the broker closes the connection, whatever it says before."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
