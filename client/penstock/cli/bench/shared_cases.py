"""The cases of `penstock bench shared`, with the goals that they are held against."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.bench.payload import stamped_at
from penstock.cli.bench.shared_runner import (
    GROUP,
    Bench,
    Member,
    grown_mib,
    memory_bytes,
    serving,
    spread,
    wait_until,
)
from penstock.cli.settings import Failure, Settings

if TYPE_CHECKING:
    from penstock.sync import Client

Figures = dict[str, Any]
KEYS: Final = 10_000
PENDING: Final = 10_000
"""Records that wait for their time while lateness is measured."""
DUE_SECONDS: Final = 5.0
"""Their times are spread over so long."""
FIRST_DUE: Final = 3.0
SHARED_TIME: Final = 100
"""Records published for the same moment."""
PATIENCE: Final = 60.0
EXPLAINED: Final = 300
DEAD: Final = 20_000
DEAD_SECONDS: Final = 120.0
LARGE: Final = 1_000_000
HELD: Final = 100_000
MEMBERS: Final = 1000


def acks(bench: Bench, members: int, **settings: object) -> Figures:
    """Each record acknowledged by itself."""
    with bench.topic(settings) as (client, topic):
        bench.fill(client, topic, bench.records)
        return bench.run([bench.load(topic, "acks")] * members)


def batches(bench: Bench) -> Figures:
    """Batches acknowledged whole."""
    with bench.topic() as (client, topic):
        bench.fill(client, topic, bench.records)
        return bench.run([bench.load(topic, "batches")])


def by_key(bench: Bench, members: int) -> Figures:
    """In order per key: one record of a key at a time."""
    with bench.topic({"order_by": "key"}, key_slots="key") as (client, topic):
        bench.fill(client, topic, bench.records, keys=KEYS)
        return bench.run([bench.load(topic, "acks")] * members)


# ----- how late what waits for its time is delivered


def _arrivals(client: Client, topic: str, count: int) -> dict[tuple[int, int], float]:
    """Partition and offset -> when it came; takes and acknowledges so many."""
    came: dict[tuple[int, int], float] = {}
    with client.subscribe(topic, group=GROUP, mode="shared", max_in_flight=10_000) as member:
        end = time.monotonic() + FIRST_DUE + DUE_SECONDS + PATIENCE
        while len(came) < count and time.monotonic() < end:
            records = member.fetch(max_records=1000, wait=1.0)
            now = time.time()
            for record in records:
                came.setdefault((record.partition, record.offset), now)
                record.ack()
        member.flush()
    return came


def nack_delay(bench: Bench, pending: int) -> Figures:
    """Nacked to a time; lateness over those due soon, the others wait for tomorrow."""
    settings = {"attempts_max": -1, "max_in_flight": 100_000}
    with bench.topic({**settings, "window_max": max(1_000_000, pending + 1000)}) as (client, topic):
        bench.fill(client, topic, pending)
        due: dict[tuple[int, int], float] = {}
        pace = DUE_SECONDS / PENDING
        with client.subscribe(topic, group=GROUP, mode="shared", max_in_flight=10_000) as member:
            far, taken = datetime.now(UTC) + timedelta(days=1), 0
            begin = 0.0
            while taken < pending:
                for record in member.fetch(max_records=5000, wait=5.0):
                    taken += 1
                    if taken <= pending - PENDING:
                        record.nack(at=far)
                        continue
                    begin = begin or time.time() + FIRST_DUE
                    moment = begin + len(due) * pace
                    due[record.partition, record.offset] = moment
                    record.nack(at=datetime.fromtimestamp(moment, UTC))
            member.flush()
        came = _arrivals(client, topic, PENDING)
        return spread([came[place] - moment for place, moment in due.items() if place in came])


def lease_end(bench: Bench) -> Figures:
    """Held by a process that is stopped; lateness against the ends of its leases (a sample)."""
    settings = {"lease_ms": 5000, "retry_min_ms": 0, "jitter": "none", "attempts_max": -1}
    with bench.topic(settings) as (client, topic):
        bench.fill(client, topic, PENDING)
        holder = Member(bench.load(topic, "hold", records=PENDING, seconds=1.0))
        try:
            holder.wait_ready()
            holder.freeze()
            ends: dict[tuple[int, int], float] = {}
            for partition in range(bench.partitions):
                for offset in range(0, PENDING // bench.partitions, 50):
                    states = client.admin.explain(topic, partition, offset).states
                    if states and states[0].deadline_us:
                        ends[partition, offset] = states[0].deadline_us / 1e6
            came = _arrivals(client, topic, PENDING)
        finally:
            holder.end()
        return spread([came[place] - end for place, end in ends.items() if place in came])


def delayed_publish(bench: Bench, pending: int) -> Figures:
    """Published for a time, a hundred each; lateness over those due soon."""
    with bench.topic() as (client, topic):
        before = memory_bytes(bench.target.pid)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        bench.fill(client, topic, pending - PENDING, at=tomorrow)
        begin = time.time() + FIRST_DUE
        for number in range(PENDING // SHARED_TIME):
            due = begin + number * DUE_SECONDS * SHARED_TIME / PENDING
            bench.fill(client, topic, SHARED_TIME, at=datetime.fromtimestamp(due, UTC), stamped=due)
        after = memory_bytes(bench.target.pid)
        late: list[float] = []
        with client.subscribe(topic, partitions=list(range(bench.partitions))) as reader:
            end = time.monotonic() + FIRST_DUE + DUE_SECONDS + PATIENCE
            while len(late) < PENDING and time.monotonic() < end:
                records, now = reader.fetch(max_records=1000, wait=1.0), time.time()
                late += [now - stamped_at(record.value) for record in records]
        return {**spread(late), "memory_mib": grown_mib(before, after)}


# ----- dead letters


def rejects(bench: Bench) -> Figures:
    """Rejected records: until each lies in the dead-letter topic."""
    with bench.topic() as (client, topic):
        bench.fill(client, topic, DEAD)
        member = Member(bench.load(topic, "rejects", seconds=DEAD_SECONDS))
        try:
            member.wait_ready()
            began = time.monotonic()
            member.go()
            wait_until(lambda: _dead(client, topic) >= DEAD, f"{DEAD:,} dead letters")
            took = time.monotonic() - began
        finally:
            member.end()
        return {"records": DEAD, "per_second": round(DEAD / took)}


def _dead(client: Client, topic: str) -> int:
    dead = client.admin.describe_shared(topic, GROUP).group.dead_topic
    return sum(p.held for p in client.admin.describe_shared(dead, GROUP).partitions)


def redrive(bench: Bench) -> Figures:
    """Redriven dead letters: until the broker has confirmed all."""
    with bench.topic() as (client, topic):
        bench.fill(client, topic, DEAD)
        with client.subscribe(topic, group=GROUP, mode="shared", max_in_flight=10_000) as member:
            taken = 0
            while taken < DEAD:
                for record in member.fetch(max_records=5000, wait=5.0):
                    record.reject("a bench")
                    taken += 1
            member.flush()
        wait_until(lambda: _dead(client, topic) >= DEAD, f"{DEAD:,} dead letters")
        began = time.monotonic()
        report = client.admin.redrive(topic, GROUP)
        took = time.monotonic() - began
        return {"records": report.redriven, "per_second": round(report.redriven / took)}


# ----- what it costs to keep


def in_flight(bench: Bench) -> Figures:
    """Broker memory for records that are with many members, unsettled."""
    with bench.topic() as (client, topic), ExitStack() as stack:
        bench.fill(client, topic, HELD)
        before = memory_bytes(bench.target.pid)
        for _ in range(MEMBERS):
            member = client.subscribe(
                topic, group=GROUP, mode="shared", max_in_flight=HELD // MEMBERS
            )
            stack.enter_context(member).fetch(max_records=1, wait=0.0)
        # A part of a member's credit waits for redriven records: not quite all are leased.
        wait_until(lambda: _leased(client, topic) > HELD * 0.85, "leases on nearly all records")
        after, records = memory_bytes(bench.target.pid), _leased(client, topic)
        return {"records": records, "members": MEMBERS, "memory_mib": grown_mib(before, after)}


def _leased(client: Client, topic: str) -> int:
    return sum(p.leased for p in client.admin.describe_shared(topic, GROUP).partitions)


def restart(bench: Bench) -> Figures:
    """A broker with records that wait for tomorrow, killed and started: until it answers."""
    if bench.spawn is None:
        raise Failure("a restart is measured with --spawn")
    with tempfile.TemporaryDirectory(dir=bench.spawn, prefix="penstock-bench-") as place:
        settings = Settings(timeout=30.0)
        with serving(place, settings) as process, settings.connect() as client:
            client.admin.create_topic("delayed")
            bench.fill(client, "delayed", LARGE, at=datetime.now(UTC) + timedelta(days=1))
            process.kill()
            process.wait()
        began = time.monotonic()
        with serving(place, settings), settings.connect() as client:
            found = client.admin.list_scheduled("delayed", limit=1).total
            took = time.monotonic() - began
        if found != LARGE:
            raise Failure(f"{found:,} of {LARGE:,} delayed records were there after a restart")
        return {"records": found, "max_ms": round(took * 1000, 1)}


# ----- explaining


def explain(bench: Bench, records: int) -> Figures:
    """`why` on records of a group that has so many under way in all states."""
    settings = {"max_in_flight": 100_000, "attempts_max": -1}
    with bench.topic(settings) as (client, topic):
        bench.fill(client, topic, records)
        with client.subscribe(topic, group=GROUP, mode="shared", max_in_flight=50_000) as member:
            taken = 0
            while taken < records // 2:
                for record in member.fetch(max_records=5000, wait=5.0):
                    taken += 1
                    if not taken % 3:
                        record.nack(delay=3600.0)
                    else:
                        record.ack()
            member.flush()
            source = random.Random(1)
            took = []
            for _ in range(EXPLAINED):
                offset = source.randrange(records // bench.partitions)
                begun = time.perf_counter()
                client.admin.explain(topic, source.randrange(bench.partitions), offset)
                took.append(time.perf_counter() - begun)
        return spread(took)


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        goal: records a second to reach, or milliseconds (the largest) or MiB to keep within;
            0: none.
        share_of: the goal is this share of another case's rate.
        large: takes minutes; run only when asked for.
    """

    name: str
    run: Callable[[Bench], Figures]
    goal: float = 0.0
    unit: str = "per_second"
    share_of: tuple[float, str] | None = None
    large: bool = False

    def judge(self, figures: Figures, others: Mapping[str, Figures]) -> Figures:
        """The figures with the goal, how much of it was reached, and whether it was met."""
        goal, seen = self.goal, float(figures[self.unit])
        if self.share_of is not None:
            share, name = self.share_of
            goal = share * others[name]["per_second"] if name in others else 0.0
        row = {"case": self.name, "unit": self.unit, "seen": seen, "goal": goal or None, **figures}
        if goal:
            seen = max(seen, 0.01)
            better = seen / goal if self.unit == "per_second" else goal / seen
            row.update(ratio=round(better, 3), met=better >= 1)
        return row


