"""Keeps a partition's shared groups in step with their definitions in the metadata.

Metadata names the groups of a topic; each partition's leader takes them over into the partition's
own log, at once when they change and again whenever it gains the lead. Nothing is compared but
revisions, so doing it twice does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock_broker.machine.commands import ConfigureShared, RemoveShared, encode_command
from penstock_broker.machine.sharing.state import TIMER
from penstock_broker.machine.topology import SharedDefinition, Topic
from penstock_broker.node import offset_requests

if TYPE_CHECKING:
    from penstock_broker.node.sharing.shared import SharedPartition


class Configuring:
    """The definitions that were proposed to one partition, and who waits for them."""

    __slots__ = ("_proposed", "_shared", "_waiting")

    def __init__(self, shared: SharedPartition) -> None:
        self._shared = shared
        self._proposed: dict[str, int] = {}
        """Group -> revision under way; 0: its removal."""
        self._waiting: list[tuple[str, int, Callable[[], None]]] = []

    def reconcile(self) -> None:
        """Propose what differs from the metadata."""
        partition = self._shared.partition
        topic = partition.node.groups.metadata.machine.topics.get(partition.topic)
        if topic is None or not partition.leading:
            return
        known = partition.machine.sharing.groups
        for name, definition in topic.shared.items():
            group = known.get(name)
            revision = self._proposed.get(name, group.revision if group is not None else -1)
            if revision < definition.revision:
                self._propose(topic, name, definition)
        # After a start this partition may lead before the metadata is as far as it once was: only
        # metadata that has seen the definition and lacks it says that the group was deleted.
        seen = partition.node.groups.metadata_index
        for name, group in known.items():
            gone = name not in topic.shared and group.revision <= seen
            if gone and self._proposed.get(name) != 0:
                self._proposed[name] = 0
                partition.propose_command(encode_command(RemoveShared(group=name)))

    def _propose(self, topic: Topic, name: str, definition: SharedDefinition) -> None:
        partition = self._shared.partition
        start = 0
        known = partition.machine.sharing.groups.get(name)
        if known is None or known.id != definition.id:
            start = offset_requests.resolve(partition, definition.start)
        topics = partition.node.groups.metadata.machine.topics
        dead = topics.get(definition.dead_topic)
        places = dead.partitions if dead is not None else []
        number = partition.partition
        dead_gid = places[number].group if number < len(places) else 0
        command = ConfigureShared(
            group=name,
            revision=definition.revision,
            settings=definition.settings,
            start_offset=start,
            dead=partition.gid if definition.kind == TIMER else dead_gid,
            kind=definition.kind,
            id=definition.id,
        )
        self._proposed[name] = definition.revision
        partition.propose_command(encode_command(command))

    def when_configured(self, name: str, revision: int, finish: Callable[[], None]) -> None:
        """Call `finish` when the partition has this revision, or is not led from here any more."""
        if self._has(name, revision):
            finish()
        else:
            self._waiting.append((name, revision, finish))

    def _has(self, name: str, revision: int) -> bool:
        partition = self._shared.partition
        group = partition.machine.sharing.groups.get(name)
        return not partition.leading or (group is not None and group.revision >= revision)

    def changed(self, name: str) -> None:
        """A group of this partition was configured or removed."""
        group = self._shared.partition.machine.sharing.groups.get(name)
        revision = group.revision if group is not None else 0
        if self._proposed.get(name) == revision:
            del self._proposed[name]
        ready = [item for item in self._waiting if self._has(item[0], item[1])]
        self._waiting = [item for item in self._waiting if item not in ready]
        for _, _, finish in ready:
            finish()

    def end(self) -> None:
        """The lead is lost: nobody is kept waiting."""
        self._proposed.clear()
        waiting, self._waiting = self._waiting, []
        for _, _, finish in waiting:
            finish()
