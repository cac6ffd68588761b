"""Moves to other partitions: `Move`, `Moved`, `Drop`."""

from __future__ import annotations

from itertools import pairwise

from penstock.errors import BadRequest, LimitExceeded
from penstock_broker.machine.commands import refuse
from penstock_broker.machine.producers import UNKNOWN_OFFSET
from penstock_broker.machine.sharing.giving_up import CARRIED, DUE, finish
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.moves import PENDING_MAX
from penstock_broker.machine.sharing.ops import Drop, Move, Moved
from penstock_broker.machine.sharing.outcome import Outcome, Result, Scene, add, refused, total
from penstock_broker.machine.sharing.replies import Done, Moving, Purged
from penstock_broker.machine.sharing.spans import check_spans, pairs
from penstock_broker.machine.sharing.state import DELAYED, MOVING, TIMER


def move(group: SharedGroup, op: Move, scene: Scene) -> Result:
    """Begin moves: each gets the next sequence number."""
    offsets = op.offsets
    if len(offsets) > PENDING_MAX:
        return refused(refuse(LimitExceeded, f"at most {PENDING_MAX} moves can be under way"))
    if op.target <= 0 or any(after <= before for before, after in pairwise(offsets)):
        return refused(refuse(BadRequest, "a move has a target, and offsets that ascend"))
    moves, out = group.moves, Outcome()
    moves.leap(scene.life)
    first, began = moves.next_sequence, []
    for offset in offsets:
        reason = _reason_to_move(group, offset, op.target, scene.now_us)
        if reason is None:
            continue
        if len(moves.begun) >= PENDING_MAX and offset not in moves.begun:
            break
        if group.window.state(offset) == DELAYED:
            group.window.change(offset, offset + 1, DELAYED, MOVING)
            add(out.settled, offset, offset + 1)
        moves.begin(offset, op.target, reason)
        began.append(offset)
    out.moving = bool(began)
    return Moving(first, began), out


def _reason_to_move(group: SharedGroup, offset: int, target: int, now_us: int) -> str | None:
    """Why a record is to be moved; None: it is not, or it is on its way there already."""
    state = group.window.state(offset)
    if state == DELAYED and group.kind == TIMER:
        if target == group.dead:
            return CARRIED
        if group.window.ready_at(offset) <= now_us:
            return DUE
    if state != MOVING:
        return None
    begun = group.moves.begun.get(offset)
    if begun is not None:
        return begun.reason if begun.target != target else None
    trouble = group.troubles.get(offset)
    return DUE if trouble is None else trouble.doom


def moved(group: SharedGroup, op: Moved, scene: Scene) -> Result:
    """The target holds these records: they are DONE here."""
    arrived = group.moves.arrived(op.through_sequence)
    out = Outcome()
    for each in arrived:
        place = UNKNOWN_OFFSET
        if op.base_offset != UNKNOWN_OFFSET:
            place = op.base_offset + each.sequence - arrived[0].sequence
        group.moves.note(each.offset, each.target, place)
        id_ = group.moves.carried.get(each.offset, each.offset)
        finish(group, each.offset, each.offset + 1, MOVING, out)
        if each.reason == CARRIED and group.window.state(place) in (DELAYED, MOVING):
            group.moves.carry(id_, place)
    group.counters.moved += len(arrived)
    group.window.advance()
    return Done(), out


def drop(group: SharedGroup, op: Drop, scene: Scene) -> Result:
    """What can't be moved is given up for good."""
    wrong = check_spans(op.spans, one_by_one=True)
    if wrong is not None:
        return refused(wrong)
    out = Outcome()
    for first, end in pairs(op.spans):
        for state, _, low, high in group.window.pieces(first, end):
            if state != MOVING:
                continue
            for offset in range(low, high):
                group.moves.begun.pop(offset, None)
            finish(group, low, high, MOVING, out)
    count = total(out.done)
    group.counters.dropped += count
    group.window.advance()
    return Purged(count, out.done), out
