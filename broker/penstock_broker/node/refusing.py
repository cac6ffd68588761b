"""Which brokers take no writes now, as they say themselves: no leads go there, and no replicas.

One whose disk is full, or can't keep up, tells the others once a second, and when it is over. Who
says nothing takes writes, so this costs nothing while all is well. Invariant: what a node said
counts for a few seconds; nothing that must be right depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.frames import FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import Channel, check, checked_frame

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

REFUSING: Final = 0x7C
"""Type of the frame: one byte, 1: the sender takes no writes, 0: it takes them again."""
TELL_SECONDS: Final = 1.0
COUNTS_SECONDS: Final = 3.0
HOLD_SECONDS: Final = 10.0
"""A disk that has a little room again is not trusted at once."""


class Refusing:
    """What this broker tells the others, and what they told.

    Attributes:
        here: whether this broker takes no writes, or took none a moment ago.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._until: dict[int, float] = {}
        self._here_until = 0.0
        self._tell_at = 0.0
        self.here = False
        node.peers.receivers[REFUSING] = self.received

    def tick(self) -> None:
        """A few times a second: look at the disk, and tell."""
        now, before = self._node.clock, self.here
        if not self._node.store.accepting:
            self._here_until = now + HOLD_SECONDS
        self.here = now < self._here_until
        if self.here != before or (self.here and now >= self._tell_at):
            self._tell_at = now + TELL_SECONDS
            frame = checked_frame(REFUSING, bytes([self.here]))
            for peer in self._node.peers.all():
                self._node.peers.post(peer, Channel.CONTROL, [frame])

    def received(self, sender: int, buffer: memoryview, start: int, end: int, owned: bool) -> None:
        """Another broker says whether it takes writes.

        Raises:
            RemoteProtocolError: the frame is damaged.
        """
        check(buffer, start, end)
        body = bytes(buffer[start + FRAME_HEADER_BYTES : end])
        if body not in (b"\0", b"\1"):
            raise RemoteProtocolError(
                "a node says neither that it takes writes nor that it does not"
            )
        self._until[sender] = self._node.clock + COUNTS_SECONDS if body[0] else 0.0

    def __call__(self, node_id: int) -> bool:
        """Whether a node takes no writes now."""
        if node_id == self._node.node_id:
            return self.here
        return self._node.clock < self._until.get(node_id, 0.0)
