"""Connections that this broker dials, and those between brokers, as the shell sees them.

A session with a `link` does not belong to a client: the limits of clients do not apply to it, and
its frames go to its link. Its output is counted by who fills it, not with the replies to clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from penstock.errors import PenstockError, ProtocolError, RemoteProtocolError
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES

if TYPE_CHECKING:
    from penstock_broker.node.session import Session


_FRAME_HEADER: Final = FRAME_HEADER.unpack_from


class Link(Protocol):
    """What a connection between brokers is for."""

    frame_bytes_max: int
    """The longest frame that may come."""
    bulky: bool
    """Whether what comes goes to the disk: it is not read while the disk can't keep up."""

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """One whole frame arrived, in `buffer[start:end]`; an owned buffer may be kept.

        Raises:
            PenstockError: the connection must be closed.
        """

    def disconnected(self, session: Session) -> None:
        """The connection is gone."""


class Dial(NamedTuple):
    """A connection that somebody wants opened now."""

    dialer: Dialer
    key: int
    """The dialer's own name for the other end."""
    channel: int
    address: str


class Dialer(Protocol):
    """Wants connections; the shell opens them and says what became of each."""

    def dials(self) -> list[Dial]:
        """Connections to open now; each is named once, until its outcome is told."""

    def dialed(self, dial: Dial, session: Session) -> None:
        """It is open; `session` was given to `Node.connected` before. Sets `session.link`."""

    def dial_failed(self, dial: Dial) -> None:
        """It could not be opened."""


def receive(
    session: Session, link: Link, buffer: memoryview, at: int, end: int, owned: bool
) -> tuple[int, int]:
    """Hand the whole frames in `buffer[at:end]` to a link; returns as `Node.receive` does.

    Raises:
        RemoteProtocolError: the connection must be closed.
    """
    while end - at >= FRAME_HEADER_BYTES and not session.closing:
        length, type_, _, zero, _, _ = _FRAME_HEADER(buffer, at)
        if not FRAME_HEADER_BYTES <= length <= link.frame_bytes_max or zero:
            limit = link.frame_bytes_max
            raise RemoteProtocolError(f"a frame of {length} bytes can't be (limit {limit})")
        if length > end - at:
            return at, length
        try:
            link.receive(session, type_, buffer, at, at + length, owned)
        except ProtocolError:
            raise
        except PenstockError as error:
            raise RemoteProtocolError(str(error)) from error
        at += length
    return at, 0
