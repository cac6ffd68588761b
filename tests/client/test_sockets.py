"""Sending without waiting: what the socket does not take is kept in order."""

from __future__ import annotations

import random
import select
import socket

from penstock._drivers.sockets import IOV_MAX, Outbox

PATIENCE = 60.0


def test_everything_arrives_in_order_whatever_the_socket_takes() -> None:
    rng = random.Random(5)
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    outbox = Outbox(sender)
    sizes = [0, 1, 100_000, 70_000, *[3] * (IOV_MAX + 5), 1_000_000, *[20_000] * 9]
    buffers = [rng.randbytes(size) for size in sizes]
    kept = 0
    for at in range(0, len(buffers), 7):
        kept = outbox.send(list(buffers[at : at + 7]))
    assert kept > 0
    received = bytearray()
    expected = b"".join(buffers)
    while len(received) < len(expected):
        # Room for more comes with what the kernel confirms, which may be after all was received.
        arrived, room, _ = select.select([receiver], [sender] if kept else [], [], PATIENCE)
        assert arrived or room
        if arrived:
            received += receiver.recv(65536)
        if room:
            kept = outbox.send([])
    assert kept == 0
    assert received == expected
    for each in (listener, sender, receiver):
        each.close()
