"""One socket: frames in however they are cut, buffers out however slowly they are taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from penstock.errors import RemoteProtocolError, Throttled
from penstock.protocol import frames
from penstock.protocol.codec import encode_message
from penstock.protocol.messages import Hello, Metadata
from penstock_broker.node.receiving import REQUESTS_PER_READ_MAX
from penstock_broker.node.session import Session
from penstock_broker.runtime import connection as module
from penstock_broker.runtime.connection import Connection, Intake
from tests.node.harness import Harness

SCRATCH = memoryview(bytearray(1 << 16))


class Pair:
    """A connection of the node and the client's end of its socket."""

    def __init__(self) -> None:
        self.harness = Harness()
        (self.group,) = self.harness.topic()
        self.peer, sock = socket.socketpair()
        sock.setblocking(False)
        self.session = Session(99, 99, "test", 0.0)
        self.intake = Intake()
        self.connection = Connection(sock, self.session, self.harness.node, self.intake)
        self.harness.node.connected(self.session)

    def hello(self) -> None:
        self.peer.sendall(encode_message(Hello(magic="penstock", version_min=1, version_max=1), 1))
        self.connection.receive(SCRATCH)
        self.session.out.clear()

    def receive(self) -> None:
        """Read until there is nothing more."""
        while True:
            try:
                self.connection.receive(SCRATCH)
            except BlockingIOError:
                return

    def published(self) -> int:
        self.harness.pump()
        return self.harness.node.partitions[self.group].log.end_offset

    def close(self) -> None:
        self.peer.close()
        self.connection.sock.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def publish(group: int, size: int) -> bytes:
    from penstock.protocol.records import encode_batch

    batch = encode_batch([b"x" * size], codec=0, base_ts_us=1)
    return frames.publish_head(7, group, 2, 0, len(batch)) + bytes(batch)


def test_frames_may_arrive_byte_by_byte(pair: Pair) -> None:
    pair.hello()
    for byte in publish(pair.group, 10):
        pair.peer.sendall(bytes([byte]))
        pair.receive()
    assert pair.published() == 1


def test_many_frames_may_arrive_together_with_a_cut_one(pair: Pair) -> None:
    pair.hello()
    data = publish(pair.group, 10) * 5
    pair.peer.sendall(data[:-3])
    pair.receive()
    assert pair.published() == 4
    pair.peer.sendall(data[-3:])
    pair.receive()
    assert pair.published() == 5


def test_a_frame_larger_than_the_scratch_is_received_into_its_own_buffer(pair: Pair) -> None:
    pair.hello()
    data = publish(pair.group, 300_000) + publish(pair.group, 10)
    sent = 0
    pair.peer.setblocking(False)
    while sent < len(data):
        sent += pair.peer.send(data[sent : sent + 50_000])
        pair.receive()
    assert pair.published() == 2
    assert pair.intake.promised_bytes == 0


def test_the_end_of_the_stream_is_told(pair: Pair) -> None:
    pair.peer.close()
    with pytest.raises(EOFError):
        pair.connection.receive(SCRATCH)


def test_rubbish_is_no_frame(pair: Pair) -> None:
    pair.hello()
    pair.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(RemoteProtocolError):
        pair.connection.receive(SCRATCH)


def test_an_endless_first_frame_is_refused_from_its_header(pair: Pair) -> None:
    pair.peer.sendall(frames.FRAME_HEADER.pack(1 << 20, 1, 0, 0, 1, 0))
    with pytest.raises(RemoteProtocolError):
        pair.connection.receive(SCRATCH)


def test_unfinished_large_frames_have_a_limit_together(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMISED_BYTES_MAX", 100_000)
    pair.hello()
    pair.peer.sendall(publish(pair.group, 200_000)[:1000])
    with pytest.raises(Throttled):
        pair.connection.receive(SCRATCH)


def test_a_frame_that_takes_too_long_is_late(pair: Pair) -> None:
    pair.hello()
    pair.peer.sendall(publish(pair.group, 200_000)[:1000])
    pair.receive()
    now = pair.harness.clock
    assert pair.intake.late(now + 29) == []
    assert pair.intake.late(now + 31) == [pair.connection]
    pair.connection.forget_partial()
    assert pair.intake.late(now + 31) == []


def test_what_the_socket_does_not_take_is_kept_and_sent_later(pair: Pair) -> None:
    buffers = [bytes([number]) * 100_000 for number in range(30)]
    kept = pair.connection.send(list(buffers))
    assert kept > 0
    assert pair.connection.has_unsent
    got = bytearray()
    while len(got) < 3_000_000:
        got += pair.peer.recv(1 << 20)
        pair.connection.send([])
    assert got == b"".join(buffers)
    assert not pair.connection.has_unsent


def test_more_buffers_than_one_call_takes_are_sent_in_order(pair: Pair) -> None:
    buffers = [b"%05d" % number for number in range(3000)]
    assert pair.connection.send(list(buffers)) == 0
    got = b""
    while len(got) < 15_000:
        got += pair.peer.recv(1 << 16)
    assert got == b"".join(buffers)


def test_new_output_goes_behind_what_is_kept(pair: Pair) -> None:
    first = [b"a" * 1_000_000]
    pair.connection.send(first)
    pair.connection.send([b"end"])
    got = b""
    while not got.endswith(b"end"):
        got += pair.peer.recv(1 << 20)
        pair.connection.send([])
    assert len(got) == 1_000_003


def test_requests_that_were_put_off_come_before_what_is_read_next(pair: Pair) -> None:
    pair.hello()
    request = encode_message(Metadata(), 5)
    pair.peer.sendall(request * (REQUESTS_PER_READ_MAX + 3))
    pair.connection.receive(SCRATCH)
    assert pair.connection.put_off
    pair.connection.receive(SCRATCH)  # reads nothing: the socket is empty
    assert not pair.connection.put_off
    assert len(pair.session.out) == REQUESTS_PER_READ_MAX + 3
    with pytest.raises(BlockingIOError):
        pair.connection.receive(SCRATCH)


def test_a_peer_that_takes_nothing_for_long_is_stuck(pair: Pair) -> None:
    assert pair.connection.send([bytes(8 << 20)])
    now = pair.harness.node.clock
    assert not pair.connection.stuck(now + module.SEND_SECONDS_MAX)
    assert pair.connection.stuck(now + module.SEND_SECONDS_MAX + 1)
    pair.peer.recv(8 << 20)
    pair.harness.node.clock += 100
    pair.connection.send([])
    assert not pair.connection.stuck(pair.harness.node.clock + 1)


def test_a_large_request_takes_the_room_of_one_that_has_had_its_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMISED_BYTES_MAX", 100_000)
    pair.hello()
    pair.peer.sendall(publish(pair.group, 60_000)[:100])
    pair.receive()
    slow, clock = pair.connection, pair.harness.node.clock
    with pytest.raises(Throttled):
        pair.intake.begin(slow, 60_000)
    other = Pair()
    other.harness.node.clock = clock + module.CROWDED_SECONDS_MAX
    pair.intake.begin(other.connection, 60_000)
    assert slow.session.closing
    assert list(pair.intake.waiting) == [other.connection]
    other.close()
