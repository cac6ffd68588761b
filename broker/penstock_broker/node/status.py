"""Figures about this broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.protocol import messages

QUARANTINED_MAX: Final = 1000
"""So many replicas are listed."""

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
    if quarantined := _quarantined(node):
        figures["quarantine"] = quarantined
    node.reply(
        session,
        correlation,
        messages.BrokerStatusReply(node=node.node_id, version=node.config.version, figures=figures),
    )


def _quarantined(node: Node) -> list[dict[str, object]]:
    """Replicas that were dropped and are still on the disk, oldest first."""
    found: list[dict[str, object]] = []
    keep_us = node.store.config.quarantine_seconds * 1_000_000
    for one in node.store.quarantined()[:QUARANTINED_MAX]:
        place = node.groups.metadata.machine.locate(one.gid)
        found.append(
            {
                "topic": place[0].name if place is not None else "",
                "partition": place[1] if place is not None else 0,
                "group": one.gid,
                "dropped_at_us": one.at_us,
                "until_us": one.at_us + keep_us,
                "bytes": one.bytes,
                "path": one.path,
            }
        )
    return found


def _of_catching_up(node: Node) -> dict[str, int]:
    """What replicas here have copied, what those elsewhere have, and how fast they may."""
    source = node.catchup.source
    return {
        "copied_bytes": node.catchup.copied_bytes,
        "served_bytes": source.copied_bytes,
        "copy_pace_bytes": int(source.pace.rate),
    }


def _of_the_cluster(node: Node) -> dict[str, object]:
    """How group 0 is made up, as this broker knows it."""
    if not node.membership.started:
        return {"metadata_voters": 0, "metadata_learners": 0}
    configuration = node.groups.metadata.raft.configuration
    links = node.peers.figures()
    return {
        "metadata_voters": len(configuration.voters),
        "metadata_learners": len(configuration.learners),
        **({"peers": links, **_of_catching_up(node)} if links else {}),
    }
