"""One connection as a sans-IO state machine, for either side: bytes in, events out, and back.

    connection = Connection(Role.CLIENT)
    transmit(connection.send(Request(1, connection.hello("my program"))))
    connection.receive_data(received)              # b"" at the end of the stream
    event = connection.next_event()                # an event, or NEED_DATA

Owns the receive buffer and the limits of frames; the order of events is `conversation`'s affair.
Invariants: what is buffered stays below one frame's limit and one read; once the peer has broken a
rule nothing more is received, and nothing is sent but a broker's one `Failed` of type 0. A refused
`send` changes nothing.
"""

from __future__ import annotations

import struct
from typing import Final

from penstock.errors import LocalProtocolError, ProtocolError, RecordTooLarge, RemoteProtocolError
from penstock.protocol import incoming, outgoing
from penstock.protocol.batch import BATCH_BYTES_MAX, Buffer
from penstock.protocol.conversation import Conversation, Role, State
from penstock.protocol.events import (
    NEED_DATA,
    Closed,
    Event,
    Pause,
    Publish,
    Published,
)
from penstock.protocol.frames import (
    FLAG_DUPLICATE,
    FLAG_RESPONSE,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    HELLO_BYTES_MAX,
    PUBLISH,
    PUBLISH_REPLY,
    REPLY_BYTES,
    REPLY_BYTES_MAX,
)
from penstock.protocol.messages import (
    PROTOCOL_MAGIC,
    VERSION_MAX,
    VERSION_MIN,
    Hello,
    HelloReply,
)
from penstock.protocol.receive_buffer import ReceiveBuffer

__all__ = ["NEED_DATA", "Connection", "Role", "State"]

READ_BYTES_MAX: Final = 1024 * 1024
"""How much may be fed beyond a frame's limit before the events are taken out."""
_PUBLISHED_FLAGS: Final = (FLAG_RESPONSE, FLAG_RESPONSE | FLAG_DUPLICATE)


