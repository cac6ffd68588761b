"""One connection as the core sees it: every call is told once how it ended."""

from __future__ import annotations

from math import inf

import pytest

from penstock._core.wire import Wire, WireState
from penstock.errors import PenstockError, RemoteProtocolError
from penstock.protocol import frames


class Recorder:
    """A call that notes what it is told; its reply can be beyond decoding."""

    def __init__(self, malformed: bool = False) -> None:
        self.deadline = inf
        self.malformed = malformed
        self.told: list[str] = []

    def answered(self, buffer: bytearray, frame: frames.Frame, owned: bool) -> None:
        if self.malformed:
            raise RemoteProtocolError("the reply is malformed")
        self.told.append("answered")

    def refused(self, error: PenstockError) -> None:
        self.told.append("refused")

    def lost(self, error: PenstockError) -> None:
        self.told.append("lost")

    def expired(self) -> None:
        self.told.append("expired")


def receive(wire: Wire, data: bytes) -> None:
    wire.space()[: len(data)] = data
    wire.received(len(data), 0.0)


@pytest.fixture
def wire() -> Wire:
    made = Wire("host", 7400, lambda _: None, lambda _: None)
    made.opened()
    made.state = WireState.READY
    return made


def test_a_reply_reaches_its_call(wire: Wire) -> None:
    call = Recorder()
    correlation = wire.expect(call)
    receive(wire, frames.frame(2, frames.FLAG_RESPONSE, correlation))
    assert call.told == ["answered"]


def test_a_call_whose_reply_is_malformed_is_told_that_the_connection_is_lost(wire: Wire) -> None:
    broken, other = Recorder(malformed=True), Recorder()
    correlation = wire.expect(broken)
    wire.expect(other)
    receive(wire, frames.frame(2, frames.FLAG_RESPONSE, correlation))
    assert broken.told == ["lost"]
    assert other.told == ["lost"]


def test_a_call_whose_error_is_malformed_is_told_too(wire: Wire) -> None:
    call = Recorder()
    flags = frames.FLAG_RESPONSE | frames.FLAG_ERROR
    receive(wire, frames.frame(2, flags, wire.expect(call), b"\xff\xff"))
    assert call.told == ["lost"]


def test_a_request_from_a_broker_ends_the_connection(wire: Wire) -> None:
    call = Recorder()
    receive(wire, frames.frame(2, 0, wire.expect(call)))
    assert call.told == ["lost"]
    assert wire.state is WireState.LOST
