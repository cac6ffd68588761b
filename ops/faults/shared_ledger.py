"""What members of a shared group wrote down, held against the promises.

Of every grant: no two live leases on a record; counters never go down; nothing before its time;
nothing that was settled. At the end: every record was acked or is a dead letter, not both, and no
dead letter lies there twice; delayed records and firings of a schedule came out once, not early.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from ops.faults.shared_members import Line
from penstock import sync
from penstock.protocol.leases import ACK, NACK, REJECT
from penstock.protocol.record import Record

BREACHES_MAX: Final = 20
NOTICE_US: Final = 200_000
"""What one process says and another one notices later may be that far apart on a busy machine."""
SLOW_US: Final = 3_000_000
"""An answer that was given before a confirmation is read that long after it at most."""
DEAD_HEADER: Final = "penstock-dead"
DUE_HEADER: Final = "penstock-due"

Key = tuple[int, int]
"""Raft group id of the partition, and offset."""


class Grant(NamedTuple):
    """A lease on one record that a member was told of."""

    lease: int
    member: str
    t: int
    granted_us: int
    deadline_us: int
    counters: tuple[int, int, int]
    """Failed, timed out, redriven."""


class Said(NamedTuple):
    """A verdict that a member sent, or that was confirmed to it."""

    t: int
    lease: int
    verdict: int
    ready_at_us: int


@dataclass
class SharedLedger:
    """All that is known of one group from outside the broker.

    Attributes:
        crashes: when the broker ended; grants that it had not made durable are gone.
        steady: the broker's clock did not jump.
        awake: no member stood still.
    """

    crashes: list[int] = field(default_factory=list)
    steady: bool = True
    awake: bool = True
    breaches: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _grants: dict[Key, list[Grant]] = field(default_factory=lambda: defaultdict(list))
    _said: dict[Key, list[Said]] = field(default_factory=lambda: defaultdict(list))
    _done: dict[Key, int] = field(default_factory=dict)
    """When the ack or reject of a record was confirmed without a doubt."""
    _acked: set[Key] = field(default_factory=set)
    _delays: dict[Key, list[Said]] = field(default_factory=lambda: defaultdict(list))
    _attached: dict[tuple[str, int], list[tuple[int, set[int]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _places: dict[int, tuple[str, int]] = field(default_factory=dict)

    def breach(self, words: str) -> None:
        """Note a broken promise."""
        if len(self.breaches) < BREACHES_MAX:
            self.breaches.append(words)

    # ----- reading

    def take(self, lines: Iterable[Line]) -> None:
        """Read journals, by time."""
        attaches: list[tuple[tuple[str, int], Line]] = []
        for line in lines:
            if line["kind"] == "granted":
                self._granted(line)
            elif line["kind"] == "said":
                self._verdicts(line, self._said)
            elif line["kind"] == "confirmed":
                self._confirmed(line)
            elif line["kind"] == "attach":
                attaches.append(((line["topic"], line["partition"]), line))
        gids = {place: gid for gid, place in self._places.items()}
        for place, line in attaches:
            if place in gids:
                entry = line["t"], set(line["held"])
                self._attached[line["member"], gids[place]].append(entry)

    def _granted(self, line: Line) -> None:
        gid = line["gid"]
        self._places[gid] = line["topic"], line["partition"]
        for first, records, _, failed, timed_out, redrives in line["spans"]:
            grant = Grant(
                line["lease"], line["member"], line["t"], line["granted_us"], line["deadline_us"],
                (failed, timed_out, redrives),
            )  # fmt: skip
            self.counts["granted"] += records
            for offset in range(first, first + records):
                self._grants[gid, offset].append(grant)

    def _verdicts(self, line: Line, into: dict[Key, list[Said]]) -> None:
        for lease, first, count, verdict, ready_at_us in line["verdicts"]:
            said = Said(line["t"], lease, verdict, ready_at_us)
            for offset in range(first, first + count):
                into[line["gid"], offset].append(said)

    def _confirmed(self, line: Line) -> None:
        gid, lost = line["gid"], set(_offsets(line["lost"]))
        self.counts["late acks"] += line["late"]
        self.counts["verdicts lost"] += len(lost)
        self.counts["settled before"] += line["duplicates"]
        for lease, first, count, verdict, ready_at_us in line["verdicts"]:
            self.counts["confirmed"] += count
            for offset in range(first, first + count):
                if offset in lost:
                    continue
                key = gid, offset
                if verdict in (ACK, REJECT) and not line["duplicates"]:
                    self._done.setdefault(key, line["t"])
                    if verdict == ACK:
                        self._acked.add(key)
                elif verdict == NACK and ready_at_us and not line["duplicates"]:
                    self._delays[key].append(Said(line["t"], lease, verdict, ready_at_us))

    # ----- grants

    def check_grants(self) -> None:
        """Hold every grant against those before it and against what was said."""
        for key, grants in self._grants.items():
            grants.sort(key=_lease)
            for before, after in pairwise(grants):
                self.counts["redelivered"] += 1
                self._check_counters(key, before, after)
                self._check_leases(key, before, after)
                self._check_delay(key, before, after)
            self._check_done(key, grants)

    def _where(self, key: Key) -> str:
        topic, partition = self._places.get(key[0], ("?", key[0]))
        return f"{topic}/{partition}@{key[1]}"

    def _check_counters(self, key: Key, before: Grant, after: Grant) -> None:
        if any(a < b for a, b in zip(after.counters, before.counters, strict=True)):
            self.breach(f"{self._where(key)}: {before.counters} became {after.counters}")

    def _check_leases(self, key: Key, before: Grant, after: Grant) -> None:
        if after.granted_us >= before.deadline_us:
            return
        if any(before.t - SLOW_US <= t <= after.t for t in self.crashes):
            return  # the grant may never have been durable
        if any(
            said.t <= after.t + NOTICE_US and (said.lease == before.lease or said.verdict == ACK)
            for said in self._said.get(key, ())
        ):
            return
        attached = self._attached.get((before.member, key[0]), ())
        if any(
            before.t <= t + NOTICE_US and t <= after.t + NOTICE_US and before.lease not in held
            for t, held in attached
        ):
            return
        self.breach(
            f"{self._where(key)}: two live leases: {before.lease:x} of {before.member} until "
            f"{before.deadline_us}, {after.lease:x} of {after.member} since {after.granted_us}"
        )

    def _check_delay(self, key: Key, before: Grant, after: Grant) -> None:
        for said in self._delays.get(key, ()):
            if said.lease == before.lease and after.granted_us < said.ready_at_us:
                early = said.ready_at_us - after.granted_us
                self.breach(f"{self._where(key)}: came {early} us too early")

    def _check_done(self, key: Key, grants: list[Grant]) -> None:
        done = self._done.get(key)
        if done is None:
            return
        for grant in grants:
            if self.steady:
                late = grant.granted_us > done + NOTICE_US
            else:
                late = self.awake and grant.t > done + SLOW_US
            if late and not self._may_go_on(key, grant):
                words = f"was settled at {done} and granted again at {grant.granted_us}"
                self.breach(f"{self._where(key)}: {words}, lease {grant.lease:x}")

    def _may_go_on(self, key: Key, grant: Grant) -> bool:
        """A dead letter that was rejected comes again after a redrive."""
        topic, _ = self._places[key[0]]
        return topic.startswith("dead.") and grant.counters[2] > 0 and key not in self._acked

    # ----- the end

    def check_end(self, client: sync.Client, topic: str, group: str) -> None:
        """Hold the logs of the topic and of its dead letters against what was said."""
        dead: dict[tuple[int, int], Line] = {}
        dead_topic = f"dead.{topic}.{group}"
        for partition, _, record in read_topic(client, dead_topic):
            history = json.loads(record.headers[DEAD_HEADER])
            origin = history["partition"], history["offset"]
            if origin in dead:
                self.breach(f"{topic}/{origin}: is a dead letter twice")
            dead[origin] = history
            self.counts["dead letters"] += 1
            del partition
        gids = {place: gid for gid, place in self._places.items()}
        for partition, offset, _ in read_topic(client, topic):
            self.counts["records checked"] += 1
            gid = gids.get((topic, partition), -1)
            self._check_record(gid, (partition, offset), topic, dead.get((partition, offset)))

    def _check_record(
        self, gid: int, place: tuple[int, int], topic: str, dead: Line | None
    ) -> None:
        key, where = (gid, place[1]), f"{topic}/{place[0]}@{place[1]}"
        verdicts = {said.verdict for said in self._said.get(key, ())}
        if dead is None:
            if ACK not in verdicts:
                self.breach(f"{where}: neither acked nor dead")
            return
        if key in self._acked:
            self.breach(f"{where}: acked, and a dead letter")
        if dead["reason"] == "rejected" and REJECT not in verdicts:
            self.breach(f"{where}: nobody rejected it, and it is a dead letter for that")


def check_delayed(
    ledger: SharedLedger,
    client: sync.Client,
    topic: str,
    due: dict[bytes, int],
    acked: set[bytes],
) -> None:
    """Delayed records and firings of a schedule (values `tick...`): once each, none early."""
    seen: Counter[bytes] = Counter()
    ticks: list[int] = []
    for _, _, record in read_topic(client, topic):
        value = bytes(record.value or b"")
        if value in due:
            seen[value] += 1
            if record.timestamp_us < due[value]:
                ledger.breach(f"{value!r} came {due[value] - record.timestamp_us} us early")
        elif DUE_HEADER in record.headers:
            ticks.append(int(record.headers[DUE_HEADER]))
    ledger.counts["delayed records checked"] += len(seen)
    ledger.counts["firings checked"] += len(ticks)
    for value, times in seen.items():
        if times > 1:
            ledger.breach(f"{value!r} came {times} times")
    lost = acked - set(seen)
    if lost:
        ledger.breach(f"delayed records are lost: {sorted(lost)[:3]}")
    expected = list(range(ticks[0], ticks[0] + 1_000_000 * len(ticks), 1_000_000)) if ticks else []
    if ticks != expected:
        odd = [each for each, right in zip(ticks, expected, strict=True) if each != right][:3]
        ledger.breach(f"a schedule of every second fired {len(ticks)} times, wrong from {odd}")


def read_topic(client: sync.Client, topic: str) -> list[tuple[int, int, Record]]:
    """All records of a topic: partition, offset, record.

    Raises:
        TimeoutError: nothing more comes though the log goes on.
    """
    ends = client.admin.list_offsets(topic, "latest")
    found = []
    for partition, end in ends.items():
        at = client.admin.list_offsets(topic, {partition: "earliest"})[partition]
        if at == end:
            continue
        with client.subscribe(topic, partitions=[partition], start=at) as records:
            while at < end:
                page = records.fetch(max_records=5000, wait=10.0)
                if not page:
                    raise TimeoutError(f"{topic}:{partition} gives nothing at {at}, ends at {end}")
                found += [(partition, record.offset, record) for record in page]
                at = page[-1].offset + 1
    return found


def _offsets(spans: list[int]) -> Iterable[int]:
    for first, count in zip(spans[::2], spans[1::2], strict=True):
        yield from range(first, first + count)


def _lease(grant: Grant) -> int:
    return grant.lease
