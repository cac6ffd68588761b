"""Settle frames: verdicts about records, answered when they are durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import PenstockError, from_wire
from penstock.protocol.leases import NACK, SETTLE, Settled, Verdict, read_settle, settle_reply
from penstock_broker.machine.commands import Refused
from penstock_broker.machine.sharing import replies
from penstock_broker.machine.sharing.ops import Settle
from penstock_broker.node.sharing.acquire import attachment_of

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.dispatch import Dispatcher
    from penstock_broker.node.sharing.members import Attachment

_Said = tuple[int, int, int]
"""First offset, count, and when these may be retried."""


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
    """Ops for verdicts, one for those that say the same about one lease.

    Nacks may differ in their times; only what is said twice of a record needs an op of its own.
    """
    alike: dict[tuple[int, int, str, str], list[_Said]] = {}
    for said in verdicts:
        key = (said.lease, said.verdict, said.reason, said.error)
        at_us = said.ready_at_us if said.verdict == NACK else 0
        alike.setdefault(key, []).append((said.first, said.count, at_us))
    ops: list[Settle] = []
    for (lease, verdict, reason, error), runs in alike.items():
        while runs:
            spans, times, runs = _ascending(sorted(runs))
            one = len(set(times)) == 1
            at_us, times = (times[0], []) if one else (0, times)
            ops.append(Settle(group, lease, verdict, spans, at_us, reason, error, member, times))
    return ops


def _ascending(runs: list[_Said]) -> tuple[list[int], list[int], list[_Said]]:
    """Spans and their times from sorted runs, and the runs that overlap them at another time."""
    spans: list[int] = []
    times: list[int] = []
    left: list[_Said] = []
    end = -1
    for run in runs:
        first, count, at_us = run
        if times and at_us == times[-1] and first <= end:
            end = max(end, first + count)
            spans[-1] = end - spans[-2]
        elif first < end:
            left.append(run)
        else:
            spans += (first, count)
            times.append(at_us)
            end = first + count
    return spans, times, left
