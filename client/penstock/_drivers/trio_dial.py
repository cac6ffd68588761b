"""Connecting a raw socket under trio, which offers it only for its own streams."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import trio


async def dial(host: str, port: int) -> socket.socket:
    """Connect a non-blocking socket to the first address of a host that answers.

    Raises:
        OSError: none does.
    """
    last: OSError | None = None
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(address)
            await trio.lowlevel.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            last = error
        else:
            return sock
    raise last or OSError(f"{host} has no address")
