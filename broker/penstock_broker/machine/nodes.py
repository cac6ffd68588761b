"""The brokers of the cluster, as group 0 knows them.

Invariants: a node id is given once and bound to one data directory (its uuid) for ever; of the
nodes that are present no two have one address; who was removed never comes back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from penstock.errors import BadRequest, LimitExceeded, PreconditionFailed
from penstock_broker.machine.commands import RegisterNode
from penstock_broker.machine.effects import NodeChanged
from penstock_broker.machine.names import TEXT_LENGTH_MAX
from penstock_broker.machine.topology import (
    ACTIVE,
    DRAINING,
    REMOVED,
    REPLACED,
    NodeEntry,
)

NODES_MAX: Final = 1_000
"""Nodes of a cluster, and entries that are kept of nodes that are gone."""
_STATES: Final = (ACTIVE, DRAINING, REMOVED)


class NodeTable:
    """Nodes by id."""

    def __init__(self, next_id: int = 1, entries: Iterable[NodeEntry] = ()) -> None:
        self.next_id = next_id
        self._nodes = {entry.id: entry for entry in entries}

    @property
    def all(self) -> Mapping[int, NodeEntry]:
        """Everybody that is remembered."""
        return self._nodes

    @property
    def present(self) -> dict[int, NodeEntry]:
        """The members of the cluster: neither removed nor replaced."""
        return {node: entry for node, entry in self._nodes.items() if not entry.gone}

    @property
    def active(self) -> dict[int, NodeEntry]:
        """Those that take new replicas."""
        return {node: entry for node, entry in self._nodes.items() if entry.state == ACTIVE}

    @property
    def feature_max(self) -> int:
        """The highest feature level that every member knows."""
        return min((entry.feature_max for entry in self.present.values()), default=0)

    def check_texts(self, uuid: str, address: str, host: str) -> None:
        """Check what a node says of itself.

        Raises:
            BadRequest: something is empty or too long.
        """
        fits = 0 < len(uuid) <= TEXT_LENGTH_MAX and 0 < len(address) <= TEXT_LENGTH_MAX
        if not fits or len(host) > TEXT_LENGTH_MAX:
            raise BadRequest("an id, address or host is empty or too long")

    def check(self, command: RegisterNode, feature_level: int) -> NodeEntry | None:
        """Whether a node may be taken in; returns it as it is, if it is known.

        Raises:
            BadRequest, LimitExceeded, PreconditionFailed: it can't be a member.
        """
        self.check_texts(command.uuid, command.address, command.host)
        if command.feature_max < feature_level:
            raise PreconditionFailed(
                f"the cluster uses feature level {feature_level}, this broker knows "
                f"{command.feature_max}: upgrade it"
            )
        before = next((n for n in self._nodes.values() if n.uuid == command.uuid), None)
        if before is None and len(self.present) >= NODES_MAX:
            raise LimitExceeded(f"a cluster has at most {NODES_MAX} nodes")
        if before is not None and before.state == REMOVED:
            raise PreconditionFailed(
                f"node {before.id} was removed from the cluster: wipe its data to join again",
                node=before.id,
            )
        return before

    def register(
        self, command: RegisterNode, feature_level: int, revision: int
    ) -> tuple[int, list[NodeChanged]]:
        """Take in a node, or what a known one says anew; returns its id.

        Whoever had the address before is replaced: a wiped disk is a new node, and the old one
        won't be back under it.

        Raises:
            BadRequest, LimitExceeded, PreconditionFailed: it can't be a member.
        """
        before = self.check(command, feature_level)
        id_ = before.id if before else self.next_id
        state = DRAINING if before is not None and before.state == DRAINING else ACTIVE
        self.next_id = max(self.next_id, id_ + 1)
        effects = self._replace_at(command.address, id_)
        entry = NodeEntry(id_, command.uuid, command.address, command.host, revision, state,
                          command.feature_max)  # fmt: skip
        self._nodes[id_] = entry
        if before is None or replace(before, revision=revision) != entry:
            effects.append(NodeChanged(id_, command.address, state))
        return id_, effects

    def _replace_at(self, address: str, by: int) -> list[NodeChanged]:
        effects = []
        for entry in list(self.present.values()):
            if entry.address == address and entry.id != by:
                self._nodes[entry.id] = replace(entry, state=REPLACED)
                effects.append(NodeChanged(entry.id, address, REPLACED))
        return effects

    def check_state(self, id_: int, state: str) -> NodeEntry:
        """Whether a node may be put into a state; returns it as it is.

        Raises:
            BadRequest, PreconditionFailed: it may not.
        """
        entry = self._nodes.get(id_)
        if entry is None:
            raise PreconditionFailed(f"there is no node {id_}", node=id_)
        if state not in _STATES:
            raise BadRequest(f"a node is {', '.join(_STATES)}, not {state[:80]!r}")
        if entry.gone and state != REMOVED:
            raise PreconditionFailed(f"node {id_} is {entry.state}, which is final", node=id_)
        others = [node for node in self.active if node != id_]
        if state != ACTIVE and not others:
            raise PreconditionFailed(f"node {id_} is the last one that is active", node=id_)
        return entry

    def set_state(self, id_: int, state: str) -> list[NodeChanged]:
        """Put a node into a state that was checked."""
        entry = self._nodes[id_]
        if entry.state == state:
            return []
        self._nodes[id_] = replace(entry, state=state)
        return [NodeChanged(id_, entry.address, state)]

    @property
    def crowded(self) -> bool:
        """Whether too many that are gone are remembered."""
        return len(self._nodes) > 2 * NODES_MAX

    def forget(self, holding: Container[int]) -> None:
        """Forget the oldest of those that are gone and hold no replicas."""
        gone = [node for node, entry in self._nodes.items() if entry.gone and node not in holding]
        for node in sorted(gone)[: max(0, len(gone) - NODES_MAX)]:
            del self._nodes[node]
