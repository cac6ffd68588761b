"""Leads go back to the preferred leaders, on every broker for the groups that it leads.

The preferred leader of a partition is the first of its replicas that is there and not draining. A
node that comes back gets its leads when it has been here for a while and has caught up, a few at a
time, so that producers and consumers notice little.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.machine.topology import ACTIVE, Partition

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node
    from penstock_broker.raft import Raft

STEADY_SECONDS: Final = 5.0
"""A node that came back gets no leads before."""
LOOK_SECONDS: Final = 1.0
SETTLED_SECONDS: Final = 10.0
"""A lead that is younger stays: who gave it away may be about to stop."""
RETURNED_SECONDS: Final = 60.0
"""A lead that came back within this time after it was given away stays for as long: who does not
want it may have a reason that it did not tell."""
ENTRIES_BEHIND_MAX: Final = 64
PER_TICK: Final = 2
"""Leads that go in one tick; there are four ticks a second."""


class Leads:
    """Hands over what others should lead."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._look_at = 0.0
        self._queue: deque[int] = deque()
        self._since: dict[int, float] = {}
        """Group that is led here -> since when, or when it was tried last to hand it over."""
        self._given: dict[int, tuple[int, float]] = {}
        """Group -> (term, when) it was handed over."""

    def tick(self) -> None:
        """Look who should lead what, and hand over a few."""
        node = self._node
        if node.clock >= self._look_at:
            self._look_at = node.clock + LOOK_SECONDS
            led = list(node.groups.led())
            self._since = {g.gid: self._led_since(g) for g in led}
            young = node.clock - RETURNED_SECONDS
            self._given = {gid: g for gid, g in self._given.items() if g[1] >= young}
            old = node.clock - SETTLED_SECONDS
            self._queue = deque(
                g.gid for g in led if self._since[g.gid] <= old and self._successor(g)
            )
        for _ in range(min(PER_TICK, len(self._queue))):
            found = node.groups.get(self._queue.popleft())
            successor = self._successor(found) if found is not None and found.leading else 0
            if found is None or not successor:
                continue
            self._since[found.gid] = node.clock
            try:
                found.transfer(successor)
            except PenstockError:
                continue  # its members are being changed: later
            self._given[found.gid] = (found.raft.term, node.clock)

    def _led_since(self, group: Group) -> float:
        """From when on a lead counts as old."""
        now = self._node.clock
        term, _ = self._given.get(group.gid, (group.raft.term, now))
        if group.raft.term == term:
            return self._since.get(group.gid, now)
        del self._given[group.gid]
        return now + RETURNED_SECONDS - SETTLED_SECONDS

    def _successor(self, group: Group) -> int:
        """Who should lead a group instead; 0: nobody."""
        machine = self._node.groups.metadata.machine
        if group.gid == 0:
            return self._metadata_successor(group.raft)
        place = machine.locate(group.gid)
        if place is None:
            return 0
        partition: Partition = place[0].partitions[place[1]]
        if partition.moving:
            return 0
        here = self._node.node_id
        for node in partition.replicas:
            if node == here and self._is_active(here):
                return 0
            if node != here and self._may_lead(group.raft, node):
                return node
        return 0

    def _metadata_successor(self, raft: Raft) -> int:
        """Group 0 is led by whom it likes, but not by a node that is draining."""
        if self._is_active(raft.id):
            return 0
        return next((n for n in raft.configuration.voters if self._may_lead(raft, n)), 0)

    def _is_active(self, node: int) -> bool:
        entry = self._node.groups.metadata.machine.nodes.get(node)
        return entry is not None and entry.state == ACTIVE

    def _may_lead(self, raft: Raft, node: int) -> bool:
        if node == raft.id or node not in raft.configuration.voters or not self._is_active(node):
            return False
        if self._node.refusing(node):
            return False
        progress = raft.progress.get(node)
        near = progress is not None and progress.match + ENTRIES_BEHIND_MAX >= raft.log.last_index
        return near and self._node.groups.controller.liveness.steady(node, STEADY_SECONDS)
