"""What commands about topics do, planned on a draft."""

from __future__ import annotations

from msgspec.structs import replace

from penstock.errors import BadRequest, PreconditionFailed, TopicExists
from penstock_broker.machine import config
from penstock_broker.machine.commands import AlterTopic, CreateTopic, DeleteTopic
from penstock_broker.machine.drafts import Draft
from penstock_broker.machine.names import check_topic_name
from penstock_broker.machine.shared_plans import check_columns, follow
from penstock_broker.machine.topology import (
    KIND_RECORDS,
    TopicAltered,
    TopicCreated,
    TopicDeleted,
)


def create_topic(draft: Draft, command: CreateTopic) -> TopicCreated:
    """Plan a new topic.

    Raises:
        RequestError: it can't be created.
    """
    check_topic_name(command.name)
    present = draft.find(command.name)
    if present is not None:
        if present.id == command.id:
            return TopicCreated(present, True)
        if command.if_not_exists:
            return TopicCreated(present, False)
        raise TopicExists(f"the topic {command.name!r} exists", topic=command.name)
    settings = config.parse(command.config)
    places: list[list[int]] | int = command.partitions
    if command.replicas is not None:
        places = command.replicas
        fits = draft.fits(places, command.replication)
        if len(places) != command.partitions or not fits:
            raise BadRequest("the replicas do not fit partitions, replication and nodes")
    return TopicCreated(
        draft.create(command.name, command.id, KIND_RECORDS, settings, command.replication, places),
        True,
    )


def alter_topic(draft: Draft, command: AlterTopic) -> TopicAltered:
    """Plan a change; the topics that go with this one follow it.

    Raises:
        RequestError: it can't be done.
    """
    check_topic_name(command.name)
    topic = draft.need(command.name)
    topic = draft.change(replace(topic, settings=config.merge(topic.settings, command.config)))
    for definition in topic.shared.values():
        check_columns(topic.config, definition.settings)
    if command.replication is not None:
        topic = draft.replicate(topic, command.replication)
    if command.partitions is not None:
        topic = draft.grow(topic, command.partitions)
    follow(draft, topic)
    return TopicAltered(topic)


def delete_topic(draft: Draft, command: DeleteTopic) -> TopicDeleted:
    """Plan a deletion: the companion for delayed records goes too, dead letters stay.

    Raises:
        RequestError: there is no such topic, or a group still needs it for its dead letters.
    """
    check_topic_name(command.name)
    topic = draft.need(command.name)
    if topic.origin is not None:
        source = draft.find(topic.origin[0])
        group = None if source is None else source.shared.get(topic.origin[1])
        if group is not None and group.dead_topic == topic.name:
            raise PreconditionFailed(
                f"the shared group {topic.origin[1]!r} of {topic.origin[0]!r} keeps its dead "
                "letters there: delete the group first, or set dead_letters = drop"
            )
    draft.drop(topic)
    if topic.delayed:
        draft.drop(draft.need(topic.delayed))
    return TopicDeleted(topic)
