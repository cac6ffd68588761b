"""Hands out the records of one shared group in one partition, as its leader.

An acquire is answered at once: the grant is proposed in the same round and not waited for. What is
granted and not applied yet is known here (`flying`), so it is not granted twice; what the entry
really leased is told by its reply. Leases run out by their deadline in the replicated state: this
side only watches the time and proposes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.machine.effects import (
    Effect,
    RecordsDelayed,
    RecordsFreed,
    RecordsSettled,
)
from penstock_broker.machine.sharing.ops import LEASES_MAX, Expire, Grant, Renew, Settle
from penstock_broker.machine.sharing.replies import Granted, OpReply
from penstock_broker.machine.sharing.state import HOLD, LEASED
from penstock_broker.node.session import OUTPUT_BYTES_MAX
from penstock_broker.node.sharing import acquire
from penstock_broker.node.sharing.aging import Aging
from penstock_broker.node.sharing.lanes import Lanes
from penstock_broker.node.sharing.members import Attachment, Member
from penstock_broker.node.sharing.reading import Covered
from penstock_broker.node.sharing.ready import Ready, ReadyByOffset, grantable
from penstock_broker.node.sharing.spans import Spans, flat, merged, pairs, total, without
from penstock_broker.node.sharing.timers import Timers, take_in
from penstock_broker.node.sharing.waiting import Asked, Outcome, Waiting
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.shared import SharedPartition

GRANT_RECORDS_MAX: Final = 10_000
"""Records of one lease."""
EXPIRE_RECORDS_MAX: Final = 50_000
"""Records of the leases that one op ends."""
GONE_US: Final = 5_000_000
"""How long leases outlive their member's connection, unless it attaches again."""
RETRY_US: Final = 5_000_000
"""How long records whose bytes can't be read are left alone."""
IMPATIENCE_SECONDS_MAX: Final = 1.0
"""How long an acquire that does not want to wait waits until it is known what there is for it."""
EXPIRE_AGAIN_US: Final = 1_000_000


