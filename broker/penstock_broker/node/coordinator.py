"""A coordinator of ordered groups on this broker: the machine, and the session timers beside it.

Timers are soft state of the leader. A new leader gives every member a full session before it
expires any, so a failover alone never throws a living member out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.machine.commands import (
    Command,
    Expire,
    HoldFloor,
    TopicChanged,
    TopicRef,
    decode_command,
    encode_command,
)
from penstock_broker.machine.effects import (
    Effect,
    GroupForgotten,
    SessionEnded,
    SessionStarted,
    TopicRevised,
)
from penstock_broker.machine.groups import GroupsMachine
from penstock_broker.node.group import Group
from penstock_broker.node.routing import UNKNOWN, partition_gid

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.raft import Entry, Raft

IDLE_GROUP_US: Final = 30 * 86_400 * 1_000_000
"""An ordered group without members that was not used for so long is deleted."""
IDLE_CHECK_SECONDS: Final = 60.0
FLOORS_SECONDS: Final = 1.0


class Timer:
    """A member's session as the leader watches it."""

    __slots__ = ("joined", "last_seen", "timeout")

    def __init__(self, joined: int, timeout_ms: int, now: float) -> None:
        self.joined = joined
        self.timeout = timeout_ms / 1000
        self.last_seen = now


class CoordinatorGroup(Group):
    """One partition of the internal groups topic."""

    __slots__ = ("_floors", "_floors_at", "_idle_check_at", "_released", "machine", "timers")

    def __init__(self, node: Node, gid: int, raft: Raft, state: bytes | None) -> None:
        super().__init__(node, gid, raft)
        self.machine = GroupsMachine()
        if state is not None:
            self.machine.restore(state)
        self.timers: dict[tuple[str, str], Timer] = {}
        self._floors: dict[tuple[str, str, int], int] = {}
        """What partitions were told: (group, topic, partition) -> offset."""
        self._released: dict[tuple[str, str, int], None] = {}
        """Those that must still be told that a group is gone."""
        self._floors_at = 0.0
        self._idle_check_at = node.clock + IDLE_CHECK_SECONDS

    # ----- the machine

    def apply(self, entry: Entry) -> None:
        body, at = self.command_of(entry)
        reply, effects = self.machine.apply(decode_command(body), at)
        for effect in effects:
            self._carry_out(effect)
        self.node.pending.applied(self.gid, entry.term, entry.index, reply)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SessionStarted():
                self.timers[effect.group, effect.member] = Timer(
                    effect.joined, effect.session_timeout_ms, self.node.clock
                )
            case SessionEnded():
                self.timers.pop((effect.group, effect.member), None)
            case GroupForgotten():
                self._release_floors(effect.group)
            case _:
                pass

    def machine_state(self) -> bytes:
        return self.machine.snapshot()

    def restore(self, state: bytes) -> None:
        self.machine.restore(state)

    def offer(self, command: Command) -> None:
        """Propose a command that nobody waits for."""
        self.propose_command(encode_command(command))

    # ----- leading

    def on_leading(self) -> None:
        now = self.node.clock
        self._floors.clear()
        self._released.clear()
        self.timers = {
            (session.group, session.member): Timer(session.joined, session.session_timeout_ms, now)
            for session in self.machine.sessions()
        }
        known = self.node.groups.metadata.machine.topics
        for name, ref in self.machine.topics.items():
            topic = known.get(name)
            if topic is None and ref.partitions:
                gone = TopicRef(
                    name=name, id=ref.id, partitions=0, revision=self.node.groups.metadata_index
                )
                self.offer(TopicChanged(topic=gone))
            elif topic is not None and topic.revision > ref.revision:
                self.offer(TopicChanged(topic=self.node.groups.topic_ref(topic)))

    def topic_revised(self, effect: TopicRevised) -> None:
        """Metadata changed a topic."""
        if self.leading:
            ref = TopicRef(
                name=effect.topic,
                id=effect.id,
                partitions=effect.partitions,
                revision=effect.revision,
            )
            self.offer(TopicChanged(topic=ref))

    # ----- time

    def touch(self, group: str, member: str) -> None:
        """A member was heard of."""
        timer = self.timers.get((group, member))
        if timer is not None:
            timer.last_seen = self.node.clock

    def look_soon(self) -> None:
        """Have the next housekeeping also do what is done only now and then."""
        self._idle_check_at = self._floors_at = 0.0

    def housekeeping(self) -> None:
        """Expire silent members and unused groups; tell partitions what groups still need."""
        if not self.leading:
            return
        now = self.node.clock
        for (group, member), timer in self.timers.items():
            if now - timer.last_seen > timer.timeout:
                timer.last_seen = now  # proposed once per timeout, until it is applied
                self.offer(Expire(group=group, member=member, joined=timer.joined))
        if now >= self._idle_check_at:
            self._idle_check_at = now + IDLE_CHECK_SECONDS
            for command in self.machine.idle_groups(self.node.wall_us, IDLE_GROUP_US):
                self.offer(command)
        if now >= self._floors_at:
            self._floors_at = now + FLOORS_SECONDS
            self._hold_floors()

    def _hold_floors(self) -> None:
        """For topics kept until acked: the offset below which a group needs nothing."""
        released, self._released = self._released, {}
        for key in released:
            if key not in self._floors:
                self._tell_floor(key, None)
        topics = self.node.groups.metadata.machine.topics
        wanted = [
            name
            for name in self.machine.topics
            if name in topics and topics[name].config.retention == "until_acked"
        ]
        if not wanted:
            return
        for summary in self.machine.list_groups():
            described = self.machine.describe(summary.group)
            for name in wanted if described is not None else ():
                assert described is not None
                for partition, (offset, _) in described.positions.get(name, {}).items():
                    self._hold_floor(summary.group, name, partition, offset)

    def _hold_floor(self, group: str, topic: str, partition: int, offset: int) -> None:
        key = (group, topic, partition)
        if self._floors.get(key) != offset:
            self._floors[key] = offset
            self._tell_floor(key, offset)

    def _tell_floor(self, key: tuple[str, str, int], offset: int | None) -> None:
        """Tell a partition, wherever it is led; what went wrong is said again a little later."""
        gid = partition_gid(self.node, key[1], key[2])
        if gid == UNKNOWN:
            return

        def told(reply: object) -> None:
            if isinstance(reply, PenstockError) and self._floors.get(key) == offset:
                del self._floors[key]
            elif isinstance(reply, PenstockError) and offset is None and self.leading:
                self._released[key] = None

        self.node.asking.command(gid, HoldFloor(group=key[0], offset=offset), told)

    def _release_floors(self, group: str) -> None:
        for key in [key for key in self._floors if key[0] == group]:
            del self._floors[key]
            self._tell_floor(key, None)
