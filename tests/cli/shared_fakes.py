"""A stand-in for the client's administrative half, for what shared groups need of it.

Holds dead letters and answers as a broker does, so that the commands can be tried on any state
without bringing a broker into it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec

from penstock import Record
from penstock.errors import GroupNotFound, LeaderUnknown, OffsetOutOfRange, TopicNotFound
from penstock.protocol.messages import GroupSummary
from penstock.protocol.sharing import (
    AttemptInfo,
    DescribeSharedReply,
    ExplainRecordReply,
    MemberInFlight,
    RecordState,
    ScheduledRecord,
    ScheduleInfo,
    SharedFigures,
    SharedGroupInfo,
)

NOW_US = 1_795_000_000_000_000
SECOND = 1_000_000
TRACE = "\n".join(
    [
        "Traceback (most recent call last):",
        *(f'  File "/srv/app/worker_{n}.py", line {n}, in handle' for n in range(8)),
        "ValueError: total is not a number: 'n/a' in the row of the customer 4711, which was sent",
    ]
)


def attempt(number: int, *, kind: str = "failed", error: str = TRACE) -> AttemptInfo:
    """One attempt, a minute after the one before."""
    begun = NOW_US - (600 - 60 * number) * SECOND
    return AttemptInfo(
        kind=kind,
        member=f"worker-{number}",
        host="host-a.example.org",
        reason="ValueError" if kind == "failed" else "",
        error=error if kind == "failed" else "",
        granted_us=begun,
        ended_us=begun + 1_250_000,
    )


def state(offset: int = 1024, **changes: Any) -> RecordState:
    """A record that failed twice and waits for its third attempt."""
    fields: dict[str, Any] = {
        "group": "billing",
        "mode": "shared",
        "offset": offset,
        "state": "delayed",
        "text": "It failed twice; the group's retry policy delivers it again at the time below.",
        "since_us": NOW_US - 12 * SECOND,
        "next_us": NOW_US + 41 * SECOND,
        "delivered": 3,
        "failed": 2,
        "reason": "ValueError",
        "attempts": [attempt(1), attempt(2)],
    }
    return RecordState(**{**fields, **changes})


def figures(partition: int = 0, **changes: Any) -> SharedFigures:
    """A group at work in one partition."""
    fields: dict[str, Any] = {
        "partition": partition,
        "start": 1000,
        "end": 1234,
        "high_watermark": 2345,
        "ready": 1111,
        "leased": 100,
        "delayed": 30,
        "moving": 0,
        "held": 0,
        "in_flight_max": 100_000,
        "oldest_unacked_us": NOW_US - 123 * SECOND,
        "next_ready_us": NOW_US + 4 * SECOND,
        "blocked_by": "",
        "counters": {"delivered": 12_345, "acked": 12_000, "failed": 300, "timed_out": 0},
        "time_in_queue_ms": {"p50": 12.0, "p90": 40.0, "p99": 1200.0, "max": 4000.0},
        "attempts": {0: 100, 1: 20, 2: 10},
        "members": [
            MemberInFlight(
                member="worker-1",
                host="host-a",
                attached=True,
                in_flight=60,
                oldest_us=NOW_US - 5 * SECOND,
            ),
            MemberInFlight(
                member="worker-2",
                host="host-b",
                attached=False,
                in_flight=40,
                oldest_us=NOW_US - 20 * SECOND,
            ),
        ],
    }
    return SharedFigures(**{**fields, **changes})


@dataclass
class Letter:
    """A dead letter, as the client gives it."""

    record: Record
    origin_offset: int
    reason: str = "ValueError"
    died_us: int = NOW_US - 3600 * SECOND
    origin_topic: str = "orders"
    origin_partition: int = 0
    group: str = "billing"
    delivered: int = 5
    failed: int = 5
    timed_out: int = 0
    redrives: int = 0
    attempts: list[AttemptInfo] = field(default_factory=lambda: [attempt(1), attempt(2)])
    attempts_left_out: int = 0
    unreadable: str = ""
    edited_from: str = ""


def letter(offset: int, value: bytes | None = b"x", **changes: Any) -> Letter:
    """A dead letter in partition 0 of the dead-letter topic; key `c0`, `c1`, `c2` in turn."""
    record = Record(
        topic="dead.orders.billing",
        partition=changes.pop("partition", 0),
        offset=offset,
        timestamp_us=NOW_US - 3600 * SECOND,
        key=f"c{offset % 3}".encode(),
        value=value,
        headers=changes.pop("headers", {"source": b"web"}),
    )
    return Letter(record, 100 + offset, **changes)


@dataclass
class FakeAdmin:
    """Dead letters of group `billing` on `orders`, and whatever else a test puts in."""

    letters: list[Letter] = field(default_factory=list)
    states: list[tuple[int, RecordState]] = field(default_factory=list)
    partitions: list[SharedFigures] = field(default_factory=lambda: [figures()])
    missing: list[int] = field(default_factory=list)
    """Partitions without a leader."""
    schedules: list[ScheduleInfo] = field(default_factory=list)
    scheduled: list[tuple[int, ScheduledRecord]] = field(default_factory=list)
    log_start_offset: int = 1500
    high_watermark: int = 2000
    page: int = 2
    redriven: list[Letter] = field(default_factory=list)
    values: dict[tuple[int, int], bytes | None] = field(default_factory=dict)
    interrupt_after: int | None = None
    """How many portions are answered before Ctrl-C is pressed."""

    def list_groups(self, patience: float | None = None) -> Any:
        """The one shared group."""
        shared = GroupSummary(
            group="billing", mode="shared", members=2, generation=0, topics=["orders"], lag=1241,
            missing=len(self.missing),
        )  # fmt: skip
        return SimpleNamespace(groups=[shared], missing=0)

    def list_topics(self) -> Any:
        """Nothing was deleted."""
        return [SimpleNamespace(name="orders"), SimpleNamespace(name="dead.orders.billing")]

    def describe_shared(self, topic: str, group: str) -> DescribeSharedReply:
        """The group on its topic, and on its dead-letter topic."""
        if group != "billing":
            raise GroupNotFound(f"topic {topic} has no shared group {group}")
        if topic == "orders":
            found = _described(topic, self.partitions, dead="dead.orders.billing")
            return msgspec.structs.replace(found, missing=self.missing)
        if topic != "dead.orders.billing":
            raise TopicNotFound(f"there is no topic {topic}")
        held = figures(ready=0, leased=0, delayed=0, held=len(self.letters), members=[])
        return _described(topic, [held], dead="")

    def explain(
        self,
        topic: str,
        partition: int,
        offset: int,
        group: str = "",
        patience: float | None = None,
    ) -> ExplainRecordReply:
        """What was put in, for the groups asked for."""
        if partition in self.missing:
            raise LeaderUnknown(f"no leader of {topic}/{partition} within {patience} s")
        if offset >= self.high_watermark:
            raise OffsetOutOfRange(f"the log of {topic} ends at {self.high_watermark}")
        found = [s for _, s in self.states if group in ("", s.group)]
        return ExplainRecordReply(
            log_start_offset=self.log_start_offset, high_watermark=self.high_watermark, states=found
        )

    def stuck(
        self,
        topic: str,
        group: str,
        limit: int = 20,
        partitions: Collection[int] | None = None,
    ) -> list[tuple[int, RecordState]]:
        """What was put in."""
        assert partitions is None or not set(self.missing) & set(partitions)
        return self.states[:limit]

    def dead_letters(
        self,
        topic: str,
        group: str,
        *,
        partition: int | None = None,
        after: Mapping[int, int] | None = None,
        limit: int = 1000,
    ) -> Any:
        """A page of at most `page` dead letters."""
        if group != "billing":
            raise GroupNotFound(f"topic {topic} has no shared group {group}")
        ahead = [
            it
            for it in self.letters
            if it.record.offset >= (after or {}).get(it.record.partition, 0)
            and partition in (None, it.record.partition)
        ]
        found = ahead[: min(self.page, limit)]
        beyond = dict(after or {})
        beyond |= {it.record.partition: it.record.offset + 1 for it in found}
        return SimpleNamespace(
            letters=found, after=beyond if len(found) < len(ahead) else None, held=len(ahead)
        )

    def redrive_letters(
        self,
        letters: Sequence[Letter],
        *,
        values: Mapping[tuple[int, int], bytes | None] | None = None,
        force: bool = False,
    ) -> Any:
        """Take them out, but for those that were redriven ten times."""
        if self.interrupt_after is not None:
            if self.interrupt_after == 0:
                raise KeyboardInterrupt
            self.interrupt_after -= 1
        fine = [it for it in letters if force or it.redrives < 10]
        looping = [(it.record.partition, it.record.offset) for it in letters if it not in fine]
        self._take(fine)
        self.redriven += fine
        self.values |= dict(values or {})
        return SimpleNamespace(
            redriven=len(fine), edited=len(values or {}), looping=looping, absent=[]
        )

    def purge_letters(self, letters: Sequence[Letter]) -> int:
        """Take them out."""
        self._take(letters)
        return len(letters)

    def _take(self, letters: Sequence[Letter]) -> None:
        self.letters = [it for it in self.letters if it not in letters]

    def list_schedules(self, topic: str | None = None) -> list[ScheduleInfo]:
        """Those of the topic."""
        return [s for s in self.schedules if topic in (None, s.topic)]

    def list_scheduled(self, topic: str, partition: int | None = None, limit: int = 1000) -> Any:
        """What was put in."""
        return SimpleNamespace(scheduled=self.scheduled[:limit], total=len(self.scheduled))

    def cancel_scheduled(self, topic: str, partition: int, ids: Sequence[int]) -> Any:
        """Cancel those that are there."""
        there = {s.id for p, s in self.scheduled if p == partition}
        return SimpleNamespace(cancelled=[number for number in ids if number in there])


def _described(topic: str, partitions: list[SharedFigures], *, dead: str) -> DescribeSharedReply:
    group = SharedGroupInfo(
        topic=topic,
        group="billing",
        settings={"attempts_max": 5, "lease_ms": 45_000, "order_by": "key"},
        revision=3,
        dead_topic=dead,
    )
    return DescribeSharedReply(group=group, partitions=partitions)


def schedule(**changes: Any) -> ScheduleInfo:
    """A schedule for the small hours."""
    fields: dict[str, Any] = {
        "name": "nightly",
        "topic": "reports",
        "partition": 0,
        "cron": "30 2 * * mon-fri",
        "time_zone": "Europe/Berlin",
        "catch_up": "one",
        "value": b'{"kind": "full"}',
        "key": None,
        "headers": {},
        "paused": False,
        "fired": 17,
        "last_us": NOW_US - 3600 * SECOND,
        "next_us": NOW_US + 7200 * SECOND,
    }
    return ScheduleInfo(**{**fields, **changes})


@dataclass
class FakeClient:
    """A client whose administrative half is a `FakeAdmin`; reads one record wherever asked."""

    admin: FakeAdmin

    @contextmanager
    def subscribe(self, topic: str, *, partitions: list[int], start: int) -> Iterator[Any]:
        """A reader of the record at the place asked for."""
        record = Record(
            topic, partitions[0], start, NOW_US - 182 * SECOND, b'{"total": "n/a"}', b"c1"
        )
        yield SimpleNamespace(fetch=lambda **_: [record])

    @contextmanager
    def connected(self) -> Iterator[FakeClient]:
        """In place of `Settings.connect`."""
        yield self
