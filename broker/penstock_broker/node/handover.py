"""Giving all leads of this node away: before it stops, or when its disk does not answer.

Each lead goes to a voter that is heard of, one on another machine if there is any. What nobody can
take is kept; the time for it all is bounded, so that a node can always stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock.errors import RequestError, RetriableError
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node

HAND_OVER_SECONDS_MAX: Final = 5.0


class HandOver:
    """At most one at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._until: float | None = None
        self._then: Callable[[], None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether leads are being given away."""
        return self._until is not None

    @property
    def possible(self) -> bool:
        """Whether there is a lead here that somebody else could take."""
        return any(self._successor(group) != NOBODY for group in self._led())

    def begin(self, then: Callable[[], None] | None = None) -> None:
        """Give all leads away; `then` is called when that is done, or can't be."""
        self._until = self._node.clock + HAND_OVER_SECONDS_MAX
        self._then = then or self._then
        self.tick()

    def tick(self) -> None:
        """Go on with it."""
        if self._until is None:
            return
        waiting = 0
        for group in self._led():
            successor = self._successor(group)
            if successor == NOBODY:
                continue
            waiting += 1
            if group.raft.transferee == NOBODY:
                self._transfer(group, successor)
        if not waiting or self._node.clock >= self._until:
            self._until = None
            then, self._then = self._then, None
            if then is not None:
                then()

    def _led(self) -> list[Group]:
        return [group for group in self._node.groups.restless() if group.raft.is_leader]

    def _successor(self, group: Group) -> int:
        """The voter that is furthest, best on another machine; nobody, if none is heard of.

        The brokers of one machine are often stopped together. One that takes no writes is better
        than none for who stops, but not for who takes no writes itself.
        """
        raft, alive = group.raft, self._node.peers.alive
        nodes, here = self._node.groups.metadata.machine.nodes, self._node.config.host

        refusing = self._node.refusing

        def rank(node: int) -> tuple[bool, bool, int]:
            elsewhere = node in nodes and nodes[node].host != here
            return not refusing(node), elsewhere, raft.progress[node].match

        found = [node for node in raft.configuration.voters if node != raft.id and alive(node)]
        if self._then is None and not self._node.store.accepting:
            found = [node for node in found if not refusing(node)]
        return max(found, key=rank, default=NOBODY)

    @staticmethod
    def _transfer(group: Group, successor: int) -> None:
        try:
            group.transfer(successor)
        except (RequestError, RetriableError):
            return  # its members are being changed, or it has no lead to give: looked at again
