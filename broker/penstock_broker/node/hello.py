"""The hello: who speaks which version, and under which limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import BadRequest, RemoteProtocolError, Throttled, UnsupportedVersion
from penstock.protocol.batch import BATCH_BYTES_MAX, Buffer
from penstock.protocol.codec import decode_request
from penstock.protocol.frames import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    HELLO_BYTES_MAX,
    REQUEST_BYTES_MAX,
)
from penstock.protocol.messages import (
    PROTOCOL_MAGIC,
    TYPE_OF,
    VERSION_MAX,
    VERSION_MIN,
    Hello,
    HelloReply,
)
from penstock_broker.node.peers.frames import PEER_HELLO
from penstock_broker.node.session import CREDIT_BYTES

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

NAME_CHARACTERS_MAX: Final = 200
HELLO_SECONDS_MAX: Final = 5.0


def receive(node: Node, session: Session, buffer: memoryview, end: int) -> tuple[int, int]:
    """Handle the first frame of a connection, if all of it is in `buffer[:end]`.

    Returns:
        As `Node.receive`.

    Raises:
        RemoteProtocolError: it is no hello.
    """
    if end < FRAME_HEADER_BYTES:
        return 0, 0
    length, type_, _, zero, correlation, _ = FRAME_HEADER.unpack_from(buffer, 0)
    if not FRAME_HEADER_BYTES <= length <= HELLO_BYTES_MAX or zero:
        raise RemoteProtocolError(f"a frame of {length} bytes can't be (limit {HELLO_BYTES_MAX})")
    if length > end:
        return 0, length
    body = buffer[FRAME_HEADER_BYTES:length]
    if type_ == PEER_HELLO:
        node.peers.greeted(session, correlation, body)
    elif session.reserved:
        refuse(node, session, type_, correlation)
    else:
        answer(node, session, correlation, _decoded(type_, body))
    return length, 0


def _decoded(type_: int, body: Buffer) -> Hello:
    if type_ != TYPE_OF[Hello]:
        raise RemoteProtocolError("the first frame of a connection must be a hello")
    try:
        message = decode_request(type_, body)
    except BadRequest as error:
        raise RemoteProtocolError(f"the hello is malformed: {error}") from error
    assert isinstance(message, Hello)
    return message


def expire(node: Node) -> None:
    """Close the connections that have not said what they are."""
    for session in list(node.sessions.values()):
        late = node.clock - session.since > HELLO_SECONDS_MAX
        if late and not session.ready and session.link is None:
            node.refuse(session, RemoteProtocolError("no hello arrived in time"))


def answer(node: Node, session: Session, correlation: int, hello: Hello) -> None:
    """Agree on the newest common version, or refuse and close.

    Raises:
        RemoteProtocolError: the peer does not speak this protocol at all.
    """
    if hello.magic != PROTOCOL_MAGIC:
        raise RemoteProtocolError("the peer does not speak the penstock protocol")
    version = min(hello.version_max, VERSION_MAX)
    if version < max(hello.version_min, VERSION_MIN):
        error = UnsupportedVersion(
            f"the client speaks versions {hello.version_min} to {hello.version_max}, "
            f"this broker {VERSION_MIN} to {VERSION_MAX}"
        )
        node.reply_error(session, correlation, TYPE_OF[Hello], error)
        session.closing = True
        return
    session.name = hello.client[:NAME_CHARACTERS_MAX]
    session.ready = True
    node.reply(
        session,
        correlation,
        HelloReply(
            version=version,
            node=node.node_id,
            cluster=node.groups.cluster_id,
            broker=node.config.version,
            frame_bytes_max=REQUEST_BYTES_MAX,
            batch_bytes_max=BATCH_BYTES_MAX,
            credit_bytes=CREDIT_BYTES,
        ),
    )


def refuse(node: Node, session: Session, type_: int, correlation: int) -> None:
    """It is beyond the limit of connections, and not from another broker: close it."""
    error = Throttled("the broker has as many connections as it may")
    node.reply_error(session, correlation, type_, error)
    node.hang_up(session)
