"""Who votes in group 0: one, three or five nodes, on as many hosts as can be.

Three voters survive the loss of one, five of two; everybody else is a learner and has all of it
too. The number never falls because nodes are away, but from five to three when there are no more
than three: a smaller group must not be the answer to a loss (it would survive less of the next).
Choosing again among the same nodes chooses the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A member of the cluster."""

    node: int
    host: str
    live: bool
    """False: silent for so long that it counts as dead."""
    draining: bool = False


def choose_voters(
    candidates: Sequence[Candidate], current: Collection[int], leader: int
) -> tuple[int, ...]:
    """The nodes that should vote, ascending.

    Args:
        candidates: all members of the cluster.
        current: who votes now; a change costs something.
        leader: who leads now; it stays if it may.
    """
    usable = [c for c in candidates if c.live or c.node in current]
    size = _size(len(candidates), sum(c.live for c in candidates))
    while size > len(usable):
        size -= 2
    hosts: dict[str, int] = {}
    chosen: list[int] = []
    for _ in range(size):
        best = min(
            (c for c in usable if c.node not in chosen),
            key=lambda c: (not c.live, c.draining, hosts.get(c.host, 0), c.node != leader,
                           c.node not in current, c.node),
        )  # fmt: skip
        hosts[best.host] = hosts.get(best.host, 0) + 1
        chosen.append(best.node)
    return tuple(sorted(chosen))


def _size(nodes: int, live: int) -> int:
    if nodes >= 5 and live > 3:
        return 5
    return 3 if nodes >= 3 else 1
