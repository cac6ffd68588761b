"""One frame of a client: who handles it, and what is answered if it can't be.

Publishes and fetches are for the leader of their partition alone: others say where that is. Of all
other requests this node handles what it leads itself and passes the rest on. What is to be refused
for good is handled again once that is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import (
    BadRequest,
    PenstockError,
    ShuttingDown,
    StorageFull,
    TopicNotFound,
)
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import decode_request
from penstock.protocol.frames import (
    ACKS_QUORUM,
    FETCH,
    PUBLISH,
    PUBLISH_REQUEST_BYTES,
    read_fetch,
    read_publish,
)
from penstock.protocol.messages import Message, Metadata
from penstock_broker.node import fetches
from penstock_broker.node.asking import elsewhere
from penstock_broker.node.certainty import DEFINITE, make_sure
from penstock_broker.node.handlers import BETWEEN_NODES, HANDLERS, Handler
from penstock_broker.node.pending import Request
from penstock_broker.node.routing import target_of

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session


def publish(
    node: Node,
    session: Session,
    buffer: memoryview,
    start: int,
    end: int,
    correlation: int,
    gid: int,
    owned: bool,
) -> None:
    """Append a batch to a partition that is led here."""
    acks = ACKS_QUORUM
    session.publishes = True
    try:
        acks, _ = read_publish(buffer, start, end)
        partition = node.partitions.get(gid)
        if partition is None:
            raise elsewhere(node, gid)
        if node.draining:
            raise ShuttingDown()
        if not node.store.accepting and partition.leading:
            raise StorageFull()  # else there may be room where it is led
        batch = buffer[start + PUBLISH_REQUEST_BYTES : end]
        partition.publish(session, correlation, acks, batch if owned else bytearray(batch))
    except PenstockError as error:
        if acks:
            node.reply_error(session, correlation, PUBLISH, error)


def fetch(
    node: Node,
    session: Session,
    buffer: memoryview,
    start: int,
    end: int,
    correlation: int,
    gid: int,
) -> None:
    """Read from a partition."""
    try:
        wanted = read_fetch(buffer, start, end)
        partition = node.partitions.get(gid)
        if partition is None:
            raise elsewhere(node, gid)
        partition.fetch(fetches.admit(session, correlation, wanted, node.clock))
    except PenstockError as error:
        node.reply_error(session, correlation, FETCH, error)


def request(
    node: Node, session: Session, type_: int, correlation: int, body: Buffer, certain: bool = False
) -> None:
    """Handle any other request, or pass it on.

    Args:
        node: this node.
        session: who asks.
        type_: of the frame.
        correlation: under which the answer goes out.
        body: what the frame carries.
        certain: whether the metadata here is up to date, as far as it matters.
    """

    def again(error: PenstockError) -> bool:
        kept = bytes(body)

        def go_on(failure: PenstockError | None) -> None:
            if failure is None:
                request(node, session, type_, correlation, kept, certain=True)
            else:
                node.reply_error(session, correlation, type_, failure)

        return not certain and make_sure(node, message, error, go_on)

    try:
        message = decode_request(type_, body)
        handler = _handler_of(session, message)
        node.membership.check(message)
        if _wants_certainty(node, message) and again(TopicNotFound()):
            return
        to = 0 if session.relayed or not node.membership.started else target_of(node, message)
        if to:
            node.relay.pass_on(to, Request(session, correlation, type_), body)
        else:
            handler(node, session, correlation, message)
    except PenstockError as error:
        if not (isinstance(error, DEFINITE) and again(error)):
            node.reply_error(session, correlation, type_, error)


def _handler_of(session: Session, message: Message) -> Handler:
    handler = HANDLERS.get(type(message))
    if handler is None and session.relayed:
        handler = BETWEEN_NODES.get(type(message))
    if handler is None:
        raise BadRequest(f"{type(message).__name__} is not expected here")
    return handler


def _wants_certainty(node: Node, asked: Message) -> bool:
    """Whether metadata may only be told when it is up to date: so asked, or a name is unknown."""
    if not isinstance(asked, Metadata):
        return False
    topics = node.groups.metadata.machine.topics
    return asked.linearizable or any(name not in topics for name in asked.topics or ())


def with_address(node: Node, error: PenstockError) -> PenstockError:
    """An error that names another node, with the address where that is to be found."""
    leader = error.detail.get("leader")
    if leader and "address" not in error.detail and node.membership.started:
        entry = node.groups.metadata.machine.nodes.get(leader) if isinstance(leader, int) else None
        if entry is not None:
            error.detail["address"] = entry.address
    return error
