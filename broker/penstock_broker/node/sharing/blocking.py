"""What keeps a shared group as a whole from going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock_broker.machine.sharing.state import FREE, MOVING, TIMER

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.partition import PartitionGroup

BLOCKS: Final = {
    "no_member": "no member of the group is attached",
    "window": "the group's window is full",
    "in_flight": "as many records are under lease as the group allows",
    "member_in_flight": "every member holds as many records as it may",
    "limit": "its key or tenant is at its limit",
    "loading": "the broker is still looking through earlier records",
    "scan": "the broker is still looking through earlier records",
    "no_demand": "the members are busy and ask for nothing at the moment",
    "dead_letter_topic": "the dead-letter topic can't take it",
    "target": "the topic can't take it",
}


def group_blocked_by(partition: PartitionGroup, group: SharedGroup) -> str:
    """What keeps a group as a whole from going on; empty: nothing."""
    if group.window.count(MOVING) and partition.shared.mover.blocked(group.name):
        return "target" if group.kind == TIMER else "dead_letter_topic"
    dispatcher = partition.shared.dispatchers.get(group.name)
    waits = group.window.count(FREE) or group.end < partition.log.end_offset
    if dispatcher is None or not waits:
        return ""
    attached = [member for member in dispatcher.members.values() if member.attachment is not None]
    if not attached:
        return "no_member"
    settings = group.settings
    if dispatcher.in_flight >= settings.max_in_flight:
        return "in_flight"
    if dispatcher.ready.blocked_by:
        return dispatcher.ready.blocked_by
    full = settings.member_in_flight_max
    if all(m.held + m.claimed >= min(full, m.in_flight_max) for m in attached):
        return "member_in_flight"
    return "" if dispatcher.waiting else "no_demand"
