"""A running digest of what group 0's machine decides, to be compared between brokers.

Every command that is carried out is chained to all before it: the index of its entry, whatever it
touched, as that is by then, and what holds for the whole cluster. One that is refused changes
nothing and leaves no trace; a broker that carries it out instead is found out by that. Invariants:
what goes in are names and numbers in the order that this file says, never a structure of the
program, the order of effects or a word meant for people, so that a version that adds a field or a
default tells the same; what goes in changes with a feature level alone
(`tests/machine/test_decisions.py` pins it).
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

Row = tuple[object, ...]


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
        effects: they say what it touched.
        nodes: all nodes, as they are now.
        topics: all topics, as they are now.
    """
    rows: set[bytes] = set()
    named: set[str] = set()
    for effect in effects:
        match effect:
            case GroupCreated() | ReplicasChanged() | GroupDeleted():
                named.add(effect.topic)
                topic = topics.get(effect.topic)
                rows.add(_encode(_partition(effect.group, topic, effect.partition)))
            case ConfigChanged() | SharedChanged() | TopicRevised():
                named.add(effect.topic)
            case NodeChanged():
                rows.add(_encode(_node(effect.node, nodes)))
            case ReplicaRemoved():
                rows.add(_encode(("removed", effect.group, effect.node)))
            case _:
                raise AssertionError(f"group 0 decides nothing like {type(effect).__name__}")
    rows.update(_encode(_head(name, topics)) for name in named)
    body = _encode((index, general, len(nodes), len(topics), sorted(rows)))
    found = blake2b(before.to_bytes(DIGEST_BYTES, "little") + body, digest_size=DIGEST_BYTES)
    return int.from_bytes(found.digest(), "little")


def _partition(group: int, topic: Topic | None, number: int) -> Row:
    if topic is None:
        return ("deleted", group)
    found = topic.partitions[number]
    recovered = (found.survivor, found.recovery_term, found.astray) if found.recovery_term else ()
    return ("partition", group, topic.name, number, found.replicas, found.members, found.founded,
            found.moving, found.leaving, found.revision, *recovered)  # fmt: skip


def _node(node: int, nodes: Mapping[int, NodeEntry]) -> Row:
    found = nodes.get(node)
    if found is None:
        return ("node", node)
    return ("node", node, found.uuid, found.address, found.host, found.revision, found.state,
            found.feature_max)  # fmt: skip


def _head(name: str, topics: Mapping[str, Topic]) -> Row:
    """A topic, but for its partitions: each that changed has a row of its own."""
    topic = topics.get(name)
    if topic is None:
        return ("topic", name)
    shared = [
        (group, one.id, one.kind, sorted(one.settings.items()), one.start, one.revision,
         one.dead_topic)
        for group, one in sorted(topic.shared.items())
    ]  # fmt: skip
    return ("topic", name, topic.id, topic.kind, topic.replication, sorted(topic.settings.items()),
            len(topic.partitions), topic.revision, topic.created_us, topic.delayed,
            topic.origin or (), shared)  # fmt: skip
