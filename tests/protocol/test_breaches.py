"""What a peer does wrong ends the connection, and nothing else."""

import gc
import tracemalloc
from contextlib import suppress

import pytest

from ops.fuzz.corpus import opened
from penstock.errors import (
    BadRequest,
    LocalProtocolError,
    RemoteProtocolError,
)
from penstock.protocol.connection import Connection, Role, State
from penstock.protocol.conversation import HELLO
from penstock.protocol.events import (
    Failed,
    Fetch,
    Publish,
    Published,
    Request,
)
from penstock.protocol.frames import FETCH, PUBLISH, frame
from penstock.protocol.messages import Metadata
from tests.protocol.bounded import memory_below
from tests.protocol.pair import BATCH, Pair
from tests.protocol.samples import (
    HELLO as GREETING,
)
from tests.protocol.samples import (
    client_events,
)

FIRST_FRAMES = {
    "another_request": Request(1, Metadata()),
    "publish": Publish(1, 5, BATCH),
    "fetch": Fetch(1, 5, 0, 100),
}


@pytest.mark.parametrize("name", FIRST_FRAMES)
def test_first_frame_must_be_a_hello(name):
    data = Pair().client.send(FIRST_FRAMES[name].__class__(2, *_rest(FIRST_FRAMES[name])))
    broker = Connection(Role.BROKER)
    broker.receive_data(data)
    with pytest.raises(RemoteProtocolError):
        broker.next_event()
    with pytest.raises(LocalProtocolError):
        Connection(Role.CLIENT).send(FIRST_FRAMES[name])


def _rest(event):
    return [getattr(event, field) for field in event.__struct_fields__[1:]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xa0",
        b"\x80",
        frame(0, 0, 0),
        b"\xa3\x65magic\x61x\x6bversion_min\x01\x6bversion_max\x01",
    ],
)
def test_malformed_hello_breaks_the_protocol(body):
    broker = Connection(Role.BROKER)
    broker.receive_data(frame(HELLO, 0, 1, body))
    with pytest.raises(RemoteProtocolError):
        broker.next_event()
    broker.send(Failed(0, 0, RemoteProtocolError("say hello first")))
    assert broker.state is State.CLOSED


def test_hello_is_small():
    broker = Connection(Role.BROKER)
    broker.receive_data(frame(HELLO, 0, 1, bytes(16 * 1024))[:16])
    with pytest.raises(RemoteProtocolError, match="limit 16384"):
        broker.next_event()


def test_second_hello_breaks_the_protocol():
    pair = Pair()
    pair.broker.receive_data(Connection(Role.CLIENT).send(Request(2, GREETING)))
    with pytest.raises(RemoteProtocolError):
        pair.broker.next_event()
    with pytest.raises(LocalProtocolError):
        pair.client.send(Request(2, GREETING))


def test_request_before_the_answer_to_the_hello_breaks_the_protocol():
    other = Pair()
    broker = Connection(Role.BROKER)
    broker.receive_data(Connection(Role.CLIENT).send(Request(1, GREETING)))
    broker.receive_data(other.client.send(Request(2, Metadata())))
    assert broker.next_event() == Request(1, GREETING)
    with pytest.raises(RemoteProtocolError, match="GREETING"):
        broker.next_event()


BREACHES_TO_BROKER = {
    "length_zero": bytes(16),
    "length_15": b"\x0f" + bytes(15),
    "length_2_to_31": b"\0\0\0\x80" + bytes(12),
    "zero_bytes_set": frame(2, 0, 2, b"\xa0")[:6] + b"\x01" + frame(2, 0, 2, b"\xa0")[7:],
    "response_flag": frame(2, 1, 2, b"\xa0"),
    "unknown_flag": frame(2, 8, 2, b"\xa0"),
    "message_beyond_its_limit": frame(2, 0, 2, bytes(256 * 1024 + 1))[:16],
    "long_fetch": frame(FETCH, 0, 2, bytes(25)),
    "long_publish": frame(PUBLISH, 0, 2, bytes(8 * 1024 * 1024 + 9))[:16],
}


