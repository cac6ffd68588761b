"""The links of a broker that has none."""

from __future__ import annotations

from penstock_broker.raft import Message


class Alone:
    """No other node exists."""

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[int, int]] = {}
        """Group -> (term, node) that leads it elsewhere."""

    def alive(self, node_id: int) -> bool:
        """Whether a node was heard of not long ago."""
        return False

    def announce(self, gid: int, term: int) -> None:
        """Tell the others that this node leads a group; term 0: no longer."""

    def send(self, gid: int, message: Message) -> None:
        """Send a message of a group; nobody is there to get it."""
