"""One replica that copies the records it lacks from its leader's log, before it takes a snapshot.

What is copied is committed, so it may stay whatever happens; a stop in the middle loses nothing but
time. A replica whose end was trimmed away at the leader begins anew where the leader's log starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.node.restart import unpack_blob
from penstock_broker.raft import InstallSnapshot

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.partition import PartitionGroup


class Pull:
    """The way of one replica to one cut of its leader."""

    def __init__(self, node: Node, partition: PartitionGroup) -> None:
        self._node = node
        self._partition = partition

    def aim(self, message: InstallSnapshot) -> None:
        """Copy up to this cut; a newer one takes the place of one before."""
        machine = PartitionMachine()
        assert isinstance(message.snapshot.data, bytes), "what arrived over the network"
        machine.restore(unpack_blob(message.snapshot.data)[1])

    def tick(self) -> None:
        """Let time pass."""
