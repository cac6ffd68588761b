"""Control checkpoints: all machines cut at one instant, handed to the store.

A cut is taken between two rounds, so every machine's state is exactly its applied index. The store
decides when one is due (its WAL rotated) and makes it durable in a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_broker.node.node import Node


class Checkpoints:
    """Takes cuts when the store wants one, or when the broker stops."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._requested = False

    def request(self) -> None:
        """Have a checkpoint taken as soon as nothing is uncommitted."""
        self._requested = True

    @property
    def done(self) -> bool:
        """Whether the requested checkpoint is durable."""
        return not self._requested and self._node.store.idle

    def step(self) -> None:
        """Take a cut if one is due."""
        node = self._node
        due = node.store.checkpoint_due()
        if self._requested and not node.uncommitted_bytes and not due:
            due = node.store.request_checkpoint()
            self._requested = False
        if not due:
            return
        cut = []
        for gid in due:
            group = node.groups.get(gid)
            if group is not None:
                cut.append((gid, group.applied_index, group.applied_term, group.snapshot()))
        node.store.checkpoint(cut)
