"""Requests that this node sends to another one, for a client or for itself, and those it answers.

A RELAY frame carries one whole request frame, whose correlation is the sender's own; it is handled
as a client's is, on a session without a connection, and RELAYED frames carry the replies back. What
this node asks itself takes the same way, without leaving it. Invariants: whoever asks is answered
once, by a reply or an error, `ANSWER_SECONDS_MAX` later at the latest; nothing is ever sent twice;
a relayed request is not relayed again. An error says whether the request may have been carried out:
`LeaderUnknown` before it was sent, `TimedOut` after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.errors import (
    BadRequest,
    LeaderUnknown,
    PenstockError,
    RemoteProtocolError,
    Throttled,
    TimedOut,
)
from penstock.protocol.batch import Buffer
from penstock.protocol.checksum import crc32c
from penstock.protocol.codec import decode_error, decode_reply, encode_message
from penstock.protocol.frames import (
    FETCH,
    FLAG_ERROR,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    PUBLISH,
    frame,
)
from penstock.protocol.leases import ACQUIRE, SETTLE
from penstock.protocol.messages import Message
from penstock_broker.node import deliveries, requests
from penstock_broker.node.deliveries import DELIVER
from penstock_broker.node.peers.frames import RELAY, RELAYED, Channel, check
from penstock_broker.node.session import Session

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.pending import Request

ANSWER_SECONDS_MAX: Final = 16.0
"""A little longer than the node asked lets a request wait: it knows better what became of it."""
UNDER_WAY_MAX: Final = 10_000
RUN_BYTES: Final = 1 << 20
"""Replies are gathered into frames of about that size."""

_FRAME_HEADER: Final = FRAME_HEADER.unpack_from
_NOT_RELAYED: Final = (PUBLISH, FETCH, ACQUIRE, SETTLE)
_CORRELATION: Final = slice(8, 12)

Finish = Callable[[object], None]
"""Takes the reply, or the `PenstockError` instead of it."""


class _Asked(NamedTuple):
    """A request that is under way."""

    to: int
    deadline: float
    request: Request | None
    """The client's that was passed on, who gets the reply frame as it is."""
    finish: Finish | None
    whole: bool
    """Whether `finish` wants the frame itself."""


