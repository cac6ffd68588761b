"""What a node waits for: when the next thing is due, and which requests wait for something else.

Only tests need to know, which move time from one due moment to the next. Nothing is kept for them:
everything is looked through when they ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

STRICTLY_LATER: Final = 0.001
"""Added where a deadline must have passed, not only be reached."""


def seconds_to_next(node: Node) -> float:
    """Seconds of the node's clock until something happens by itself; infinity: nothing will."""
    return min(_moments(node), default=inf) - node.clock


def waiting(node: Node) -> dict[str, set[int]]:
    """Client address -> correlation ids of its requests that wait for something to happen."""
    return {
        session.peer: {poll.fetch.correlation for poll in session.polls}
        for session in node.sessions.values()
    }


def look_now(node: Node, *, thorough: bool) -> None:
    """Have the next tick look at all deadlines; if thorough also at what has no exact moment."""
    node.housekeeping_at = 0.0
    if thorough:
        for partition in node.partitions.values():
            partition.retention_at = 0.0
        for coordinator in node.groups.coordinators.values():
            coordinator.look_soon()


def _moments(node: Node) -> Iterator[float]:
    for session in node.sessions.values():
        for poll in session.polls:
            yield poll.fetch.deadline
    for coordinator in node.groups.coordinators.values():
        for timer in coordinator.timers.values():
            yield timer.last_seen + timer.timeout + STRICTLY_LATER
