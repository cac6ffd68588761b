"""A coordinator of ordered groups on this broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.machine.effects import TopicRevised
from penstock_broker.node.group import Group

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.raft import Entry, Raft


class CoordinatorGroup(Group):
    def __init__(self, node: Node, gid: int, raft: Raft, state: bytes | None) -> None:
        super().__init__(node, gid, raft)

    def topic_revised(self, effect: TopicRevised) -> None: ...
    def expire_members(self) -> None: ...
    def apply(self, entry: Entry) -> None: ...
    def machine_state(self) -> bytes:
        return b""
