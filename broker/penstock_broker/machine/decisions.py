"""A running digest of what group 0's machine decides, to be compared between brokers.

Every command that is carried out is chained to all before it: the index of its entry, what it
changed, and what holds for the whole cluster. One that is refused changes nothing and leaves no
trace; a broker that carries it out instead is found out by that. Invariants: what goes in are names
and numbers in the order that this file says, never a structure of the program or a word meant for
people, so that a version that adds a field or a default tells the same; what goes in changes with a
feature level alone (`tests/machine/test_decisions.py` pins it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from penstock_broker.machine.effects import (
    ConfigChanged,
    Effect,
    GroupCreated,
    GroupDeleted,
    NodeChanged,
    ReplicaRemoved,
    ReplicasChanged,
    SharedChanged,
    TopicRevised,
)
from penstock_broker.machine.topology import NodeEntry, Topic

DIGEST_BYTES: Final = 8

_encode: Final = msgspec.msgpack.Encoder().encode

Row = Sequence[object]


def chained(
    before: int,
    index: int,
    general: tuple[int, ...],
    effects: Sequence[Effect],
    nodes: Mapping[int, NodeEntry],
    topics: Mapping[str, Topic],
) -> int:
    """The digest with one more command that was carried out.

    Args:
        before: the digest of all before it; 0: there were none.
        index: of its entry.
        general: what holds for the whole cluster now: the feature level, and what is switched.
        effects: what it changed.
        nodes: all nodes, as they are now.
        topics: all topics, as they are now.
    """
    rows = [_row(effect, nodes) for effect in effects]
    named = dict.fromkeys(name for effect in effects if (name := getattr(effect, "topic", "")))
    heads = [_head(topics[name]) if name in topics else (name,) for name in named]
    body = _encode((index, general, len(nodes), len(topics), heads, rows))
    found = blake2b(before.to_bytes(DIGEST_BYTES, "little") + body, digest_size=DIGEST_BYTES)
    return int.from_bytes(found.digest(), "little")


def _row(effect: Effect, nodes: Mapping[int, NodeEntry]) -> Row:
    match effect:
        case GroupCreated() | ReplicasChanged():
            word = "created" if isinstance(effect, GroupCreated) else "changed"
            return (word, effect.group, effect.topic, effect.partition, effect.kind,
                    effect.replicas, effect.founders, effect.holders)  # fmt: skip
        case ReplicaRemoved():
            return ("removed", effect.group, effect.node)
        case GroupDeleted():
            return ("deleted", effect.group, effect.topic, effect.partition)
        case TopicRevised():
            return ("revised", effect.topic, effect.id, effect.partitions, effect.revision)
        case ConfigChanged():
            return ("config", effect.topic, effect.groups)
        case SharedChanged():
            return ("shared", effect.topic, effect.groups)
        case NodeChanged():
            entry = nodes.get(effect.node)
            more = () if entry is None else (entry.uuid, entry.host, entry.feature_max)
            return ("node", effect.node, effect.address, effect.state, more)
    raise AssertionError(f"group 0 decides nothing like {type(effect).__name__}")


def _head(topic: Topic) -> Row:
    """A topic, but for its partitions: they have effects of their own."""
    shared = [
        (name, one.id, one.kind, sorted(one.settings.items()), one.start, one.revision,
         one.dead_topic)
        for name, one in sorted(topic.shared.items())
    ]  # fmt: skip
    return (topic.name, topic.id, topic.kind, topic.replication, sorted(topic.settings.items()),
            topic.revision, topic.created_us, topic.delayed, topic.origin or (),
            shared)  # fmt: skip
