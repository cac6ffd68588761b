"""Administration of shared groups, delayed records and schedules: one operation per request.

Figures lie with the leaders of partitions: each is asked, and the answers are put together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from penstock._core.positions import Start, resolvable
from penstock._core.scheduler import Operation
from penstock._core.sharing.dead_letters import DeadLetters
from penstock._core.texts import as_bytes, as_headers, as_key
from penstock.errors import BadRequest, ScheduleNotFound, TopicNotFound
from penstock.protocol.messages import Message
from penstock.protocol.partitioning import partition_for_key
from penstock.protocol.sharing import (
    AlterGroup,
    AlterGroupReply,
    CancelScheduled,
    CancelScheduledReply,
    CreateGroup,
    CreateGroupReply,
    CreateSchedule,
    CreateScheduleReply,
    DeleteSchedule,
    DeleteScheduleReply,
    DescribeShared,
    DescribeSharedReply,
    EnableDelays,
    EnableDelaysReply,
    ExplainRecord,
    ExplainRecordReply,
    ListScheduled,
    ListScheduledReply,
    ListSchedules,
    ListSchedulesReply,
    PauseSchedule,
    PauseScheduleReply,
    RecordState,
    ScheduledRecord,
    ScheduleInfo,
    StuckRecords,
    StuckRecordsReply,
)

if TYPE_CHECKING:
    from penstock._core.client import ClientCore

M = TypeVar("M", bound=Message)

LOOK_SECONDS: Final = 1.0
"""How long to wait for word of a partition without a leader: an election takes no longer."""

INTERNAL_PREFIXES = ("__", "dead.")


class ScheduledList(msgspec.Struct, frozen=True):
    """Records that wait for their time, soonest first.

    Attributes:
        scheduled: (partition, what waits there).
        total: how many there are in all.
    """

    scheduled: list[tuple[int, ScheduledRecord]]
    total: int


class SharedAdmin:
    """What is administered beside topics and ordered groups."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self.dead_letters = DeadLetters(core)

    # ----- groups

    def create_group(
        self,
        topic: str,
        group: str,
        config: Mapping[str, object] | None = None,
        start: Start = "earliest",
        if_not_exists: bool = False,
        dry_run: bool = False,
    ) -> Operation[CreateGroupReply]:
        """Create a shared group."""
        request = CreateGroup(
            topic=topic,
            group=group,
            settings=dict(config or {}),
            start=resolvable(start, self._core.scheduler.wall_us),
            if_not_exists=if_not_exists,
            dry_run=dry_run,
        )
        safe = if_not_exists or dry_run
        return self._core.requests.call(request, CreateGroupReply, safe=safe)

    def alter_group(
        self, topic: str, group: str, config: Mapping[str, object], dry_run: bool = False
    ) -> Operation[AlterGroupReply]:
        """Change a shared group's settings; repeating it changes nothing more."""
        request = AlterGroup(topic=topic, group=group, settings=dict(config), dry_run=dry_run)
        return self._core.requests.call(request, AlterGroupReply)

    def describe_shared(self, topic: str, group: str) -> Operation[DescribeSharedReply]:
        """A shared group with its figures in all partitions that somebody tells of."""
        request = DescribeShared(topic=topic, group=group)
        return self._core.requests.look(
            request, DescribeSharedReply, lambda reply: not reply.missing, LOOK_SECONDS
        )

    def explain(
        self,
        topic: str,
        partition: int,
        offset: int,
        group: str = "",
        patience: float | None = None,
    ) -> Operation[ExplainRecordReply]:
        """What has become of one record, for each group."""
        yield from self._core.metadata.ensure(topic)
        self._core.metadata.partition(topic, partition)
        request = ExplainRecord(topic=topic, partition=partition, offset=offset, group=group)
        return (yield from self._of_leader(topic, partition, request, ExplainRecordReply, patience))

    def stuck(
        self,
        topic: str,
        group: str,
        limit: int = 20,
        partitions: Collection[int] | None = None,
    ) -> Operation[list[tuple[int, RecordState]]]:
        """The records that hold a group back, longest first, and why."""
        yield from self._core.metadata.ensure(topic)
        found: list[tuple[int, RecordState]] = []
        known = self._core.metadata.partitions(topic)
        for number in sorted(known if partitions is None else partitions):
            self._core.metadata.partition(topic, number)
            request = StuckRecords(topic=topic, partition=number, group=group, limit=limit)
            reply = yield from self._of_leader(topic, number, request, StuckRecordsReply)
            found += [(number, state) for state in reply.states]
        found.sort(key=_age)
        return found[:limit]

    # ----- delayed records

    def enable_delays(self, topic: str) -> Operation[str]:
        """The topic where delayed batches of a topic are published; made if need be."""
        reply = yield from self._core.requests.call(EnableDelays(topic=topic), EnableDelaysReply)
        return reply.delayed_topic

    def list_scheduled(
        self, topic: str, partition: int | None = None, limit: int = 1000
    ) -> Operation[ScheduledList]:
        """The records of a topic that wait for their time."""
        yield from self._core.metadata.ensure(topic)
        known = sorted(self._core.metadata.partitions(topic))
        if partition is not None:
            self._core.metadata.partition(topic, partition)
            known = [partition]
        found: list[tuple[int, ScheduledRecord]] = []
        total = 0
        for number in known:
            request = ListScheduled(topic=topic, partition=number, limit=limit)
            reply = yield from self._of_leader(topic, number, request, ListScheduledReply)
            total += reply.total
            found += [(number, each) for each in reply.scheduled]
        found.sort(key=_due)
        return ScheduledList(found[:limit], total)

    def cancel_scheduled(
        self, topic: str, partition: int, ids: Sequence[int]
    ) -> Operation[CancelScheduledReply]:
        """Cancel delayed records."""
        yield from self._core.metadata.ensure(topic)
        self._core.metadata.partition(topic, partition)
        request = CancelScheduled(topic=topic, partition=partition, ids=list(ids))
        return (yield from self._of_leader(topic, partition, request, CancelScheduledReply))

    # ----- recurring schedules

    def create_schedule(
        self,
        topic: str,
        name: str,
        cron: str,
        *,
        time_zone: str = "UTC",
        catch_up: str = "one",
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes | str] | None = None,
        partition: int | None = None,
        replace: bool = False,
    ) -> Operation[CreateScheduleReply]:
        """Have a record published at the times of a cron expression."""
        if not isinstance(name, str) or not name:
            raise BadRequest("a schedule is named by a str")
        yield from self._core.metadata.ensure(topic)
        found = as_key(key)
        if partition is None:
            count = len(self._core.metadata.partitions(topic))
            partition = partition_for_key(name.encode() if found is None else found, count)
        self._core.metadata.partition(topic, partition)
        request = CreateSchedule(
            name=name,
            topic=topic,
            partition=partition,
            cron=cron,
            time_zone=time_zone,
            catch_up=catch_up,
            value=as_bytes(value),
            key=found,
            headers=as_headers(headers) or {},
            replace=replace,
        )
        leader = self._core.metadata.leader(topic, partition)
        return (
            yield from self._core.requests.call(
                request, CreateScheduleReply, node=leader, safe=replace
            )
        )

    def list_schedules(self, topic: str | None = None) -> Operation[list[ScheduleInfo]]:
        """The schedules of a topic, or of all, by topic and name."""
        names = [topic] if topic is not None else (yield from self._topics())
        found: dict[tuple[str, str], ScheduleInfo] = {}
        for name in names:
            replies = yield from self._of_leaders(
                name, ListSchedules(topic=name), ListSchedulesReply
            )
            for reply in replies:
                found.update({(each.topic, each.name): each for each in reply.schedules})
        return [found[place] for place in sorted(found)]

    def pause_schedule(
        self, topic: str, name: str, paused: bool = True
    ) -> Operation[PauseScheduleReply]:
        """Pause a schedule, or let it go on."""
        partition = yield from self._partition_of(topic, name)
        request = PauseSchedule(topic=topic, name=name, paused=paused)
        return (yield from self._of_leader(topic, partition, request, PauseScheduleReply))

    def delete_schedule(self, topic: str, name: str) -> Operation[DeleteScheduleReply]:
        """Delete a schedule."""
        partition = yield from self._partition_of(topic, name)
        request = DeleteSchedule(topic=topic, name=name)
        leader = self._core.metadata.leader(topic, partition)
        return (
            yield from self._core.requests.call(
                request, DeleteScheduleReply, node=leader, safe=False
            )
        )

    # ----- inside

    def _partition_of(self, topic: str, name: str) -> Operation[int]:
        for each in (yield from self.list_schedules(topic)):
            if each.name == name:
                return each.partition
        raise ScheduleNotFound(f"topic {topic} has no schedule {name!r}")

    def _topics(self) -> Operation[list[str]]:
        topics = yield from self._core.admin.list_topics()
        return [each.name for each in topics if not each.name.startswith(INTERNAL_PREFIXES)]

    def _of_leader(
        self,
        topic: str,
        partition: int,
        request: Message,
        expected: type[M],
        patience: float | None = None,
    ) -> Operation[M]:
        leader = self._core.metadata.leader(topic, partition)
        return self._core.requests.call(request, expected, node=leader, patience=patience)

    def _of_leaders(self, topic: str, request: Message, expected: type[M]) -> Operation[list[M]]:
        """Ask every broker that leads a partition of a topic.

        Raises:
            TopicNotFound: there is no such topic.
        """
        yield from self._core.metadata.ensure(topic)
        partitions = self._core.metadata.partitions(topic).values()
        leaders = sorted({each.leader for each in partitions})
        if not leaders:
            raise TopicNotFound(f"there is no topic {topic!r}")
        replies: list[M] = []
        for leader in leaders:
            reply = yield from self._core.requests.call(request, expected, node=leader)
            replies.append(reply)
        return replies


def _age(found: tuple[int, RecordState]) -> tuple[int, int]:
    return found[1].since_us, found[1].offset


def _due(found: tuple[int, ScheduledRecord]) -> tuple[int, int]:
    return found[1].deliver_at_us, found[1].id
