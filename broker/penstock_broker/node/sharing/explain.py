"""Why a record of a shared group is where it is, and what happens next: fields and one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from penstock.protocol.durations import format_duration
from penstock.protocol.sharing import AttemptInfo, RecordState
from penstock_broker.machine.producers import UNKNOWN_OFFSET
from penstock_broker.machine.sharing.state import (
    DELAYED,
    DONE,
    HELD,
    HOLD,
    LEASED,
    MOVING,
    TIMER,
)
from penstock_broker.machine.sharing.trouble import Trouble
from penstock_broker.node.sharing.ages import appended_us
from penstock_broker.node.sharing.blocking import BLOCKS, group_blocked_by

if TYPE_CHECKING:
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.node.partition import PartitionGroup

MODE: Final = "shared"
STUCK_MAX: Final = 1_000
_CHUNK: Final = 4_096

REASONS: Final = {
    "rejected": "it was rejected",
    "attempts": "it had no attempts left",
    "never_retry": "it failed for a reason that is never retried",
    "max_age": "it was older than the group allows",
    "overtaken": "retention was about to delete it",
    "due": "its time had come",
}


def explain(partition: PartitionGroup, group: SharedGroup, offset: int) -> RecordState:
    """What a group knows of one record of the partition, below the log's end."""
    return Explanation(partition, group, offset).state()


def stuck(partition: PartitionGroup, group: SharedGroup, limit: int) -> list[RecordState]:
    """The oldest records that are not settled, oldest first; dead letters that rest are not it."""
    found: list[RecordState] = []
    limit = max(1, min(limit, STUCK_MAX))
    for offset in _unsettled(partition, group):
        found.append(explain(partition, group, offset))
        if len(found) >= limit:
            break
    return found


def _unsettled(partition: PartitionGroup, group: SharedGroup) -> Iterator[int]:
    """Offsets that are not settled, ascending; of those never reached the first one only."""
    for at in range(group.start, group.end, _CHUNK):
        for state, _, first, end in group.window.pieces(at, min(at + _CHUNK, group.end)):
            if state not in (DONE, HELD):
                yield from range(first, end)
    fresh = max(group.end, partition.log.start_offset)
    if fresh < partition.log.end_offset:
        yield fresh


