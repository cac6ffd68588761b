"""A broker that is full of clients still takes the connections of other brokers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from penstock.errors import Throttled
from penstock.protocol.codec import decode_error, encode_message
from penstock.protocol.frames import FRAME_HEADER_BYTES
from penstock.protocol.messages import Hello
from penstock_broker.node.node import Node
from penstock_broker.node.peers.hello import MAGIC, PeerHello
from penstock_broker.runtime.clock import SystemClock
from penstock_broker.runtime.reactor import RESERVED_CONNECTIONS, Reactor
from tests.node.cluster import Cluster
from tests.node.harness import Harness

CLIENT = encode_message(Hello(magic="penstock", version_min=1, version_max=1), 7)
LIMIT = 2


class Full:
    """A reactor with as many connections as clients may have."""

    def __init__(self, node: Node, stack: ExitStack) -> None:
        self.reactor = Reactor(node, SystemClock(), LIMIT)
        self._stack = stack
        stack.callback(self.reactor.close)
        for _ in range(LIMIT):
            self.connect()

    def connect(self) -> socket.socket:
        """One more."""
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        ours.settimeout(5.0)
        self.reactor.add(theirs, "somebody")
        return ours

    def ask(self, data: bytes) -> bytes:
        """What comes back for the first frame of one more connection."""
        sock = self.connect()
        sock.sendall(data)
        self.reactor.round()
        return sock.recv(1 << 16)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_another_broker_gets_a_connection_and_a_client_does_not(stack: ExitStack) -> None:
    node = Cluster(2).members[1].node
    full = Full(node, stack)
    peer = PeerHello(
        magic=MAGIC, version_min=1, version_max=1, cluster="cluster", uuid="ab" * 16, node=9,
        address="n9:7400", host="h", channel=0, to_node=1,
    )  # fmt: skip
    assert full.ask(encode_message(peer, 1))
    assert 9 in node.peers.all()
    refusal = decode_error(full.ask(CLIENT)[FRAME_HEADER_BYTES:])
    assert isinstance(refusal, Throttled)
    assert len(full.reactor.connections) == LIMIT + 1


def test_what_is_kept_for_brokers_has_an_end(stack: ExitStack) -> None:
    full = Full(Cluster(2).members[1].node, stack)
    for _ in range(RESERVED_CONNECTIONS):
        full.connect()
    assert full.connect().recv(1) == b""
    assert len(full.reactor.connections) == LIMIT + RESERVED_CONNECTIONS


def test_a_broker_that_is_alone_keeps_none(stack: ExitStack) -> None:
    full = Full(Harness().node, stack)
    assert full.connect().recv(1) == b""
