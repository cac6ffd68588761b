"""Requests about recurring schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.errors import InvalidConfig, PreconditionFailed, ScheduleNotFound, TopicNotFound
from penstock.protocol import sharing as wire
from penstock.protocol.messages import TYPE_OF
from penstock_broker.machine.commands import (
    DropSchedule,
    PauseSchedule,
    PutSchedule,
    encode_command,
)
from penstock_broker.machine.schedules import Schedule, ScheduleDropped, SchedulePut, schedule_of
from penstock_broker.machine.topology import KIND_RECORDS
from penstock_broker.node import cron
from penstock_broker.node.pending import Request
from penstock_broker.node.sharing.schedules import firing
from penstock_broker.node.topic_requests import leader_of

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup
    from penstock_broker.node.session import Session


def create(node: Node, session: Session, correlation: int, asked: wire.CreateSchedule) -> None:
    """Make a schedule; its first due time is later than now."""
    partition = leader_of(node, asked.topic, asked.partition)
    recurrence = cron.parse(asked.cron)
    zone = node.time_zone(asked.time_zone)
    if recurrence.next_after(node.wall_us, zone) is None:
        raise InvalidConfig(f"{asked.cron!r} is never due again")
    for other in _partitions(node, asked.topic):
        if other is not partition and other.machine.schedules.get(asked.name) is not None:
            raise PreconditionFailed(
                f"the schedule {asked.name!r} exists in partition {other.partition}",
                partition=other.partition,
            )
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


def list_all(node: Node, session: Session, correlation: int, asked: wire.ListSchedules) -> None:
    """The schedules of a topic, by name."""
    found = [
        info(partition, schedule)
        for partition in _partitions(node, asked.topic)
        for schedule in partition.machine.schedules.all()
    ]
    found.sort(key=lambda each: each.name)
    node.reply(session, correlation, wire.ListSchedulesReply(schedules=found))


def pause(node: Node, session: Session, correlation: int, asked: wire.PauseSchedule) -> None:
    """Pause a schedule or let it go on."""
    partition = _holder(node, asked.topic, asked.name)

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

    def answer(reply: object) -> None:
        assert isinstance(reply, ScheduleDropped)
        node.reply(session, correlation, wire.DeleteScheduleReply())

    request = Request(session, correlation, TYPE_OF[type(asked)])
    command = encode_command(DropSchedule(name=asked.name))
    node.pending.propose(partition, command, answer, request)
    partition.shared.schedules.hold(asked.name)


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


def _holder(node: Node, topic: str, name: str) -> PartitionGroup:
    for partition in _partitions(node, topic):
        if partition.machine.schedules.get(name) is not None:
            return partition
    raise ScheduleNotFound(f"there is no schedule {name!r} on {topic!r}", schedule=name)
