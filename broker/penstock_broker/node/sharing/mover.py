"""Moves records of a partition's groups to other partitions, each exactly once: all its lanes.

Each group with moves has a lane (`move_lane`), which is made anew whenever the lead is gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock_broker.machine.effects import Effect, MovesWaiting, SharedConfigured, SharedRemoved
from penstock_broker.machine.sharing.state import MOVING
from penstock_broker.node.sharing.move_lane import Lane

if TYPE_CHECKING:
    from penstock_broker.node.sharing.shared import SharedPartition


class Mover:
    """The lanes of one partition; a part of its `SharedPartition`."""

    __slots__ = ("_lanes", "_shared")

    def __init__(self, shared: SharedPartition) -> None:
        self._shared = shared
        self._lanes: dict[str, Lane] = {}

    def lane(self, name: str) -> Lane | None:
        """The lane of a group, made if there is none; None: the group is not here."""
        group = self._shared.partition.machine.sharing.groups.get(name)
        lane = self._lanes.get(name)
        if lane is not None and lane.group is not group:
            self._drop(name)
            lane = None
        if lane is None and group is not None:
            lane = self._lanes[name] = Lane(self._shared, group)
        return lane

    def blocked(self, name: str) -> str:
        """What keeps a group's moves from going on; empty: nothing."""
        lane = self._lanes.get(name)
        return lane.blocked if lane is not None else ""

    def on_leading(self) -> None:
        for name, group in self._shared.partition.machine.sharing.groups.items():
            if group.moves.begun or group.window.count(MOVING):
                self._wake(name)

    def on_lost_leadership(self) -> None:
        for name in list(self._lanes):
            self._drop(name)

    def on_effects(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, MovesWaiting) or (
                isinstance(effect, SharedConfigured) and effect.group in self._lanes
            ):
                self._wake(effect.group)
            elif isinstance(effect, SharedRemoved):
                self._drop(effect.group)

    def tick(self) -> None:
        for lane in list(self._lanes.values()):
            lane.tick()

    @property
    def next_us(self) -> int | None:
        if not self._lanes:
            return None
        return min((lane.retry_us for lane in self._lanes.values() if lane.retry_us), default=None)

    def _wake(self, name: str) -> None:
        lane = self.lane(name)
        if lane is not None:
            lane.step()

    def _drop(self, name: str) -> None:
        lane = self._lanes.pop(name, None)
        if lane is not None:
            lane.end()
