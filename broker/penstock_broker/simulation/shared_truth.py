"""What members of a shared group were told and have said, and what must follow from it.

Held against every grant: no two live leases on a record; a confirmed verdict is never forgotten;
attempts never go down; nothing comes before its time; with order by key, one record per key is in
flight and its successors wait for it. Held against the end: every record was acked by somebody or
lies among the dead letters, and there exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.protocol.leases import ACK, NACK, REJECT, RELEASE, Acquired, Settled, Span, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from penstock.protocol.messages import Message
    from penstock_broker.simulation.shared_world import SharedCounts

Key = tuple[str, int, int]
"""Topic, partition, offset."""


class SharedLink(Protocol):
    """A member's connection."""

    def send(self, make: Callable[[int], bytes], answer: Callable[[int, bytes], None]) -> None:
        """Send a frame made for a correlation id; the answer gets flags and the reply frame."""

    def ask(self, message: Message, answer: Callable[[Any], None]) -> None:
        """Send a request; the answer gets the reply, or the error."""


class SharedScene(Protocol):
    """A world with a shared group, as its members and this truth see it."""

    random: Random
    topic: str
    lease_seconds: float
    places: list[tuple[str, int, int]]
    """Topic, partition and group id of everything that the members consume."""

    @property
    def now(self) -> float:
        """Virtual time."""

    @property
    def counts(self) -> SharedCounts:
        """What happened."""

    @property
    def shared_truth(self) -> SharedTruth:
        """What is known of the group."""

    @property
    def wall_us(self) -> int:
        """What the members' clocks show."""

    @property
    def broker_us(self) -> int:
        """The latest time of any broker so far."""

    @property
    def clocks_moved(self) -> bool:
        """Whether the clock of any broker was ever put back or forward."""

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""

    def link_of(self, again: Callable[[], None]) -> SharedLink:
        """A connection for a member, which is told whenever it is open again."""

    def slot_of(self, key: Key) -> int | None:
        """The slot of a record, if the group keeps the order of keys."""

    def is_over(self, key: Key) -> bool:
        """Whether a record will not be delivered any more."""

    def held_runs(self, partition: int) -> list[int]:
        """Where dead letters wait, as an operator would be told."""


@dataclass(slots=True)
class Grant:
    """The last lease on a record that somebody was told of."""

    lease: int
    member: str
    deadline_us: int
    life: int
    """How often the broker had died before."""
    over: bool = False
    """A verdict was said, or the holder attached anew: it may be gone."""


