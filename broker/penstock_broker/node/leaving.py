"""Replicas that were removed, until that is certain: a node whose metadata is behind may be wrong.

A partition may have settled without this node and want it back since. Then its leader may count on
what lies here, as soon as the replica has answered it, and must not lose it by an old word. So a
replica falls silent when it hears that it was removed, and the node asks how far the metadata is.
What it answered before that, it answered as a member that the metadata names by then. Invariant: a
replica that is dropped was removed after its last answer as a member, or before its first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.errors import PenstockError, Throttled

if TYPE_CHECKING:
    from penstock_broker.node.node import Node


class Leaving:
    """Which replicas are silent, and what becomes of them."""

    def __init__(self, node: Node, drop: Callable[[int], None]) -> None:
        self._node = node
        self._drop = drop
        self.silent: set[int] = set()
        """Groups that answer no other node, as if they were not here."""
        self._asking = False
        self._asked: set[int] = set()
        """Of these, those that were silent when the question was asked that is under way."""

    def add(self, gid: int) -> None:
        """The metadata here says that a replica of this node was removed."""
        self.silent.add(gid)
        self.step()

    def discard(self, gid: int) -> None:
        """It is wanted here again, or its group is gone."""
        self.silent.discard(gid)
        self._asked.discard(gid)

    def step(self) -> None:
        """Ask how far the metadata is, if somebody waits for that."""
        if not self.silent or self._asking:
            return
        self._asking, self._asked = True, set(self.silent)
        try:
            if not self._node.asking.refresh(self._known):
                self._known(None)
        except Throttled as error:
            self._known(error)

    def _known(self, error: PenstockError | None) -> None:
        """All that was decided before the question is known; with an error it is asked again."""
        asked, self._asked, self._asking = self._asked, set(), False
        if error is not None:
            return
        for gid in sorted(asked):
            self.silent.discard(gid)
            place = self._node.groups.metadata.machine.locate(gid)
            if place is None or self._node.node_id not in place[0].partitions[place[1]].holders:
                self._drop(gid)
