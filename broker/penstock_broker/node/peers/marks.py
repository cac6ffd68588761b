"""How far each node's disk was known to be: by that an older copy of a data directory is found out.

A node tells its mark, the next flush of its write-ahead log behind all that are durable, in its
hellos and heartbeats, together with the number of this life of its process. A mark never goes back,
so a later life begins at or above the marks of all earlier ones, unless its directory is an older
copy: that has forgotten votes and entries which others count on. Nodes also tell each other what
they know of third ones, so that a node that was just started soon knows what the others do. Nothing
of this is kept on the disk: see OPERATIONS.md for what remains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from penstock.errors import StaleDirectory

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

LIVES_MAX: Final = 8
"""Lives of a node that are remembered, those with the highest marks."""
TOLD_MAX: Final = 256
"""Nodes in a hello."""
_LIFE_BITS: Final = 62

Told = Mapping[int, Sequence[int]]
"""Node -> (life, mark)."""


class Marks:
    """What this node knows of the others' disks, and says of its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.life = node.rng.getrandbits(_LIFE_BITS) | 1
        self._lives: dict[int, dict[int, int]] = {}
        self._present: dict[int, tuple[int, int]] = {}
        """Node -> life, and the mark that it began with, of the one that greeted last."""

    @property
    def opened(self) -> int:
        """The mark with which this life began."""
        return self._node.store.opened_mark

    @property
    def mark(self) -> int:
        """How far this node's disk is."""
        return self._node.store.mark

    def told(self) -> dict[int, tuple[int, int]]:
        """The highest mark of each other node, for a hello."""
        found = {}
        for node in list(self._lives)[:TOLD_MAX]:
            life, mark = max(self._lives[node].items(), key=lambda item: item[1])
            found[node] = life, mark
        return found

    def greet(self, node: int, life: int, opened: int) -> None:
        """A node says hello.

        Raises:
            StaleDirectory: its directory is an older copy.
        """
        if not life:
            return
        known = self._above(node, life, opened)
        if known:
            raise StaleDirectory(
                f"the data directory of node {node} is an older copy: it is at flush {opened}, "
                f"and was known to be at {known}",
                node=node,
                found=opened,
                known=known,
            )
        self._present[node] = life, opened
        self.heard(node, life, opened)

    def _above(self, node: int, life: int, opened: int) -> int:
        """The highest mark of another life that is above the one with which this one began."""
        others = [mark for other, mark in self._lives.get(node, {}).items() if other != life]
        highest = max(others, default=0)
        return highest if highest > opened else 0

    def beat(self, node: int, mark: int) -> None:
        """The node that greeted is that far now."""
        present = self._present.get(node)
        if present is not None:
            self.heard(node, present[0], mark)

    def heard(self, node: int, life: int, mark: int) -> None:
        """Somebody knows that a node was that far."""
        lives = self._lives.setdefault(node, {})
        lives[life] = max(lives.get(life, 0), mark)
        if len(lives) > LIVES_MAX:
            self._lives[node] = dict(nlargest(LIVES_MAX, lives.items(), key=lambda item: item[1]))

    def learn(self, told: Told) -> list[int]:
        """What another node knows; returns who turned out to be an older copy by that.

        Raises:
            StaleDirectory: this node's own directory is one.
        """
        here = self._node.node_id
        for node, (life, mark) in told.items():
            if node != here:
                self.heard(node, life, mark)
            elif life != self.life and mark > self.opened:
                raise StaleDirectory(
                    f"this data directory is an older copy of that of node {here}: it is at flush "
                    f"{self.opened}, and was known to be at {mark}",
                    node=here,
                    found=self.opened,
                    known=mark,
                )
        return [node for node in told if node in self._present and self._is_stale(node)]

    def _is_stale(self, node: int) -> bool:
        return self._above(node, *self._present[node]) > 0

    def forget(self, gone: Iterable[int]) -> None:
        """Nodes that never come back."""
        for node in gone:
            self._lives.pop(node, None)
            self._present.pop(node, None)
