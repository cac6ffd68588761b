"""How far the leader lets a partition's log be trimmed, and what is saved before.

By age and size; never what a group still needs where the topic says `until_acked`. Elsewhere
records may be overtaken: deleted before a shared group has settled them. The trim counts them, or,
if the group says so, they become dead letters first, and the trim waits until they are moved. The
companion of a topic's delayed records is trimmed as they are settled, whatever their age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock_broker.machine.commands import Trim, encode_command
from penstock_broker.machine.sharing.giving_up import OVERTAKEN
from penstock_broker.machine.sharing.ops import Overtake
from penstock_broker.machine.sharing.state import DONE, MOVING, SHARED, TIMER

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.partition import PartitionGroup

RETENTION_SECONDS: Final = 10.0
SAVING_SECONDS: Final = 1.0
"""Pause between looks while overtaken records are being saved."""


def apply_retention(partition: PartitionGroup) -> float:
    """Propose what is to be trimmed now; returns the seconds until the next look."""
    point = _point(partition)
    if point is None:
        return RETENTION_SECONDS
    saving = [
        group
        for group in partition.machine.sharing.groups.values()
        if group.start < point and _saves(group)
    ]
    for group in saving:
        if _is_unsaved(group, point):
            partition.shared.offer(Overtake(group=group.name, end=point, reason=OVERTAKEN))
    safe = min([point, *(group.start for group in saving)])
    if safe > partition.log.start_offset:
        partition.propose_command(encode_command(Trim(offset=safe)))
    return SAVING_SECONDS if saving else RETENTION_SECONDS


def _point(partition: PartitionGroup) -> int | None:
    """The offset below which records may go; None: nothing may."""
    machine, log, config = partition.machine, partition.log, partition.config
    timers = [group.start for group in machine.sharing.groups.values() if group.kind == TIMER]
    if timers:
        point = min(timers)
        return point if point > log.start_offset else None
    floor = machine.floor if config.retention == "until_acked" else None
    return log.retention_point(
        partition.node.wall_us, config.retention_ms * 1000, config.retention_bytes, floor
    )


def _saves(group: SharedGroup) -> bool:
    """Whether what retention overtakes becomes a dead letter."""
    wanted = group.settings.overtaken == "dead_letter"
    return wanted and group.kind == SHARED and not group.drops


def _is_unsaved(group: SharedGroup, point: int) -> bool:
    """Whether a record below the point is neither settled nor on its way to the dead letters."""
    pieces = group.window.pieces(group.start, point)
    return group.end < point or any(state not in (DONE, MOVING) for state, *_ in pieces)
