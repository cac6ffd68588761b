"""Answers requests by the replies of the ops that they led to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from penstock.errors import PenstockError, from_wire
from penstock_broker.machine.commands import Refused
from penstock_broker.machine.sharing.replies import OpReply

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.pending import Request

_R = TypeVar("_R")


def when_settled(
    node: Node, request: Request, kind: type[_R], answer: Callable[[_R], None]
) -> Callable[[OpReply | PenstockError], None]:
    """What to hand to `SharedPartition.offer`: calls `answer` with a reply of the kind expected.

    A refusal, or an outcome that is not known, answers the request as an error.
    """

    def done(reply: OpReply | PenstockError) -> None:
        if isinstance(reply, kind):
            answer(reply)
            return
        if isinstance(reply, Refused):
            reply = from_wire(reply.code, reply.message, reply.detail)
        assert isinstance(reply, PenstockError), f"{type(reply)} is no reply to this op"
        node.reply_error(request.session, request.correlation, request.type, reply)

    return done
