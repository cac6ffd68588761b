"""Requests about recurring schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from penstock.errors import (
    InvalidConfig,
    PenstockError,
    PreconditionFailed,
    ScheduleNotFound,
    Throttled,
    TopicNotFound,
)
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF, Message
from penstock_broker.machine.commands import (
    DropSchedule,
    PauseSchedule,
    PutSchedule,
    encode_command,
)
from penstock_broker.machine.schedules import Schedule, ScheduleDropped, SchedulePut, schedule_of
from penstock_broker.machine.topology import KIND_RECORDS
from penstock_broker.node import cron
from penstock_broker.node.gather import Replies, all_led, gather, raise_first
from penstock_broker.node.pending import Request
from penstock_broker.node.questions import FindSchedule, FindScheduleReply, PlaceSchedule
from penstock_broker.node.sharing.schedules import firing
from penstock_broker.node.topic_requests import leader_of, partition_gid

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session


def create(node: Node, session: Session, correlation: int, asked: wire.CreateSchedule) -> None:
    """Make a schedule, unless another partition has one of that name.

    The leader of the topic's first partition does this for all of them, one request for a name at
    a time: that no other partition has the name still holds when the schedule is made.
    """
    target = partition_gid(node, asked.topic, asked.partition)
    naming = leader_of(node, asked.topic, 0).shared.schedules.naming
    if asked.name in naming:
        raise Throttled(f"the schedule {asked.name!r} is being created by another request")
    naming.add(asked.name)
    request = Request(session, correlation, TYPE_OF[type(asked)])

    def end(reply: object) -> None:
        naming.discard(asked.name)
        if isinstance(reply, wire.CreateScheduleReply):
            node.reply(session, correlation, reply)
        else:
            assert isinstance(reply, PenstockError), "the reply to a schedule, or an error"
            node.reply_error(session, correlation, request.type, reply)

    def found(replies: Replies) -> None:
        held = [each.partition for each in replies.values() if isinstance(each, FindScheduleReply)]
        elsewhere = sorted({*held, _find(node, asked.topic, asked.name)} - {-1, asked.partition})
        error = next((each for each in replies.values() if isinstance(each, PenstockError)), None)
        if elsewhere:
            text = f"the schedule {asked.name!r} exists in partition {elsewhere[0]}"
            error = PreconditionFailed(text, partition=elsewhere[0])
        if error is not None:
            end(error)
        else:
            place = PlaceSchedule(**structs.asdict(asked))
            node.ask(node.groups.leader_of(target)[1], place, end)

    question = FindSchedule(topic=asked.topic, name=asked.name)
    try:
        _ask_leaders(node, request, asked.topic, question, found)
    except PenstockError as error:
        end(error)


def place(node: Node, session: Session, correlation: int, asked: PlaceSchedule) -> None:
    """Make a schedule in a partition that is led here; its first due time is later than now."""
    partition = leader_of(node, asked.topic, asked.partition)
    recurrence = cron.parse(asked.cron)
    zone = node.time_zone(asked.time_zone)
    if recurrence.next_after(node.wall_us, zone) is None:
        raise InvalidConfig(f"{asked.cron!r} is never due again")
    command = PutSchedule(
        name=asked.name,
        id=f"{node.rng.getrandbits(128):032x}",
        cron=asked.cron,
        time_zone=asked.time_zone,
        catch_up=asked.catch_up,
        value=asked.value,
        key=asked.key,
        headers=asked.headers,
        after_us=node.wall_us,
        replace=asked.replace,
    )
    firing(schedule_of(command), 0, 0, partition.config)  # what can't be published is refused now

    def answer(reply: object) -> None:
        assert isinstance(reply, SchedulePut)
        found = wire.CreateScheduleReply(schedule=info(partition, reply.schedule))
        node.reply(session, correlation, found)

    request = Request(session, correlation, TYPE_OF[type(asked)])
    node.pending.propose(partition, encode_command(command), answer, request)


def find(node: Node, session: Session, correlation: int, asked: FindSchedule) -> None:
    """Whether a partition that is led here has a schedule."""
    partition = _find(node, asked.topic, asked.name)
    node.reply(session, correlation, FindScheduleReply(partition=partition))


def list_all(node: Node, session: Session, correlation: int, asked: wire.ListSchedules) -> None:
    """The schedules of a topic, by name."""
    found = [
        info(partition, schedule)
        for partition in _partitions(node, asked.topic)
        for schedule in partition.machine.schedules.all()
    ]

    def gathered(replies: Replies) -> None:
        raise_first(replies)
        for reply in replies.values():
            if isinstance(reply, wire.ListSchedulesReply):
                found.extend(reply.schedules)
        found.sort(key=lambda each: each.name)
        node.reply(session, correlation, wire.ListSchedulesReply(schedules=found))

    request = Request(session, correlation, TYPE_OF[type(asked)])
    _ask_leaders(node, request, asked.topic, asked, gathered)


def pause(node: Node, session: Session, correlation: int, asked: wire.PauseSchedule) -> None:
    """Pause a schedule or let it go on."""
    partition = _holder(node, asked.topic, asked.name)
    if partition is None:
        _ask_holder(node, session, correlation, asked)
        return

    def answer(reply: object) -> None:
        assert isinstance(reply, SchedulePut)
        found = wire.PauseScheduleReply(schedule=info(partition, reply.schedule))
        node.reply(session, correlation, found)

    command = PauseSchedule(name=asked.name, paused=asked.paused)
    request = Request(session, correlation, TYPE_OF[type(asked)])
    node.pending.propose(partition, encode_command(command), answer, request)
    partition.shared.schedules.hold(asked.name)


def delete(node: Node, session: Session, correlation: int, asked: wire.DeleteSchedule) -> None:
    """Delete a schedule; once that is answered it never fires again."""
    partition = _holder(node, asked.topic, asked.name)
    if partition is None:
        _ask_holder(node, session, correlation, asked)
        return

    def answer(reply: object) -> None:
        assert isinstance(reply, ScheduleDropped)
        node.reply(session, correlation, wire.DeleteScheduleReply())

    request = Request(session, correlation, TYPE_OF[type(asked)])
    command = encode_command(DropSchedule(name=asked.name))
    node.pending.propose(partition, command, answer, request)
    partition.shared.schedules.hold(asked.name)


def _ask_holder(
    node: Node,
    session: Session,
    correlation: int,
    asked: wire.PauseSchedule | wire.DeleteSchedule,
) -> None:
    """No partition that is led here has the schedule: whoever has it does what is asked."""

    def gathered(replies: Replies) -> None:
        for reply in replies.values():
            if isinstance(reply, wire.PauseScheduleReply | wire.DeleteScheduleReply):
                node.reply(session, correlation, reply)
                return
        raise_first({to: r for to, r in replies.items() if not isinstance(r, ScheduleNotFound)})
        raise ScheduleNotFound(
            f"there is no schedule {asked.name!r} on {asked.topic!r}", schedule=asked.name
        )

    if session.relayed:
        gathered({})
    request = Request(session, correlation, TYPE_OF[type(asked)])
    _ask_leaders(node, request, asked.topic, asked, gathered)


def _ask_leaders(
    node: Node,
    request: Request,
    topic: str,
    question: Message,
    finish: Callable[[Replies], None],
) -> None:
    """Ask the other nodes that lead partitions of a topic; who was asked himself asks nobody.

    Raises:
        LeaderUnknown: one of the partitions has no leader.
    """
    partitions = node.groups.metadata.machine.topics[topic].partitions
    leaders = set(all_led(node, [place.group for place in partitions]))
    if not isinstance(question, wire.PauseSchedule | wire.DeleteSchedule) or len(leaders) == 1:
        leaders -= {node.node_id}  # these make sure before they say that there is no such schedule
    if request.session.relayed and not isinstance(question, FindSchedule):
        leaders = set()
    gather(node, request, dict.fromkeys(sorted(leaders), question), finish)


def info(partition: PartitionGroup, schedule: Schedule) -> wire.ScheduleInfo:
    """A schedule as clients see it."""
    try:
        next_us = partition.shared.schedules.next_of(schedule)
    except InvalidConfig:
        next_us = 0  # made by a broker that knows more time zones
    return wire.ScheduleInfo(
        name=schedule.name,
        topic=partition.topic,
        partition=partition.partition,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        catch_up=schedule.catch_up,
        value=schedule.value,
        key=schedule.key,
        headers=schedule.headers,
        paused=schedule.paused,
        fired=schedule.fired,
        last_us=schedule.last_us,
        next_us=next_us,
    )


def _partitions(node: Node, topic: str) -> Iterator[PartitionGroup]:
    """The partitions of a topic that are led here."""
    found = node.groups.metadata.machine.topics.get(topic)
    if found is None or found.kind != KIND_RECORDS:
        raise TopicNotFound(f"there is no topic {topic!r}", topic=topic)
    for place in found.partitions:
        partition = node.partitions.get(place.group)
        if partition is not None and partition.leading:
            yield partition


def _holder(node: Node, topic: str, name: str) -> PartitionGroup | None:
    for partition in _partitions(node, topic):
        if partition.machine.schedules.get(name) is not None:
            return partition
    return None


def _find(node: Node, topic: str, name: str) -> int:
    holder = _holder(node, topic, name)
    return -1 if holder is None else holder.partition
