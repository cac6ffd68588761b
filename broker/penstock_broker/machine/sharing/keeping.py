"""Records that no member holds: dead letters, delayed ones, old ones, deleted ones.

`Redrive`, `Purge`, `Outdate`, `Overtake`, and what a `Trim` leaves of a group.
"""

from __future__ import annotations

from itertools import groupby

from msgspec.structs import replace

from penstock.errors import BadRequest
from penstock_broker.machine.commands import refuse
from penstock_broker.machine.sharing.giving_up import (
    MAX_AGE,
    OVERTAKEN,
    finish,
    give_up,
    leave,
)
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.ops import (
    REASON_CHARACTERS_MAX,
    RECORDS_MAX,
    Outdate,
    Overtake,
    Purge,
    Redrive,
    Spans,
)
from penstock_broker.machine.sharing.outcome import (
    Outcome,
    Result,
    Scene,
    add,
    refused,
    total,
)
from penstock_broker.machine.sharing.replies import Purged, Redriven
from penstock_broker.machine.sharing.spans import check_spans, pairs
from penstock_broker.machine.sharing.state import (
    DELAYED,
    DONE,
    FREE,
    HELD,
    HOLD,
    LEASED,
    MOVING,
    SHARED,
    TIMER,
)
from penstock_broker.machine.sharing.trouble import Trouble


def redrive(group: SharedGroup, op: Redrive, scene: Scene) -> Result:
    """Give dead letters back to their group, but not for ever in a loop."""
    wrong = check_spans(op.spans, one_by_one=True)
    if wrong is None and group.kind != HOLD:
        wrong = refuse(BadRequest, "only dead letters can be redriven")
    if wrong is not None:
        return refused(wrong)
    window, out = group.window, Outcome()
    limit = -1 if op.force else group.settings.redrives_max
    looping: Spans = []
    absent: Spans = []
    for first, end in pairs(op.spans):
        add(absent, first, min(end, window.start))
        for state, _, low, high in window.pieces(first, end):
            if state != HELD:
                add(absent, low, high)
                continue
            for freed, run in groupby(
                group.troubles.judge(low, high, lambda trouble: _redriven(trouble, limit))
            ):
                at, low = low, low + sum(1 for _ in run)
                if freed:
                    window.change(at, low, HELD, FREE)
                add(out.freed if freed else looping, at, low)
        add(absent, max(first, window.end), end)
    count = total(out.freed)
    group.counters.redriven += count
    return Redriven(count, looping, absent), out


def _redriven(before: Trouble, limit: int) -> tuple[Trouble, bool]:
    """The retry policy begins anew, the counters do not; whether it was redriven."""
    if 0 <= limit <= before.redrives:
        return before, False
    spared, redrives = before.failed + before.timed_out, before.redrives + 1
    return replace(before, spared=spared, redrives=redrives, doom=""), True


def purge(group: SharedGroup, op: Purge, scene: Scene) -> Result:
    """Settle dead letters and delayed records without delivery."""
    wrong = check_spans(op.spans)
    if wrong is not None:
        return refused(wrong)
    out = Outcome()
    for first, end in pairs(op.spans):
        for state, _, low, high in group.window.pieces(first, end):
            if state in (HELD, DELAYED):
                finish(group, low, high, state, out)
    count = total(out.done)
    group.counters.purged += count
    group.window.advance()
    return Purged(count, out.done), out


def outdate(group: SharedGroup, op: Outdate, scene: Scene) -> Result:
    """Give up what has waited for too long."""
    wrong = check_spans(op.spans, scene.log_end, one_by_one=True)
    if wrong is None and group.kind == TIMER:
        wrong = refuse(BadRequest, "delayed records do not grow old")
    if wrong is not None:
        return refused(wrong)
    out, reach = Outcome(), group.start + group.settings.window_max
    for first, end in pairs(op.spans):
        group.window.extend(min(end, reach), FREE)
        for state, _, low, high in group.window.pieces(first, end):
            if state in (FREE, DELAYED):
                give_up(group, low, high, state, MAX_AGE, out)
                group.counters.expired_age += high - low
    group.window.advance()
    return Purged(total(out.done), out.done), out


def overtake(group: SharedGroup, op: Overtake, scene: Scene) -> Result:
    """Count or save what retention will delete; moves under way go on."""
    out = Outcome()
    end = min(op.end, scene.log_end)
    saves = group.kind == SHARED and group.settings.overtaken == "dead_letter" and not group.drops
    if saves:
        _save(group, min(end, group.start + RECORDS_MAX), op.reason, out)
    else:
        _settle_below(group, end, False, out)
    return Purged(total(out.done), out.done), out


def trim(group: SharedGroup, log_start: int) -> Outcome:
    """Records below `log_start` are deleted: whatever they were, they are DONE."""
    out = Outcome()
    if log_start > group.start:
        _settle_below(group, log_start, True, out)
    return out


def _save(group: SharedGroup, end: int, reason: str, out: Outcome) -> None:
    group.window.extend(end, FREE)
    cause = reason[:REASON_CHARACTERS_MAX] or OVERTAKEN
    for state, owner, low, high in group.window.pieces(group.start, end):
        if state in (FREE, LEASED, DELAYED):
            if state == LEASED:
                leave(group, group.serials[owner], high - low, out)
            give_up(group, low, high, state, cause, out)
            group.counters.overtaken += high - low
    group.window.advance()


def _settle_below(group: SharedGroup, end: int, deleted: bool, out: Outcome) -> None:
    window = group.window
    for state, owner, low, high in window.pieces(window.start, end):
        if state == DONE or (state == MOVING and not deleted):
            continue
        if state == LEASED:
            leave(group, group.serials[owner], high - low, out)
        if state == MOVING and group.moves.begun:
            for offset in range(low, high):
                group.moves.begun.pop(offset, None)
        finish(group, low, high, state, out)
        group.counters.overtaken += high - low
    window.advance()
    fresh = window.end
    if fresh < end:
        group.counters.overtaken += end - fresh
        if window.start == fresh:
            window.skip(end)
            add(out.settled, fresh, end)
            add(out.done, fresh, end)
        else:
            window.extend(end, FREE)
            finish(group, fresh, end, FREE, out)
