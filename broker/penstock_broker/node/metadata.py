"""Group 0 on this broker: topics, nodes and where everything lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.machine.commands import (
    Founder,
    InitCluster,
    RegisterNode,
    decode_command,
    encode_command,
)
from penstock_broker.machine.effects import GroupCreated
from penstock_broker.machine.metadata import MetadataMachine, created
from penstock_broker.node.agreement import Past
from penstock_broker.node.group import Group

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.raft import Entry, Raft


class MetadataGroup(Group):
    """Feeds the metadata machine and carries its effects to the node."""

    __slots__ = ("_new_cluster", "_past", "machine")

    def __init__(self, node: Node, raft: Raft, state: bytes | None, new_cluster: str) -> None:
        super().__init__(node, 0, raft)
        self.machine = MetadataMachine(node.config.feature_max)
        if state is not None:
            self.machine.restore(state)
        self._past = Past(self.applied_index, self.machine.digest)
        self._new_cluster = new_cluster

    def on_leading(self) -> None:
        machine, node = self.machine, self.node
        uuid, config = node.store.node_uuid.hex(), node.config
        if not machine.cluster:
            founder = Founder(
                uuid=uuid,
                address=config.address,
                host=config.host,
                feature_max=config.feature_max,
            )
            command = InitCluster(
                cluster=self._new_cluster,
                founders=[founder],
                groups_topic_id=f"{node.rng.getrandbits(128):032x}",
            )
            self.propose_command(encode_command(command))
            return
        known = machine.nodes.get(node.node_id)
        told = None if known is None else (known.address, known.host, known.feature_max)
        if told != (config.address, config.host, config.feature_max):
            again = RegisterNode(
                uuid=uuid,
                address=config.address,
                host=config.host,
                feature_max=config.feature_max,
            )
            self.propose_command(encode_command(again))

    def apply(self, entry: Entry) -> None:
        body, at = self.command_of(entry)
        reply, effects = self.machine.apply(decode_command(body), at)
        self._past.note(entry.index, self.machine.digest)
        self.node.groups.carry_out(effects)
        self.node.pending.applied(0, entry.term, entry.index, reply)

    def machine_state(self) -> bytes:
        return self.machine.snapshot()

    def restore(self, state: bytes) -> None:
        self.machine.restore(state)
        self._past = Past(self.applied_index, self.machine.digest)
        self.node.groups.reconcile()

    def digest_at(self, index: int) -> int | None:
        """What was decided up to an entry, as a digest; None: not applied yet, or long ago."""
        return self._past.at(index) if index <= self.applied_index else None

    def creations(self) -> list[GroupCreated]:
        """Every partition in the machine's state, as the effect that made it."""
        return [
            created(topic, number, config)
            for topic in self.machine.topics.values()
            for config in (topic.config,)
            for number in range(len(topic.partitions))
        ]
