"""Figures about this broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.protocol import messages

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session


def broker_status(
    node: Node, session: Session, correlation: int, asked: messages.BrokerStatus
) -> None:
    """Everything that is counted, by name."""
    del asked
    figures: dict[str, object] = {
        "connections": len(node.sessions),
        "groups": len(node.groups),
        "partitions": len(node.partitions),
        "uncommitted_bytes": node.uncommitted_bytes,
        "pending_requests": len(node.pending),
        **_of_the_cluster(node),
        **node.store.statistics(),
        **node.shell_figures(),
    }
    node.reply(
        session,
        correlation,
        messages.BrokerStatusReply(node=node.node_id, version=node.config.version, figures=figures),
    )


def _of_the_cluster(node: Node) -> dict[str, object]:
    """How group 0 is made up, as this broker knows it."""
    if not node.membership.started:
        return {"metadata_voters": 0, "metadata_learners": 0}
    configuration = node.groups.metadata.raft.configuration
    links = node.peers.figures()
    return {
        "metadata_voters": len(configuration.voters),
        "metadata_learners": len(configuration.learners),
        **({"peers": links} if links else {}),
    }
