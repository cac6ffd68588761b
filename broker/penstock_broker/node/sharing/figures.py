"""The figures of a shared group in one partition. Costs no look at each record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from penstock.protocol.sharing import MemberInFlight, SharedFigures
from penstock_broker.machine.sharing.state import DELAYED, FREE, HELD, LEASED, MOVING, TIMER
from penstock_broker.machine.sharing.trouble import Trouble
from penstock_broker.node.sharing.ages import appended_us
from penstock_broker.node.sharing.blocking import group_blocked_by

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.partition import PartitionGroup

TROUBLES_COUNTED: Final = 100_000
"""The histogram of attempts is of so many records with troubles, the oldest ones."""


def figures(partition: PartitionGroup, group: SharedGroup) -> SharedFigures:
    """How a group fares in a partition that is led here."""
    window, log = group.window, partition.log
    fresh = max(0, log.end_offset - max(group.end, log.start_offset))
    oldest = max(group.start, log.start_offset)
    counters = {name: getattr(group.counters, name) for name in group.counters.__struct_fields__}
    return SharedFigures(
        partition=partition.partition,
        start=group.start,
        end=group.end,
        high_watermark=log.end_offset,
        ready=window.count(FREE) + fresh,
        leased=window.count(LEASED),
        delayed=window.count(DELAYED),
        moving=window.count(MOVING),
        held=window.count(HELD),
        in_flight_max=group.settings.max_in_flight,
        oldest_unacked_us=appended_us(log, oldest),
        next_ready_us=_next_ready_us(partition, group),
        blocked_by=group_blocked_by(partition, group),
        counters=counters,
        time_in_queue_ms=partition.shared.queue_times.of(group.name),
        attempts=_attempts(group.troubles.values()),
        members=_members(partition, group),
    )


def _next_ready_us(partition: PartitionGroup, group: SharedGroup) -> int:
    """When the next delayed record may be due, or a little before; 0: there is none."""
    if not group.window.count(DELAYED):
        return 0
    if group.kind == TIMER:
        return partition.shared.delayed.next_us or 0
    dispatcher = partition.shared.dispatchers.get(group.name)
    return (dispatcher.next_retry_us or 0) if dispatcher is not None else 0


def _attempts(troubles: Iterable[Trouble]) -> dict[int, int]:
    """Failed attempts (timed out ones too) -> records that had so many."""
    counted = Counter(
        trouble.failed + trouble.timed_out for trouble in islice(troubles, TROUBLES_COUNTED)
    )
    return dict(sorted(counted.items()))


def _members(partition: PartitionGroup, group: SharedGroup) -> list[MemberInFlight]:
    """Members that are attached or hold something, by name."""
    dispatcher = partition.shared.dispatchers.get(group.name)
    if dispatcher is None:
        return []
    oldest: dict[str, int] = {}
    for lease in group.leases.values():
        oldest.setdefault(lease.member, lease.granted_us)  # leases are listed oldest first
    return [
        MemberInFlight(
            member=name,
            host=member.host,
            attached=member.attachment is not None,
            in_flight=member.held + member.claimed,
            oldest_us=oldest.get(name, 0),
        )
        for name, member in sorted(dispatcher.members.items())
    ]