@pytest.mark.parametrize("name", BREACHES_TO_BROKER)
def test_broken_frame_ends_the_connection_for_a_broker(name):
    broker = Pair().broker
    broker.receive_data(BREACHES_TO_BROKER[name])
    with memory_below(100_000), pytest.raises(RemoteProtocolError):
        broker.next_event()
    with pytest.raises(RemoteProtocolError):
        broker.next_event()
    with pytest.raises(RemoteProtocolError):
        broker.next_events()
    assert broker.state is State.REFUSED
    with pytest.raises(LocalProtocolError):
        broker.send(Failed(2, 2, BadRequest("no")))
    broker.send(Failed(0, 0, BadRequest("goodbye")))
    assert broker.state is State.CLOSED


BREACHES_TO_CLIENT = {
    "request": frame(2, 0, 2, b"\xa0"),
    "error_without_response": frame(2, 2, 2, b"\xa0"),
    "duplicate_of_a_fetch": frame(FETCH, 5, 3, bytes(16)),
    "unknown_flag": frame(2, 9, 2, b"\xa0"),
    "malformed_reply": frame(2, 1, 2, b"\xa0"),
    "malformed_error": frame(2, 3, 2, b"\xa0"),
    "short_publish_reply": frame(PUBLISH, 1, 3, bytes(15)),
    "long_publish_reply": frame(PUBLISH, 1, 3, bytes(17)),
    "short_fetch_reply": frame(FETCH, 1, 4, bytes(15)),
    "long_fetch_reply": b"\0\0\0\x02" + frame(FETCH, 1, 4, bytes(16))[4:],
    "no_such_correlation": frame(PUBLISH, 1, 99, bytes(16)),
    "correlation_of_another_type": frame(PUBLISH, 1, 2, bytes(16)),
    "fire_and_forget": frame(PUBLISH, 1, 6, bytes(16)),
    "unknown_type": frame(0x7F, 1, 2, b"\xa0"),
    "second_welcome": Connection(Role.CLIENT).send(Request(1, GREETING))[:5]
    + b"\x01"
    + Connection(Role.CLIENT).send(Request(1, GREETING))[6:],
}


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("name", BREACHES_TO_CLIENT)
def test_broken_frame_ends_the_connection_for_a_client(name, bulk):
    client = Pair().client
    for event in client_events(BATCH):
        client.send(event)
    client.receive_data(BREACHES_TO_CLIENT[name])
    with pytest.raises(RemoteProtocolError):
        client.next_events() if bulk else client.next_event()
    assert client.state is State.REFUSED
    with pytest.raises(LocalProtocolError):
        client.send(Request(50, Metadata()))


def test_events_before_a_broken_frame_are_delivered_first():
    pair = Pair()
    pair.client.send(Publish(2, 5, BATCH))
    pair.broker.receive_data(Pair().client.send(Publish(2, 5, BATCH)))
    pair.broker.next_event()
    pair.client.receive_data(pair.broker.send(Published(2, 1, 1)) + bytes(16))
    assert pair.client.next_events() == [Published(2, 1, 1)]
    with pytest.raises(RemoteProtocolError):
        pair.client.next_events()
    with pytest.raises(RemoteProtocolError):
        pair.client.next_event()


def test_broken_connections_leave_no_memory_behind():
    def break_some(count):
        for _ in range(count):
            for role, data in ((Role.BROKER, frame(2, 0, 2, b"\xff")), (Role.CLIENT, b"")):
                side = opened(role)
                side.receive_data(data + frame(2, 8, 2, b"\xa0"))
                with suppress(RemoteProtocolError):
                    events = side.next_events()
                    assert len(events) == 1
                with suppress(RemoteProtocolError):
                    side.next_events()

    break_some(50)
    gc.collect()
    tracemalloc.start()
    break_some(300)
    gc.collect()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left < 60_000  # 600 connections that leaked 200 bytes each would leave 120,000
