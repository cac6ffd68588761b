"""Settle frames: verdicts about records, answered when they are durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import PenstockError, from_wire
from penstock.protocol.leases import SETTLE, Settled, Verdict, read_settle, settle_reply
from penstock_broker.machine.commands import Refused
from penstock_broker.machine.sharing import replies
from penstock_broker.machine.sharing.ops import Settle
from penstock_broker.node.sharing.acquire import attachment_of
from penstock_broker.node.sharing.spans import flat, merged

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.dispatch import Dispatcher
    from penstock_broker.node.sharing.members import Attachment


class Settling:
    """One settle frame whose ops are under way; answered when the last of them is applied."""

    __slots__ = ("_accepted", "_correlation", "_dispatcher", "_duplicates", "_error", "_late",
                 "_lost", "_open", "_session", "_size")  # fmt: skip

    def __init__(
        self, dispatcher: Dispatcher, session: Session, correlation: int, size: int, ops: int
    ) -> None:
        self._dispatcher = dispatcher
        self._session = session
        self._correlation = correlation
        self._size = size
        self._open = ops
        self._accepted = self._late = self._duplicates = 0
        self._lost: list[int] = []
        self._error: PenstockError | None = None
        session.unanswered_bytes += size

    def done(self, reply: replies.OpReply | PenstockError) -> None:
        """One of the ops was applied, or its outcome is unknown."""
        self._open -= 1
        if isinstance(reply, replies.Settled):
            self._accepted += reply.accepted
            self._late += reply.late
            self._duplicates += reply.duplicates
            self._lost += reply.lost
        elif isinstance(reply, Refused):
            self._error = from_wire(reply.code, reply.message, reply.detail)
        elif isinstance(reply, PenstockError):
            self._error = reply
        if not self._open:
            self._answer()

    def _answer(self) -> None:
        session, partition = self._session, self._dispatcher.shared.partition
        session.unanswered_bytes -= self._size
        if self._error is not None:
            partition.node.reply_error(session, self._correlation, SETTLE, self._error)
            return
        settled = Settled(self._accepted, self._late, self._duplicates, self._lost)
        partition.node.emit(session, settle_reply(self._correlation, partition.gid, settled))


def handle(
    node: Node,
    session: Session,
    buffer: memoryview,
    start: int,
    end: int,
    correlation: int,
    gid: int,
) -> None:
    """Propose what a settle frame says; the answer leaves when it is applied."""
    try:
        number, verdicts = read_settle(buffer, start, end)
        attachment = attachment_of(node, session, number, gid)
        _settle(attachment, correlation, verdicts, end - start)
    except PenstockError as error:
        node.reply_error(session, correlation, SETTLE, error)


def _settle(attachment: Attachment, correlation: int, verdicts: list[Verdict], size: int) -> None:
    dispatcher, member = attachment.dispatcher, attachment.member.name
    ops = ops_of(dispatcher.group.name, member, verdicts)
    settling = Settling(dispatcher, attachment.session, correlation, size, len(ops))
    weight = size // len(ops) + 1
    for op in ops:
        dispatcher.settle(op, settling.done, weight)


def ops_of(group: str, member: str, verdicts: list[Verdict]) -> list[Settle]:
    """Ops for verdicts, one for those that say the same about one lease."""
    alike: dict[tuple[int, int, int, str, str], list[tuple[int, int]]] = {}
    for said in verdicts:
        key = (said.lease, said.verdict, said.ready_at_us, said.reason, said.error)
        alike.setdefault(key, []).append((said.first, said.count))
    return [
        Settle(group, lease, verdict, flat(merged(sorted(spans))), ready_us, reason, error, member)
        for (lease, verdict, ready_us, reason, error), spans in alike.items()
    ]
