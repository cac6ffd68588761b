"""What a node waits for: when the next thing is due, and which requests wait for something else.

Tests need to know, which move time from one due moment to the next; the runtime asks for shared
groups alone. Nothing is kept for them: everything is looked through when they ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.sharing.shared import SharedPartition

STRICTLY_LATER: Final = 0.001
"""Added where a deadline must have passed, not only be reached."""
LOOKED_AT_MAX: Final = 200
"""Partitions with shared groups that the runtime looks at after each tick: with more of them it
would take longer than what is due sooner may be late."""


def seconds_to_next(node: Node) -> float:
    """Seconds of the node's clock until something happens by itself; infinity: nothing will."""
    return min(_moments(node), default=inf) - node.clock


def seconds_to_shared(node: Node) -> float:
    """Seconds until a shared group has something to do that it has not now; infinity: nothing.

    What is due already was looked at, and goes on at the usual rhythm, as all does where very many
    partitions have such groups.
    """
    if len(node.sharing) > LOOKED_AT_MAX:
        return inf
    now_us = node.wall_us
    times = [at_us for each in node.sharing.values() for at_us in _times(each) if at_us > now_us]
    return (min(times) - now_us) / 1_000_000 if times else inf


def waiting(node: Node) -> dict[str, set[int]]:
    """Client address -> correlation ids of its requests that wait for something to happen."""
    found = {}
    for session in node.sessions.values():
        calls = {poll.fetch.correlation for poll in session.polls}
        found[session.peer] = calls | {asked.correlation for asked in session.acquires}
    return found


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
        for asked in session.acquires:
            yield asked.deadline
    for coordinator in node.groups.coordinators.values():
        for timer in coordinator.timers.values():
            yield timer.last_seen + timer.timeout + STRICTLY_LATER
    for shared in node.sharing.values():
        for at_us in _times(shared):
            yield node.clock + (at_us - node.wall_us) / 1_000_000


def _times(shared: SharedPartition) -> Iterator[int]:
    """Wall-clock times when a partition's shared groups have something to do."""
    for part in shared.parts:
        if (at_us := part.next_us) is not None:
            yield at_us
    for dispatcher in shared.dispatchers.values():
        if (at_us := dispatcher.next_us) is not None:
            yield at_us - shared.ahead_us
