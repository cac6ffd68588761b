"""The shared groups of one partition, on its leader: ops of a round, and what came of them.

What the groups' dispatchers and the movers want changed is gathered and proposed as one entry a
round. An op's reply comes when its entry is applied, in order. `Part` is how others (moves, delays)
take part: they are told of effects, of the lead, and of time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from penstock.errors import GroupNotFound, NotLeader, PenstockError, TopicNotFound
from penstock_broker.machine import encoding
from penstock_broker.machine.commands import COMMAND_VERSION, Refused, ShareOps
from penstock_broker.machine.effects import (
    Effect,
    RecordsDelayed,
    RecordsFreed,
    RecordsSettled,
    SharedConfigured,
    SharedRemoved,
)
from penstock_broker.machine.sharing.ops import ShareOp
from penstock_broker.machine.sharing.replies import OpReply, ShareReplies
from penstock_broker.machine.sharing.state import TIMER
from penstock_broker.node.config import CATCHING_UP
from penstock_broker.node.sharing import configuring
from penstock_broker.node.sharing.delayed import DelayedRecords
from penstock_broker.node.sharing.dispatch import Dispatcher
from penstock_broker.node.sharing.members import Member
from penstock_broker.node.sharing.mover import Mover
from penstock_broker.node.sharing.queue_times import QueueTimes
from penstock_broker.node.sharing.schedules import RecurringSchedules

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup

OPS_PER_ENTRY: Final = 5_000
WEIGHT_PER_ENTRY: Final = 1 << 20
"""Bytes of requests whose ops one entry carries; more make several entries."""

Done = Callable[[OpReply | PenstockError], None]
"""Takes an op's reply, or the error that left its outcome unknown."""


class Part(Protocol):
    """Somebody who works on the shared groups of a partition while this broker leads it."""

    def on_leading(self) -> None:
        """The lead is gained: build soft state from the machine."""

    def on_lost_leadership(self) -> None:
        """The lead is lost, or the partition deleted: drop it."""

    def on_effects(self, effects: Sequence[Effect]) -> None:
        """An entry was applied."""

    def tick(self) -> None:
        """Time has passed: about 50 times a second while something is due."""

    @property
    def next_us(self) -> int | None:
        """When `tick` has something to do (wall clock); None: nothing is due."""


