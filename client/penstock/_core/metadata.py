"""What the client knows of topics, partitions and nodes, and asking for it again.

Invariants: one metadata request is under way at a time; the topics in use are refreshed together;
a topic that a reply leaves out does not exist; a topic never goes back to one of its name that was
deleted before it, nor to fewer partitions, whichever broker that is behind tells so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Final, cast

from penstock._core.options import parse_address
from penstock._core.pool import UNFORMED_SECONDS, Pool
from penstock._core.scheduler import Bell, Operation, Process, Scheduler
from penstock._core.wire import Wire
from penstock.errors import (
    BadRequest,
    ClusterUnformed,
    PartitionNotFound,
    PenstockError,
    RetriableError,
    TopicNotFound,
)
from penstock.protocol.messages import Metadata as MetadataRequest
from penstock.protocol.messages import MetadataReply, PartitionInfo, TopicInfo

LEADER_SECONDS: Final = 1.0
"""How long to wait for word of a leader before asking again."""
LEADER_PAUSE: Final = 0.1
"""Between two questions for a leader that is not to be reached."""
SEARCH_ATTEMPTS: Final = 4
"""While a leader is looked for pauses grow no longer than after so many attempts."""
ATTEMPT_SECONDS: Final = 1.5
"""How long one broker may take, if another one can be asked then."""
REFRESH_PAUSE: Final = 0.05
"""Seconds between two refreshes at the least."""


class Metadata:
    """The cache of topics and the leaders of their partitions.

    Attributes:
        refusal: what the last broker that was asked said instead of an answer; None: it answered.
        bell: rings after each refresh.
        on_refresh: called after each refresh, before the bell.
    """

    def __init__(self, scheduler: Scheduler, pool: Pool, request_timeout: float) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._timeout = request_timeout
        self._topics: dict[str, TopicInfo] = {}
        self._partitions: dict[str, dict[int, PartitionInfo]] = {}
        self._used: set[str] = set()
        self._refresh: Process[None] | None = None
        self._refreshed_at = -inf
        self._wanted: set[str] = set()
        self.refusal: PenstockError | None = None
        self.bell = Bell(scheduler)
        self.on_refresh: list[Callable[[], None]] = []

    def topic(self, name: str) -> TopicInfo | None:
        """A topic, if it is known."""
        return self._topics.get(name)

    def partitions(self, name: str) -> dict[int, PartitionInfo]:
        """The partitions of a known topic by number."""
        return self._partitions.get(name, {})

    def partition(self, topic: str, number: int) -> PartitionInfo:
        """One partition of a known topic.

        Raises:
            PartitionNotFound: the topic has fewer partitions.
        """
        found = self.partitions(topic).get(number)
        if found is None:
            count = len(self.partitions(topic))
            raise PartitionNotFound(f"topic {topic} has no partition {number}, only {count}")
        return found

    def leader(self, topic: str, number: int) -> int:
        """The node that leads a partition, 0 while none is known."""
        found = self.partitions(topic).get(number)
        return found.leader if found is not None else 0

    def is_led_by(self, node: int) -> bool:
        """Whether a node leads any partition of the topics in use, as far as is known."""
        return any(
            found.leader == node
            for partitions in self._partitions.values()
            for found in partitions.values()
        )

    def note_leader(self, topic: str, number: int, node: int) -> None:
        """Take a broker's hint about who leads until the next refresh says more."""
        found = self.partitions(topic).get(number)
        if found is not None:
            self._partitions[topic][number] = PartitionInfo(
                partition=number,
                group=found.group,
                leader=node,
                term=found.term,
                replicas=found.replicas,
            )

    def add(self, topic: TopicInfo) -> None:
        """Take a topic from the reply that made or changed it: it can be used at once."""
        self._store(topic)
        self._tell()

    def forget(self, name: str) -> None:
        """Drop a topic that was deleted."""
        self._topics.pop(name, None)
        self._partitions.pop(name, None)
        self._used.discard(name)

    def ensure(self, name: str) -> Operation[TopicInfo]:
        """The topic, asked for if it is not known yet.

        Raises:
            TopicNotFound: there is no such topic.
        """
        found = self._topics.get(name)
        if found is None:
            yield self.refresh(name)
            found = self._topics.get(name)
        if found is None:
            raise TopicNotFound(f"there is no topic {name!r}")
        return found

    def leader_wire(self, topic: str, number: int) -> Operation[Wire]:
        """A connection to who leads a partition, as soon as there is one.

        Raises:
            TopicNotFound: there is no such topic.
        """
        while True:
            if self.topic(topic) is None:
                yield from self.ensure(topic)
            node = self.leader(topic, number)
            wire = self._pool.wire_to(node) if node else None
            if wire is not None:
                return wire
            # That node may be gone, or be about to be reached: whatever comes first.
            self.refresh(topic)
            yield self.bell.wait(self._scheduler.now + LEADER_SECONDS)
            if self._pool.wire_to(self.leader(topic, number)) is None:
                yield self._pool.bell.wait(self._scheduler.now + LEADER_PAUSE)

    def refresh(self, *names: str) -> Process[None]:
        """Start asking for the topics in use and these; the running request is shared if it can."""
        self._wanted.update(names)
        running = self._refresh
        if running is None or running.done:
            self._refresh = running = self._scheduler.spawn(self._ask())
        return running

    def _ask(self) -> Operation[None]:
        """Ask until nothing is wanted that the last request did not name."""
        while True:
            pause = self._refreshed_at + REFRESH_PAUSE - self._scheduler.now
            if pause > 0:
                yield self._scheduler.sleep(pause)
            asked, self._wanted = self._wanted, set()
            self._used |= asked & self._topics.keys()
            names = sorted(asked | self._used)
            try:
                reply = yield from self._request(names)
            finally:
                self._refreshed_at = self._scheduler.now
            self._take(reply, names)
            if not self._wanted:
                return

    def _request(self, names: list[str]) -> Operation[MetadataReply]:
        deadline = self._scheduler.now + self._timeout
        attempt, limit = 0, 0.0
        while True:
            wire = self._pool.any_wire()
            if wire is None:
                if self._scheduler.now >= deadline:
                    raise self._pool.no_connection()
                yield self._pool.bell.wait(deadline)
                continue
            until = min(deadline, self._scheduler.now + ATTEMPT_SECONDS)
            try:
                reply = yield self._pool.request(wire, MetadataRequest(topics=names), until)
                self.refusal = None
                return cast("MetadataReply", reply)
            except RetriableError as error:
                self.refusal = error
                attempt += 1
                if isinstance(error, ClusterUnformed):
                    limit = limit or self._scheduler.now + UNFORMED_SECONDS
                    deadline = min(deadline, limit)
                    self._pool.shun(wire, error)
                if self._scheduler.now >= deadline:
                    raise
            yield self._scheduler.sleep(self._pool.backoff(attempt))

    def _take(self, reply: MetadataReply, names: list[str]) -> None:
        addresses = {}
        for node in reply.nodes:
            try:
                addresses[node.id] = parse_address(node.address)
            except BadRequest:
                continue
        self._pool.set_addresses(addresses)
        found = {topic.name: topic for topic in reply.topics}
        for name in names:
            if name in found:
                self._store(found[name])
                self._used.add(name)
            else:
                self.forget(name)
        self._tell()

    def _tell(self) -> None:
        for listener in self.on_refresh:
            listener()
        self.bell.ring()

    def _store(self, topic: TopicInfo) -> None:
        known = self._partitions.get(topic.name, {})
        if _newest(topic.partitions) < _newest(known.values()):
            return  # told by a broker that is behind
        self._topics[topic.name] = topic
        self._partitions[topic.name] = {
            each.partition: _newer(known.get(each.partition), each) for each in topic.partitions
        }


def _newest(partitions: Iterable[PartitionInfo]) -> int:
    """The group made last: each partition of a cluster has a greater one than all before it."""
    return max((each.group for each in partitions), default=0)


def _newer(known: PartitionInfo | None, told: PartitionInfo) -> PartitionInfo:
    """What a broker tells, unless it has not heard yet of a leader that is known here."""
    if known is None or known.group != told.group or known.term <= told.term:
        return told
    return PartitionInfo(
        partition=told.partition,
        group=told.group,
        leader=known.leader,
        term=known.term,
        replicas=told.replicas,
    )


def leader_hint(error: PenstockError) -> int:
    """The node that a broker named as the leader in its refusal; 0: it named none."""
    hint = error.detail.get("leader", 0)
    return hint if isinstance(hint, int) else 0
