"""One connection that a peer dialled: what it says about itself and its groups arrives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.node.peers.frames import FRAME_BYTES_MAX, Channel

if TYPE_CHECKING:
    from penstock_broker.node.peers.peer import Peer
    from penstock_broker.node.peers.peers import Peers
    from penstock_broker.node.session import Session


class Inlet:
    """The link of a session that a peer opened; it names the sender of all that arrives on it."""

    __slots__ = ("_peers", "address", "bulky", "channel", "frame_bytes_max", "peer")

    def __init__(self, peers: Peers, peer: Peer, channel: Channel, address: str) -> None:
        self._peers = peers
        self.peer = peer
        self.channel = channel
        self.address = address
        self.frame_bytes_max = FRAME_BYTES_MAX[channel]
        self.bulky = channel != Channel.CONTROL

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """One frame arrived."""
        self.peer.heard_at = self._peers.clock
        self._peers.receive(session, type_, buffer, start, end, owned)

    def disconnected(self, session: Session) -> None:
        """The connection is gone; one that was replaced by a newer one does not matter."""
        if self.peer.inlets[self.channel] is session:
            self.peer.inlets[self.channel] = None
            if self.channel == Channel.CONTROL:
                self._peers.lost(self.peer)
