"""How a leader gathers small publishes before it replicates them.

A round of replication costs every replica a wake-up, a frame, a write and a sync, whether it
carries one batch or a hundred. So what is small waits while a round of its partition is on its way,
and, once that is answered, a moment longer for the clients that were answered: most publish again
at once. Invariants: clients are waited for no longer than their last round took, nor than
`NodeConfig.gather_us`; when most of them did not come, some rounds pass before they are waited for
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node

ENTRIES_MAX: Final = 256
BYTES_MAX: Final = 64 * 1024
"""What is on its way and what waits are small below these; beyond them nothing waits."""
ROUND_SECONDS_MAX: Final = 0.01
"""Where the quickest round of late took longer the network is slow: nothing waits for it."""
FORGETS: Final = 1.02
"""Factor by which the quickest round is forgotten with each that follows."""
RESTS: Final = 4
"""Rounds for which clients are not waited for, after most of them did not come."""


class Gathering:
    """Which groups wait, and for how many clients.

    Attributes:
        missing: publishes that were answered of late and not followed by another one.
    """

    __slots__ = ("_answered", "_held", "_node", "_rests", "_seconds_max", "_until", "missing")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seconds_max = node.config.gather_us / 1e6
        self.missing = 0
        self._answered = 0
        self._until = 0.0
        self._rests = 0
        self._held: dict[int, Group] = {}

    def answered(self, count: int, seconds: float) -> None:
        """So many publishes are answered, whose round took so long."""
        if not self._seconds_max:
            return
        if self._rests:
            self._rests -= 1
            return
        now = self._node.clock
        self.missing = count + (self.missing if now < self._until else 0)
        self._answered = self.missing
        self._until = now + min(seconds, self._seconds_max)

    def holds(self, group: Group) -> bool:
        """Whether a group's proposals wait for clients that were just answered."""
        if not self.missing:
            return False
        if self._node.clock >= self._until:
            if self.missing * 2 > self._answered:
                self._rests = RESTS
            self.missing = 0
            return False
        self._held[group.gid] = group
        return True

    @property
    def waiting(self) -> bool:
        """Whether any group waits."""
        return bool(self._held)

    def release(self) -> None:
        """A round ends: have the groups looked at that have waited long enough."""
        if self._held and (not self.missing or self._node.clock >= self._until):
            held, self._held = self._held, {}
            for group in held.values():
                self._node.mark(group)

    def seconds_left(self, now: float) -> float:
        """How long the shell may wait for input before it begins a round; 0: nothing waits."""
        return max(self._until - now, 1e-6) if self._held else 0.0
