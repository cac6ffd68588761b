"""Leases end: by a verdict of the holder (`Settle`), or because their time is over (`Expire`)."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from penstock.errors import BadRequest, LimitExceeded
from penstock_broker.machine.commands import refuse
from penstock_broker.machine.sharing.giving_up import (
    EXHAUSTED,
    NEVER_RETRY,
    WAS_REJECTED,
    finish,
    give_up,
    leave,
)
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.lease import Lease
from penstock_broker.machine.sharing.ops import (
    ACK,
    ERROR_CHARACTERS_MAX,
    LEASES_MAX,
    NACK,
    REASON_CHARACTERS_MAX,
    RECORDS_MAX,
    REJECT,
    RELEASE,
    Expire,
    Settle,
    Spans,
)
from penstock_broker.machine.sharing.outcome import (
    UNCHANGED,
    Outcome,
    Result,
    Scene,
    add,
    refused,
)
from penstock_broker.machine.sharing.replies import Expired, Settled
from penstock_broker.machine.sharing.spans import check_spans, pairs
from penstock_broker.machine.sharing.state import DONE, FREE, HELD, HOLD, LEASED, MOVING, TIMER
from penstock_broker.machine.sharing.trouble import FAILED, REJECTED, TIMED_OUT, Attempt
from penstock_broker.machine.sharing.window import NOBODY


class _Failure(NamedTuple):
    kind: str
    reason: str
    error: str
    ready_at_us: int


def settle(group: SharedGroup, op: Settle, scene: Scene) -> Result:
    """Carry out a verdict, as far as the lease still holds the records.

    A grant may be lost with its leader, while the holder lives on and acks: such records can lie
    beyond the window, which then grows to hold them.
    """
    one_by_one = op.verdict in (NACK, REJECT)
    wrong = check_spans(op.spans, scene.log_end, one_by_one)
    if wrong is None and (group.kind == TIMER or not ACK <= op.verdict <= RELEASE):
        wrong = refuse(BadRequest, "the verdict is unknown, or the group takes none")
    if wrong is not None:
        return refused(wrong)
    out = Outcome()
    lease = group.leases.get(op.lease)
    if op.verdict == ACK:
        if group.settings.strict == "no" and op.spans and group.kind != HOLD:
            last = op.spans[-2] + op.spans[-1]
            group.window.extend(min(last, group.start + group.settings.window_max), FREE)
        reply = _Acks(group, lease, out).take(op)
    elif lease is None:
        return Settled(0, 0, 0, op.spans), UNCHANGED
    else:
        reply = _end(group, lease, op, scene, out)
    group.window.advance()
    return reply, out


class _Acks:
    """One ack: its lease's records become DONE, and late ones as the group allows."""

    def __init__(self, group: SharedGroup, lease: Lease | None, out: Outcome) -> None:
        self._group = group
        self._lease = lease
        self._owner = NOBODY if lease is None else lease.serial
        self._out = out
        self._late = 0
        self._duplicates = 0
        self._accepted = 0
        self._lost: Spans = []

    def take(self, op: Settle) -> Settled:
        window, lease = self._group.window, self._lease
        for first, end in pairs(op.spans):
            if lease is not None and window.holds(first, end, lease.serial):
                self._accept(first, end, LEASED, lease)
                continue
            self._duplicates += max(0, min(end, window.start) - first)
            for state, owner, low, high in window.pieces(first, end):
                self._piece(state, owner, low, high)
            add(self._lost, max(first, window.end), end)
        counters = self._group.counters
        counters.acked += self._accepted
        counters.late_acks += self._late
        counters.duplicates += self._duplicates
        return Settled(self._accepted, self._late, self._duplicates, self._lost)

    def _piece(self, state: int, owner: int, low: int, high: int) -> None:
        group = self._group
        if state == DONE:
            self._duplicates += high - low
        elif state == LEASED and owner == self._owner:
            self._accept(low, high, state, self._lease)
        elif group.settings.strict == "yes":
            add(self._lost, low, high)
        elif state in (MOVING, HELD):
            for offset in range(low, high):
                if self._may_be_late(state, offset):
                    self._accept(offset, offset + 1, state, None)
                    self._late += 1
                else:
                    add(self._lost, offset, offset + 1)
        else:
            self._late += high - low
            self._accept(low, high, state, group.serials.get(owner))

    def _may_be_late(self, state: int, offset: int) -> bool:
        """A move under way can't be taken back; what was never redriven was never delivered."""
        if state == MOVING:
            return offset not in self._group.moves.begun
        trouble = self._group.troubles.get(offset)
        return trouble is not None and trouble.redrives > 0

    def _accept(self, first: int, end: int, state: int, holder: Lease | None) -> None:
        if holder is not None:
            leave(self._group, holder, end - first, self._out)
        finish(self._group, first, end, state, self._out)
        self._accepted += end - first


