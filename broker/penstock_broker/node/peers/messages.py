"""Raft's small messages as rows of tables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock_broker.node.peers.frames import ANSWER_TABLE, ROWS_MAX, VOTE_TABLE
from penstock_broker.raft import AppendResponse, Message, TimeoutNow, VoteRequest, VoteResponse

Vote = VoteRequest | VoteResponse | TimeoutNow

REQUEST: Final = 1
PRE_REQUEST: Final = 2
TRANSFER: Final = 3
"""A request that the old leader asked for."""
GRANTED: Final = 4
REFUSED: Final = 5
PRE_GRANTED: Final = 6
PRE_REFUSED: Final = 7
TIMEOUT_NOW: Final = 8


def pack_votes(votes: Sequence[tuple[int, Vote]]) -> list[bytes]:
    """Frames of (group, message)."""
    rows = [_vote_row(gid, message) for gid, message in votes]
    return [VOTE_TABLE.pack((), list(zip(*part, strict=True))) for part in _parts(rows)]


def _vote_row(gid: int, message: Vote) -> tuple[int, int, int, int, int]:
    match message:
        case VoteRequest(_, _, term, last_index, last_term, pre, transfer):
            what = TRANSFER if transfer else PRE_REQUEST if pre else REQUEST
            return what, gid, term, last_index, last_term
        case VoteResponse(_, _, term, granted, pre):
            what = (
                (PRE_GRANTED if granted else PRE_REFUSED)
                if pre
                else (GRANTED if granted else REFUSED)
            )
            return what, gid, term, 0, 0
        case TimeoutNow(_, _, term):
            return TIMEOUT_NOW, gid, term, 0, 0


def unpack_votes(
    buffer: Buffer, start: int, end: int, sender: int, to: int
) -> list[tuple[int, Message]]:
    """(group, message) of each row.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    _, columns = VOTE_TABLE.unpack(buffer, start, end)
    return [
        (gid, _vote(what, sender, to, term, last_index, last_term))
        for what, gid, term, last_index, last_term in zip(*columns, strict=True)
    ]


def _vote(what: int, sender: int, to: int, term: int, last_index: int, last_term: int) -> Message:
    match what:
        case 1 | 2 | 3:
            return VoteRequest(
                sender, to, term, last_index, last_term, what == PRE_REQUEST, what == TRANSFER
            )
        case 4 | 5 | 6 | 7:
            granted = what in (GRANTED, PRE_GRANTED)
            return VoteResponse(sender, to, term, granted, what >= PRE_GRANTED)
        case 8:
            return TimeoutNow(sender, to, term)
    raise RemoteProtocolError(f"there is no vote of kind {what}")


def pack_answers(answers: Sequence[tuple[int, AppendResponse]]) -> list[bytes]:
    """Frames of (group, answer)."""
    rows = [
        (gid, term, index, int(rejected), hint_index, hint_term)
        for gid, (_, _, term, index, rejected, hint_index, hint_term) in answers
    ]
    return [ANSWER_TABLE.pack((), list(zip(*part, strict=True))) for part in _parts(rows)]


def unpack_answers(
    buffer: Buffer, start: int, end: int, sender: int, to: int
) -> list[tuple[int, Message]]:
    """(group, answer) of each row.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    _, columns = ANSWER_TABLE.unpack(buffer, start, end)
    return [
        (gid, AppendResponse(sender, to, term, index, bool(rejected), hint_index, hint_term))
        for gid, term, index, rejected, hint_index, hint_term in zip(*columns, strict=True)
    ]


def _parts(rows: Sequence[tuple[int, ...]]) -> Iterable[Sequence[tuple[int, ...]]]:
    return (rows[at : at + ROWS_MAX] for at in range(0, len(rows), ROWS_MAX))
