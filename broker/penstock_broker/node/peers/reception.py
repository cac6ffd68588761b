"""What arrives from peers, by type of frame: decoded, checked, and handed to the groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from penstock_broker.node.peers.appends import unpack_appends
from penstock_broker.node.peers.frames import (
    ANSWERS,
    APPENDS,
    HEARTBEAT_ACKS,
    HEARTBEATS,
    LEADS,
    SNAPSHOT,
    VOTES,
)
from penstock_broker.node.peers.messages import unpack_answers, unpack_votes
from penstock_broker.node.peers.snapshots import Assembly, unpack_piece
from penstock_broker.raft import Message

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.peers.heartbeats import Rounds
    from penstock_broker.node.peers.leads import Leads

Receiver = Callable[[int, memoryview, int, int, bool], None]
"""Takes (sender, buffer, start, end, owned) of a frame; raises RemoteProtocolError if it is bad."""


class Reception:
    """Takes each type of frame; `receivers` says which method takes which."""

    def __init__(self, node: Node, rounds: Rounds, leads: Leads) -> None:
        self._node = node
        self._rounds = rounds
        self._leads = leads
        self._assembly = Assembly()

    def receivers(self) -> dict[int, Receiver]:
        """By type of frame."""
        return {
            APPENDS: self._on_appends,
            ANSWERS: self._on_answers,
            VOTES: self._on_votes,
            SNAPSHOT: self._on_snapshot,
            HEARTBEATS: self._on_heartbeats,
            HEARTBEAT_ACKS: self._on_heartbeat_acks,
            LEADS: self._on_leads,
        }

    def forget(self, node_id: int) -> None:
        """A node's process is gone, and what it had begun to say."""
        self._assembly.forget(node_id)

    def _give(self, messages: Sequence[tuple[int, Message]]) -> None:
        take = self._node.groups.peer_message
        for gid, message in messages:
            take(gid, message)

    def _on_appends(
        self, sender: int, buffer: memoryview, start: int, end: int, owned: bool
    ) -> None:
        self._give(unpack_appends(buffer, start, end, owned, sender, self._node.node_id))

    def _on_answers(self, sender: int, buffer: memoryview, start: int, end: int, _: bool) -> None:
        self._give(unpack_answers(buffer, start, end, sender, self._node.node_id))

    def _on_votes(self, sender: int, buffer: memoryview, start: int, end: int, _: bool) -> None:
        self._give(unpack_votes(buffer, start, end, sender, self._node.node_id))

    def _on_snapshot(self, sender: int, buffer: memoryview, start: int, end: int, _: bool) -> None:
        piece = unpack_piece(buffer, start, end, sender, self._node.node_id)
        message = self._assembly.add(piece)
        if message is not None:
            self._give([(piece.gid, message)])

    def _on_heartbeats(
        self, sender: int, buffer: memoryview, start: int, end: int, _: bool
    ) -> None:
        self._rounds.heard(self._node.peers.all()[sender], buffer, start, end)

    def _on_heartbeat_acks(
        self, sender: int, buffer: memoryview, start: int, end: int, _: bool
    ) -> None:
        self._rounds.answered(self._node.peers.all()[sender], buffer, start, end)

    def _on_leads(self, sender: int, buffer: memoryview, start: int, end: int, _: bool) -> None:
        for gid in self._leads.heard(sender, buffer, start, end):
            self._node.pending.group_ready(gid)
