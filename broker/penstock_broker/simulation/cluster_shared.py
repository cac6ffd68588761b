"""A shared group of a simulated cluster: members at every leader, and what must hold for them.

Each member has a seat per partition, with a connection of its own to whoever leads it. What members
are told and say is held against the rules of `shared_truth`; since grants, verdicts and attempts
are replicated, none of them is excused by a death. A lease is excused only if its grant was never
committed: what is replicated without being waited for may be lost with the leader that told it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import (
    GroupNotFound,
    MemberUnknown,
    NotLeader,
    PenstockError,
    TopicNotFound,
)
from penstock.protocol.leases import Acquired
from penstock.protocol.messages import Metadata, MetadataReply
from penstock.protocol.sharing import CreateGroup, CreateGroupReply
from penstock_broker.machine.sharing.state import DONE, HELD, MOVING
from penstock_broker.simulation.broker_truth import TICK
from penstock_broker.simulation.cluster_clients import Link
from penstock_broker.simulation.cluster_host import START_US, Host
from penstock_broker.simulation.shared_clients import GROUP, PAUSE, Place, SharedMember
from penstock_broker.simulation.shared_truth import Grant, Key, SharedTruth
from penstock_broker.simulation.shared_world import DEAD_HEADER, SharedCounts, _slot, read_log

if TYPE_CHECKING:
    from random import Random

    from penstock_broker.simulation.cluster_world import ClusterWorld

TOPIC: Final = "t"
_NOT_THERE: Final = (GroupNotFound, MemberUnknown, NotLeader, TopicNotFound)
"""What a broker may say that has not heard of something, or is not the leader."""


class ClusterSharedTruth(SharedTruth):
    """What is known of the group from outside the cluster, whose clocks differ."""

    def __init__(self, group: SharedGroup) -> None:
        super().__init__(group)
        self._group = group
        self._final_at: dict[Key, float] = {}
        """When somebody heard that a record is settled."""
        self._granted_at = 0.0
        """When the grant was made that is looked at."""

    def granted(
        self, member: str, topic: str, partition: int, found: Acquired, asked: float
    ) -> list[int]:
        """As in any world; and nobody gives away what another leader has begun to give.

        A leader that stood still asks first, so not even that excuses it.
        """
        world, gid, led = self._group.world, self._group.gid_of(topic, partition), found.lease >> 32
        self._granted_at = asked
        if not world.clocks_moved:
            granted_us = found.deadline_us - found.lease_ms * 1000
            self._granted_at = max(asked, (granted_us - START_US) / 1e6)
        term, since = world.checks.served[gid]
        stale = led < term and self._granted_at > since
        assert not stale, f"{member} got {found.lease:x} though another leads since {since:.3f} s"
        return super().granted(member, topic, partition, found, asked)

    def _check_final(self, key: Key, granted_us: int, asked: float) -> None:
        at, final_at = self._granted_at, self._final_at.get(key)
        again = final_at is not None and at > final_at
        assert not again, f"{key} was settled at {final_at}, and given at {at} again"

    def _settle(self, key: Key, verdict: int) -> None:
        super()._settle(key, verdict)
        self._final_at.setdefault(key, self._group.now)

    def _may_be_forgotten(self, key: Key, grant: Grant) -> bool:
        # Grants are not waited for: what was never committed, no other leader can know of.
        gid = self._group.gid_of(key[0], key[1])
        return (gid, grant.lease) not in self._group.world.checks.leases

    def _may_be_over(self, key: Key, asked: float) -> bool:
        # Who granted may have died since, and the others may not have applied what it knew.
        return super()._may_be_over(key, asked) or self._group.world.died_at >= asked


class SharedGroup:
    """The group "s" of topic "t": the part of the world that its members see."""

    def __init__(self, world: ClusterWorld) -> None:
        swarm = world.swarm
        self.world = world
        self.random: Random = world.random
        self.topic = TOPIC
        self.dead_topic = f"dead.{TOPIC}.{GROUP}"
        self.by_key = swarm.by_key
        self.lease_seconds = swarm.lease_seconds
        self.places: list[tuple[str, int, int]] = []
        self.shared_truth = ClusterSharedTruth(self)
        self._settings: dict[str, object] = {
            "lease_ms": int(swarm.lease_seconds * 1000),
            "attempts_max": swarm.attempts_max,
            "retry_min_ms": 20,
            "retry_max_ms": 200,
            "strict": swarm.strict,
            "order_by": "key" if swarm.by_key else "none",
        }

    # ----- what members see of the world

    @property
    def now(self) -> float:
        """Virtual time."""
        return self.world.now

    @property
    def counts(self) -> SharedCounts:
        """What happened."""
        return self.world.counts

    @property
    def wall_us(self) -> int:
        """What the members' clocks show."""
        return START_US + int(self.world.now * 1e6)

    broker_us = wall_us

    @property
    def clocks_moved(self) -> bool:
        """Whether any broker's clock has ever jumped."""
        return self.world.clocks_moved

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self.world.after(delay, action)

    def link_of(self, again: Callable[[], None]) -> Link:
        """A connection for a seat: it looks for the leader."""
        link = Link(self.world, again)
        link.go()
        return link

    def slot_of(self, key: Key) -> int | None:
        """The slot of a record of the topic, if the group keeps the order of keys."""
        value = self.world.truth.value_of(key[1], key[2]) if key[0] == TOPIC else None
        if not self.by_key or value is None or value.startswith(TICK):
            return None
        return _slot(value)

    def slots_of(self, values: list[bytes]) -> list[int] | None:
        """The slots of records, if the group keeps the order of keys."""
        return [_slot(value) for value in values] if self.by_key else None

    # ----- what the brokers hold

    def gid_of(self, topic: str, number: int) -> int:
        """The group of a partition."""
        return next(gid for name, at, gid in self.places if (name, at) == (topic, number))

    def machine(self, host: Host, topic: str, number: int) -> Any:  # noqa: ANN401 - what is there
        """The group on a replica of a partition, None if there is none."""
        place = host.group(self.gid_of(topic, number))
        machine = getattr(place, "machine", None)
        return None if machine is None else machine.sharing.groups.get(GROUP)

    def _led(self, topic: str, number: int) -> Any:  # noqa: ANN401 - as above
        leader = self.world.leader_of(self.gid_of(topic, number))
        return None if leader is None else self.machine(leader, topic, number)

    def is_over(self, key: Key) -> bool:
        """Whether some replica knows that a record is delivered no more."""
        found = [self.machine(host, key[0], key[1]) for host in self.world.alive]
        return any(
            group is not None and group.window.state(key[2]) in (DONE, MOVING) for group in found
        )

    def held_runs(self, partition: int) -> list[int]:
        """Where dead letters wait."""
        group = self._led(self.dead_topic, partition)
        if group is None:
            return []
        return [number for run in group.window.runs(HELD, group.start, 10) for number in run]

    # ----- life

    def create(self) -> None:
        """Create the group, and learn where its partitions are."""
        create = CreateGroup(topic=TOPIC, group=GROUP, settings=self._settings, if_not_exists=True)
        self.world.until_told(create, lambda reply: isinstance(reply, CreateGroupReply))
        self.world.until_told(Metadata(topics=[TOPIC, self.dead_topic]), self._described)

    def _described(self, reply: MetadataReply | PenstockError) -> bool:
        if isinstance(reply, PenstockError):
            return False
        self.places = [
            (topic.name, info.partition, info.group)
            for topic in reply.topics
            for info in topic.partitions
        ]
        return len(self.places) == 2 * self.world.swarm.partitions

    def members(self) -> list[Seat]:
        """A seat of every member at every partition."""
        numbers = range(self.world.swarm.shared)
        return [Seat(self, number, place) for number in numbers for place in self.places]

    def waits_for(self) -> list[str]:
        """Partitions of which something is not settled yet."""
        found = []
        for partition, gid in enumerate(self.world.gids):
            group, dead = self._led(TOPIC, partition), self._led(self.dead_topic, partition)
            leader = self.world.leader_of(gid)
            if group is None or dead is None or leader is None or leader.node is None:
                found.append(f"no leader of partition {partition} or its dead letters")
                continue
            end = leader.node.partitions[gid].log.end_offset
            if group.start != end or dead.leases:
                words = f"{group.start} of {end} are settled, {len(group.leases)} leases"
                found.append(f"partition {partition}: {words}, {len(dead.leases)} on dead letters")
        return found

    def check_end(self) -> None:
        """Everything was acked, or is a dead letter, once."""
        for partition, gid in enumerate(self.world.gids):
            leader = self.world.leader_of(self.gid_of(self.dead_topic, partition))
            assert leader is not None
            assert leader.node is not None
            batches = read_log(leader.node, self.gid_of(self.dead_topic, partition))
            records = [record for batch in batches for record in batch]
            letters = [json.loads(record.headers[DEAD_HEADER]) for record in records]
            assert all(letter["partition"] == partition for letter in letters)
            host = self.world.leader_of(gid)
            assert host is not None
            assert host.node is not None
            end = host.node.partitions[gid].log.end_offset
            offsets = [letter["offset"] for letter in letters]
            self.shared_truth.check_end(partition, end, offsets)


class Seat(SharedMember):
    """A member at one partition, connected to its leader."""

    link: Link

    def __init__(self, group: SharedGroup, number: int, place: tuple[str, int, int]) -> None:
        super().__init__(group, number)
        self._place = place
        self._following = False
        self.begin()

    def __str__(self) -> str:
        held = [(place.topic, place.partition, place.held, place.said) for place in self.places]
        return f"{self.name} on {self.link.place} with {held}"

    def begin(self) -> None:
        """Take the seat."""
        self.places = [Place(*self._place)]
        self.link = self.world.link_of(self._again)  # type: ignore[assignment]  # it makes these
        self._beat()

    def _again(self) -> None:
        self._following = False
        super()._again()

    def _refused(self, what: str, error: PenstockError, again: Callable[[], None]) -> None:
        known = error.retriable or isinstance(error, _NOT_THERE)
        assert known, f"{self.name} {what}: {error!r}"
        if not self._following:
            self._following = True
            self.world.after(PAUSE, partial(self.link.follow, error, self._again))