class Explanation:
    """One record of one group."""

    def __init__(self, partition: PartitionGroup, group: SharedGroup, offset: int) -> None:
        self._partition = partition
        self._group = group
        self._offset = offset
        self._now_us = partition.shared.now_us
        self._trouble = group.troubles.get(offset) or Trouble()

    def state(self) -> RecordState:
        state = self._group.window.state(self._offset)
        if state == LEASED:
            return self._leased()
        if state == DELAYED:
            return self._delayed()
        if state == MOVING:
            return self._moving()
        if state == HELD:
            return self._held()
        return self._done() if state == DONE else self._free()

    # ----- by state

    def _free(self, since_us: int = 0) -> RecordState:
        group, offset = self._group, self._offset
        if offset < self._partition.log.start_offset:
            return self._made("gone", "Deleted by retention before the group had settled it.")
        blocked_by, blocking = self._blocked()
        never = offset >= group.end
        text = "Never delivered yet" if never else "Ready to be delivered"
        if self._trouble.redrives and not never:
            text += f" after {_times(self._trouble.redrives, 'redrive')}"
        if blocked_by == "key":
            text += f": the record at offset {blocking}, of the same key, comes first."
        elif blocked_by == "window":
            text += (
                f": it is too far ahead of offset {group.start}, the oldest unsettled record "
                f"(window_max = {group.settings.window_max})."
            )
        elif blocked_by:
            text += f": {BLOCKS.get(blocked_by, blocked_by)}."
        else:
            text += "; it is handed out as soon as a member has room for it."
        return self._made(
            "ahead" if never else "ready",
            text,
            since_us=since_us or appended_us(self._partition.log, offset),
            blocked_by=blocked_by,
            blocking_offset=blocking,
        )

    def _leased(self) -> RecordState:
        lease = self._group.lease_of(self._offset)
        assert lease is not None, "a leased record has a lease"
        left_us = lease.deadline_us - self._now_us
        holder = f"{lease.member} on {lease.host}" if lease.host else lease.member
        limit = self._group.settings.attempts_max
        number = self._trouble.failed + self._trouble.timed_out - self._trouble.spared + 1
        attempt = f"attempt {number} of {limit}" if limit >= 0 else f"attempt {number}"
        text = f"Held by {holder} for {_ago(self._now_us - lease.granted_us)} ({attempt}); "
        text += (
            f"its lease runs out in {_ago(left_us)} unless it is renewed."
            if left_us > 0
            else "its lease has run out and is about to end."
        )
        return self._made(
            "leased",
            text,
            member=lease.member,
            host=lease.host,
            since_us=lease.granted_us,
            deadline_us=lease.deadline_us,
            next_us=lease.deadline_us,
        )

    def _delayed(self) -> RecordState:
        group = self._group
        ready_us = group.window.ready_at(self._offset)
        wait = _ago(ready_us - self._now_us)
        if group.kind == TIMER:
            blocked_by = group_blocked_by(self._partition, group)
            text = f"Waits for its time, in {wait}; then it goes to the topic."
            if ready_us <= self._now_us:
                text = "Its time has come: it is about to go to the topic."
            if blocked_by and ready_us <= self._now_us:
                text = f"Its time has come, but {BLOCKS[blocked_by]}."
            return self._made(
                "delayed",
                text,
                since_us=appended_us(self._partition.log, self._offset),
                next_us=ready_us,
                blocked_by=blocked_by,
            )
        last = self._trouble.attempts[-1] if self._trouble.attempts else None
        since_us = last.ended_us if last is not None else 0
        if ready_us <= self._now_us:
            return self._free(since_us)
        failed = _times(self._trouble.failed + self._trouble.timed_out, "failed attempt")
        text = f"Waits for its next attempt in {wait}, after {failed}"
        if last is not None and last.reason:
            text += f" (the last one: {last.reason})"
        return self._made("delayed", f"{text}.", since_us=since_us, next_us=ready_us)

    def _moving(self) -> RecordState:
        group = self._group
        begun = group.moves.begun.get(self._offset)
        reason = begun.reason if begun is not None else self._trouble.doom
        blocked = self._partition.shared.mover.blocked(group.name)
        last = self._trouble.attempts[-1] if self._trouble.attempts else None
        where = "the topic" if group.kind == TIMER else "the dead-letter topic"
        text = f"On its way to {where}, because {REASONS.get(reason, reason or 'it was given up')}"
        text += f"; it waits: {blocked}." if blocked else "."
        cause = "target" if group.kind == TIMER else "dead_letter_topic"
        return self._made(
            "moving",
            text,
            since_us=last.ended_us if last is not None else 0,
            reason=reason,
            blocked_by=cause if blocked else "",
            **self._place(begun.target if begun is not None else group.dead, -1),
        )

    def _held(self) -> RecordState:
        trouble = self._trouble
        text = "A dead letter: it stays here until it is redriven or purged."
        if trouble.redrives:
            text = f"A dead letter again, after {_times(trouble.redrives, 'redrive')}: " + text[15:]
        limit = self._group.settings.redrives_max
        if 0 <= limit <= trouble.redrives:
            text += f" It was redriven {trouble.redrives} times: only force redrives it again."
        last = trouble.attempts[-1] if trouble.attempts else None
        since_us = last.ended_us if last is not None else 0
        return self._made(
            "dead",
            text,
            since_us=since_us or appended_us(self._partition.log, self._offset),
            reason=trouble.doom,
            **self._place(self._partition.gid, self._offset),
        )

    def _done(self) -> RecordState:
        group, offset = self._group, self._offset
        moved = group.moves.recent.get(offset)
        if moved is None:
            text = "Settled: acknowledged, or given up; the group is done with it."
            if group.kind == TIMER:
                text = "It has gone to the topic, or was cancelled."
            elif group.kind == HOLD:
                text = "Settled: acknowledged after a redrive, or purged."
            elif offset < self._partition.log.start_offset:
                text = _deleted(group.counters.overtaken)
            return self._made("done", text)
        target, place = moved
        place = -1 if place == UNKNOWN_OFFSET else place
        if target == self._partition.gid and place >= 0:  # carried forward in the same log
            return structs.replace(explain(self._partition, group, place), offset=offset)
        if group.kind == TIMER:
            return self._made("done", "It has gone to the topic.", **self._place(target, place))
        return self._dead(target, place)

    def _dead(self, target: int, place: int) -> RecordState:
        """It became a dead letter: what has happened to that?"""
        there = self._partition.node.partitions.get(target)
        hold = there.machine.sharing.groups.get(self._group.name) if there is not None else None
        where = self._place(target, place)
        topic = where["dead_topic"] or "a topic that is deleted"
        text = f"It became a dead letter: offset {place} of {topic}." if place >= 0 else (
            f"It became a dead letter in {topic}."
        )  # fmt: skip
        dead = self._made("dead", text, **where)
        if there is None or not there.leading or hold is None or place < 0:
            return dead
        return followed(dead, explain(there, hold, place))

    # ----- parts

    def _blocked(self) -> tuple[str, int]:
        """What keeps a record that could be delivered, and the record that does."""
        group, dispatcher = self._group, self._partition.shared.dispatchers.get(self._group.name)
        if dispatcher is None:
            return "", -1
        if self._offset >= group.start + group.settings.window_max:
            return "window", group.start
        reason, blocking = dispatcher.ready.why(self._offset)
        if reason:
            return reason, blocking
        of_group = group_blocked_by(self._partition, group)
        return ("", -1) if of_group in ("key", "limit", "window") else (of_group, -1)

    def _place(self, gid: int, offset: int) -> dict[str, Any]:
        found = self._partition.node.groups.metadata.machine.locate(gid)
        if found is None:
            return {"dead_topic": "", "dead_partition": -1, "dead_offset": -1}
        topic, number = found
        return {"dead_topic": topic.name, "dead_partition": number, "dead_offset": offset}

    def _made(self, state: str, text: str, **fields: object) -> RecordState:
        trouble = self._trouble
        counts = self._group.attempts(self._offset)
        given: dict[str, Any] = {
            "group": self._group.name,
            "mode": MODE,
            "offset": self._offset,
            "state": state,
            "text": text,
            "delivered": counts[0],
            "failed": counts[1],
            "timed_out": counts[2],
            "redrives": counts[3],
            "reason": trouble.doom,
            "attempts": [
                AttemptInfo(**{name: getattr(each, name) for name in _ATTEMPT})
                for each in trouble.attempts
            ],
        }
        return RecordState(**given | fields)


