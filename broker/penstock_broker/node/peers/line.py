"""One connection that this node dials and sends on: one channel to one peer.

A line is idle, being dialled, greeting, or up; only an up line takes anything to send. Invariants:
at most one connection per line; after a failure it rests, longer each time; what it has not sent is
bounded; nothing but the answer to the hello ever arrives on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError, RemoteProtocolError, StaleDirectory
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import HELLO_BYTES_MAX
from penstock_broker.node.peers.frames import QUEUE_BYTES_MAX, Channel
from penstock_broker.node.peers.hello import decode_answer

if TYPE_CHECKING:
    from penstock_broker.node.peers.peer import Peer
    from penstock_broker.node.peers.peers import Peers
    from penstock_broker.node.session import Session

PAUSE_SECONDS_MIN: Final = 0.05
PAUSE_SECONDS_MAX: Final = 2.0
GREETING_SECONDS_MAX: Final = 2.0


class Line:
    """A connection that we dial; the link of its session.

    Attributes:
        up: whether the other node has agreed to talk.
        dialing: whether the shell opens the connection at the moment.
        next_at: when it may be dialled next.
        since: since when it is connected, or up.
    """

    __slots__ = ("_pause", "_peers", "bulky", "bytes_max", "channel", "dialing", "frame_bytes_max",
                 "next_at", "peer", "session", "since", "up")  # fmt: skip

    def __init__(self, peers: Peers, peer: Peer, channel: Channel) -> None:
        self._peers = peers
        self.peer = peer
        self.channel = channel
        self.bytes_max = QUEUE_BYTES_MAX[channel]
        self.frame_bytes_max = HELLO_BYTES_MAX
        self.bulky = False
        self.session: Session | None = None
        self.up = False
        self.dialing = False
        self.next_at = 0.0
        self.since = 0.0
        self._pause = 0.0

    @property
    def idle(self) -> bool:
        """Whether there is no connection, nor will there be."""
        return self.session is None and not self.dialing

    @property
    def unsent_bytes(self) -> int:
        """What waits to be sent."""
        return self.session.unsent_bytes if self.session is not None else 0

    def dialed(self, session: Session) -> None:
        """The connection is open: say hello."""
        if not self.dialing:  # it was meant for an earlier line to that node
            self._peers.hang_up(session)
            return
        self.dialing = False
        session.link = self
        self.session = session
        self.since = self._peers.clock
        self._peers.say_hello(session, self.channel, self.peer.id)

    def failed(self) -> None:
        """There is no connection: rest, then try again."""
        self.dialing = self.up = False
        self.session = None
        longer = min(PAUSE_SECONDS_MAX, self._pause * 2)
        self._pause = max(longer, PAUSE_SECONDS_MIN)
        self.next_at = self._peers.clock + self._pause * self._peers.jitter()
        self._peers.dial_from(self.next_at)

    def hurry(self) -> None:
        """The other node is there: dial at once if there is no connection."""
        self._pause = 0.0
        if self.idle:
            self.next_at = self._peers.clock
            self._peers.dial_from(self.next_at)

    def give_up(self) -> None:
        """Close the connection, if there is one, without waiting for it to be closed."""
        session = self.session
        if session is not None:
            self.failed()
            self._peers.hang_up(session)

    def tick(self, now: float) -> None:
        """Give up a node that does not answer the hello."""
        if self.session is not None and not self.up and now - self.since > GREETING_SECONDS_MAX:
            self.give_up()

    def receive(
        self, session: Session, type_: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        """The answer to the hello.

        Raises:
            StaleDirectory: the other node knows that the directory of this one is an older copy.
        """
        if self.up or session is not self.session:
            raise RemoteProtocolError("a node answers over the connection that it dialled itself")
        try:
            answer = decode_answer(buffer, start, end)
            self._peers.check_answer(self, answer)
        except StaleDirectory:
            raise  # to take part would be to go back on what this node has said
        except PenstockError as error:
            self._peers.refused(self.peer, error)
            self.give_up()
            return
        self.up = True
        self._pause = 0.0
        self.since = self._peers.clock
        session.ready = True
        self._peers.came_up(self)

    def disconnected(self, session: Session) -> None:
        """The connection is gone."""
        if session is self.session:
            was_up = self.up
            self.failed()
            if was_up:
                self._peers.broke(self)

    def send(self, buffers: Iterable[Buffer]) -> bool:
        """Queue one frame; False: the line is down, or too much waits already."""
        session = self.session
        if session is None or not self.up or session.unsent_bytes > self.bytes_max:
            return False
        self._peers.emit(session, buffers)
        return True