class Dispatcher:
    """Who gets the records of one group.

    Attributes:
        shared: the partition's shared groups.
        group: the replicated state; read only.
        members: by name: attached, or holding something.
        waiting: acquires that wait.
        claimed: records handed out, or being read, whose grant is not applied.
    """

    __slots__ = ("_aging", "_expiry", "_holders", "_impatient", "_retries", "_shape", "_unseen",
                 "claimed", "group", "members", "reading", "ready", "shared",
                 "waiting")  # fmt: skip

    def __init__(self, shared: SharedPartition, group: SharedGroup) -> None:
        self.shared = shared
        self.group = group
        self.members: dict[str, Member] = {}
        self.waiting = Waiting()
        self.claimed = 0
        now_us = shared.now_us
        grain_bits = shared.partition.node.config.timer_grain_bits
        self._expiry = Timers(now_us, grain_bits)
        """Lease ids by deadline."""
        self._retries = Timers(now_us, grain_bits)
        """Offsets by ready time."""
        self._holders: dict[int, Member] = {}
        """Who has which lease, those included whose grant is not applied."""
        for lease in group.leases.values():
            self._expiry.add(lease.id, lease.deadline_us)
            member = self._holders[lease.id] = self._member(lease.member, lease.host)
            member.hold(lease.id, lease.left)
        self._unseen = (group.start, group.end)
        """Delayed records of before whose time was not looked at."""
        self._look()
        self.reading: dict[Asked, Spans] = {}
        """What is being read from segments, and for whom."""
        self._impatient: list[Asked] = []
        """Acquires that wait only until it is known whether there is something."""
        self._aging = Aging(self)
        self._shape: tuple[object, ...] = ()
        self.ready: Ready
        self._take_shape()

    def _look(self) -> None:
        first, end = self._unseen
        self._unseen = take_in(self._retries, self.group.window, first, end), end

    @property
    def _looking(self) -> bool:
        return self._unseen[0] < self._unseen[1]

    def configure(self) -> None:
        """The group's settings changed."""
        self._take_shape()
        self.pump()

    def _take_shape(self) -> None:
        """Take the way in which records come to be next from the settings."""
        settings, group = self.group.settings, self.group
        by = (settings.order_by, settings.limit_by, settings.fair_by)
        shape = (*by, settings.concurrency, settings.rate_per_second)
        if shape == self._shape:
            return
        self._shape = shape
        claimed = self.claims()
        # Dead letters that were redriven go by offset: they are few, and out of order anyway.
        if group.kind == HOLD or by == ("none", "none", "none"):
            self.ready = ReadyByOffset(group, self.shared.partition.log, claimed)
        else:
            self.ready = Lanes(self.shared, group, claimed, self._retries.add, self.pump)

    # ----- members

    def _member(self, name: str, host: str = "") -> Member:
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = Member(name, host, 0)
        return member

    def attach(self, session: Session, name: str, host: str, in_flight_max: int) -> Attachment:
        """Let a member acquire over a connection; an earlier one of the same name may not."""
        before = self.members.get(name)
        if before is not None and before.attachment is not None:
            self.detach(before.attachment)  # and forgets it, if it holds nothing
        member = self._member(name, host)
        member.host, member.in_flight_max = host, in_flight_max
        return Attachment(self, session, member)

    def detach(self, attachment: Attachment) -> None:
        """A member acquires no more over this connection; its waiting acquires end empty."""
        if attachment.member.attachment is attachment:
            for asked in self.waiting.of(attachment.member):
                acquire.answer_empty(self, asked)
        attachment.end()
        self._forget(attachment.member)

    def lost(self, member: Member) -> None:
        """A member's connection is gone: its leases end soon, unless it attaches again."""
        until_us = self.shared.now_us + GONE_US
        known, leases = self.group.leases, list(member.flying)
        leases += [
            lease
            for lease in member.leases
            if lease in known and known[lease].deadline_us > until_us
        ]
        if leases:
            self.shared.offer(Renew(self.group.name, member.name, leases, until_us))
            for lease in leases:
                self._expiry.add(lease, until_us)
        self._forget(member)

    def shorten(self) -> None:
        """The lead is gained: nobody is connected yet, and no lease waits longer than need be.

        Long ones were extended, or granted before the clock was put back.
        """
        now_us, lease_us = self.shared.now_us, self.group.settings.lease_ms * 1000
        until_us = now_us + max(GONE_US, lease_us)
        for lease in self.group.leases.values():
            if lease.deadline_us > until_us:
                self.shared.offer(Renew(self.group.name, lease.member, [lease.id], until_us))
                self._expiry.add(lease.id, until_us)

    def _forget(self, member: Member) -> None:
        if member.idle:
            self.members.pop(member.name, None)

    def watch(self, lease: int, deadline_us: int) -> None:
        """A lease has an earlier deadline than was known."""
        self._expiry.add(lease, deadline_us)

    def claims(self) -> Spans:
        """What is handed out, or being read, and whose grant is not applied."""
        several = [spans for member in self.members.values() for spans in member.flying.values()]
        several += self.reading.values()
        return merged(sorted(span for spans in several for span in spans))

    # ----- handing out

    @property
    def in_flight(self) -> int:
        """Records under lease, those included whose grant is not applied."""
        return self.group.window.count(LEASED) + self.claimed

    def acquire(self, asked: Asked) -> None:
        """Answer now, or when there is something."""
        if self.waiting:
            self.waiting.add(asked)
            self.pump()
        elif self.serve(asked) is not Outcome.SERVED:
            if asked.deadline:
                self.waiting.add(asked)
            elif self._unclear:
                self._impatient.append(asked)
                asked.deadline = self.shared.partition.node.clock + IMPATIENCE_SECONDS_MAX
                self.waiting.add(asked)
            else:
                acquire.answer_empty(self, asked)

    def pump(self) -> None:
        """Something changed: serve those who wait, unless the lead is lost and not given up yet."""
        if not self.shared.partition.leading:
            return
        if self.waiting:
            self.waiting.serve(self.serve)
        if self._impatient and not self._unclear:
            impatient, self._impatient = self._impatient, []
            for asked in impatient:
                if asked.live:
                    self.waiting.settle(asked)
                    acquire.answer_empty(self, asked)

    @property
    def may_grant(self) -> bool:
        """Whether a grant goes into the log at the end of this round.

        While the lead is handed over nothing is proposed: what were told would be lost with it. And
        members are told before the log has it: a leader that stood still may have been replaced,
        and what it takes for free be settled. The next round of heartbeats tells.
        """
        partition = self.shared.partition
        return partition.leading and partition.raft.transferee == NOBODY and partition.sure

    @property
    def _unclear(self) -> bool:
        """Whether it is to be found out what there is: by the cursor, or by asking who leads."""
        return self.ready.scanning or not self.shared.partition.sure

    def serve(self, asked: Asked) -> Outcome:
        """Try to answer an acquire with records."""
        if not self.may_grant:
            return Outcome.EMPTY
        member, settings = asked.member, self.group.settings
        if asked.session.unsent_bytes >= OUTPUT_BYTES_MAX:
            return Outcome.BLOCKED
        own = min(member.in_flight_max, settings.member_in_flight_max)
        room = min(own - member.held - member.claimed, asked.max_records, GRANT_RECORDS_MAX)
        if room <= 0:
            return Outcome.BLOCKED
        room = min(room, settings.max_in_flight - self.in_flight)
        if room <= 0 or len(self._holders) >= LEASES_MAX:
            return Outcome.EMPTY
        spans = self.ready.take(room, self.shared.now_us)
        if not spans:
            return Outcome.EMPTY
        count = total(spans)
        member.claimed += count
        self.claimed += count
        acquire.read(self, asked, spans)
        return Outcome.SERVED

    def grant(self, asked: Asked, found: Covered) -> tuple[int, int]:
        """Lease what was found to who asked; returns lease and deadline."""
        member = asked.member
        lease = self.shared.next_lease()
        deadline_us = self.shared.now_us + self.group.settings.lease_ms * 1000
        op = Grant(self.group.name, lease, member.name, member.host, flat(found.spans), deadline_us)
        member.flying[lease] = found.spans
        self._holders[lease] = member
        self._expiry.add(lease, deadline_us)
        self.shared.offer(op, partial(self._granted, op, member), 32 + 8 * len(op.spans))
        if found.rest:
            self.put_back(member, found.rest)
        return lease, deadline_us

    def _granted(self, op: Grant, member: Member, reply: OpReply | PenstockError) -> None:
        spans = member.flying.pop(op.lease)
        count = total(spans)
        member.claimed -= count
        self.claimed -= count
        leased = reply.spans if isinstance(reply, Granted) else []
        self.ready.applied(spans)
        if leased != op.spans:
            self.ready.put_back(without(spans, pairs(leased)))
        self.touched(op.lease)

    def grants(self, spans: Spans) -> bool:
        """Whether a grant of these, proposed now, would lease all of them."""
        now_us = self.shared.now_us
        return all(
            total(grantable(self.group, first, count, now_us)) == count for first, count in spans
        )

    def put_back(self, member: Member, spans: Spans) -> None:
        """Taken for a member, and not granted after all."""
        count = total(spans)
        member.claimed -= count
        self.claimed -= count
        self.ready.put_back(spans)

    def set_aside(self, member: Member, spans: Spans) -> None:
        """The bytes of these can't be read: others go first for a while."""
        count = total(spans)
        member.claimed -= count
        self.claimed -= count
        self.ready.set_aside(spans)
        at_us = self.shared.now_us + RETRY_US
        for first, length in spans:
            for offset in range(first, first + length):
                self._retries.add(offset, at_us)

    def touched(self, lease: int) -> None:
        """An op about a lease was applied."""
        member = self._holders.get(lease)
        if member is None:
            return
        found = self.group.leases.get(lease)
        if found is None:
            del self._holders[lease]
        member.hold(lease, found.left if found is not None else 0)
        self._forget(member)

    def settle(
        self,
        op: Settle,
        done: Callable[[OpReply | PenstockError], None] | None = None,
        weight: int = 64,
    ) -> None:
        """Propose a verdict; `done` is told what came of it."""

        def landed(reply: OpReply | PenstockError) -> None:
            self.touched(op.lease)
            if done is not None:
                done(reply)

        self.shared.offer(op, landed, weight)

    def holder_of(self, lease: int) -> str:
        """The member that has a lease; empty: it is over."""
        member = self._holders.get(lease)
        return member.name if member is not None else ""

    # ----- what was applied

    def on_effect(self, effect: Effect) -> None:
        """An entry that touches this group was applied."""
        if isinstance(effect, RecordsSettled):
            self.ready.settled(effect.spans, effect.done)
            for lease in effect.ended:
                self.touched(lease)
        elif isinstance(effect, RecordsFreed):
            self.ready.freed(effect.spans)
        elif isinstance(effect, RecordsDelayed):
            now_us, at_once = self.shared.now_us, []
            for offset, ready_us in effect.records:
                if ready_us <= now_us:
                    at_once.append(offset)
                else:
                    self._retries.add(offset, ready_us)
            if at_once:
                self.ready.due(at_once)

    # ----- time

    def tick(self) -> None:
        """Let time pass: leases, retries, deadlines of acquires."""
        node = self.shared.partition.node
        now_us = self.shared.now_us
        if (self._expiry.next_us or now_us + 1) <= now_us:
            self._expire(self._expiry.due(now_us), now_us)
        if self._looking:
            self._look()
        self._aging.tick(now_us)
        if (self._retries.next_us or now_us + 1) <= now_us:
            self.ready.due(self._retries.due(now_us))
            self.pump()
        if self.ready.busy:
            self.ready.work(now_us)
            self.pump()
        if self.waiting:
            for asked in self.waiting.expired(node.clock):
                acquire.answer_empty(self, asked)
            self.pump()

    def _expire(self, due: list[int], now_us: int) -> None:
        """Propose the end of leases whose deadline has passed."""
        over: list[int] = []
        records = 0
        for id_ in due:
            lease = self.group.leases.get(id_)
            if lease is None:
                if id_ in self._holders:  # its grant is not applied: the clock has leapt
                    self._expiry.add(id_, now_us + EXPIRE_AGAIN_US)
                continue
            if lease.deadline_us > now_us:
                self._expiry.add(id_, lease.deadline_us)
                continue
            self._expiry.add(id_, now_us + EXPIRE_AGAIN_US)
            if over and records + lease.left > EXPIRE_RECORDS_MAX:
                self.shared.offer(Expire(self.group.name, over))
                over, records = [], 0
            over.append(id_)
            records += lease.left
            self._ask_again(id_)
        if over:
            self.shared.offer(Expire(self.group.name, over))

    def _ask_again(self, lease: int) -> None:
        """A member let a lease run out: have it show that it lives before it is given more.

        A process that stands still keeps its connection, and its acquire would take the record
        back at once, to let it run out again.
        """
        member = self._holders.get(lease)
        if member is not None:
            for asked in self.waiting.of(member):
                acquire.answer_empty(self, asked)

    def restless(self, until_us: int) -> bool:
        """Whether somebody waits, or something is due before a time."""
        if self.waiting:
            return True
        at_us = self.next_us
        return at_us is not None and at_us <= until_us

    @property
    def next_retry_us(self) -> int | None:
        """When the next delayed record may be due, or a little before."""
        return self._retries.next_us

    @property
    def next_us(self) -> int | None:
        """When the next lease may run out, retry be due, or limit be lifted; 0: work is left."""
        if self._looking:
            return 0
        least: int | None = None
        for at_us in (self._retries.next_us, self._expiry.next_us, self.ready.next_us):
            if at_us is not None and (least is None or at_us < least):
                least = at_us
        return least

    # ----- the end

    def drain(self) -> None:
        """The broker stops: who waits gets nothing."""
        for asked in self.waiting.end():
            acquire.answer_empty(self, asked)

    def end(self, error: PenstockError) -> None:
        """This broker hands out the group's records no more."""
        for asked in self.waiting.end():
            acquire.refuse(self, asked, error)
        for member in self.members.values():
            if member.attachment is not None:
                member.attachment.end()