def followed(dead: RecordState, now: RecordState) -> RecordState:
    """What is known of a record that became a dead letter, with what became of that."""
    fields = {name: getattr(now, name) for name in _FOLLOWED}
    there = now.text.removeprefix("A dead letter: ")
    there = there[:1].lower() + there[1:]
    return structs.replace(dead, text=f"{dead.text} There: {there}", **fields)


_ATTEMPT: Final = AttemptInfo.__struct_fields__
_FOLLOWED: Final = ("state", "attempts", "member", "host", "since_us", "deadline_us", "next_us",
                    "delivered", "failed", "timed_out", "redrives", "reason", "blocked_by",
                    "blocking_offset")  # fmt: skip


def _ago(duration_us: int) -> str:
    """A duration as people say it, to the second, or to the millisecond below ten seconds."""
    milliseconds = max(duration_us, 0) // 1000
    if milliseconds >= 10_000:
        milliseconds -= milliseconds % 1000
    return format_duration(milliseconds)


def _deleted(overtaken: int) -> str:
    """Of a record without bytes below the window: only the counters remember what was overtaken."""
    text = "Settled, or skipped by the group's start"
    if overtaken:
        text += f", or among the {_times(overtaken, 'record')} that retention overtook before that"
    return f"{text}; its bytes are deleted."


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
