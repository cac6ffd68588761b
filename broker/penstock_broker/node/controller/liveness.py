"""Since when other nodes are silent, or here, as this node sees it.

Invariant: silence counts only while this node could have heard: after a pause of its own, every
silence begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

PAUSE_SECONDS: Final = 2.0
"""Whoever did not look for so long was paused itself."""


class Liveness:
    """Looks at the nodes a few times a second."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[bool, float]] = {}
        """Node -> whether it is heard of, and since when that is so."""
        self._looked_at = 0.0

    def look(self, nodes: Iterable[int], alive: Callable[[int], bool], now: float) -> None:
        """See who is alive now."""
        paused = now - self._looked_at > PAUSE_SECONDS
        self._looked_at = now
        before, self._since = self._since, {}
        for node in nodes:
            heard = alive(node)
            known = before.get(node)
            if known is None or known[0] is not heard or (paused and not heard):
                known = (heard, now)
            self._since[node] = known

    def alive(self, node: int) -> bool:
        """Whether a node was heard of when last looked at."""
        return self._since.get(node, (False, 0.0))[0]

    def silent(self, node: int, seconds: float) -> bool:
        """Whether a node was silent for so long."""
        heard, since = self._since.get(node, (True, 0.0))
        return not heard and self._looked_at - since >= seconds

    def steady(self, node: int, seconds: float) -> bool:
        """Whether a node has been here for so long."""
        heard, since = self._since.get(node, (False, 0.0))
        return heard and self._looked_at - since >= seconds