class Relay:
    """Both ends, for all nodes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._correlation = 0
        self._under_way: dict[int, _Asked] = {}
        """By correlation; the oldest first."""
        self._sessions: dict[tuple[int, Channel], Session] = {}
        """Where requests of other nodes are handled: by node and the way of their replies."""
        self._calls: list[Callable[[], None]] = []
        """What is done when the round ends: a handler never runs within another."""
        node.peers.receivers[RELAY] = self._on_relay
        node.peers.receivers[RELAYED] = self._on_relayed
        node.peers.watchers.append(self.lost)

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def busy(self) -> bool:
        """Whether the end of a round may bring something to do, also without other nodes."""
        return bool(self._calls or self._under_way)

    # ----- asking

    def pass_on(self, to: int, request: Request, body: Buffer) -> None:
        """Let another node answer a client's request.

        Raises:
            LeaderUnknown: it can't be reached at the moment.
            Throttled: too many requests are under way.
        """
        made = bytearray(frame(request.type, 0, 0, body))
        self._send(to, made, _Asked(to, self._deadline, request, None, False))

    def ask(self, to: int, message: Message, finish: Finish) -> None:
        """Ask a node, or this one; `finish` gets the decoded reply or the error, never at once."""
        self.ask_frame(to, bytearray(encode_message(message, 0)), finish, whole=False)

    def ask_frame(self, to: int, made: bytearray, finish: Finish, whole: bool = True) -> None:
        """As `ask`, with a whole request frame; `finish` gets a whole reply frame, as bytes."""
        try:
            self._send(to, made, _Asked(to, self._deadline, None, finish, whole))
        except PenstockError as error:
            refusal = error
            self._later(lambda: finish(refusal))

    @property
    def _deadline(self) -> float:
        return self._node.clock + ANSWER_SECONDS_MAX

    def _send(self, to: int, made: bytearray, asked: _Asked) -> None:
        if len(self._under_way) >= UNDER_WAY_MAX:
            raise Throttled(f"{UNDER_WAY_MAX} requests to other brokers wait for an answer")
        self._correlation = self._correlation % 0xFFFF_FFFF + 1
        made[_CORRELATION] = self._correlation.to_bytes(4, "little")
        if to == self._node.node_id:
            self._later(lambda: self._handle(to, memoryview(made)))
        elif not self._post(to, RELAY, _way_of(made[4]), [made]):
            raise LeaderUnknown(f"broker {to} can't be reached at the moment")
        self._under_way[self._correlation] = asked

    def _later(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        self._node.outward = True

    def _post(self, to: int, type_: int, channel: Channel, buffers: list[Buffer]) -> bool:
        crc, length = 0, FRAME_HEADER_BYTES
        for buffer in buffers:
            crc = crc32c(buffer, crc)
            length += len(buffer)
        head = FRAME_HEADER.pack(length, type_, 0, 0, crc, 0)
        return self._node.peers.post(to, channel, [head, *buffers])

    # ----- being asked

    def _on_relay(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """A RELAY frame arrived.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        check(buffer, start, end)
        body = buffer[start + FRAME_HEADER_BYTES : end]
        if len(body) < FRAME_HEADER_BYTES or _FRAME_HEADER(body)[0] != len(body):
            raise RemoteProtocolError("a relayed request is not one whole frame")
        self._handle(sender, body)

    def _handle(self, sender: int, body: memoryview) -> None:
        _, type_, _, _, correlation, gid = _FRAME_HEADER(body)
        session = self._session(sender, _way_of(type_))
        if type_ == DELIVER:
            deliveries.answer(self._node, session, correlation, gid, body)
        elif type_ in _NOT_RELAYED:
            self._node.reply_error(session, correlation, type_, BadRequest("it is not relayed"))
        else:
            requests.request(self._node, session, type_, correlation, body[FRAME_HEADER_BYTES:])

    def _session(self, sender: int, way: Channel) -> Session:
        session = self._sessions.get((sender, way))
        if session is None:
            session = Session(-sender, -1, f"node {sender}", self._node.clock)
            session.ready = session.relayed = True
            session.queued = True  # for the shell it does not exist: `flush` takes its output
            self._sessions[sender, way] = session
        return session

    # ----- answers

    def flush(self) -> bool:
        """The round ends: send the replies; True: there may be more to do in this round."""
        if not self._calls and not self._sessions:
            return False
        calls, self._calls = self._calls, []
        for call in calls:
            call()
        more = bool(calls)
        for (to, way), session in list(self._sessions.items()):
            if session.out:
                out, session.out = session.out, []
                self._node.sent(session, 0)
                more |= self._reply(to, way, out)
        return more

    def _reply(self, to: int, way: Channel, out: list[Buffer]) -> bool:
        if to == self._node.node_id:
            for buffers, _ in _frames(out):
                self._answered(to, b"".join(buffers))
            return True
        run: list[Buffer] = []
        size = 0
        for buffers, length in _frames(out):
            if run and size + length > RUN_BYTES:
                self._send_back(to, way, run)
                run, size = [], 0
            if length > RUN_BYTES:
                self._send_back(to, Channel.BULK, buffers)
            else:
                run += buffers
                size += length
        if run:
            self._send_back(to, way, run)
        return False

    def _send_back(self, to: int, way: Channel, run: list[Buffer]) -> None:
        """Send replies, by another way if one is full; who gets none gives up by itself."""
        if not self._post(to, RELAYED, way, run) and way is not Channel.BULK:
            self._post(to, RELAYED, Channel.BULK, run)

    def _on_relayed(
        self, sender: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """A RELAYED frame arrived.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        check(buffer, start, end)
        at = start + FRAME_HEADER_BYTES
        while at < end:
            length = _FRAME_HEADER(buffer, at)[0] if end - at >= FRAME_HEADER_BYTES else 0
            if not FRAME_HEADER_BYTES <= length <= end - at:
                raise RemoteProtocolError("relayed replies are not whole frames")
            self._answered(sender, bytes(buffer[at : at + length]))
            at += length

    def _answered(self, sender: int, reply: bytes) -> None:
        _, _, flags, _, correlation, _ = _FRAME_HEADER(reply)
        asked = self._under_way.get(correlation)
        if asked is None or asked.to != sender:
            return  # it was given up
        del self._under_way[correlation]
        if asked.request is not None:
            session, correlation, _ = asked.request
            whole = bytearray(reply)
            whole[_CORRELATION] = correlation.to_bytes(4, "little")
            self._node.emit(session, whole)
        elif asked.finish is not None:
            asked.finish(reply if asked.whole and not flags & FLAG_ERROR else _decoded(reply))

    # ----- no answers

    def lost(self, node_id: int) -> None:
        """A node is gone: what it was asked may be done or not."""
        for correlation in [c for c, asked in self._under_way.items() if asked.to == node_id]:
            self._give_up(correlation, "the connection to the broker that was asked broke")
        for key in [key for key in self._sessions if key[0] == node_id]:
            self._node.disconnected(self._sessions.pop(key))

    def expire(self) -> None:
        """Answer what waited too long."""
        now, late = self._node.clock, []
        for correlation, asked in self._under_way.items():
            if asked.deadline > now:
                break
            late.append(correlation)
        for correlation in late:
            self._give_up(correlation, "the broker that was asked did not answer in time")

    def _give_up(self, correlation: int, why: str) -> None:
        asked = self._under_way.pop(correlation)
        error = TimedOut(f"{why}; the outcome is unknown", node=asked.to)
        if asked.request is not None:
            session, correlation, type_ = asked.request
            self._node.reply_error(session, correlation, type_, error)
        elif asked.finish is not None:
            finish = asked.finish
            self._later(lambda: finish(error))


def _way_of(type_: int) -> Channel:
    """The connection for a request and its reply: those with records keep off the small ones."""
    return Channel.BULK if type_ == DELIVER else Channel.CONTROL


def _frames(out: list[Buffer]) -> Iterator[tuple[list[Buffer], int]]:
    """The frames in a session's output, each as its buffers and its length."""
    frame_: list[Buffer] = []
    length = left = 0
    for buffer in out:
        if not left:
            length = left = _FRAME_HEADER(buffer)[0]
        frame_.append(buffer)
        left -= len(buffer)
        if not left:
            yield frame_, length
            frame_ = []


def _decoded(reply: bytes) -> object:
    """The message in a reply frame, or its error."""
    _, type_, flags, _, _, _ = _FRAME_HEADER(reply)
    body = reply[FRAME_HEADER_BYTES:]
    try:
        return decode_error(body) if flags & FLAG_ERROR else decode_reply(type_, body)
    except PenstockError as error:
        return error
