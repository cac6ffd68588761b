"""The broker's world with a shared group: leases, redelivery, dead letters, redrive, key order.

The faults are those of `broker_world`. When they stop, every record must be settled within bounded
time, and the dead letters must be what the members' verdicts say.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from penstock.errors import PenstockError
from penstock.protocol import frames
from penstock.protocol.messages import CreateTopic, Metadata, MetadataReply
from penstock.protocol.record_batch import RecordBatch, read_batches
from penstock.protocol.sharing import (
    CreateGroup,
    CreateGroupReply,
    EnableDelays,
    EnableDelaysReply,
)
from penstock_broker.machine.sharing.state import DONE, HELD, MOVING
from penstock_broker.machine.topology import TIMER_GROUP
from penstock_broker.node.node import Node
from penstock_broker.node.session import Session
from penstock_broker.simulation.broker_clients import Client, Link
from penstock_broker.simulation.broker_truth import TICK
from penstock_broker.simulation.broker_world import PARTITIONS, Counts, World
from penstock_broker.simulation.delayed_clients import Delayer, check_firings, create_schedule
from penstock_broker.simulation.shared_clients import GROUP, SharedMember
from penstock_broker.simulation.shared_truth import Key, SharedTruth

KEYS = 7
JUMP_SECONDS = 2.0
"""Between two jumps of the clock, about, in the worlds where it jumps."""
DEAD_HEADER = "penstock-dead"
TOLD_WITHIN_US = 400_000
"""How soon a member hears of a lease on a slow disk, while no connection breaks."""


@dataclass(slots=True)
class SharedCounts(Counts):
    """What happened in the shared group besides."""

    granted: int = 0
    verdicts: int = 0
    renewals: int = 0
    redrives: int = 0
    dead: int = 0
    forgotten: int = 0
    """Grants that a leader took along, before anybody else had them."""
    jumps: int = 0
    """Of the wall clock."""
    delayed: int = 0
    firings: int = 0


class SharedWorld(World):
    """A broker, its clients, and the members of a shared group, for one seed."""

    counts: SharedCounts
    drain_seconds = 300.0

    def __init__(self, seed: int) -> None:
        self._clocks = Random(f"{seed} clocks")
        self._off_us = 0
        self._latest_us = 0
        super().__init__(seed)
        # A file must have room for the largest entry: a batch of dead letters or delayed records.
        self._config = replace(self._config, wal_file_bytes=256 << 10)
        self.counts = SharedCounts()
        self.truth.counts = self.counts
        pick = self.random.choice
        self.topic = "t"
        self.dead_topic = f"dead.{self.topic}.{GROUP}"
        self.by_key = pick((False, True))
        self.attempts_max = pick((2, 4))
        self.lease_seconds = pick((1.0, 1.5))
        self.shared_truth = SharedTruth(self)
        self.places: list[tuple[str, int, int]] = []
        self._settings: dict[str, object] = {
            "lease_ms": int(self.lease_seconds * 1000),
            "attempts_max": self.attempts_max,
            "retry_min_ms": 20,
            "retry_max_ms": 200,
            "strict": pick(("no", "yes")),
            "order_by": "key" if self.by_key else "none",
        }
        self.delayed_groups: list[int] = []
        self._calm_since_us = self.wall_us
        self._delayer = Delayer(self)
        self._with_schedule = pick((False, True))
        self._shared = [SharedMember(self, number) for number in range(pick((1, 2, 4)))]

    def __repr__(self) -> str:
        return f"SharedWorld({self._settings}, {len(self._shared)} members)"

    # ----- clocks

    @property
    def wall_us(self) -> int:
        """The wall clock that the broker sees: it jumps while there are faults."""
        return super().wall_us + self._off_us

    @property
    def broker_us(self) -> int:
        """The latest time of any broker so far: none has granted anything after it."""
        now_us = self.node.wall_us if self.node is not None else 0
        self._latest_us = max(self._latest_us, now_us, self.wall_us)
        return self._latest_us

    @property
    def clocks_moved(self) -> bool:
        """Whether the clock has jumped."""
        return self.counts.jumps > 0

    def _jump(self) -> None:
        if self.faulty:
            self.counts.jumps += 1
            jump_us = int(self._clocks.uniform(-3e6, 3e6))
            if jump_us < 0:
                self._delayer.times.put_back(self.now, self.wall_us)
            self._off_us += jump_us
            self.after(self._clocks.expovariate(1 / JUMP_SECONDS), self._jump)

    # ----- setting up

    def _create_topic(self) -> None:
        link = Link(self, lambda: None)
        config: dict[str, object] = {"key_slots": "key"} if self.by_key else {}
        create = CreateTopic(name=self.topic, partitions=PARTITIONS, config=config)
        link.ask(create, self._created)
        self._advance(lambda: bool(self.groups))
        create_group = CreateGroup(topic=self.topic, group=GROUP, settings=self._settings)
        link.ask(create_group, lambda reply: self._group_made(link, reply))
        self._advance(lambda: bool(self.places))
        if self._clocks.random() < 0.5:
            self.after(self._clocks.expovariate(1 / JUMP_SECONDS), self._jump)

    def _group_made(self, link: Link, reply: CreateGroupReply | PenstockError) -> None:
        assert isinstance(reply, CreateGroupReply), reply
        link.ask(EnableDelays(topic=self.topic), lambda reply: self._delays_enabled(link, reply))

    def _delays_enabled(self, link: Link, reply: EnableDelaysReply | PenstockError) -> None:
        assert isinstance(reply, EnableDelaysReply), reply
        self._delayed_topic = reply.delayed_topic
        if self._with_schedule:
            create_schedule(self, link)
        topics = [self.topic, self.dead_topic, self._delayed_topic]
        link.ask(Metadata(topics=topics), self._found)

    def _found(self, reply: MetadataReply) -> None:
        places = [
            (topic.name, info.partition, info.group)
            for topic in reply.topics
            for info in topic.partitions
        ]
        assert len(places) == 3 * PARTITIONS, places
        self.delayed_groups = [gid for name, _, gid in places if name == self._delayed_topic]
        self.places = [place for place in places if place[0] != self._delayed_topic]

    def _all_clients(self) -> list[Client]:
        return [*super()._all_clients(), self._delayer, *self._shared]

    def link_of(self, again: Callable[[], None]) -> Link:
        """A connection for a member of the group."""
        return Link(self, again)

    # ----- keys

    def slots_of(self, values: list[bytes]) -> list[int] | None:
        """With order by key, a record's slot follows from its value."""
        return [_slot(value) for value in values] if self.by_key else None

    def slot_of(self, key: Key) -> int | None:
        """The slot of a record of the topic, if the group keeps the order of keys."""
        value = self.truth.value_of(key[1], key[2]) if key[0] == self.topic else None
        if not self.by_key or value is None or value.startswith(TICK):
            return None
        return _slot(value)

    # ----- what the broker holds

    def held_runs(self, partition: int) -> list[int]:
        """Where dead letters wait, as an operator would be told."""
        group = self._group(self.dead_topic, partition)
        if group is None:
            return []
        return [number for run in group.window.runs(HELD, group.start, 10) for number in run]

    def is_over(self, key: Key) -> bool:
        """Whether the broker will not deliver a record any more."""
        group = self._group(key[0], key[1])
        return group is None or group.window.state(key[2]) in (DONE, MOVING)

    def _group(self, topic: str, partition: int) -> Any:  # noqa: ANN401 - whatever is there
        if self.node is None:
            return None
        gid = next(gid for name, number, gid in self.places if (name, number) == (topic, partition))
        place = self.node.partitions.get(gid)
        return place.machine.sharing.groups.get(GROUP) if place is not None else None

    def _drained(self) -> bool:
        return (
            super()._drained()
            and self._delayer.idle
            and all(map(self._all_came_out, self.delayed_groups))
            and all(member.idle for member in self._shared)
            and all(self._settled(partition) for partition in range(PARTITIONS))
        )

    def _tick(self) -> None:
        super()._tick()
        if self.faulty:
            self._calm_since_us = self.wall_us
        for topic, partition, _ in self.places:
            group = self._group(topic, partition)
            for lease in group.leases.values() if group is not None else ():
                if self._calm_since_us < lease.granted_us < self.wall_us - TOLD_WITHIN_US:
                    self.shared_truth.check_told(lease.id)

    def _all_came_out(self, gid: int) -> bool:
        assert self.node is not None
        timer = self.node.partitions[gid].machine.sharing.groups[TIMER_GROUP]
        return timer.start == timer.end

    def _settled(self, partition: int) -> bool:
        group = self._group(self.topic, partition)
        dead = self._group(self.dead_topic, partition)
        return (
            group is not None
            and group.start == self.end_offset(partition)
            and dead is not None
            and not dead.leases
        )

    def run(self, seconds: float = 8.0) -> None:
        """As the broker's world, and in the end every record is settled."""
        super().run(seconds)
        assert self.node is not None
        batches = [batch for gid in self.groups for batch in read_log(self.node, gid)]
        self._delayer.times.check_end([r.value or b"" for batch in batches for r in batch])
        check_firings(self, batches)
        for topic, partition, gid in self.places:
            if topic == self.dead_topic:
                records = [record for batch in read_log(self.node, gid) for record in batch]
                dead = [json.loads(record.headers[DEAD_HEADER]) for record in records]
                assert all(letter["partition"] == partition for letter in dead)
                offsets = [letter["offset"] for letter in dead]
                self.shared_truth.check_end(partition, self.end_offset(partition), offsets)


def _slot(value: bytes) -> int:
    sequence = value.split(b".")[0].rsplit(b"-", 1)[1]
    return 1 + int(sequence) % KEYS


def read_log(node: Node, gid: int) -> list[RecordBatch]:
    """All batches of a partition, through fetches."""
    session = Session(-2, -2, "check", 0.0)
    session.ready = True
    found: list[RecordBatch] = []
    offset = 0
    while True:
        data = frames.fetch_request(1, gid, offset, 1 << 20, 0, 0)
        node.receive(session, memoryview(data), len(data), False)
        for read in node.take_reads():
            read.run()
            node.job_done(read, None)
        reply, session.out, session.queued = b"".join(session.out), [], False
        node.sent(session, 0)
        assert not reply[5] & frames.FLAG_ERROR, f"reading {gid}: {reply[16:]!r}"
        batches = list(read_batches(memoryview(reply)[frames.REPLY_BYTES :], from_offset=offset))
        if not batches:
            return found
        found += batches
        offset = batches[-1].next_offset
