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
        **node.store.statistics(),
        **node.shell_figures(),
    }
    node.reply(
        session,
        correlation,
        messages.BrokerStatusReply(node=node.node_id, version=node.config.version, figures=figures),
    )