class Connection:
    """The protocol of one connection; see the module for its use."""

    __slots__ = ("_breach", "_buffer", "_eof", "_talk")

    def __init__(self, role: Role) -> None:
        self._talk = Conversation(role)
        self._buffer = ReceiveBuffer()
        self._eof = False
        self._breach = ""
        """How the peer broke the protocol."""

    @property
    def role(self) -> Role:
        """Which side this is."""
        return self._talk.role

    @property
    def state(self) -> State:
        """Where the conversation is."""
        return self._talk.state

    @property
    def version(self) -> int:
        """The version agreed on; 0 before."""
        return self._talk.version

    @property
    def welcome(self) -> HelloReply | None:
        """The broker's answer to the hello, with the limits to keep to."""
        return self._talk.welcome

    @property
    def in_flight(self) -> int:
        """How many requests have no answer yet."""
        return len(self._talk.in_flight)

    @staticmethod
    def hello(client: str = "") -> Hello:
        """The message that opens a connection."""
        return Hello(
            magic=PROTOCOL_MAGIC, version_min=VERSION_MIN, version_max=VERSION_MAX, client=client
        )

    # ----- receiving

    def receive_data(self, data: Buffer) -> None:
        """Take what was received; empty: the stream ended. `bytes` are kept without a copy.

        Raises:
            LocalProtocolError: after the end, or more than the limits without taking events.
        """
        if self._eof:
            raise LocalProtocolError("the stream has ended already")
        if not data:
            self._eof = True
        elif len(self._buffer) + len(data) > REPLY_BYTES_MAX + READ_BYTES_MAX:
            raise LocalProtocolError("take the events before feeding more data")
        else:
            self._buffer.feed(data)

    def next_event(self) -> Event | Pause:
        """The next event, or NEED_DATA.

        Raises:
            RemoteProtocolError: the peer broke the protocol; close the connection (a broker may
                say why in a `Failed` of type 0 first).
        """
        if self._breach:
            raise RemoteProtocolError(self._breach)
        try:
            return self._next_event()
        except ProtocolError as error:
            self._talk.breached()
            # The error itself would make a cycle: its traceback holds this connection.
            self._breach = error.message
            raise

    def next_events(self) -> list[Event]:
        """All events that the received data holds; the fast way to take many.

        Raises:
            RemoteProtocolError: as in `next_event`, once the events before it are taken.
        """
        events: list[Event] = []
        try:
            while True:
                self._take_published(events)
                event = self.next_event()
                if not isinstance(event, Event):
                    return events
                events.append(event)
                if isinstance(event, Closed):
                    return events
        except ProtocolError:
            if not events:
                raise
            return events

    # ----- sending

    def send(self, event: Event) -> bytes:
        """The bytes that carry an event; they must reach the peer, in order.

        Raises:
            LocalProtocolError: the event is not allowed here and now.
            BadRequest: a field can't be encoded.
            RecordTooLarge: the frame is beyond a limit.
        """
        return b"".join(self.send_buffers(event))

    def send_buffers(self, event: Event) -> list[Buffer]:
        """As `send`, without copying a batch."""
        type_ = outgoing.frame_type(event)
        self._talk.check_send(event, type_)
        try:
            buffers = outgoing.buffers(event)
        except struct.error as error:
            raise LocalProtocolError(f"a number does not fit its field: {error}") from None
        self._check_size(event, type_, buffers)
        self._talk.sent(event, type_)
        return buffers

    # ----- inside

    def _next_event(self) -> Event | Pause:
        buffer = self._buffer
        if self._talk.state is State.CLOSED:
            buffer.clear()
        if not buffer.has(FRAME_HEADER_BYTES):
            return self._no_event()
        length, type_, flags, zero, number, group = FRAME_HEADER.unpack_from(buffer.data, buffer.at)
        limit = self._bytes_max(type_, flags)
        if not FRAME_HEADER_BYTES <= length <= limit or zero:
            raise RemoteProtocolError(f"a frame of {length} bytes can't be (limit {limit})")
        if not buffer.has(length):
            return self._no_event()
        frame = buffer.take(length)
        if self._talk.role is Role.BROKER:
            event = incoming.request_event(type_, number, group, frame)
        else:
            event = incoming.reply_event(type_, flags, number, group, frame)
        return self._talk.received(event, type_)

    def _no_event(self) -> Event | Pause:
        if not self._eof:
            return NEED_DATA
        if len(self._buffer):
            raise RemoteProtocolError("the stream ended within a frame")
        self._talk.ended()
        return Closed()

    def _bytes_max(self, type_: int, flags: int) -> int:
        if self._talk.role is Role.BROKER:
            limit = incoming.request_bytes_max(type_, flags)
        else:
            limit = incoming.reply_bytes_max(type_, flags)
        return limit if self._talk.state is State.OPEN else min(limit, HELLO_BYTES_MAX)

    def _check_size(self, event: Event, type_: int, buffers: list[Buffer]) -> None:
        size = sum(map(len, buffers))
        if self._talk.role is Role.CLIENT:
            limit = incoming.request_bytes_max(type_, 0)
        else:
            limit = incoming.reply_bytes_max(type_, int(buffers[0][5]))
        if isinstance(event, Publish):
            welcome = self._talk.welcome
            allowed = BATCH_BYTES_MAX if welcome is None else welcome.batch_bytes_max
            limit = min(limit, size - len(event.batch) + allowed)
        if size > limit:
            raise RecordTooLarge(f"the frame has {size} bytes; the limit is {limit}")

    def _take_published(self, events: list[Event]) -> None:
        """Take the whole publish replies at the front: most of what a busy client receives."""
        buffer, talk = self._buffer, self._talk
        if talk.role is not Role.CLIENT or talk.state is not State.OPEN:
            return
        if not buffer.has(REPLY_BYTES):
            return
        data, at = buffer.data, buffer.at
        last = len(data) - REPLY_BYTES
        unpack, in_flight, append = PUBLISH_REPLY.unpack_from, talk.in_flight, events.append
        while at <= last:
            length, type_, flags, zero, number, group, offset, time_us = unpack(data, at)
            if length != REPLY_BYTES or type_ != PUBLISH or zero or flags not in _PUBLISHED_FLAGS:
                break
            if in_flight.get(number) != PUBLISH:
                break
            del in_flight[number]
            append(Published(number, offset, time_us, flags != FLAG_RESPONSE, group))
            at += REPLY_BYTES
        buffer.at = at
