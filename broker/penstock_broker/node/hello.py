"""The hello: who speaks which version, and under which limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import RemoteProtocolError, Throttled, UnsupportedVersion
from penstock.protocol.batch import BATCH_BYTES_MAX
from penstock.protocol.frames import REQUEST_BYTES_MAX
from penstock.protocol.messages import (
    PROTOCOL_MAGIC,
    TYPE_OF,
    VERSION_MAX,
    VERSION_MIN,
    Hello,
    HelloReply,
)
from penstock_broker.node.session import CREDIT_BYTES

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

NAME_CHARACTERS_MAX: Final = 200


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