LATE: Final = "max_ms"
MEMORY: Final = "memory_mib"
CASES: Final = (
    Case("ack singly, 1 member", lambda bench: acks(bench, 1), 400_000),
    Case("ack singly, 4 members", lambda bench: acks(bench, 4), 500_000),
    Case("ack whole batches", batches),
    Case(
        "per-key order, 1 member",
        lambda bench: by_key(bench, 1),
        share_of=(0.6, "ack singly, 1 member"),
    ),
    Case(
        "per-key order, 4 members",
        lambda bench: by_key(bench, 4),
        share_of=(0.6, "ack singly, 4 members"),
    ),
    Case("late: lease ran out, 10,000", lease_end, 50, LATE),
    Case("late: nack to a time, 10,000", lambda bench: nack_delay(bench, PENDING), 50, LATE),
    Case("late: delayed publish, 10,000", lambda bench: delayed_publish(bench, PENDING), 50, LATE),
    Case(
        "late: nack to a time, 1,000,000",
        lambda bench: nack_delay(bench, LARGE),
        250,
        LATE,
        large=True,
    ),
    Case(
        "late: delayed publish, 1,000,000",
        lambda bench: delayed_publish(bench, LARGE),
        250,
        LATE,
        large=True,
    ),
    Case("restart, 1,000,000 delayed", restart, 3000, LATE, large=True),
    Case("100,000 in flight, 1,000 members", in_flight, 60, MEMORY, large=True),
    Case("dead letters moved", rejects, 10_000),
    Case("dead letters redriven", redrive, 50_000),
    Case("why, group of 1,000,000", lambda bench: explain(bench, LARGE), 50, LATE),
)