class SharedPartition:
    """What a partition's leader knows of its shared groups beside the replicated state.

    Attributes:
        dispatchers: by name, for each group from which records are acquired.
        parts: others who take part; add before the lead is gained.
        uncommitted_bytes: weight of ops that are proposed and not applied.
    """

    __slots__ = ("_ahead_us", "_dones", "_flights", "_leases", "_ops", "_since_us", "_weight",
                 "configuring", "delayed", "dispatchers", "mover", "partition", "parts",
                 "queue_times", "schedules", "uncommitted_bytes")  # fmt: skip

    def __init__(self, partition: PartitionGroup) -> None:
        self.partition = partition
        self.dispatchers: dict[str, Dispatcher] = {}
        self.mover = Mover(self)
        self.delayed = DelayedRecords(self, self.mover)
        self.schedules = RecurringSchedules(partition)
        self.queue_times = QueueTimes(partition)
        self.parts: list[Part] = [self.mover, self.delayed, self.schedules, self.queue_times]
        self.configuring = configuring.Configuring(self)
        self.uncommitted_bytes = 0
        self._ops: list[ShareOp] = []
        self._dones: list[Done | None] = []
        self._weight = 0
        self._flights: deque[tuple[int, list[Done | None], int]] = deque()
        """Entries under way: index, whom to tell, weight."""
        self._leases = 0
        self._ahead_us = self._since_us = 0

    # ----- ops

    def offer(self, op: ShareOp, done: Done | None = None, weight: int = 64) -> None:
        """Have an op proposed when the round ends; only while leading.

        Args:
            op: what to propose.
            done: told the op's reply once it is applied, or the error if the lead was lost.
            weight: about how many bytes it has.
        """
        self._ops.append(op)
        self._dones.append(done)
        self._weight += weight
        if len(self._ops) >= OPS_PER_ENTRY or self._weight >= WEIGHT_PER_ENTRY:
            self.propose()
        elif not self.partition.dirty:
            self.partition.node.mark(self.partition)

    def next_lease(self) -> int:
        """A lease id that was never used.

        It bears the term that this broker leads: the latest one may be another's already.
        """
        self._leases += 1
        return self.partition.ready_at_term << 32 | self._leases

    def propose(self) -> None:
        """Propose what was gathered, as one entry."""
        if not self._ops:
            return
        ops, self._ops = self._ops, []
        dones, self._dones = self._dones, []
        weight, self._weight = self._weight, 0
        body = encoding.encode(COMMAND_VERSION, ShareOps(ops=ops))
        index = self.partition.propose_command(body, self.now_us)
        self._flights.append((index, dones, weight))
        self.uncommitted_bytes += weight
        self.partition.node.uncommitted_bytes += weight

    def applied(self, index: int, reply: object, effects: Sequence[Effect]) -> None:
        """A command of this partition was applied; the partition calls this while leading."""
        for effect in effects:
            if isinstance(effect, RecordsFreed | RecordsDelayed | RecordsSettled):
                dispatcher = self.dispatchers.get(effect.group)
                if dispatcher is not None:
                    dispatcher.on_effect(effect)
            elif isinstance(effect, SharedConfigured | SharedRemoved):
                self._configured(effect.group)
        for part in self.parts:
            part.on_effects(effects)
        while self._flights and self._flights[0][0] < index:
            self._passed_over()
        if self._flights and self._flights[0][0] == index:
            self._landed(reply)
        for dispatcher in list(self.dispatchers.values()):
            dispatcher.pump()
        self._enlist()

    def _enlist(self) -> None:
        """Have `tick` called, if there is anything that depends on time."""
        node, machine = self.partition.node, self.partition.machine
        if machine.sharing.groups or len(machine.schedules):
            node.sharing[self.partition.gid] = self
        else:
            node.sharing.pop(self.partition.gid, None)

    def _passed_over(self) -> None:
        """An entry is not where it was to be: the lead was lost for a moment, and it with that."""
        _, dones, weight = self._flights.popleft()
        self.uncommitted_bytes -= weight
        self.partition.node.uncommitted_bytes -= weight
        leader = self.partition.raft.leader
        for done in dones:
            if done is not None:
                done(NotLeader("the leader changed; the outcome is unknown", leader=leader))

    def _landed(self, reply: object) -> None:
        _, dones, weight = self._flights.popleft()
        self.uncommitted_bytes -= weight
        self.partition.node.uncommitted_bytes -= weight
        if isinstance(reply, ShareReplies):
            for done, each in zip(dones, reply.replies, strict=True):
                if done is not None:
                    done(each)
            return
        assert isinstance(reply, Refused), "ops are answered by replies or refused as a whole"
        for done in dones:
            if done is not None:
                done(reply)

    def grown(self) -> None:
        """Records were appended."""
        for dispatcher in self.dispatchers.values():
            dispatcher.pump()

    # ----- groups

    def _configured(self, name: str) -> None:
        """A group was made, changed or removed."""
        group = self.partition.machine.sharing.groups.get(name)
        dispatcher = self.dispatchers.get(name)
        if dispatcher is not None and dispatcher.group is not group:
            del self.dispatchers[name]
            dispatcher.end(GroupNotFound(f"the group {name!r} was deleted", group=name))
            dispatcher = None
        if dispatcher is not None:
            dispatcher.configure()
        elif group is not None and group.kind != TIMER:
            self.dispatchers[name] = Dispatcher(self, group)
        self.configuring.changed(name)

    def members_of(self, group: str) -> dict[str, Member]:
        """Who is attached to a group here, or holds something."""
        dispatcher = self.dispatchers.get(group)
        return dispatcher.members if dispatcher is not None else {}

    # ----- who leads

    def on_leading(self) -> None:
        """This broker leads the partition and may serve."""
        self._leases = 0
        self._since_us = self.partition.node.wall_us
        self._ahead_us = max(0, self.partition.latest_us - self._since_us)
        self._enlist()
        for name, group in self.partition.machine.sharing.groups.items():
            if group.kind != TIMER:
                self.dispatchers[name] = Dispatcher(self, group)
                self.dispatchers[name].shorten()
        for part in self.parts:
            part.on_leading()
        self.configuring.reconcile()

    def on_lost_leadership(self, error: PenstockError | None = None) -> None:
        """Drop everything; whoever waits is told."""
        node = self.partition.node
        node.sharing.pop(self.partition.gid, None)
        leader = self.partition.raft.leader
        unknown = error or NotLeader("the leader changed; the outcome is unknown", leader=leader)
        flights, self._flights = self._flights, deque()
        dones = [done for _, several, _ in flights for done in several] + self._dones
        self._ops, self._dones, self._weight = [], [], 0
        node.uncommitted_bytes -= self.uncommitted_bytes
        self.uncommitted_bytes = 0
        dispatchers, self.dispatchers = self.dispatchers, {}
        for done in dones:
            if done is not None:
                done(unknown)
        for dispatcher in dispatchers.values():
            dispatcher.end(error or NotLeader(leader=leader))
        for part in self.parts:
            part.on_lost_leadership()
        self.configuring.end()

    def deleted(self) -> None:
        """The topic is gone."""
        topic = self.partition.topic
        self.on_lost_leadership(TopicNotFound(f"the topic {topic!r} was deleted", topic=topic))

    # ----- time

    @property
    def ahead_us(self) -> int:
        """How far the partition's time is ahead of this broker's: the last leader's clock was.

        What that one set for a time, a retry or the end of a lease, would else wait until it is so
        late here. The partition's time goes on more slowly until this broker's has caught up.
        """
        if self._ahead_us:
            passed = self.partition.node.wall_us - self._since_us
            return max(0, self._ahead_us - int(passed * (1 - CATCHING_UP)))
        return 0

    @property
    def now_us(self) -> int:
        """The time in this partition, whoever leads it: it never goes back."""
        return self.partition.node.wall_us + self.ahead_us

    def tick(self) -> None:
        """Let time pass."""
        for dispatcher in list(self.dispatchers.values()):
            dispatcher.tick()
        for part in self.parts:
            part.tick()

    def drain(self) -> None:
        """The broker stops: answer those who wait."""
        for dispatcher in self.dispatchers.values():
            dispatcher.drain()

    def restless(self, until_us: int) -> bool:
        """Whether somebody waits, or something is due before a time."""
        for dispatcher in self.dispatchers.values():  # all partitions are asked: no generators
            if dispatcher.restless(until_us):
                return True
        for part in self.parts:
            at_us = part.next_us
            if at_us is not None and at_us <= until_us:
                return True
        return False
