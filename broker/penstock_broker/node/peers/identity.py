"""Who this node is towards the others: what it says in its hellos, and whom it takes for a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import WrongCluster
from penstock_broker.node.peers import hello
from penstock_broker.node.peers.hello import PeerHello, PeerHelloReply
from penstock_broker.node.peers.marks import Marks

if TYPE_CHECKING:
    from penstock_broker.node.node import Node


class Identity:
    """This node, as it introduces itself.

    Attributes:
        gone: ids of nodes that were removed or replaced: they never come back.
    """

    def __init__(self, node: Node, marks: Marks) -> None:
        self._node = node
        self._marks = marks
        self.gone: frozenset[int] = frozenset()

    @property
    def cluster(self) -> str:
        """The cluster that this node belongs to, whether or not it knows the metadata yet."""
        identity = self._node.store.identity
        return self._node.groups.cluster_id or (identity.cluster if identity is not None else "")

    @property
    def _uuid(self) -> str:
        return self._node.store.node_uuid.hex()

    def hello(self, channel: int, to: int) -> PeerHello:
        """What is said first on a connection, to a node or (0) to whoever is there."""
        config = self._node.config
        return PeerHello(
            magic=hello.MAGIC,
            version_min=hello.VERSION_MIN,
            version_max=hello.VERSION_MAX,
            cluster=self.cluster,
            uuid=self._uuid,
            node=self._node.node_id,
            address=config.address,
            host=config.host,
            channel=channel,
            to_node=to,
            life=self._marks.life,
            opened=self._marks.opened,
            marks=self._marks.told(),
        )

    def answer(self, version: int) -> PeerHelloReply:
        """What a node is told that is welcome."""
        config = self._node.config
        return PeerHelloReply(
            version=version,
            cluster=self.cluster,
            uuid=self._uuid,
            node=self._node.node_id,
            address=config.address,
            host=config.host,
        )

    def check(self, said: PeerHello | PeerHelloReply) -> None:
        """Let a node through that can be a peer.

        Raises:
            WrongCluster: it can't.
        """
        error = hello.refusal(said, cluster=self.cluster, uuid=self._uuid, node=self._node.node_id)
        if error is not None:
            raise error
        if said.node in self.gone:
            raise WrongCluster(f"node {said.node} was removed from the cluster", gone=said.node)

    def check_meant(self, to: int) -> None:
        """Let a hello through that means this node, or (0) whoever is there.

        Raises:
            WrongCluster: it means another one.
        """
        here = self._node.node_id
        if not here:
            raise WrongCluster("here is a node that belongs to no cluster yet")
        if to not in (0, here):
            raise WrongCluster(f"here is node {here}, not node {to}")