def _end(group: SharedGroup, lease: Lease, op: Settle, scene: Scene, out: Outcome) -> Settled:
    """NACK, REJECT and RELEASE: only for what the lease still holds."""
    window, accepted = group.window, 0
    lost: Spans = []
    kind = REJECTED if op.verdict == REJECT else FAILED
    reason, error = op.reason[:REASON_CHARACTERS_MAX], op.error[:ERROR_CHARACTERS_MAX]
    failure = _Failure(kind, reason, error, op.ready_at_us)
    for first, end in pairs(op.spans):
        add(lost, first, min(end, window.start))
        for state, owner, low, high in window.pieces(first, end):
            if state != LEASED or owner != lease.serial:
                add(lost, low, high)
                continue
            accepted += high - low
            if op.verdict == RELEASE:
                window.change(low, high, LEASED, FREE)
                group.counters.released += high - low
                add(out.settled, low, high)
                add(out.freed, low, high)
            else:
                _fail(group, lease, low, high, failure, scene, out)
        add(lost, max(first, window.end), end)
    leave(group, lease, accepted, out)
    return Settled(accepted, 0, 0, lost)


def expire(group: SharedGroup, op: Expire, scene: Scene) -> Result:
    """End leases whose deadline has passed: their records count as timed out."""
    if len(op.leases) > LEASES_MAX:
        return refused(refuse(LimitExceeded, f"an op has at most {LEASES_MAX} leases"))
    out, leases, records = Outcome(), 0, 0
    failure = _Failure(TIMED_OUT, "", "", 0)
    for id_ in op.leases:
        lease = group.leases.get(id_)
        if lease is None or lease.deadline_us > scene.now_us:
            continue
        if leases and records + lease.left > RECORDS_MAX:
            break
        leases, records = leases + 1, records + lease.left
        for first, count in group.held_by(lease):
            _fail(group, lease, first, first + count, failure, scene, out)
        leave(group, lease, lease.left, out)
    group.window.advance()
    return Expired(leases, records), out


def _fail(
    group: SharedGroup,
    lease: Lease,
    first: int,
    end: int,
    failure: _Failure,
    scene: Scene,
    out: Outcome,
) -> None:
    """LEASED records of [first, end) did not end well: retry or give up each of them."""
    attempt = Attempt(lease.member, lease.host, failure.kind, failure.reason, failure.error,
                      lease.granted_us, scene.now_us)  # fmt: skip
    counters = group.counters
    if failure.kind == TIMED_OUT:
        counters.timed_out += end - first
    elif failure.kind == FAILED:
        counters.failed += end - first
    fates = [_judge(group, offset, attempt, failure, scene) for offset in range(first, end)]
    for cause, run in groupby(fates, key=_cause_of):
        ready = [ready_us for _, ready_us in run]
        low, first = first, first + len(ready)
        if cause:
            give_up(group, low, first, LEASED, cause, out)
        else:
            group.window.delay(low, ready)
            add(out.settled, low, first)
            out.delayed += zip(range(low, first), ready, strict=True)


def _cause_of(fate: tuple[str, int]) -> str:
    return fate[0]


def _judge(
    group: SharedGroup, offset: int, attempt: Attempt, failure: _Failure, scene: Scene
) -> tuple[str, int]:
    """Count an attempt: why the record is given up (empty: it is not), and when it is retried."""
    trouble, policy = group.troubles.of(offset), group.policy
    group.troubles.remember(trouble, attempt)
    trouble.delivered += 1
    if failure.kind == REJECTED:
        return WAS_REJECTED, 0
    if failure.kind == FAILED:
        trouble.failed += 1
    else:
        trouble.timed_out += 1
    tried = trouble.failed + trouble.timed_out - trouble.spared
    if failure.kind == FAILED and policy.is_final(failure.reason):
        return NEVER_RETRY, 0
    if policy.is_exhausted(tried):
        return EXHAUSTED, 0
    if failure.ready_at_us > 0:
        return "", failure.ready_at_us
    return "", scene.now_us + policy.pause_us(offset, tried, scene.entry)
