"""The ways of a record out of its window, and of leases out of their group."""

from __future__ import annotations

from typing import Final

from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.lease import Lease
from penstock_broker.machine.sharing.ops import Spans
from penstock_broker.machine.sharing.outcome import Outcome, add
from penstock_broker.machine.sharing.spans import pairs
from penstock_broker.machine.sharing.state import DONE, HELD, HOLD, MOVING

WAS_REJECTED: Final = "rejected"
EXHAUSTED: Final = "attempts"
NEVER_RETRY: Final = "never_retry"
MAX_AGE: Final = "max_age"
OVERTAKEN: Final = "overtaken"
DUE: Final = "due"
CARRIED: Final = "carried"


def finish(group: SharedGroup, first: int, end: int, state: int, out: Outcome) -> None:
    """Records of [first, end), all in one state, are DONE."""
    group.window.change(first, end, state, DONE)
    group.troubles.forget(first, end)
    if group.moves.carried:
        group.moves.forget(first, end)
    add(out.settled, first, end)
    add(out.done, first, end)


def finish_all(group: SharedGroup, spans: Spans, state: int, out: Outcome) -> None:
    """As `finish`, of ascending spans; they are all that the op changes."""
    group.window.change_all(spans, state, DONE)
    for first, end in pairs(spans) if group.troubles else ():
        group.troubles.forget(first, end)
    for first, end in pairs(spans) if group.moves.carried else ():
        group.moves.forget(first, end)
    out.settled, out.done = list(spans), list(spans)


def leave(group: SharedGroup, lease: Lease, count: int, out: Outcome) -> None:
    """A lease holds `count` records less; with the last one it is over."""
    lease.left -= count
    assert lease.left >= 0, f"lease {lease.id} gives more than it holds"
    if lease.left == 0:
        group.end_lease(lease)
        out.ended.append(lease.id)


def give_up(group: SharedGroup, first: int, end: int, state: int, cause: str, out: Outcome) -> None:
    """Records of [first, end) will not be tried again: dead letters, or dropped."""
    counters, count = group.counters, end - first
    if cause == WAS_REJECTED:
        counters.rejected += count
    elif cause in (EXHAUSTED, NEVER_RETRY):
        counters.exhausted += count
    if group.drops:
        counters.dropped += count
        finish(group, first, end, state, out)
        return
    group.troubles.doom(first, end, cause)
    add(out.settled, first, end)
    if group.kind == HOLD:
        group.window.change(first, end, state, HELD)
        add(out.held, first, end)
    else:
        group.window.change(first, end, state, MOVING)
        out.moving = True