class SharedTruth:
    """All that is known of one shared group from outside the broker."""

    def __init__(self, world: SharedScene) -> None:
        self._world = world
        self._grants: dict[Key, Grant] = {}
        self._keys: dict[tuple[str, int, int], list[Key]] = {}
        """Topic, partition and lease -> what was granted under it."""
        self._held: dict[tuple[str, str, int], set[int]] = {}
        """Member, topic and partition -> leases of which it was told, and has not let go."""
        self._counters: dict[Key, Span] = {}
        self._final: dict[Key, int] = {}
        """Records with a confirmed ack or reject, which it was."""
        self._final_us: dict[Key, int] = {}
        """When that was heard of."""
        self._said: dict[Key, set[int]] = {}
        """Verdicts that anybody has said of a record, confirmed or not."""
        self._not_before: dict[Key, int] = {}
        self._redriven: set[Key] = set()
        self._told: set[int] = set()
        """Leases that somebody was told of."""
        self._last_of_slot: dict[tuple[str, int, int], tuple[int, int]] = {}
        """The highest offset granted of a key, and when."""

    # ----- what members are told

    def granted(
        self, member: str, topic: str, partition: int, found: Acquired, asked: float
    ) -> list[int]:
        """A member got records that it had asked for at a time; returns their offsets."""
        granted_us = found.deadline_us - found.lease_ms * 1000
        offsets = []
        self._told.add(found.lease)
        for span in found.spans:
            for offset in range(span.first, span.first + span.records):
                key = (topic, partition, offset)
                self._check_final(key, granted_us, asked)
                self._check_grant(key, granted_us)
                self._check_counters(key, span)
                self._check_order(key, granted_us, asked)
                life = self._world.counts.crashes
                self._grants[key] = Grant(found.lease, member, found.deadline_us, life)
                offsets.append(offset)
        self._keys[topic, partition, found.lease] = [(topic, partition, at) for at in offsets]
        self._held.setdefault((member, topic, partition), set()).add(found.lease)
        self._world.counts.granted += len(offsets)
        return offsets

    def _check_final(self, key: Key, granted_us: int, asked: float) -> None:
        final_us = self._final_us.get(key, granted_us)
        assert granted_us <= final_us, f"{key} was settled and came again"

    def _check_grant(self, key: Key, granted_us: int) -> None:
        before = self._grants.get(key)
        if before is not None and not before.over and granted_us < before.deadline_us:
            lost = self._may_be_forgotten(key, before)
            assert lost, f"{key} is leased to {before.member} and was given to another"
            self._world.counts.forgotten += 1
        not_before = self._not_before.pop(key, 0)
        assert granted_us >= not_before, f"{key} came {not_before - granted_us} us too early"
        if key[0] != self._world.topic:
            assert key in self._redriven, f"{key} is a dead letter and came without a redrive"

    def _may_be_forgotten(self, key: Key, grant: Grant) -> bool:
        """The broker has died since."""
        return grant.life != self._world.counts.crashes

    def _check_counters(self, key: Key, span: Span) -> None:
        before = self._counters.get(key)
        if before is not None:
            assert span.failed >= before.failed, f"{key} failed {before.failed}, now {span.failed}"
            assert span.timed_out >= before.timed_out, f"{key}: timed_out went down"
            assert span.redrives >= before.redrives, f"{key}: redrives went down"
        self._counters[key] = span

    def _check_order(self, key: Key, granted_us: int, asked: float) -> None:
        slot = self._world.slot_of(key)
        if slot is None:
            return
        lane = (key[0], key[1], slot)
        before, before_us = self._last_of_slot.get(lane, (-1, 0))
        if key[2] <= before:
            # Replies may overtake each other, on their way to two members.
            in_time = key[2] == before or granted_us <= before_us
            assert in_time, f"{key} came after {before} of the same key"
            return
        if before >= 0:
            ahead = (key[0], key[1], before)
            over = self._may_be_over(ahead, asked)
            assert over, f"{key} came before {before} of its key was settled"
        self._last_of_slot[lane] = key[2], granted_us

    def _may_be_over(self, key: Key, asked: float) -> bool:
        """Somebody settled it, or it was given up, maybe after deliveries nobody heard of."""
        return bool(self._said.get(key, set()) & {ACK, REJECT}) or self._world.is_over(key)

    def check_told(self, lease: int) -> None:
        """A lease was granted a while ago and no connection broke since: its holder knows it."""
        assert lease in self._told, f"nobody was told of the lease {lease:x}"

    # ----- what members say

    def said(self, topic: str, partition: int, verdict: Verdict) -> None:
        """A member has sent a verdict: it may count from now on."""
        key = (topic, partition, verdict.first)
        self._said.setdefault(key, set()).add(verdict.verdict)
        grant = self._grants.get(key)
        if grant is not None and grant.lease == verdict.lease:
            grant.over = True
        elif verdict.verdict == ACK and grant is not None:
            grant.over = True  # a late ack settles the record under whoever holds it

    def confirmed(self, topic: str, partition: int, verdict: Verdict, answer: Settled) -> None:
        """A verdict is durable."""
        key = (topic, partition, verdict.first)
        self._world.counts.verdicts += 1
        lost = zip(answer.lost[::2], answer.lost[1::2], strict=True)
        if any(first <= verdict.first < first + count for first, count in lost):
            return
        if not answer.accepted:
            return  # it was settled before, by this or another verdict
        if verdict.verdict == ACK:
            self._settle(key, ACK)
        elif verdict.verdict == REJECT and topic == self._world.topic:
            self._settle(key, REJECT)
        elif verdict.verdict == NACK and verdict.ready_at_us and topic == self._world.topic:
            # A dead letter is held again instead, and comes as soon as somebody redrives it.
            grant = self._grants.get(key)
            if grant is not None and grant.lease == verdict.lease:
                self._not_before[key] = verdict.ready_at_us
        elif verdict.verdict == RELEASE:
            self._not_before.pop(key, None)

    def _settle(self, key: Key, verdict: int) -> None:
        self._final.setdefault(key, verdict)
        self._final_us.setdefault(key, self._world.broker_us)
        self._not_before.pop(key, None)

    def left(self, member: str, topic: str, partition: int, kept: list[int]) -> None:
        """A member attaches anew: what it does not name any more is released.

        If clocks were moved, what is kept gets another deadline: by the clock of who leads now.
        """
        kept = [] if self._world.clocks_moved else kept
        held = self._held.setdefault((member, topic, partition), set())
        for lease in sorted(held.difference(kept)):
            held.discard(lease)
            for grant in self._under(topic, partition, lease):
                grant.over = True

    def _under(self, topic: str, partition: int, lease: int) -> list[Grant]:
        """Records that nobody got under a later lease."""
        keys = self._keys.get((topic, partition, lease), ())
        return [grant for key in keys if (grant := self._grants[key]).lease == lease]

    def renewed(
        self, topic: str, partition: int, asked: float, leases: list[int], lost: list[int]
    ) -> None:
        """A member was told which of its leases last longer, and which are over."""
        self._world.counts.renewals += len(leases)
        if self._world.clocks_moved:
            return
        passed_us = int((self._world.now - asked) * 1e6)
        until_us = self._world.wall_us - passed_us + int(self._world.lease_seconds * 1e6)
        for lease in leases:
            for key in self._keys.get((topic, partition, lease), ()):
                grant = self._grants[key]
                if grant.over or grant.lease != lease:
                    continue
                if lease in lost:
                    self._check_lost(key, grant)
                else:
                    grant.deadline_us = max(grant.deadline_us, until_us)

    def _check_lost(self, key: Key, grant: Grant) -> None:
        ran_out = grant.deadline_us <= self._world.wall_us
        settled = ACK in self._said.get(key, ())  # late, under an earlier lease
        words = f"the lease {grant.lease:x} of {grant.member} on {key} is lost"
        assert ran_out or settled or self._may_be_forgotten(key, grant), words
        grant.over = True

    def redriven(self, topic: str, partition: int, offset: int) -> None:
        """Somebody asks for a redrive."""
        self._redriven.add((topic, partition, offset))
        self._world.counts.redrives += 1

    # ----- the end

    def check_end(self, partition: int, end: int, dead: list[int]) -> None:
        """All records of a partition are settled: acked by somebody, or dead exactly once.

        Args:
            partition: of the topic.
            end: its log end.
            dead: the origin offsets of the dead letters in the log of the same number.
        """
        topic = self._world.topic
        assert len(set(dead)) == len(dead), f"partition {partition} has a dead letter twice"
        self._world.counts.dead += len(dead)
        among = set(dead)
        for offset in range(end):
            key = (topic, partition, offset)
            final = self._final.get(key)
            if final == REJECT:
                assert offset in among or ACK in self._said[key], f"{key} was rejected and is gone"
            if final == ACK:
                assert offset not in among, f"{key} was acked and is a dead letter"
            if offset not in among:
                assert ACK in self._said.get(key, ()), f"{key} is neither acked nor dead"
