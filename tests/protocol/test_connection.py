import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import (
    BadRequest,
    LocalProtocolError,
    NotLeader,
    RecordTooLarge,
    RemoteProtocolError,
    UnsupportedVersion,
)
from penstock.protocol import outgoing
from penstock.protocol.connection import NEED_DATA, Connection, Role, State
from penstock.protocol.conversation import HELLO, REQUESTS_IN_FLIGHT_MAX
from penstock.protocol.events import (
    Closed,
    Failed,
    Fetch,
    Fetched,
    Malformed,
    Publish,
    Published,
    Reply,
    Request,
)
from penstock.protocol.frames import FETCH, PUBLISH, frame
from penstock.protocol.messages import Hello, Metadata, MetadataReply
from tests.protocol.pair import BATCH, RUN, Pair, assert_same
from tests.protocol.samples import (
    HELLO as GREETING,
)
from tests.protocol.samples import (
    WELCOME,
    broker_events,
    client_events,
)


def conversation():
    """The bytes of a whole conversation and its events: (role that receives, bytes, events)."""
    client, broker = Connection(Role.CLIENT), Connection(Role.BROKER)
    up = [Request(1, GREETING), *client_events(BATCH)]
    down = [Reply(1, WELCOME), *broker_events(RUN)]
    up_bytes = [client.send(up[0])]
    broker.receive_data(up_bytes[0])
    broker.next_events()
    down_bytes = [broker.send(down[0])]
    client.receive_data(down_bytes[0])
    client.next_events()
    up_bytes += [client.send(event) for event in up[1:]]
    broker.receive_data(b"".join(up_bytes[1:]))
    broker.next_events()
    down_bytes += [broker.send(event) for event in down[1:]]
    return up, up_bytes, down, down_bytes


def test_hello_opens_the_connection_and_names_the_limits():
    assert Connection.hello("a test") == GREETING
    pair = Pair()
    assert pair.client.state is pair.broker.state is State.OPEN
    assert pair.client.version == pair.broker.version == 1
    assert pair.client.welcome == pair.broker.welcome == WELCOME
    assert (pair.client.role, pair.broker.role) == (Role.CLIENT, Role.BROKER)


def test_every_event_arrives_as_it_was_sent():
    pair = Pair()
    for event in client_events(BATCH):
        pair.from_client(event)
    assert pair.client.in_flight == 4
    for event in broker_events(RUN):
        pair.from_broker(event)
    pair.from_broker(Failed(2**32 - 1, 0x30, NotLeader("no")))
    assert pair.client.in_flight == 0


def receivers(up_bytes, down_bytes):
    """A fresh connection per side with what it must have sent and received before."""
    broker = Connection(Role.BROKER)
    client = Connection(Role.CLIENT)
    client.send(Request(1, GREETING))
    return client, broker


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 31, 1000])
def test_events_do_not_depend_on_how_the_bytes_are_cut(size):
    up, up_bytes, down, down_bytes = conversation()
    client, broker = receivers(up_bytes, down_bytes)
    got_up, got_down = [], []

    def feed(connection, data, got):
        for at in range(0, len(data), size):
            connection.receive_data(data[at : at + size])
            while (event := connection.next_event()) is not NEED_DATA:
                got.append(event)

    feed(broker, up_bytes[0], got_up)
    broker.send(down[0])
    feed(client, down_bytes[0], got_down)
    for event in up[1:]:
        client.send(event)
    feed(broker, b"".join(up_bytes[1:]), got_up)
    feed(client, b"".join(down_bytes[1:]), got_down)
    assert got_up == up
    assert got_down == down


def test_bulk_taking_gives_the_same_events():
    pair = Pair()
    for number in range(2, 2002):
        pair.broker.receive_data(pair.client.send(Publish(number, 5, BATCH)))
    assert len(pair.broker.next_events()) == 2000
    answers = [Published(number, number, 7, number % 3 == 0, 5) for number in range(2, 2002)]
    data = b"".join(map(pair.broker.send, answers))
    got = []
    for at in range(0, len(data), 1000):
        pair.client.receive_data(data[at : at + 1000])
        got += pair.client.next_events()
    assert got == answers
    assert pair.client.in_flight == 0


