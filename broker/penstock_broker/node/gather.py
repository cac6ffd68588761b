"""Questions to several nodes at once, for a request about more than one of them leads.

Each is asked once, this node too; when the last has answered, or was given up, the replies are put
together. Invariant: the request is answered exactly once, also if putting together fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from penstock.errors import LeaderUnknown, PenstockError
from penstock.protocol.messages import Message
from penstock_broker.node import questions
from penstock_broker.node.pending import Request
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

Replies = Mapping[int, object]
"""Node -> its reply, or the error instead of it."""


def gather(
    node: Node,
    request: Request,
    asked: Mapping[int, Message],
    finish: Callable[[Replies], None],
) -> None:
    """Ask nodes, and call `finish` with what they said; an error that it raises answers.

    If nobody is asked it is called at once, and what it raises comes through.
    """
    nodes = list(asked)
    gather_all(
        node,
        request,
        list(asked.items()),
        lambda replies: finish(dict(zip(nodes, replies, strict=True))),
    )


def gather_all(
    node: Node,
    request: Request,
    asked: Sequence[tuple[int, Message]],
    finish: Callable[[list[object]], None],
) -> None:
    """As `gather`, of any number of questions to each node; the replies are in their order."""
    replies: list[object] = [None] * len(asked)
    missing = [len(asked)]

    def replied(place: int, reply: object) -> None:
        replies[place] = reply
        missing[0] -= 1
        if not missing[0]:
            try:
                finish(replies)
            except PenstockError as error:
                node.reply_error(request.session, request.correlation, request.type, error)

    if not asked:
        finish(replies)
    for place, (to, message) in enumerate(asked):
        node.ask(to, message, partial(replied, place))


def raise_first(replies: Replies) -> None:
    """Let no error pass.

    Raises:
        PenstockError: the first one in the replies, by node.
    """
    for _, reply in sorted(replies.items()):
        if isinstance(reply, PenstockError):
            raise reply


def by_leader(node: Node, gids: Iterable[int]) -> dict[int, list[int]]:
    """The groups by the node that leads each; those without a leader are under `NOBODY`."""
    found: dict[int, list[int]] = {}
    for gid in gids:
        found.setdefault(node.groups.leader_of(gid)[1], []).append(gid)
    return found


def all_led(node: Node, gids: Iterable[int]) -> dict[int, list[int]]:
    """As `by_leader`.

    Raises:
        LeaderUnknown: one of them has no leader.
    """
    found = by_leader(node, gids)
    if NOBODY in found:
        raise LeaderUnknown(f"{len(found[NOBODY])} of the partitions have no leader at the moment")
    return found


def led_here(node: Node, gids: Iterable[int]) -> bool:
    """Whether nobody else has to be asked."""
    return all((group := node.groups.get(gid)) is not None and group.leading for gid in gids)


def alone(node: Node, gids: Iterable[int]) -> bool:
    """Whether nobody else could lead these groups, which are led here."""
    return not any((group := node.groups.get(gid)) is not None and group.raft.peers for gid in gids)


def other_leaders(node: Node, gids: Iterable[int]) -> list[int]:
    """The other nodes that lead some of these groups, as far as they are heard of."""
    others = by_leader(node, gids).keys() - {NOBODY, node.node_id}
    return sorted(filter(node.peers.alive, others))


def unled(node: Node, gids: Iterable[int]) -> set[int]:
    """The groups that nobody can tell of now: without a leader, or with one not heard of."""
    return {
        gid
        for leader, some in by_leader(node, gids).items()
        if leader == NOBODY or not (leader == node.node_id or node.peers.alive(leader))
        for gid in some
    }


def log_ends(
    node: Node,
    request: Request,
    gids: Iterable[int],
    finish: Callable[[Mapping[int, list[int]]], None],
    strict: bool = False,
) -> None:
    """Where logs start and end, wherever they are led.

    Args:
        node: this node.
        request: answered by errors.
        gids: the partitions.
        finish: gets group -> [start, end]; called at once if nobody else has to be asked.
        strict: whether only leaders will do, and they must make sure that they are it; else what is
            known here is given of those that are out of reach.

    Raises:
        LeaderUnknown: it is strict, and one of them has no leader.
    """
    wanted = set(gids)
    ends: dict[int, list[int]] = {}
    for gid in wanted:
        partition = node.partitions.get(gid)
        if partition is not None:
            ends[gid] = [partition.log.start_offset, partition.log.end_offset]
    leaders = all_led(node, wanted) if strict else by_leader(node, wanted)

    def gathered(replies: Replies) -> None:
        if strict:
            raise_first(replies)
        for reply in replies.values():
            if isinstance(reply, questions.LogEndsReply):
                ends.update(reply.ends)
        finish(ends)

    asked = {
        to: questions.LogEnds(groups=sorted(some), certain=strict)
        for to, some in leaders.items()
        if to != NOBODY
        and (strict or node.peers.alive(to))
        and (to != node.node_id or (strict and not alone(node, some)))
    }
    gather(node, request, asked, gathered)
