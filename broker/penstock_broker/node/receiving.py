"""The frames of a client's connection: each is handed to whoever handles it, in order.

What one connection gets in a round is bounded: so many requests, and replies as long as there is
room for them. Publishes are not counted; their limit is the connection's credit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.frames import (
    FETCH,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    PUBLISH,
    REQUEST_BYTES_MAX,
)
from penstock.protocol.leases import ACQUIRE, SETTLE
from penstock_broker.node import requests
from penstock_broker.node.session import OUTPUT_BYTES_MAX
from penstock_broker.node.sharing import acquire, settle

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

REQUESTS_PER_READ_MAX: Final = 64
"""Requests other than publishes that one connection gets answered before others have their turn."""
PUT_OFF: Final = -1
"""Instead of a length: whole frames are left, for which it is too early."""

_FRAME_HEADER: Final = FRAME_HEADER.unpack_from


def receive(
    node: Node, session: Session, buffer: memoryview, at: int, end: int, owned: bool
) -> tuple[int, int]:
    """Handle the whole frames in `buffer[at:end]`; see `Node.receive`.

    Raises:
        RemoteProtocolError: the connection must be closed.
    """
    asked, limit = 0, REQUEST_BYTES_MAX
    while end - at >= FRAME_HEADER_BYTES and not session.closing:
        length, type_, _, zero, correlation, gid = _FRAME_HEADER(buffer, at)
        if not FRAME_HEADER_BYTES <= length <= limit or zero:
            raise RemoteProtocolError(f"a frame of {length} bytes can't be (limit {limit})")
        if length > end - at:
            return at, length
        if type_ == PUBLISH:
            requests.publish(node, session, buffer, at, at + length, correlation, gid, owned)
        else:
            if asked == REQUESTS_PER_READ_MAX or not (owned or _may_answer(node, session)):
                return at, PUT_OFF
            asked += 1
            if type_ == FETCH:
                requests.fetch(node, session, buffer, at, at + length, correlation, gid)
            elif type_ == ACQUIRE:
                acquire.handle(node, session, buffer, at, at + length, correlation, gid)
            elif type_ == SETTLE:
                settle.handle(node, session, buffer, at, at + length, correlation, gid)
            else:
                body = buffer[at + FRAME_HEADER_BYTES : at + length]
                requests.request(node, session, type_, correlation, body)
        at += length
    return at, 0


def _may_answer(node: Node, session: Session) -> bool:
    """Whether there is room for another reply: its size is known only when it is made."""
    return session.unsent_bytes < OUTPUT_BYTES_MAX and not node.round_full
