"""A shared group as plainly as it can be written: one object for each record, no runs, no arrays.

It says what the real one must reply, and what state every record must be in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock_broker.machine.sharing import ops
from penstock_broker.machine.sharing.settings import RetryPolicy, SharedSettings

FREE, LEASED, DONE, DELAYED, MOVING, HELD = range(6)
UNKNOWN = (1 << 64) - 1
FOR_EVER = (1 << 63) - 1


@dataclass(slots=True)
class Record:
    state: int = FREE
    lease: int = 0
    ready: int = 0
    delivered: int = 0
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    spared: int = 0
    doom: str = ""
    history: list[tuple[str, str, str]] = field(default_factory=list)
    move: tuple[int, int] | None = None
    """Sequence number and target."""


@dataclass(slots=True)
class Lease:
    member: str
    granted: int
    deadline: int
    hold_until: int


def each(spans: list[int]) -> Iterator[int]:
    for first, count in zip(spans[::2], spans[1::2], strict=True):
        yield from range(first, first + count)


def spans_of(offsets: Iterable[int]) -> list[int]:
    found: list[int] = []
    for offset in offsets:
        if found and found[-2] + found[-1] == offset:
            found[-1] += 1
        else:
            found += [offset, 1]
    return found


def wanted_us(op: ops.Settle, offset: int) -> int:
    """When a nack wants a record to be retried; 0: as the policy says."""
    for first, count, at_us in zip(op.spans[::2], op.spans[1::2], op.times, strict=False):
        if first <= offset < first + count:
            return at_us
    return op.ready_at_us


DEAD = 9
"""Where dead letters go; for a timer: its own partition."""


class NaiveGroup:
    def __init__(self, kind: str, settings: SharedSettings, start: int, end: int) -> None:
        self.kind = kind
        self.settings = settings
        self.policy = RetryPolicy(settings)
        self.records: dict[int, Record] = {}
        self.leases: dict[int, Lease] = {}
        self.start = self.end = start
        self.log_end = start
        self.next_sequence = 0
        self.recent: dict[int, tuple[int, int]] = {}
        self.ids: dict[int, int] = {}
        """Offset -> the first offset of a record that was carried there."""
        self.counters: Counter[str] = Counter()
        self.now = self.entry = 0
        self.was: dict[int, int] = {}
        """What the last op changed: offset -> state before."""
        self.append(end, 0)

    # ----- plain helpers

    def state(self, offset: int) -> int:
        if offset < self.start:
            return DONE
        record = self.records.get(offset)
        return FREE if record is None else record.state

    def reach(self, end: int, state: int = FREE, ready: int = 0) -> None:
        while self.end < end:
            self.records[self.end] = Record(state, ready=ready)
            self.end += 1

    def append(self, end: int, deliver_at: int) -> None:
        self.log_end = end
        if self.kind == "hold":
            self.reach(end, HELD)
        if self.kind == "timer":
            self.reach(end, DELAYED, deliver_at)

    def turn(self, offset: int, state: int) -> None:
        record = self.records[offset]
        self.was[offset] = record.state
        record.state, record.lease = state, 0
        if state != DELAYED:
            record.ready = 0

    def settle_front(self) -> None:
        while self.start < self.end and self.records[self.start].state == DONE:
            del self.records[self.start]
            self.start += 1
        held = {record.lease for record in self.records.values()}
        self.leases = {id_: lease for id_, lease in self.leases.items() if id_ in held}

    def of(self, state: int) -> list[int]:
        return [offset for offset, record in self.records.items() if record.state == state]

    def known(self, spans: list[int]) -> Iterator[tuple[int, Record]]:
        """Offsets of spans that are in the window."""
        for offset in each(spans):
            if self.start <= offset < self.end:
                yield offset, self.records[offset]

    @staticmethod
    def malformed(spans: list[int]) -> bool:
        firsts, counts = spans[::2], spans[1::2]
        ends = [first + count for first, count in zip(firsts, counts, strict=False)]
        return (
            len(spans) % 2 == 1
            or any(first < 0 for first in firsts)
            or any(count <= 0 for count in counts)
            or any(end > first for end, first in zip(ends, firsts[1:], strict=False))
        )

    # ----- ops: the reply as a plain tuple, None: refused

    def apply(self, op: Any, now: int, entry: int) -> tuple[Any, ...] | None:
        self.now, self.entry, self.was = now, entry, {}
        before = dict(self.leases)
        reply: tuple[Any, ...] | None = getattr(self, type(op).__name__.lower())(op)
        self.settle_front()
        self.ended = [id_ for id_ in before if id_ not in self.leases]
        return reply

    def grant(self, op: ops.Grant) -> tuple[Any, ...] | None:
        known = op.lease <= 0 or op.lease in self.leases
        if self.kind == "timer" or known or self.malformed(op.spans):
            return None
        room = self.settings.max_in_flight - len(self.of(LEASED))
        high = self.log_end
        if self.kind == "shared":
            high = min(high, self.start + self.settings.window_max)
        taken = []
        for offset in each(op.spans):
            state = self.state(offset)
            due = state == DELAYED and self.records[offset].ready <= self.now
            if offset < high and room and (state == FREE or due):
                self.reach(offset + 1)
                self.turn(offset, LEASED)
                self.records[offset].lease = op.lease
                taken.append(offset)
                room -= 1
        if taken:
            hold = self.settings.hold_max_ms
            until = FOR_EVER if hold < 0 else self.now + hold * 1000
            deadline = min(op.deadline_us, until)
            self.leases[op.lease] = Lease(op.member, self.now, deadline, until)
            self.counters["delivered"] += len(taken)
        return (taken,)

    def settle(self, op: ops.Settle) -> tuple[Any, ...] | None:
        wrong = self.malformed(op.spans) or self.kind == "timer" or not 1 <= op.verdict <= 4
        if wrong or any(offset >= self.log_end for offset in each(op.spans)):
            return None
        if op.times and (op.verdict != ops.NACK or 2 * len(op.times) != len(op.spans)):
            return None
        if op.verdict == ops.ACK and op.spans and self.settings.strict == "no":
            last = op.spans[-2] + op.spans[-1]
            self.reach(min(last, self.start + self.settings.window_max))
        accepted, late, duplicates, lost = 0, 0, 0, []
        for offset in each(op.spans):
            state = self.state(offset)
            mine = state == LEASED and self.records[offset].lease == op.lease
            if mine:
                accepted += 1
                self.judge(offset, op)
            elif op.verdict == ops.ACK and state == DONE:
                duplicates += 1
            elif op.verdict == ops.ACK and offset < self.end and self.may_be_late(offset):
                accepted, late = accepted + 1, late + 1
                self.turn(offset, DONE)
            else:
                lost.append(offset)
        if op.verdict == ops.ACK:
            self.counters["acked"] += accepted
            self.counters["late_acks"] += late
            self.counters["duplicates"] += duplicates
        return accepted, late, duplicates, lost

    def may_be_late(self, offset: int) -> bool:
        record = self.records[offset]
        if self.settings.strict == "yes":
            return False
        if record.state == MOVING:
            return record.move is None
        return record.state != HELD or record.redrives > 0

    def judge(self, offset: int, op: ops.Settle) -> None:
        if op.verdict == ops.ACK:
            self.turn(offset, DONE)
        elif op.verdict == ops.RELEASE:
            self.turn(offset, FREE)
            self.counters["released"] += 1
        elif op.verdict == ops.REJECT:
            self.fail(offset, "rejected", op.reason, op.error, 0)
        else:
            self.fail(offset, "failed", op.reason, op.error, wanted_us(op, offset))

    def fail(self, offset: int, kind: str, reason: str, error: str, ready: int) -> None:
        record = self.records[offset]
        record.delivered += 1
        record.history = [*record.history, (kind, reason, error)][-20:]
        if kind == "rejected":
            self.counters["rejected"] += 1
            self.give_up(offset, "rejected")
            return
        self.counters[kind] += 1
        setattr(record, kind, getattr(record, kind) + 1)
        tried = record.failed + record.timed_out - record.spared
        if kind == "failed" and reason in self.settings.never_retry.split(",") and reason:
            self.counters["exhausted"] += 1
            self.give_up(offset, "never_retry")
        elif 0 < self.settings.attempts_max <= tried:
            self.counters["exhausted"] += 1
            self.give_up(offset, "attempts")
        else:
            self.turn(offset, DELAYED)
            pause = self.policy.pause_us(offset, tried, self.entry)
            record.ready = ready or self.now + pause

    def give_up(self, offset: int, cause: str) -> None:
        self.records[offset].doom = cause
        if self.kind == "hold":
            self.turn(offset, HELD)
        elif self.settings.dead_letters == "drop":
            self.turn(offset, DONE)
            self.counters["dropped"] += 1
        else:
            self.turn(offset, MOVING)

    def renew(self, op: ops.Renew) -> tuple[Any, ...]:
        lost = []
        for id_ in op.leases:
            lease = self.leases.get(id_)
            if lease is None or lease.member != op.member:
                lost.append(id_)
            else:
                lease.deadline = min(op.deadline_us, lease.hold_until)
        return (lost,)

    def extend(self, op: ops.Extend) -> tuple[Any, ...]:
        lease = self.leases.get(op.lease)
        if lease is None:
            return ([op.lease],)
        lease.deadline = op.deadline_us
        lease.hold_until = max(lease.hold_until, lease.deadline)
        return ([],)

    def expire(self, op: ops.Expire) -> tuple[Any, ...]:
        over = [id_ for id_ in dict.fromkeys(op.leases) if id_ in self.leases]
        over = [id_ for id_ in over if self.leases[id_].deadline <= self.now]
        held = [offset for offset in self.of(LEASED) if self.records[offset].lease in over]
        for offset in held:
            self.fail(offset, "timed_out", "", "", 0)
        return len(over), len(held)

    def move(self, op: ops.Move) -> tuple[Any, ...] | None:
        if op.target <= 0 or sorted(set(op.offsets)) != op.offsets:
            return None
        first, began = self.next_sequence, []
        for offset in op.offsets:
            state = self.state(offset)
            waits = self.kind == "timer" and state == DELAYED
            if waits and (op.target == DEAD or self.records[offset].ready <= self.now):
                self.turn(offset, MOVING)
                self.records[offset].doom = "carried" if op.target == DEAD else "due"
            elif state != MOVING or (self.records[offset].move or (0, 0))[1] == op.target:
                continue
            self.records[offset].move = (self.next_sequence, op.target)
            self.next_sequence += 1
            began.append(offset)
        return first, began

    def carried(self) -> dict[int, int]:
        return {o: id_ for o, id_ in self.ids.items() if self.state(o) in (DELAYED, MOVING)}

    def pending(self) -> list[tuple[int, int, int, str]]:
        return sorted(
            (*record.move[:1], offset, record.move[1], record.doom)
            for offset, record in self.records.items()
            if record.move is not None and record.state == MOVING
        )

    def moved(self, op: ops.Moved) -> tuple[Any, ...]:
        pending = self.pending()
        for sequence, offset, target, _ in pending:
            if sequence <= op.through_sequence:
                self.turn(offset, DONE)
                place = op.base_offset + sequence - pending[0][0]
                self.recent[offset] = (target, UNKNOWN if op.base_offset == UNKNOWN else place)
                carried = self.records[offset].doom == "carried"
                if carried and place in self.records and self.state(place) in (DELAYED, MOVING):
                    self.ids[place] = self.ids.get(offset, offset)
                self.counters["moved"] += 1
        return ()

    def drop(self, op: ops.Drop) -> tuple[Any, ...] | None:
        return self.finish_all(op.spans, (MOVING,), "dropped")

    def purge(self, op: ops.Purge) -> tuple[Any, ...] | None:
        return self.finish_all(op.spans, (HELD, DELAYED), "purged")

    def finish_all(
        self, spans: list[int], states: tuple[int, ...], counter: str
    ) -> tuple[Any, ...] | None:
        if self.malformed(spans):
            return None
        found = [offset for offset, record in self.known(spans) if record.state in states]
        for offset in found:
            self.turn(offset, DONE)
        self.counters[counter] += len(found)
        return len(found), found

    def redrive(self, op: ops.Redrive) -> tuple[Any, ...] | None:
        if self.kind != "hold" or self.malformed(op.spans):
            return None
        freed, looping, absent = 0, [], []
        limit = self.settings.redrives_max
        for offset in each(op.spans):
            if self.state(offset) != HELD:
                absent.append(offset)
            elif 0 <= limit <= self.records[offset].redrives and not op.force:
                looping.append(offset)
            else:
                self.turn(offset, FREE)
                record = self.records[offset]
                record.redrives, record.doom = record.redrives + 1, ""
                record.spared = record.failed + record.timed_out
                freed += 1
        self.counters["redriven"] += freed
        return freed, looping, absent

    def outdate(self, op: ops.Outdate) -> tuple[Any, ...] | None:
        if self.malformed(op.spans) or self.kind == "timer":
            return None
        if any(offset >= self.log_end for offset in each(op.spans)):
            return None
        reach = self.start + self.settings.window_max
        for offset in each(op.spans):
            if offset < max(reach, self.end) and self.state(offset) in (FREE, DELAYED):
                self.reach(offset + 1)
                self.give_up(offset, "max_age")
                self.counters["expired_age"] += 1
        return self.done_now()

    def overtake(self, op: ops.Overtake) -> tuple[Any, ...]:
        saves = self.kind == "shared" and self.settings.overtaken == "dead_letter"
        saves = saves and self.settings.dead_letters == "topic"
        self.cut(min(op.end, self.log_end), saves, (FREE, LEASED, DELAYED), op.reason)
        return self.done_now()

    def cut(self, end: int, saves: bool, states: tuple[int, ...], reason: str = "") -> None:
        states = states if saves else (*states, HELD)
        for offset in range(self.start, end):
            if self.state(offset) not in states:
                continue
            self.reach(offset + 1)
            self.counters["overtaken"] += 1
            if saves:
                self.give_up(offset, reason or "overtaken")
            else:
                self.turn(offset, DONE)

    def trim(self, log_start: int) -> None:
        self.was = {}
        before = dict(self.leases)
        self.cut(log_start, False, (FREE, LEASED, DELAYED, MOVING))
        self.settle_front()
        self.ended = [id_ for id_ in before if id_ not in self.leases]

    def done_now(self) -> tuple[Any, ...]:
        found = sorted(o for o in self.was if self.records[o].state == DONE)
        return len(found), found
