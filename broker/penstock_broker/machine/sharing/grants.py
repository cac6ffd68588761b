"""Leases begin, and last longer or shorter: `Grant`, `Renew`, `Extend`."""

from __future__ import annotations

from penstock.errors import BadRequest, LimitExceeded
from penstock_broker.machine.commands import refuse
from penstock_broker.machine.names import TEXT_LENGTH_MAX
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.lease import NO_LIMIT_US, Lease
from penstock_broker.machine.sharing.ops import LEASES_MAX, Extend, Grant, Renew, Spans
from penstock_broker.machine.sharing.outcome import (
    UNCHANGED,
    Result,
    Scene,
    add,
    refused,
    total,
)
from penstock_broker.machine.sharing.replies import Granted, Renewed
from penstock_broker.machine.sharing.spans import check_spans, pairs
from penstock_broker.machine.sharing.state import DELAYED, FREE, LEASED, SHARED, TIMER


def grant(group: SharedGroup, op: Grant, scene: Scene) -> Result:
    """Lease what can be leased."""
    wrong = check_spans(op.spans)
    if wrong is None and (group.kind == TIMER or op.lease <= 0 or op.lease in group.leases):
        wrong = refuse(BadRequest, "the lease is known already, or the group grants none")
    if wrong is None and max(len(op.member), len(op.host)) > TEXT_LENGTH_MAX:
        wrong = refuse(BadRequest, "a member or host is too long")
    if wrong is None and len(group.leases) >= LEASES_MAX:
        wrong = refuse(LimitExceeded, f"a group has at most {LEASES_MAX} leases in a partition")
    if wrong is not None:
        return refused(wrong)
    serial = group.next_serial()
    taken = _take(group, op.spans, serial, scene)
    if not taken:
        return Granted(taken), UNCHANGED
    hold_ms, now = group.settings.hold_max_ms, scene.now_us
    hold_until = NO_LIMIT_US if hold_ms < 0 else now + hold_ms * 1000
    count = total(taken)
    group.counters.delivered += count
    group.add_lease(
        Lease(
            op.lease, serial, op.member, op.host, now, _clamp(op.deadline_us, hold_until),
            hold_until, count, taken,
        )
    )  # fmt: skip
    return Granted(taken), UNCHANGED


def _take(group: SharedGroup, spans: Spans, serial: int, scene: Scene) -> Spans:
    """Make LEASED what is free or ready, as far as the group's limits go."""
    window, settings = group.window, group.settings
    room = settings.max_in_flight - window.count(LEASED)
    high = scene.log_end
    if group.kind == SHARED:
        high = min(high, window.start + settings.window_max)
    if spans and total(spans) <= room and spans[-2] + spans[-1] <= high:
        window.extend(spans[-2] + spans[-1], FREE)
        if window.all_are(spans, FREE):
            window.change_all(spans, FREE, LEASED, serial)
            return list(spans)
    taken: Spans = []
    for first, wanted_end in pairs(spans):
        end = min(wanted_end, high)
        for state, _, low, after in window.pieces(first, end):
            if state == FREE:
                room -= _lease(group, FREE, low, min(after, low + room), serial, taken)
            elif state == DELAYED:
                room -= _take_ready(group, low, after, room, serial, scene.now_us, taken)
        fresh = max(first, window.end)
        end = min(end, fresh + room)
        if fresh < end:
            window.extend(end, FREE)
            room -= _lease(group, FREE, fresh, end, serial, taken)
    return taken


def _take_ready(
    group: SharedGroup, low: int, end: int, room: int, serial: int, now_us: int, taken: Spans
) -> int:
    found = 0
    for first, count in group.window.due(low, end, now_us):
        stop = first + min(count, room - found)
        found += _lease(group, DELAYED, first, stop, serial, taken)
    return found


def _lease(group: SharedGroup, old: int, first: int, end: int, serial: int, taken: Spans) -> int:
    if end <= first:
        return 0
    group.window.change(first, end, old, LEASED, serial)
    add(taken, first, end)
    return end - first


def renew(group: SharedGroup, op: Renew, scene: Scene) -> Result:
    """Set the deadline of a member's leases, within what each may be held."""
    if len(op.leases) > LEASES_MAX:
        return refused(refuse(LimitExceeded, f"an op has at most {LEASES_MAX} leases"))
    lost = []
    for id_ in op.leases:
        lease = group.leases.get(id_)
        if lease is None or lease.member != op.member:
            lost.append(id_)
        else:
            lease.deadline_us = _clamp(op.deadline_us, lease.hold_until_us)
    return Renewed(lost), UNCHANGED


def extend(group: SharedGroup, op: Extend, scene: Scene) -> Result:
    """Set one deadline, whatever the limit was."""
    lease = group.leases.get(op.lease)
    if lease is None:
        return Renewed([op.lease]), UNCHANGED
    lease.deadline_us = _clamp(op.deadline_us, NO_LIMIT_US)
    lease.hold_until_us = max(lease.hold_until_us, lease.deadline_us)
    return Renewed([]), UNCHANGED


def _clamp(time_us: int, high: int) -> int:
    return max(0, min(time_us, high))
