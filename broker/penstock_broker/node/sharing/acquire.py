"""Acquire frames: from the request to the reply with leases and batches."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    LimitExceeded,
    MemberUnknown,
    OffsetOutOfRange,
    PenstockError,
    ShuttingDown,
)
from penstock.protocol.leases import (
    ACQUIRE,
    Acquired,
    Span,
    acquire_reply_head,
    read_acquire,
)
from penstock_broker.node.asking import elsewhere
from penstock_broker.node.fetches import WAIT_MS_MAX
from penstock_broker.node.sharing.reading import (
    Covered,
    SharedRead,
    cover_cold,
    cover_warm,
    is_warm,
)
from penstock_broker.node.sharing.spans import Spans, without
from penstock_broker.node.sharing.waiting import Asked
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from penstock.protocol.batch import Buffer
    from penstock_broker.machine.sharing.group import SharedGroup
    from penstock_broker.machine.sharing.trouble import Trouble
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session
    from penstock_broker.node.sharing.dispatch import Dispatcher
    from penstock_broker.node.sharing.members import Attachment

ACQUIRES_MAX: Final = 4_096
"""Acquires that one connection may have waiting."""
_MOST: Final = 0xFFFF


def attachment_of(node: Node, session: Session, handle: int, gid: int) -> Attachment:
    """The member that a frame names by its handle.

    Raises:
        TopicNotFound, NotLeader, LeaderUnknown, MemberUnknown: it is not attached (any more).
    """
    attachment = session.attachments.get(handle)
    partition = node.partitions.get(gid)
    if partition is None or not partition.leading:
        raise elsewhere(node, gid)
    if attachment is not None and attachment.gid == gid:
        return attachment
    raise MemberUnknown("attach to the group first; the handle is not known on this connection")


def handle(
    node: Node,
    session: Session,
    buffer: memoryview,
    start: int,
    end: int,
    correlation: int,
    gid: int,
) -> None:
    """Answer an acquire frame, now or later."""
    try:
        wanted = read_acquire(buffer, start, end)
        attachment = attachment_of(node, session, wanted.handle, gid)
        if node.draining:
            raise ShuttingDown()
        if len(session.acquires) >= ACQUIRES_MAX:
            raise LimitExceeded(f"a connection may have {ACQUIRES_MAX} waiting acquires")
        wait_ms = min(wanted.max_wait_ms, WAIT_MS_MAX)
        deadline = node.clock + wait_ms / 1000 if wait_ms else 0.0
        attachment.dispatcher.acquire(Asked(attachment, correlation, wanted, deadline))
    except PenstockError as error:
        node.reply_error(session, correlation, ACQUIRE, error)


def read(dispatcher: Dispatcher, asked: Asked, spans: Spans) -> None:
    """Find the batches of what was taken, and grant it; from a segment that may take a while."""
    partition = dispatcher.shared.partition
    log, max_bytes = partition.log, asked.max_bytes
    first = spans[0][0]
    if is_warm(log, first):
        _grant(dispatcher, asked, cover_warm(log, spans, max_bytes, asked.have))
        return
    try:
        found = log.read(first, max_bytes)
        assert isinstance(found, Cold), "what is not in the tail is in a segment"
    except PenstockError as error:
        _unreadable(dispatcher, asked, spans, error)
        return

    def finish(job: SharedRead, error: PenstockError | None) -> None:
        waited = dispatcher.reading.pop(asked, None) is not None
        if waited and not _is_gone(asked) and not dispatcher.grants(spans):
            # An ack that came late settled some of them while they were read: begin anew.
            dispatcher.put_back(asked.member, spans)
            dispatcher.acquire(asked.again())
        else:
            _finish_cold(dispatcher, asked, spans, job, error)

    job = SharedRead(asked.session, found, finish)
    data = found.file.try_pread(found.length, found.position)
    if data is None:
        dispatcher.reading[asked] = spans
        partition.node.start_read(job)
    else:
        job.data = data
        finish(job, None)


def _is_gone(asked: Asked) -> bool:
    """Whether the connection ended, or the member acquires over it no more."""
    session, attachment = asked.session, asked.attachment
    return session.closing or session.attachments.get(attachment.handle) is not attachment


def _finish_cold(
    dispatcher: Dispatcher,
    asked: Asked,
    spans: Spans,
    job: SharedRead,
    error: PenstockError | None,
) -> None:
    """Grant what a cold read brought, if there still is somebody to grant it to, and it may be."""
    if _is_gone(asked) or not dispatcher.may_grant:
        dispatcher.put_back(asked.member, spans)
        answer_empty(dispatcher, asked)
        dispatcher.pump()
        return
    log, first = dispatcher.shared.partition.log, spans[0][0]
    try:
        if error is not None:
            raise error
        run = log.finish_read(job.cold, job.data, first, asked.max_bytes)
    except PenstockError as failure:
        _unreadable(dispatcher, asked, spans, failure)
    else:
        _grant(dispatcher, asked, cover_cold(run, spans, asked.max_bytes, asked.have))
        dispatcher.pump()


def _unreadable(dispatcher: Dispatcher, asked: Asked, spans: Spans, error: PenstockError) -> None:
    """Answer with the error; the record at fault is left alone for a while, others go on."""
    if isinstance(error, OffsetOutOfRange):
        dispatcher.put_back(asked.member, spans)  # trimmed: the window says so from now on
    else:
        first, end = spans[0][0], error.detail.get("end_offset")
        bad = [(first, max(end - first, 1) if isinstance(end, int) else 1)]
        rest = without(spans, bad)
        dispatcher.set_aside(asked.member, without(spans, rest))
        dispatcher.put_back(asked.member, rest)
    refuse(dispatcher, asked, error)


def _grant(dispatcher: Dispatcher, asked: Asked, found: Covered) -> None:
    if not found.spans:
        dispatcher.put_back(asked.member, found.rest)
        answer_empty(dispatcher, asked)
        return
    lease, deadline_us = dispatcher.grant(asked, found)
    group, partition = dispatcher.group, dispatcher.shared.partition
    spans = told(group, found.spans)
    reply = Acquired(
        lease, deadline_us, partition.log.end_offset, group.settings.lease_ms, spans, b""
    )
    _reply(dispatcher, asked, reply, found.buffers)
    if partition.raft.peers:
        partition.node.granted.append((asked.session, partition))


def told(group: SharedGroup, spans: Spans) -> list[Span]:
    """Spans with the counters of their records, split where these differ."""
    troubles, found = group.troubles, []
    for first, count in spans:
        offsets = range(first, first + count)
        if not troubles or troubles.keys().isdisjoint(offsets):
            found.append(Span(first, count))
            continue
        for trouble, run in groupby(map(troubles.get, offsets)):
            length = sum(1 for _ in run)
            found.append(_span(first, length, trouble))
            first += length
    return found


def _span(first: int, count: int, trouble: Trouble | None) -> Span:
    if trouble is None:
        return Span(first, count)
    failed, timed_out = min(trouble.failed, _MOST), min(trouble.timed_out, _MOST)
    delivered, redrives = min(trouble.delivered + 1, _MOST), min(trouble.redrives, _MOST)
    return Span(first, count, delivered, failed, timed_out, redrives)


def _reply(dispatcher: Dispatcher, asked: Asked, reply: Acquired, buffers: list[Buffer]) -> None:
    session, partition = asked.session, dispatcher.shared.partition
    if session.closing:
        return
    size = sum(map(len, buffers))
    partition.node.emit(session, acquire_reply_head(asked.correlation, partition.gid, reply, size))
    session.out += buffers
    session.unsent_bytes += size
    partition.node.output_bytes += size


def answer_empty(dispatcher: Dispatcher, asked: Asked) -> None:
    """There is nothing, or it is too late for it."""
    group, partition = dispatcher.group, dispatcher.shared.partition
    empty = Acquired(0, 0, partition.log.end_offset, group.settings.lease_ms, [], b"")
    _reply(dispatcher, asked, empty, [])


def refuse(dispatcher: Dispatcher, asked: Asked, error: PenstockError) -> None:
    """Answer with an error."""
    dispatcher.shared.partition.node.reply_error(asked.session, asked.correlation, ACQUIRE, error)
