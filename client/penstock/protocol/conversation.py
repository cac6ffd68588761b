"""The order of a conversation: who may say what when, and which reply belongs to which request.

Owns the `MOVES` table, the version agreed on and the requests in flight; it knows no bytes. The
same table serves both sides: the client moves by HELLO and REQUEST, the broker by the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from penstock.errors import (
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    UnsupportedVersion,
)
from penstock.protocol.events import Event, Failed, Fetch, Malformed, Publish, Reply, Request
from penstock.protocol.frames import ACKS_NONE
from penstock.protocol.messages import (
    PROTOCOL_MAGIC,
    TYPE_OF,
    VERSION_MAX,
    VERSION_MIN,
    Hello,
    HelloReply,
)

HELLO: Final = TYPE_OF[Hello]
REQUESTS_IN_FLIGHT_MAX: Final = 65_536


class Role(Enum):
    """Which side of the connection this is."""

    CLIENT = 1
    BROKER = 2


class State(Enum):
    """Where the conversation is."""

    IDLE = 1
    GREETING = 2
    OPEN = 3
    REFUSED = 4
    """The peer broke the protocol."""
    CLOSED = 5


class Move(Enum):
    """What can happen in a conversation."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    ANSWER = 4
    GOODBYE = 5
    """An error that ends the connection: of type 0, or in answer to the hello."""
    BREACH = 6
    END = 7


_ALWAYS: Final = {
    Move.GOODBYE: State.CLOSED,
    Move.BREACH: State.REFUSED,
    Move.END: State.CLOSED,
}
MOVES: Final[Mapping[State, Mapping[Move, State]]] = {
    State.IDLE: {Move.HELLO: State.GREETING, **_ALWAYS},
    State.GREETING: {Move.WELCOME: State.OPEN, **_ALWAYS},
    State.OPEN: {Move.REQUEST: State.OPEN, Move.ANSWER: State.OPEN, **_ALWAYS},
    State.REFUSED: {Move.GOODBYE: State.CLOSED, Move.END: State.CLOSED},
    State.CLOSED: {Move.END: State.CLOSED},
}
_CLIENT_MOVES: Final = frozenset((Move.HELLO, Move.REQUEST))
_REQUESTS: Final = (Request, Publish, Fetch, Malformed)


def negotiate(hello: Hello) -> int:
    """The newest version that both sides speak.

    Raises:
        RemoteProtocolError: the peer does not speak this protocol at all.
        UnsupportedVersion: there is no common version.
    """
    if hello.magic != PROTOCOL_MAGIC:
        raise RemoteProtocolError("the peer does not speak the penstock protocol")
    version = min(hello.version_max, VERSION_MAX)
    if version < max(hello.version_min, VERSION_MIN):
        raise UnsupportedVersion(
            f"the client speaks versions {hello.version_min} to {hello.version_max}, "
            f"this broker {VERSION_MIN} to {VERSION_MAX}"
        )
    return version


class Conversation:
    """Both sides' moves as one side sees them."""

    __slots__ = ("in_flight", "role", "state", "version", "welcome")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.IDLE
        self.version = 0
        self.welcome: HelloReply | None = None
        self.in_flight: dict[int, int] = {}
        """Correlation id -> type of the requests without an answer."""

    def check_send(self, event: Event, type_: int) -> None:
        """Check that this side may send an event now.

        Raises:
            LocalProtocolError: it may not.
        """
        move = _move_of(event, type_)
        if (move in _CLIENT_MOVES) != (self.role is Role.CLIENT):
            name = type(event).__name__
            raise LocalProtocolError(f"a {name} is not for a {self.role.name.lower()} to send")
        self._check(event, type_, move, LocalProtocolError)

    def sent(self, event: Event, type_: int) -> None:
        """Take note of an event that was checked and is sent."""
        self._advance(event, type_, _move_of(event, type_))

    def received(self, event: Event, type_: int) -> Event:
        """Check and take note of an event of the peer.

        Returns:
            The event, or `Malformed` for a hello without a common version.

        Raises:
            RemoteProtocolError: the peer may not send it now.
        """
        move = _move_of(event, type_)
        self._check(event, type_, move, RemoteProtocolError)
        if move is Move.HELLO:
            event = self._greeted(event)
        elif isinstance(event, Reply) and isinstance(event.message, HelloReply):
            version = event.message.version
            if not VERSION_MIN <= version <= VERSION_MAX:
                raise RemoteProtocolError(f"the broker chose version {version}")
        self._advance(event, type_, move)
        return event

    def breached(self) -> None:
        """The peer broke the protocol; says nothing of a conversation that is over."""
        self.state = MOVES[self.state].get(Move.BREACH, self.state)

    def ended(self) -> None:
        """The peer ended the stream."""
        self.state = MOVES[self.state][Move.END]

    def _check(self, event: Event, type_: int, move: Move, error: type[ProtocolError]) -> None:
        if move not in MOVES[self.state]:
            raise error(f"{move.name} is not allowed when the connection is {self.state.name}")
        number = correlation(event)
        if move in _CLIENT_MOVES:
            if number in self.in_flight:
                raise error(f"correlation id {number} is in flight already")
            if len(self.in_flight) >= REQUESTS_IN_FLIGHT_MAX:
                raise error(f"more than {REQUESTS_IN_FLIGHT_MAX} requests are in flight")
        elif not (type_ == number == 0) and self.in_flight.get(number) != type_:
            raise error(f"no request of type 0x{type_:02x} and number {number} is in flight")

    def _greeted(self, event: Event) -> Event:
        if not isinstance(event, Request) or not isinstance(event.message, Hello):
            raise RemoteProtocolError("the hello is malformed")
        try:
            self.version = negotiate(event.message)
        except UnsupportedVersion as error:
            return Malformed(event.correlation, HELLO, error)
        return event

    def _advance(self, event: Event, type_: int, move: Move) -> None:
        self.state = MOVES[self.state][move]
        if move in _CLIENT_MOVES:
            if not (isinstance(event, Publish) and event.acks == ACKS_NONE):
                self.in_flight[correlation(event)] = type_
            return
        self.in_flight.pop(correlation(event), None)
        if isinstance(event, Reply) and isinstance(event.message, HelloReply):
            self.welcome = event.message
            self.version = event.message.version


def correlation(event: Event) -> int:
    """The correlation id of an event that travels."""
    number: int = event.correlation  # type: ignore[attr-defined]  # all that travel have one
    return number


def _move_of(event: Event, type_: int) -> Move:
    if isinstance(event, Failed):
        return Move.GOODBYE if type_ in (0, HELLO) else Move.ANSWER
    if isinstance(event, _REQUESTS):
        return Move.HELLO if type_ == HELLO else Move.REQUEST
    return Move.WELCOME if type_ == HELLO else Move.ANSWER
