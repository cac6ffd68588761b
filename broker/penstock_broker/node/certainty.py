"""A definite "no" is told only by who is certain of it.

A broker that others have replaced without its noticing, or that is behind, may lack what was
created, joined or appended since: what it refuses for good, the next one would do. So before such a
refusal leaves, the lead of what the request is about is proved by a round of heartbeats, the
metadata here is brought up to date, and the request is handled once more. A broker that is alone
with its groups is certain at once. Invariant: a request is handled twice at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    Fenced,
    GroupExists,
    GroupNotEmpty,
    GroupNotFound,
    MemberUnknown,
    OffsetOutOfRange,
    PartitionNotFound,
    PenstockError,
    PreconditionFailed,
    ScheduleNotFound,
    TopicExists,
    TopicNotFound,
)
from penstock.protocol.messages import Message
from penstock_broker.node.routing import grounds

if TYPE_CHECKING:
    from penstock_broker.node.group import Group
    from penstock_broker.node.node import Node

NAMES: Final = (TopicNotFound, PartitionNotFound, GroupNotFound)
"""What a node may say only if its metadata is up to date."""
DEFINITE: Final = (
    *NAMES,
    OffsetOutOfRange,
    MemberUnknown,
    Fenced,
    ScheduleNotFound,
    GroupNotEmpty,
    GroupExists,
    TopicExists,
    PreconditionFailed,
)
"""What only a leader may say, and only if nobody has taken its place."""

GoOn = Callable[[PenstockError | None], None]


def make_sure(node: Node, asked: Message, error: PenstockError, go_on: GoOn) -> bool:
    """Call `go_on` when this node knows all that was decided before this call.

    It gets the error if that can't be: another broker leads, or too many wait for certainty.

    Returns:
        False: it does already, and `go_on` is not called.
    """
    led = _contested(node, asked)

    def prove(failure: PenstockError | None) -> None:
        try:
            if failure is not None:
                raise failure
            read_all(led, go_on)
        except PenstockError as refusal:
            go_on(refusal)

    try:
        if isinstance(error, NAMES) and node.asking.refresh(prove):
            return True
    except PenstockError as refusal:
        go_on(refusal)
        return True
    if led:
        prove(None)
    return bool(led)


def _contested(node: Node, asked: Message) -> list[Group]:
    """Of what the request is about, the groups that this node leads and others might lead."""
    groups = (node.groups.get(gid) for gid in sorted(grounds(node, asked)))
    return [g for g in groups if g is not None and g.leading and g.raft.peers]


def read_all(groups: Sequence[Group], done: GoOn) -> None:
    """Call `done` when all that was decided before now is applied in each of these groups.

    Raises:
        NotLeader, Throttled: one of them can't be read; `done` is not called.
    """
    waiting = len(groups)
    error: PenstockError | None = None

    def one(failure: PenstockError | None) -> None:
        nonlocal waiting, error
        waiting -= 1
        error = error or failure
        if not waiting:
            done(error)

    for group in groups:
        group.read(one)
    if not groups:
        done(None)