def test_bodies_are_views_of_what_was_received():
    pair = Pair()
    data = pair.client.send(Publish(2, 5, BATCH))
    pair.broker.receive_data(data)
    assert pair.broker.next_event().batch.obj is data
    assert pair.client.send_buffers(Publish(3, 5, BATCH))[1] is BATCH


def test_stream_may_end_between_frames_only():
    pair = Pair()
    data = pair.client.send(Request(2, Metadata()))
    for end in range(len(data) + 1):
        broker = Pair().broker
        if end:
            broker.receive_data(data[:end])
        broker.receive_data(b"")
        if end == 0:
            assert broker.next_event() == Closed()
            assert broker.next_event() == Closed()
            assert broker.state is State.CLOSED
        elif end < len(data):
            with pytest.raises(RemoteProtocolError, match="within a frame"):
                broker.next_event()
        else:
            assert broker.next_events() == [Request(2, Metadata()), Closed()]
    with pytest.raises(LocalProtocolError):
        broker.receive_data(b"more")


def test_no_common_version_is_refused_and_closes():
    broker, client = Connection(Role.BROKER), Connection(Role.CLIENT)
    future = Hello(magic="penstock", version_min=2, version_max=9)
    broker.receive_data(client.send(Request(1, future)))
    event = broker.next_event()
    assert isinstance(event, Malformed)
    assert isinstance(event.error, UnsupportedVersion)
    assert event.type == HELLO
    client.receive_data(broker.send(Failed(1, HELLO, event.error)))
    answer = client.next_event()
    assert isinstance(answer.error, UnsupportedVersion)
    assert client.state is broker.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        client.send(Request(2, Metadata()))


def test_newer_client_is_answered_in_our_version():
    broker = Connection(Role.BROKER)
    wide = Hello(magic="penstock", version_min=1, version_max=9)
    broker.receive_data(Connection(Role.CLIENT).send(Request(1, wide)))
    assert broker.next_event() == Request(1, wide)
    assert broker.version == 1


@pytest.mark.parametrize("version", [0, 2, -1])
def test_version_that_was_not_offered_breaks_the_protocol(version):
    pair = Pair(greeted=False)
    pair.from_client(Request(1, GREETING))
    odd = type(WELCOME)(**{**{f: getattr(WELCOME, f) for f in WELCOME.__struct_fields__},
                           "version": version})  # fmt: skip
    pair.client.receive_data(pair.broker.send(Reply(1, odd)))
    with pytest.raises(RemoteProtocolError, match="version"):
        pair.client.next_event()
    assert pair.client.state is State.REFUSED


def test_request_that_can_not_be_read_is_refused_and_the_connection_lives_on():
    pair = Pair()
    pair.client.send(Request(2, Metadata()))
    bad = {
        2: frame(2, 0, 2, b"\xff"),
        3: frame(0x7F, 0, 3, b"\xa0"),
        4: frame(PUBLISH, 0, 4, bytes(20)),
        5: frame(FETCH, 0, 5, bytes(3)),
    }
    for number, data in bad.items():
        pair.broker.receive_data(data)
        event = pair.broker.next_event()
        assert isinstance(event, Malformed)
        assert event.correlation == number
        assert isinstance(event.error, BadRequest)
        answer = pair.broker.send(Failed(number, event.type, event.error))
        if number == 2:
            pair.client.receive_data(answer)
            assert_same(pair.client.next_event(), Failed(2, 2, event.error))
    assert pair.broker.state is State.OPEN
    assert pair.broker.in_flight == 0


def test_goodbye_ends_the_conversation_and_what_follows_is_dropped():
    pair = Pair()
    goodbye = pair.broker.send(Failed(0, 0, RemoteProtocolError("no hello in time")))
    pair.client.receive_data(goodbye + b"anything at all, and no frame")
    event = pair.client.next_event()
    assert event.error.message == "no hello in time"
    assert pair.client.state is pair.broker.state is State.CLOSED
    assert pair.client.next_event() is NEED_DATA
    pair.client.receive_data(b"")
    assert pair.client.next_events() == [Closed()]
    with pytest.raises(LocalProtocolError):
        pair.broker.send(Failed(0, 0, BadRequest("twice")))


