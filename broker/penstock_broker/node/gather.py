"""Questions to several nodes at once, for a request about more than one of them leads.

Each is asked once, this node too; when the last has answered, or was given up, the replies are put
together. Invariant: the request is answered exactly once, also if putting together fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    """Ask nodes, and call `finish` with what they said; an error that it raises answers."""
    replies: dict[int, object] = {}

    def done() -> None:
        try:
            finish(replies)
        except PenstockError as error:
            node.reply_error(request.session, request.correlation, request.type, error)

    def replied(to: int, reply: object) -> None:
        replies[to] = reply
        if len(replies) == len(asked):
            done()

    if not asked:
        done()
    for to, message in asked.items():
        node.relay.ask(to, message, lambda reply, to=to: replied(to, reply))  # type: ignore[misc]  # mypy infers no type for a lambda's default


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


def others(node: Node) -> list[int]:
    """All members of the cluster but this node."""
    members = node.groups.metadata.machine.members
    return [id_ for id_ in members if id_ != node.node_id]


def log_ends(
    node: Node,
    request: Request,
    gids: Iterable[int],
    finish: Callable[[Mapping[int, list[int]]], None],
) -> None:
    """Where logs start and end, wherever they are led; of those out of reach, what is known here.

    `finish` is called at once if nobody else has to be asked.
    """
    wanted = set(gids)
    ends: dict[int, list[int]] = {}
    for gid in wanted:
        partition = node.partitions.get(gid)
        if partition is not None:
            ends[gid] = [partition.log.start_offset, partition.log.end_offset]
    missing = [gid for gid in wanted if not led_here(node, [gid])]
    leaders = by_leader(node, missing)
    leaders.pop(NOBODY, None)
    leaders.pop(node.node_id, None)
    if not leaders:
        finish(ends)
        return

    def gathered(replies: Replies) -> None:
        for reply in replies.values():
            if isinstance(reply, questions.LogEndsReply):
                ends.update(reply.ends)
        finish(ends)

    asked = {to: questions.LogEnds(groups=sorted(some)) for to, some in leaders.items()}
    gather(node, request, asked, gathered)
