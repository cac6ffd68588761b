"""What commands about shared groups and delays do to the topics, planned on a draft.

A shared group brings a dead-letter topic, and delays bring a companion: partition p of these goes
with partition p of the topic and lies on the same nodes.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from penstock.errors import (
    BadRequest,
    GroupExists,
    GroupNotFound,
    InvalidName,
    LimitExceeded,
    PreconditionFailed,
)
from penstock.protocol import names
from penstock.protocol.batch import BATCH_BYTES_MAX
from penstock_broker.machine.commands import (
    AlterSharedGroup,
    CreateSharedGroup,
    DeleteSharedGroup,
    EnableDelays,
)
from penstock_broker.machine.config import TopicConfig
from penstock_broker.machine.drafts import Draft
from penstock_broker.machine.keys import Value
from penstock_broker.machine.names import RESERVED_PREFIX, check_topic_name, is_reserved
from penstock_broker.machine.sharing import settings
from penstock_broker.machine.sharing.state import HOLD, SHARED, TIMER
from penstock_broker.machine.topology import (
    DEAD_PREFIX,
    DELAYED_PREFIX,
    KIND_DELAYED,
    KIND_RECORDS,
    TIMER_GROUP,
    DelaysEnabled,
    SharedAltered,
    SharedCreated,
    SharedDefinition,
    SharedDeleted,
    Topic,
)

SHARED_GROUPS_MAX: Final = 32
"""Shared groups of a topic."""
EARLIEST: Final = -2
_ID_LENGTH_MAX: Final = 200
_COLUMNS: Final = ("key_slots", "tenant_separator")


def create_shared(draft: Draft, command: CreateSharedGroup) -> SharedCreated:
    """Plan a shared group and its dead-letter topic.

    Raises:
        RequestError: it can't be created.
    """
    topic, name = _topic(draft, command.topic), command.group
    _check_group_name(name)
    present = topic.shared.get(name)
    if present is not None:
        if present.kind == SHARED and (present.id == command.id or command.if_not_exists):
            dead = draft.find(present.dead_topic)
            return SharedCreated(topic, name, dead, present.id == command.id)
        raise GroupExists(f"the topic {topic.name!r} has a group {name!r}", group=name)
    if len(topic.shared) >= SHARED_GROUPS_MAX:
        raise LimitExceeded(f"a topic has at most {SHARED_GROUPS_MAX} shared groups")
    if not 0 < len(command.id) <= _ID_LENGTH_MAX or command.start < EARLIEST:
        raise BadRequest("a shared group needs an id, and a place to start at")
    chosen = settings.parse(command.settings)
    definition = SharedDefinition(command.id, SHARED, chosen, command.start, 0, "")
    topic, dead = _define(draft, topic, name, definition)
    return SharedCreated(topic, name, dead, True)


def alter_shared(draft: Draft, command: AlterSharedGroup) -> SharedAltered:
    """Plan other settings; with `dead_letters = topic` there is a dead-letter topic from then on.

    Raises:
        RequestError: it can't be done.
    """
    topic = _topic(draft, command.topic)
    definition = _definition(topic, command.group)
    if definition.kind != SHARED:
        raise PreconditionFailed(f"{topic.name!r} holds dead letters: change {topic.origin}")
    chosen = settings.merge(definition.settings, command.settings)
    changed = replace(definition, settings=chosen)
    topic, dead = _define(draft, topic, command.group, changed)
    return SharedAltered(topic, command.group, dead)


def delete_shared(draft: Draft, command: DeleteSharedGroup) -> SharedDeleted:
    """Plan that a group and its state go; its dead letters stay.

    Raises:
        RequestError: there is no such group, or it is the one that holds another's dead letters.
    """
    topic = _topic(draft, command.topic)
    definition = _definition(topic, command.group)
    if definition.kind == HOLD and topic.origin is not None:
        source = draft.find(topic.origin[0])
        if source is not None and topic.origin[1] in source.shared:
            raise PreconditionFailed(f"delete the group of {source.name!r} first")
    rest = {name: kept for name, kept in topic.shared.items() if name != command.group}
    return SharedDeleted(draft.change(replace(topic, shared=rest)))


def enable_delays(draft: Draft, command: EnableDelays) -> DelaysEnabled:
    """Plan the companion of a topic, once.

    Raises:
        RequestError: it can't be created.
    """
    topic = _topic(draft, command.topic)
    if topic.delayed:
        return DelaysEnabled(topic, draft.need(topic.delayed))
    if topic.origin is not None:
        raise PreconditionFailed("dead letters can't be delayed")
    name = names.check_name(DELAYED_PREFIX + topic.name, "topic for delayed records")
    companion = draft.create(
        name, command.id, KIND_DELAYED, _delayed_settings(topic), topic.replication,
        draft.beside(topic),
    )  # fmt: skip
    timer = SharedDefinition(command.id, TIMER, {}, EARLIEST, draft.at.index, "")
    companion = draft.change(replace(companion, shared={TIMER_GROUP: timer}))
    return DelaysEnabled(draft.change(replace(topic, delayed=name)), companion)


def follow(draft: Draft, topic: Topic) -> None:
    """After a change of a topic: those that go with it get its partitions, replicas and columns.

    Raises:
        LimitExceeded: there would be too many partitions.
    """
    if topic.delayed:
        companion = draft.need(topic.delayed)
        _like(draft, topic, replace(companion, settings=_delayed_settings(topic)))
    for definition in topic.shared.values():
        if definition.dead_topic:
            _match(draft, topic, draft.need(definition.dead_topic))


def check_columns(topic: TopicConfig, chosen: dict[str, Value]) -> None:
    """Check that the topic's producers write the columns that a group's settings need.

    Raises:
        PreconditionFailed: they do not.
    """
    built = settings.build(chosen)
    users = (built.order_by, built.limit_by, built.fair_by)
    if "key" in users and topic.key_slots == "none":
        raise PreconditionFailed(
            "order, limits or shares by key need the topic's key_slots = key "
            "(penstock topic alter TOPIC -c key_slots=key)"
        )
    if "tenant" in users and topic.tenant_separator == "none":
        raise PreconditionFailed(
            "limits or shares by tenant need the topic's tenant_separator "
            "(penstock topic alter TOPIC -c tenant_separator=:)"
        )


def _topic(draft: Draft, name: str) -> Topic:
    check_topic_name(name)
    return draft.need(name)


def _definition(topic: Topic, group: str) -> SharedDefinition:
    found = topic.shared.get(group)
    if found is None:
        raise GroupNotFound(f"{topic.name!r} has no shared group {group[:80]!r}", group=group)
    return found


def _check_group_name(name: str) -> None:
    names.check_name(name, "group")
    if is_reserved(name):
        raise InvalidName(f"{name!r}: names that begin with {RESERVED_PREFIX!r} are reserved")


def _define(
    draft: Draft, topic: Topic, name: str, definition: SharedDefinition
) -> tuple[Topic, Topic | None]:
    """Put a definition in force: its dead-letter topic, and a new revision if it is another."""
    check_columns(topic.config, definition.settings)
    dead = None
    if settings.build(definition.settings).dead_letters == "topic":
        dead = _dead_topic(draft, topic, name, definition)
    definition = replace(definition, dead_topic="" if dead is None else dead.name)
    if definition != topic.shared.get(name):
        definition = replace(definition, revision=draft.at.index)
    shared = dict(sorted({**topic.shared, name: definition}.items()))
    return draft.change(replace(topic, shared=shared)), dead


def _dead_topic(draft: Draft, topic: Topic, group: str, definition: SharedDefinition) -> Topic:
    """The dead-letter topic of a group, made or matched; the same group holds its records."""
    if topic.origin is not None:
        raise PreconditionFailed("a group on a dead-letter topic needs dead_letters = drop")
    name = DEAD_PREFIX + f"{topic.name}.{group}"
    check_topic_name(name)
    dead = draft.find(name)
    if dead is None:
        dead = draft.create(
            name, f"{definition.id}.dead", KIND_RECORDS,
            {"max_batch_bytes": BATCH_BYTES_MAX, "retention_ms": -1},
            topic.replication, draft.beside(topic),
        )  # fmt: skip
        dead = draft.change(replace(dead, origin=(topic.name, group)))
    elif dead.origin != (topic.name, group):
        raise PreconditionFailed(f"the topic {name!r} exists, and is not for these dead letters")
    dead = _match(draft, topic, dead)
    hold = dead.shared.get(group)
    if hold is None or hold.settings != definition.settings:
        id_ = definition.id if hold is None else hold.id
        hold = SharedDefinition(id_, HOLD, definition.settings, EARLIEST, draft.at.index, "")
    return draft.change(replace(dead, shared={**dead.shared, group: hold}))


def _match(draft: Draft, topic: Topic, dead: Topic) -> Topic:
    """Give a dead-letter topic the partitions, replicas and columns of its origin."""
    found = {key: value for key, value in dead.settings.items() if key not in _COLUMNS}
    found |= {key: topic.settings[key] for key in _COLUMNS if key in topic.settings}
    return _like(draft, topic, replace(dead, settings=dict(sorted(found.items()))))


def _like(draft: Draft, topic: Topic, beside: Topic) -> Topic:
    """Have a topic that goes with another want as many replicas, on as many partitions."""
    beside = draft.change(replace(beside, replication=topic.replication))
    return draft.grow(beside, draft.beside(topic, len(beside.partitions)))


_DELAYED_SEGMENT_BYTES: Final = 16 << 20
"""Space comes back by whole segments, as records are moved on."""


def _delayed_settings(topic: Topic) -> dict[str, Value]:
    """Batches are moved as they are, so the companion takes what the topic takes."""
    taken = ("key_slots", "max_batch_bytes", "tenant_separator")
    found: dict[str, Value] = {key: topic.settings[key] for key in taken if key in topic.settings}
    found["retention_ms"] = -1
    found["segment_bytes"] = _DELAYED_SEGMENT_BYTES
    return dict(sorted(found.items()))
