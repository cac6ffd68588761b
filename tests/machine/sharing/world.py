"""A partition with three shared groups under random ops, beside a naive model of each.

After every op the reply, the effects and the records it changed are compared; now and then
everything is. A second replica is restored from a snapshot in the middle, and must stay equal.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec

from penstock.protocol.batch import HEADER_BYTES
from penstock.protocol.extensions import EXT_DELIVER_AT, pack_extensions
from penstock_broker.machine.commands import (
    Command,
    ConfigureShared,
    Refused,
    ShareOps,
    Trim,
    decode_command,
    encode_command,
)
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.sharing import ops, replies
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.settings import build, parse
from penstock_broker.machine.sharing.state import NAMES
from penstock_broker.machine.stamp import Stamp
from tests.machine.sharing.naive import (
    DEAD,
    DELAYED,
    DONE,
    FREE,
    HELD,
    LEASED,
    MOVING,
    UNKNOWN,
    NaiveGroup,
    each,
    spans_of,
)

MEMBERS = ("ann", "bob", "eve")
REASONS = ("", "Timeout", "BadInput")
WINDOW = 200
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"strict": "yes", "jitter": "none", "max_in_flight": 20, "attempts_max": 2, "redrives_max": 1},
    {"dead_letters": "drop", "attempts_max": 2, "retry_min_ms": 0, "redrives_max": 1},
    {"overtaken": "dead_letter", "never_retry": "BadInput", "hold_max_ms": -1, "attempts_max": 3},
    {"attempts_max": -1, "redrives_max": 1, "hold_max_ms": 1000},
)
WEIGHTS = {
    "grant": 30, "settle": 40, "renew": 4, "extend": 2, "expire": 8, "move": 8, "moved": 8,
    "drop": 1, "redrive": 8, "purge": 2, "overtake": 3, "outdate": 2,
}  # fmt: skip


class World:
    """Runs one random history; `counts` tells what has happened."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.now, self.entry, self.lease = 1_000_000_000, 0, 0
        self.machine, self.other = PartitionMachine(), PartitionMachine()
        self.groups: dict[str, NaiveGroup] = {}
        self.counts: Counter[str] = Counter()
        self.went: set[tuple[str, str, str, str]] = set()
        """Kind of group, state before, state after, op."""
        self.append(random.randrange(30))
        for name, kind in (("s", "shared"), ("h", "hold"), ("t", "timer")):
            each_in_turn = SETTINGS[seed % len(SETTINGS)]
            chosen = each_in_turn if kind == "shared" else random.choice(SETTINGS)
            chosen = {**chosen, "window_max": 1000}
            end = self.machine.end_offset
            start = random.randrange(end + 1)
            self.command(
                ConfigureShared(group=name, revision=1, settings=parse(chosen), kind=kind,
                                start_offset=start, dead=DEAD)
            )  # fmt: skip
            self.groups[name] = NaiveGroup(kind, build(parse(chosen)), start, end)

    # ----- both replicas

    def command(self, command: Command) -> tuple[Any, list[Any]]:
        self.entry += 1
        at = Stamp(self.entry, 1, self.now)
        reply, effects = self.machine.apply(command, at)
        said = self.other.apply(decode_command(encode_command(command)), at)
        assert said == (reply, effects), "replicas answer alike"
        return reply, list(effects)

    def append(self, count: int) -> None:
        deliver_at = self.random.choice((0, self.now + self.random.randrange(20_000_000)))
        area = pack_extensions([(EXT_DELIVER_AT, deliver_at.to_bytes(8, "little"))])
        area = area if deliver_at else b""
        first = self.machine.end_offset
        self.entry += 1
        for machine in (self.machine, self.other):
            head = (count, 0, 0, 0, len(area))
            machine.apply_appended(head, self.entry, first, self.now, bytes(HEADER_BYTES) + area)
        for group in self.groups.values():
            group.append(first + count, deliver_at)

    def restart(self) -> None:
        """One replica is replaced by one that starts at a snapshot; they swap their parts."""
        blob = self.machine.snapshot()
        assert blob == self.other.snapshot(), "replicas hold the same bytes"
        self.other = self.machine
        self.machine = PartitionMachine()
        self.machine.restore(blob)
        assert self.machine.snapshot() == blob, "a snapshot survives a restart"
        self.counts["restarts"] += 1

    # ----- random steps

    def step(self) -> None:
        random = self.random
        self.now += random.choice((0, 1, 1000, 100_000, 2_000_000))
        roll = random.random()
        lags = min(group.start for group in self.groups.values())
        backlog = self.machine.end_offset - lags
        if roll < 0.04 and backlog < WINDOW:
            self.append(random.randrange(1, 40))
        elif roll < 0.042:
            self.trim(random.randrange(lags, min(lags + 20, self.machine.end_offset) + 1))
        elif backlog >= WINDOW and roll < 0.06:
            self.trim(lags + random.randrange(1, 30))
        elif roll < 0.064:
            self.restart()
            self.compare_all()
        else:
            self.operate()

    def operate(self) -> None:
        name = self.random.choice("ssshht")
        kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        op = getattr(self, f"_{kind}")(name, self.groups[name])
        reply, effects = self.command(ShareOps(ops=[op]))
        assert isinstance(reply, replies.ShareReplies)
        (said,) = reply.replies
        expected = self.groups[name].apply(op, self.now, self.entry)
        self.counts[kind] += 1
        if expected is None:
            assert isinstance(said, Refused), (op, said)
            self.counts["refused"] += 1
        else:
            assert plain(said) == expected, (op, plain(said), expected)
        self.compare_effects(name, effects)
        self.compare(name, self.groups[name].was)
        self.note(type(op).__name__, self.groups[name])

    def note(self, op: str, group: NaiveGroup) -> None:
        for offset, before in group.was.items():
            after = group.state(offset)
            self.went.add((group.kind, NAMES[before], NAMES[after], op))

    def trim(self, offset: int) -> None:
        reply, effects = self.command(Trim(offset=offset))
        self.counts["trims"] += 1
        start = reply.log_start_offset
        for name, group in self.groups.items():
            group.trim(start)
            mine = [e for e in effects if getattr(e, "group", None) == name]
            self.compare_effects(name, mine)
            self.compare(name, group.was)
            self.note("Trim", group)

    def spans(self, group: NaiveGroup, *states: int) -> list[int]:
        """Mostly records in one of these states, sometimes anything."""
        random = self.random
        roll = random.random()
        if roll < 0.02:
            return [random.randrange(-2, 400) for _ in range(random.randrange(1, 5))]
        wanted = group.of(random.choice(states)) if states else []
        if roll < 0.15 or not wanted:
            first = random.randrange(max(0, group.start - 5), group.end + 10)
            return [first, random.randrange(1, 20)]
        at = random.randrange(len(wanted))
        chosen = wanted[at : at + random.choice((1, 1, 5, 30))]
        if random.random() < 0.3:
            chosen = [offset for offset in chosen if random.random() < 0.6]
        return spans_of(chosen) or [wanted[at], 1]

    def a_lease(self, group: NaiveGroup) -> int:
        known = list(group.leases)
        gone = self.random.randrange(1, self.lease + 2)
        return self.random.choice(known) if known and self.random.random() < 0.9 else gone

    def some_leases(self, group: NaiveGroup) -> list[int]:
        return [self.a_lease(group) for _ in range(self.random.randrange(1, 6))]

    def _grant(self, name: str, group: NaiveGroup) -> ops.Op:
        self.lease += self.random.random() < 0.98
        ahead = [max(0, group.end - 3), self.random.randrange(1, 30)]
        some = self.spans(group, FREE, DELAYED)
        spans = ahead if self.random.random() < 0.5 else some
        deadline = self.now + self.random.randrange(10_000_000)
        return ops.Grant(name, self.lease, self.random.choice(MEMBERS), "host", spans, deadline)

    def _settle(self, name: str, group: NaiveGroup) -> ops.Op:
        random = self.random
        lease = self.a_lease(group)
        held = [offset for offset, r in group.records.items() if r.lease == lease]
        if held and random.random() < 0.8:
            keep = random.choice((0.3, 1.0))
            held = [offset for offset in held if random.random() < keep]
        spans = spans_of(held) or self.spans(group, LEASED, DELAYED, MOVING, HELD, FREE)
        ready = random.choice((0, 0, 0, self.now - 5, self.now + 3_000_000))
        verdict = random.choices((1, 2, 3, 4, 9), (50, 25, 8, 15, 1))[0]
        reason, error = random.choice(REASONS), random.choice(("", "trace"))
        times: list[int] = []
        if verdict == ops.NACK and random.random() < 0.3:
            spans = apart(spans)
            times = [random.choice((0, self.now + i)) for i in range(len(spans) // 2)]
            times += [ready] if random.random() < 0.02 else []
        return ops.Settle(name, lease, verdict, spans, ready, reason, error, "", times)

    def _renew(self, name: str, group: NaiveGroup) -> ops.Op:
        deadline = self.now + self.random.randrange(20_000_000)
        return ops.Renew(name, self.random.choice(MEMBERS), self.some_leases(group), deadline)

    def _extend(self, name: str, group: NaiveGroup) -> ops.Op:
        deadline = self.now + self.random.randrange(90_000_000)
        return ops.Extend(name, self.a_lease(group), deadline)

    def _expire(self, name: str, group: NaiveGroup) -> ops.Op:
        return ops.Expire(name, self.some_leases(group))

    def _move(self, name: str, group: NaiveGroup) -> ops.Op:
        target = self.random.choice((9, 9, 9, 9, 9, 10, 0))
        spans = self.spans(group, MOVING, DELAYED)
        wanted = list(each(spans)) if len(spans) % 2 == 0 else spans
        return ops.Move(name, wanted, target)

    def _moved(self, name: str, group: NaiveGroup) -> ops.Op:
        pending = group.pending()
        through = pending[self.random.randrange(len(pending))][0] if pending else 3
        return ops.Moved(name, through, self.random.choice((100, UNKNOWN)))

    def _drop(self, name: str, group: NaiveGroup) -> ops.Op:
        return ops.Drop(name, self.spans(group, MOVING), "gone")

    def _redrive(self, name: str, group: NaiveGroup) -> ops.Op:
        return ops.Redrive(name, self.spans(group, HELD), self.random.random() < 0.2)

    def _purge(self, name: str, group: NaiveGroup) -> ops.Op:
        return ops.Purge(name, self.spans(group, HELD, DELAYED))

    def _overtake(self, name: str, group: NaiveGroup) -> ops.Op:
        end = group.start + self.random.randrange(-3, 40)
        return ops.Overtake(name, end, self.random.choice(("", "old")))

    def _outdate(self, name: str, group: NaiveGroup) -> ops.Op:
        return ops.Outdate(name, self.spans(group, FREE, DELAYED))

    # ----- comparing

    def compare_effects(self, name: str, effects: list[Any]) -> None:
        group = self.groups[name]
        now = {offset: group.state(offset) for offset in group.was}
        became = {s: [o for o in sorted(now) if now[o] == s] for s in range(6)}
        settled = [
            o for o in sorted(now) if group.was[o] == LEASED or now[o] in (DONE, MOVING, HELD)
        ]
        found = {type(effect).__name__: effect for effect in effects if effect.group == name}
        told = found.get("RecordsSettled")
        assert settled == (sorted(each(told.spans)) if told else [])
        assert became[DONE] == (sorted(each(told.done)) if told else [])
        assert sorted(group.ended) == (sorted(told.ended) if told else [])
        freed, held = found.get("RecordsFreed"), found.get("RecordsHeld")
        assert became[FREE] == (sorted(each(freed.spans)) if freed else [])
        assert became[HELD] == (sorted(each(held.spans)) if held else [])
        delayed = found.get("RecordsDelayed")
        pairs = [(offset, group.records[offset].ready) for offset in became[DELAYED]]
        assert pairs == (sorted(delayed.records) if delayed else [])
        assert "MovesWaiting" in found or not became[MOVING]

    def compare(self, name: str, offsets: Any) -> None:
        real, group = self.machine.sharing.groups[name], self.groups[name]
        assert (real.start, real.end) == (group.start, max(group.end, group.start))
        for offset in offsets:
            self.compare_record(real, group, offset)

    def compare_record(self, real: SharedGroup, group: NaiveGroup, offset: int) -> None:
        window = real.window
        assert window.state(offset) == group.state(offset), offset
        record = group.records.get(offset)
        if record is None:
            assert real.troubles.get(offset) is None
            assert not window.owner(offset)
            return
        lease = real.lease_of(offset)
        assert (lease.id if lease else 0) == record.lease
        assert window.ready_at(offset) == record.ready
        leased = record.state == LEASED
        counted = (record.failed, record.timed_out, record.redrives)
        if record.state != DONE:
            assert real.attempts(offset) == (record.delivered + leased, *counted)
            trouble = real.troubles.get(offset)
            told = [(a.kind, a.reason, a.error) for a in trouble.attempts] if trouble else []
            assert told == record.history
            if trouble is not None and record.state in (MOVING, HELD):
                assert trouble.doom == record.doom

    def compare_all(self) -> None:
        for name, group in self.groups.items():
            real = self.machine.sharing.groups[name]
            self.compare(name, range(max(0, group.start - 3), group.end + 3))
            for state in range(6):
                assert real.window.count(state) == len(group.of(state))
                runs = [pair for run in real.window.runs(state) for pair in run]
                assert runs == spans_of(group.of(state))
            delayed = [(o, group.records[o].ready) for o in group.of(DELAYED)]
            assert real.window.delayed() == delayed
            runs_of_one_time = real.window.waiting()
            assert [(o, t) for f, n, t in runs_of_one_time for o in range(f, f + n)] == delayed
            assert [tuple(move) for move in real.moves.pending] == group.pending()
            assert real.moves.next_sequence == group.next_sequence
            assert real.moves.recent == group.recent
            assert real.moves.carried == group.carried()
            assert real.moves.places == {id_: o for o, id_ in group.carried().items()}
            assert set(real.leases) == set(group.leases)
            for lease in real.leases.values():
                plain_lease = group.leases[lease.id]
                assert lease.deadline_us == plain_lease.deadline
                assert lease.hold_until_us == plain_lease.hold_until
                held = [o for o, record in group.records.items() if record.lease == lease.id]
                assert lease.left == len(held)
                assert [pair for run in real.held_by(lease) for pair in run] == spans_of(held)
            counters = msgspec.structs.asdict(real.counters)
            assert counters == {key: group.counters[key] for key in counters}
            self.counts["states compared"] += 1
        floors = [group.start for group in self.groups.values()]
        assert self.machine.floor == min(floors)


def apart(spans: list[int]) -> list[int]:
    """The same records, each of them in a span of its own."""
    if len(spans) % 2 or any(count <= 0 for count in spans[1::2]):
        return spans
    offsets = list(each(spans))
    return [number for offset in offsets for number in (offset, 1)]


def plain(reply: Any) -> tuple[Any, ...]:
    """A reply as the model says it: spans as lists of offsets."""
    if isinstance(reply, Refused):
        return ("refused", reply.message)
    values = msgspec.structs.asdict(reply)
    spans = ("spans", "looping", "absent")
    if isinstance(reply, replies.Settled):
        spans = ("lost",)
    return tuple(list(each(v)) if key in spans else v for key, v in values.items())
