"""The controller's step; see the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError
from penstock_broker.machine.commands import ChangeReplicas, encode_command
from penstock_broker.machine.metadata import GROUPS_REPLICATION_MAX
from penstock_broker.machine.moves import Place, Plan, Spot, Standing
from penstock_broker.machine.topology import DRAINING, KIND_GROUPS, NodeEntry
from penstock_broker.node.controller.leads import Leads
from penstock_broker.node.controller.liveness import Liveness
from penstock_broker.node.controller.voters import Candidate, choose_voters
from penstock_broker.node.reconfigure import caught_up

if TYPE_CHECKING:
    from penstock_broker.node.metadata import MetadataGroup
    from penstock_broker.node.node import Node

STEP_SECONDS: Final = 1.0
MOVING_STEP_SECONDS: Final = 0.25
"""While there are moves to be made."""


class Controller:
    """Watches who is alive, on every node; acts where group 0 is led."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.liveness = Liveness()
        self.leads = Leads(node)
        self._step_at = 0.0
        self._rested_at: tuple[int, Mapping[int, Spot]] | None = None
        """Metadata's index and the nodes for which there was nothing to do."""

    def tick(self) -> None:
        """A few times a second; costs nothing on a broker that is alone."""
        node, metadata = self._node, self._node.groups.metadata
        if len(metadata.machine.nodes) < 2:
            return
        members = metadata.machine.members
        self.liveness.look(members, self._is_alive, node.clock)
        self.leads.tick()
        if metadata.leading:
            self._choose_members(metadata)
            if node.clock >= self._step_at:
                moving = self._move_replicas(metadata)
                self._step_at = node.clock + (MOVING_STEP_SECONDS if moving else STEP_SECONDS)

    def _is_alive(self, node: int) -> bool:
        return node == self._node.node_id or self._node.peers.alive(node)

    def is_dead(self, node: int) -> bool:
        """Whether a node was silent for so long that it is to be replaced."""
        return self.liveness.silent(node, self._node.config.node_dead_after_ms / 1000)

    # ----- group 0

    def _choose_members(self, metadata: MetadataGroup) -> None:
        """Every member of the cluster takes part in group 0, some as voters."""
        raft = metadata.raft
        if raft.change_open:
            return
        members = metadata.machine.members
        current = raft.configuration
        candidates = [
            Candidate(n.id, n.host or f"node {n.id}", not self.is_dead(n.id), n.state == DRAINING)
            for n in members.values()
        ]
        wanted = choose_voters(candidates, current.voters, raft.id)
        new = [node for node in wanted if node not in current.voters]
        ready = all(self._is_alive(node) and caught_up(raft, node) for node in new)
        alive = sum(map(self._is_alive, wanted))
        voters = wanted if ready and alive * 2 > len(wanted) else current.voters
        learners = tuple(sorted(set(members) - set(voters)))
        if (voters, learners) != (current.voters, current.learners):
            try:
                metadata.change_members(voters, learners)
            except PenstockError:
                return  # too early: the next step looks again

    # ----- partitions

    def _move_replicas(self, metadata: MetadataGroup) -> bool:
        """Propose the best next moves; whether there were any."""
        machine = metadata.machine
        spots = {
            n.id: Spot(n.host or f"node {n.id}", self._standing(n)) for n in machine.nodes.values()
        }
        at = (metadata.applied_index, spots)
        if at == self._rested_at:
            return False
        places = self._places(metadata, spots)
        moves = Plan(spots, places, balancing=machine.balancing).next_moves()
        for move in moves:
            command = ChangeReplicas(
                group=move.group, replicas=move.replicas, expected=move.expected
            )
            self._node.pending.propose(metadata, encode_command(command), lambda _: None)
        self._rested_at = None if moves else at
        return bool(moves)

    def _standing(self, node: NodeEntry) -> Standing:
        if node.gone or self.is_dead(node.id):
            return Standing.LOST
        if node.state == DRAINING:
            return Standing.LEAVES
        takes = self.liveness.alive(node.id) and not self._node.refusing(node.id)
        return Standing.TAKES if takes else Standing.KEEPS

    @staticmethod
    def _places(metadata: MetadataGroup, spots: Mapping[int, Spot]) -> list[Place]:
        there = sum(spot.standing in (Standing.TAKES, Standing.KEEPS) for spot in spots.values())
        places = []
        for topic in metadata.machine.topics.values():
            wanted = topic.replication
            if topic.kind == KIND_GROUPS:  # grows with the cluster, and never becomes smaller
                most = max(len(partition.replicas) for partition in topic.partitions)
                wanted = max(most, min(there, GROUPS_REPLICATION_MAX))
            places += [
                Place(p.group, topic.name, tuple(p.replicas), tuple(p.members), p.moving,
                      wanted, p.revision)
                for p in topic.partitions
            ]  # fmt: skip
        return places
