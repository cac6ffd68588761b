"""Looking for anybody of the cluster at the addresses of the configuration.

A node that starts again knows from its metadata where the others were; when none of them is there
any more, those that it was told to join may know. Whoever answers a hello there is met, at the
address that it tells; the connection is of no further use. Nothing is dialled while any peer is
connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError, StaleDirectory
from penstock.protocol.frames import HELLO_BYTES_MAX
from penstock_broker.node.link import Dial
from penstock_broker.node.peers.frames import Channel
from penstock_broker.node.peers.hello import decode_answer

if TYPE_CHECKING:
    from penstock_broker.node.peers.peers import Peers
    from penstock_broker.node.session import Session

PATIENCE_SECONDS: Final = 1.0
"""How long nobody must be connected before anything is done."""
AGAIN_SECONDS: Final = 1.0
ADDRESSES_MAX: Final = 64


class Call:
    """One address; the link of a connection to it."""

    frame_bytes_max = HELLO_BYTES_MAX
    bulky = False

    def __init__(self, seeking: Seeking, address: str) -> None:
        self.address = address
        self.session: Session | None = None
        self.dialing = False
        self.since = 0.0
        self._seeking = seeking

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """The answer to the hello: whoever it is is met, and dialled as a peer."""
        self._seeking.answered(session, buffer, start, end)

    def disconnected(self, session: Session) -> None:
        """The connection is gone."""
        self.session = None


class Seeking:
    """Dials the addresses while nobody else is there."""

    def __init__(self, peers: Peers, addresses: Sequence[str]) -> None:
        self._peers = peers
        self._calls = [Call(self, address) for address in addresses[:ADDRESSES_MAX]]
        self._alone_since: float | None = None
        self._next_at = 0.0

    def tick(self, connected: bool) -> None:
        """Note whether any peer is connected; give up who does not answer."""
        now = self._peers.clock
        if connected:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        for call in self._calls:
            if call.session is not None and now - call.since > AGAIN_SECONDS:
                self._peers.hang_up(call.session)

    def dials(self) -> list[Dial]:
        """Connections to open now."""
        now, since = self._peers.clock, self._alone_since
        if since is None or now < self._next_at or now - since < PATIENCE_SECONDS:
            return []
        self._next_at = now + AGAIN_SECONDS * (1 + self._peers.jitter())
        found = []
        for key, call in enumerate(self._calls):
            if call.session is None and not call.dialing:
                call.dialing = True
                found.append(Dial(self, key, Channel.CONTROL, call.address))
        return found

    def dialed(self, dial: Dial, session: Session) -> None:
        """Say hello to whoever is there."""
        call = self._calls[dial.key]
        call.dialing, call.session, call.since = False, session, self._peers.clock
        session.link = call
        self._peers.say_hello(session, Channel.CONTROL, 0)

    def dial_failed(self, dial: Dial) -> None:
        """Nobody is there."""
        self._calls[dial.key].dialing = False

    def answered(self, session: Session, buffer: memoryview, start: int, end: int) -> None:
        """Meet who answered, unless it is no peer of ours."""
        try:
            self._peers.found(decode_answer(buffer, start, end))
        except StaleDirectory:
            raise  # as in `Line.receive`
        except PenstockError:
            pass  # this very node, or one of another cluster
        self._peers.hang_up(session)