NOT_FOR_A_CLIENT = [
    Published(2, 0, 0),
    Fetched(2, 0, 0, b""),
    Reply(2, MetadataReply(cluster="", nodes=[], topics=[])),
    Failed(2, 2, BadRequest("x")),
    Failed(0, 0, BadRequest("x")),
    Malformed(2, 2, BadRequest("x")),
    Closed(),
    Request(2, MetadataReply(cluster="", nodes=[], topics=[])),
    Reply(2, Metadata()),
]
NOT_FOR_A_BROKER = [
    *(Request(2, Metadata()), Publish(2, 1, BATCH), Fetch(2, 1, 0, 1), Closed()),
    *(Published(2, 0, 0), Fetched(2, 0, 0, b""), Failed(2, 2, BadRequest("x")), Reply(1, WELCOME)),
    *(Request(2, WELCOME), Reply(2, Metadata()), Malformed(2, 2, BadRequest("x"))),
]


@pytest.mark.parametrize("event", NOT_FOR_A_CLIENT)
def test_client_can_not_send_what_brokers_send(event):
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.client.send(event)
    pair.from_client(Request(2, Metadata()))


@pytest.mark.parametrize("event", NOT_FOR_A_BROKER)
def test_broker_can_not_send_what_was_not_asked_for(event):
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.broker.send(event)
    assert pair.broker.state is State.OPEN


def test_correlation_id_in_flight_can_not_be_used_again():
    pair = Pair()
    data = pair.client.send(Request(2, Metadata()))
    with pytest.raises(LocalProtocolError, match="in flight"):
        pair.client.send(Fetch(2, 1, 0, 1))
    pair.broker.receive_data(data + data)
    assert pair.broker.next_event() == Request(2, Metadata())
    with pytest.raises(RemoteProtocolError, match="in flight"):
        pair.broker.next_event()


@pytest.mark.parametrize(
    "event",
    [
        Fetch(2**32, 1, 0, 1),
        Fetch(2, 1, -1, 1),
        Fetch(2, 1, 0, 2**32),
        Publish(2, 2**32, BATCH),
        Publish(2, 1, BATCH, 256),
    ],
)
def test_number_without_room_is_refused_and_nothing_changes(event):
    pair = Pair()
    with pytest.raises(LocalProtocolError, match="fit"):
        pair.client.send(event)
    assert pair.client.in_flight == 0


def test_batch_beyond_the_brokers_limit_is_not_sent():
    pair = Pair()
    with pytest.raises(RecordTooLarge):
        pair.client.send(Publish(2, 1, bytes(WELCOME.batch_bytes_max + 1)))
    pair.client.send(Publish(2, 1, bytes(WELCOME.batch_bytes_max)))


def test_reply_beyond_the_limit_is_not_sent():
    pair = Pair()
    pair.from_client(Fetch(2, 1, 0, 1))
    with pytest.raises(RecordTooLarge):
        pair.broker.send(Fetched(2, 0, 0, bytes(25 * 1024 * 1024)))
    assert pair.broker.in_flight == 1


def test_number_of_requests_in_flight_is_bounded():
    pair = Pair()
    for number in range(2, REQUESTS_IN_FLIGHT_MAX + 2):
        pair.client._talk.in_flight[number] = PUBLISH
    with pytest.raises(LocalProtocolError, match="65536"):
        pair.client.send(Request(1, Metadata()))


def test_what_is_fed_without_taking_events_is_bounded():
    client = Connection(Role.CLIENT)
    piece = bytes(1024 * 1024)
    for _ in range(25):
        client.receive_data(piece)
    with pytest.raises(LocalProtocolError, match="take the events"):
        client.receive_data(piece)


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans(), st.booleans())
def test_random_bytes_give_events_or_a_protocol_error(pieces, greeted, to_broker):
    pair = Pair(greeted=greeted)
    side = pair.broker if to_broker else pair.client
    try:
        for piece in [*pieces, b""]:
            if not piece and side._eof:
                return
            side.receive_data(piece)
            side.next_events()
    except (RemoteProtocolError, LocalProtocolError):
        return


def test_only_what_travels_has_a_frame():
    with pytest.raises(LocalProtocolError, match="Closed"):
        outgoing.buffers(Closed())
