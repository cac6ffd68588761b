"""Leases end: by a verdict of the holder (`Settle`), or because their time is over (`Expire`)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from penstock.errors import BadRequest, LimitExceeded
from penstock_broker.machine.commands import refuse
from penstock_broker.machine.sharing.giving_up import (
    EXHAUSTED,
    NEVER_RETRY,
    WAS_REJECTED,
    finish,
    finish_all,
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
    total,
)
from penstock_broker.machine.sharing.replies import Expired, Settled
from penstock_broker.machine.sharing.settings import RetryPolicy
from penstock_broker.machine.sharing.spans import check_spans, pairs
from penstock_broker.machine.sharing.state import DONE, FREE, HELD, HOLD, LEASED, MOVING, TIMER
from penstock_broker.machine.sharing.trouble import (
    ATTEMPTS_MAX,
    FAILED,
    REJECTED,
    TIMED_OUT,
    Attempt,
    Trouble,
    weight_of,
)
from penstock_broker.machine.sharing.window import NOBODY
from penstock_broker.machine.stamp import TERM_LEAP

NO_TIMES: Final = ()


class _Fate(NamedTuple):
    """What becomes of a record."""

    cause: str
    """Why it is given up; empty: it is retried."""
    tried: int
    weight: int
    """Bytes of attempts that it has more than before."""


def settle(group: SharedGroup, op: Settle, scene: Scene) -> Result:
    """Carry out a verdict, as far as the lease still holds the records.

    A grant may be lost with its leader, while the holder lives on and acks: such records can lie
    beyond the window, which then grows to hold them. Not so when the log has gone on since without
    entries that had been decided: then others may lie where the holder's records were.
    """
    one_by_one = op.verdict in (NACK, REJECT)
    wrong = check_spans(op.spans, scene.log_end, one_by_one)
    if wrong is None and op.times and (op.verdict != NACK or 2 * len(op.times) != len(op.spans)):
        wrong = refuse(BadRequest, "only a nack has times, one for each span")
    if wrong is None and (group.kind == TIMER or not ACK <= op.verdict <= RELEASE):
        wrong = refuse(BadRequest, "the verdict is unknown, or the group takes none")
    if wrong is not None:
        return refused(wrong)
    out = Outcome()
    lease = group.leases.get(op.lease)
    if lease is None and (op.verdict != ACK or op.lease >> 32 < scene.life * TERM_LEAP):
        return Settled(0, 0, 0, op.spans), UNCHANGED
    if op.verdict == ACK:
        if group.settings.strict == "no" and op.spans and group.kind != HOLD:
            last = op.spans[-2] + op.spans[-1]
            group.window.extend(min(last, group.start + group.settings.window_max), FREE)
        reply = _Acks(group, lease, out).take(op)
    else:
        assert lease is not None, "only acks are late"
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
        lease = self._lease
        if lease is not None and self._group.window.all_are(op.spans, LEASED, lease.serial):
            self._accepted = total(op.spans)
            leave(self._group, lease, self._accepted, self._out)
            finish_all(self._group, op.spans, LEASED, self._out)
        else:
            self._one_by_one(op.spans)
        counters = self._group.counters
        counters.acked += self._accepted
        counters.late_acks += self._late
        counters.duplicates += self._duplicates
        return Settled(self._accepted, self._late, self._duplicates, self._lost)

    def _one_by_one(self, spans: Spans) -> None:
        window = self._group.window
        for first, end in pairs(spans):
            self._duplicates += max(0, min(end, window.start) - first)
            for state, owner, low, high in window.pieces(first, end):
                self._piece(state, owner, low, high)
            add(self._lost, max(first, window.end), end)

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
    attempt = _attempt(lease, kind, scene, op.reason, op.error)
    for first, end, wanted_us in _stretches(op):
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
                wanted = wanted_us[low - first : high - first] if wanted_us else NO_TIMES
                _fail(group, low, high, attempt, wanted, scene, out)
        add(lost, max(first, window.end), end)
    leave(group, lease, accepted, out)
    return Settled(accepted, 0, 0, lost)


def _stretches(op: Settle) -> Iterator[tuple[int, int, Sequence[int]]]:
    """First offset, end and ready times of the spans; those with times are joined if they touch."""
    if not op.times:
        for first, end in pairs(op.spans):
            yield first, end, (op.ready_at_us,) * (end - first) if op.ready_at_us > 0 else NO_TIMES
        return
    begin, times = op.spans[0], array("Q")
    for (first, end), at_us in zip(pairs(op.spans), op.times, strict=True):
        if first != begin + len(times):
            yield begin, begin + len(times), times
            begin, times = first, array("Q")
        times.extend((max(at_us, 0),) * (end - first))
    yield begin, begin + len(times), times


def expire(group: SharedGroup, op: Expire, scene: Scene) -> Result:
    """End leases whose deadline has passed: their records count as timed out."""
    if len(op.leases) > LEASES_MAX:
        return refused(refuse(LimitExceeded, f"an op has at most {LEASES_MAX} leases"))
    out, leases, records = Outcome(), 0, 0
    for id_ in op.leases:
        lease = group.leases.get(id_)
        if lease is None or lease.deadline_us > scene.now_us:
            continue
        if leases and records + lease.left > RECORDS_MAX:
            break
        leases, records = leases + 1, records + lease.left
        attempt = _attempt(lease, TIMED_OUT, scene)
        for first, count in group.held_by(lease):
            _fail(group, first, first + count, attempt, NO_TIMES, scene, out)
        leave(group, lease, lease.left, out)
    group.window.advance()
    return Expired(leases, records), out


def _attempt(lease: Lease, kind: str, scene: Scene, reason: str = "", error: str = "") -> Attempt:
    reason, error = reason[:REASON_CHARACTERS_MAX], error[:ERROR_CHARACTERS_MAX]
    return Attempt(lease.member, lease.host, kind, reason, error, lease.granted_us, scene.now_us)


def _fail(
    group: SharedGroup,
    first: int,
    end: int,
    attempt: Attempt,
    wanted_us: Sequence[int],
    scene: Scene,
    out: Outcome,
) -> None:
    """LEASED records of [first, end) did not end well: retry or give up each of them.

    `wanted_us` says when each is to be retried, 0: as the policy says; empty: 0 for all.
    """
    counters, policy, begin = group.counters, group.policy, first
    if attempt.kind == TIMED_OUT:
        counters.timed_out += end - first
    elif attempt.kind == FAILED:
        counters.failed += end - first
    fates = group.troubles.judge(first, end, lambda trouble: _judge(policy, trouble, attempt))
    group.troubles.weigh(sum([fate.weight for fate in fates]))
    for cause, several in _by_cause(fates):
        low, first = first, first + len(several)
        if cause:
            give_up(group, low, first, LEASED, cause, out)
            continue
        ready = _ready(policy, low, several, wanted_us[low - begin : first - begin], scene)
        group.window.delay(low, ready)
        add(out.settled, low, first)
        out.delayed += zip(range(low, first), ready, strict=True)


def _by_cause(fates: list[_Fate]) -> list[tuple[str, list[_Fate]]]:
    """Runs of one cause."""
    if fates.count(fates[0]) == len(fates):
        return [(fates[0].cause, fates)]
    return [(cause, list(run)) for cause, run in groupby(fates, key=_cause_of)]


def _ready(
    policy: RetryPolicy, first: int, fates: list[_Fate], wanted_us: Sequence[int], scene: Scene
) -> Sequence[int]:
    """When records from `first` on may be retried; what is not wanted is as the policy says."""
    if wanted_us and all(wanted_us):
        return wanted_us
    now_us, entry = scene.now_us, scene.entry
    policy_us: list[int] = []
    for tried, run in groupby(fates, key=_tried_of):
        pauses = policy.pauses_us(first, sum(1 for _ in run), tried, entry)
        policy_us += [now_us + pause_us for pause_us in pauses]
        first += len(pauses)
    if not wanted_us:
        return policy_us
    return [at_us or own_us for at_us, own_us in zip(wanted_us, policy_us, strict=True)]


def _judge(policy: RetryPolicy, before: Trouble, attempt: Attempt) -> tuple[Trouble, _Fate]:
    """Count an attempt."""
    failed = before.failed + (attempt.kind == FAILED)
    timed_out = before.timed_out + (attempt.kind == TIMED_OUT)
    lost = before.attempts[: max(0, len(before.attempts) + 1 - ATTEMPTS_MAX)]
    trouble = Trouble(
        before.delivered + 1,
        failed,
        timed_out,
        before.redrives,
        before.spared,
        before.doom,
        before.forgotten + len(lost),
        (*before.attempts[len(lost) :], attempt),
    )
    tried = failed + timed_out - before.spared
    cause = ""
    if attempt.kind == REJECTED:
        cause = WAS_REJECTED
    elif attempt.kind == FAILED and policy.is_final(attempt.reason):
        cause = NEVER_RETRY
    elif policy.is_exhausted(tried):
        cause = EXHAUSTED
    return trouble, _Fate(cause, tried, attempt.weight - weight_of(lost))


_cause_of: Final = attrgetter("cause")
_tried_of: Final = attrgetter("tried")
