from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RemoteProtocolError
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import (
    ANSWER_TABLE,
    HEARTBEAT_ACK_TABLE,
    HEARTBEAT_TABLE,
    LEADS_TABLE,
    ROWS_MAX,
    VOTE_TABLE,
    Table,
    checked_frame,
)
from penstock_broker.node.peers.messages import (
    pack_answers,
    pack_votes,
    unpack_answers,
    unpack_votes,
)
from penstock_broker.raft import AppendResponse, TimeoutNow, VoteRequest, VoteResponse
from tests.node.peers.damage import U32, U64, refuses_any_change, refuses_any_cut

ME, YOU = 7, 8
BEATS = st.tuples(U64, st.lists(st.tuples(U32, U32, U64), max_size=20))


def columns(rows: list[tuple[int, ...]], width: int) -> list[tuple[int, ...]]:
    return list(zip(*rows, strict=True)) or [()] * width


@given(BEATS)
def test_a_table_comes_out_as_it_went_in(beats: tuple[int, list[tuple[int, ...]]]) -> None:
    number, rows = beats
    frame = HEARTBEAT_TABLE.pack((number, 7), columns(rows, 3))
    padded = b"before" + frame + b"behind"

    assert FRAME_HEADER.unpack_from(frame)[:2] == (len(frame), HEARTBEAT_TABLE.type)
    found = HEARTBEAT_TABLE.unpack(memoryview(padded), 6, 6 + len(frame))
    assert found == ((number, 7), columns(rows, 3))


@given(BEATS, U64, U32)
def test_a_damaged_table_is_refused(
    beats: tuple[int, list[tuple[int, ...]]], place: int, value: int
) -> None:
    frame = HEARTBEAT_TABLE.pack((beats[0], 7), columns(beats[1], 3))

    def decode(data: bytes) -> object:
        return HEARTBEAT_TABLE.unpack(data, 0, len(data))

    refuses_any_change(frame, decode, place, value)
    refuses_any_cut(frame, decode, place)


@pytest.mark.parametrize(
    "table", [HEARTBEAT_TABLE, HEARTBEAT_ACK_TABLE, LEADS_TABLE, VOTE_TABLE, ANSWER_TABLE]
)
@given(body=st.binary(max_size=200))
def test_a_table_of_anything_is_read_or_refused(table: Table, body: bytes) -> None:
    frame = checked_frame(table.type, body)

    with suppress(RemoteProtocolError):
        table.unpack(frame, 0, len(frame))


def test_a_table_has_a_limit() -> None:
    rows = [0] * (ROWS_MAX + 1)
    frame = checked_frame(LEADS_TABLE.type, bytes(1 + 8 * len(rows)))

    with pytest.raises(RemoteProtocolError):
        LEADS_TABLE.unpack(frame, 0, len(frame))
    with pytest.raises(AssertionError):
        LEADS_TABLE.pack((1,), (rows, rows))


def test_flags_and_a_group_in_the_header_are_refused() -> None:
    frame = HEARTBEAT_TABLE.pack((1, 0), ((), (), ()))
    for at in (5, 12):
        changed = bytearray(frame)
        changed[at] = 1

        with pytest.raises(RemoteProtocolError):
            HEARTBEAT_TABLE.unpack(changed, 0, len(changed))


VOTES = st.one_of(
    st.builds(
        lambda term, index, last, how: VoteRequest(ME, YOU, term, index, last, how == 1, how == 2),
        U32, U64, U32, st.integers(0, 2),
    ),
    st.builds(
        lambda term, granted, pre: VoteResponse(ME, YOU, term, granted, pre),
        U32, st.booleans(), st.booleans(),
    ),
    st.builds(lambda term: TimeoutNow(ME, YOU, term), U32),
)  # fmt: skip


@given(st.lists(st.tuples(U32, VOTES), min_size=1, max_size=20))
def test_votes_come_out_as_they_went_in(votes: list[tuple[int, VoteRequest]]) -> None:
    (frame,) = pack_votes(votes)

    assert unpack_votes(frame, 0, len(frame), ME, YOU) == votes


def test_an_unknown_kind_of_vote_is_refused() -> None:
    for what in (0, 9, 255):
        frame = VOTE_TABLE.pack((), [(what,), (1,), (1,), (1,), (1,)])

        with pytest.raises(RemoteProtocolError):
            unpack_votes(frame, 0, len(frame), ME, YOU)


ANSWERS = st.builds(
    lambda term, index, rejected, hint, hint_term: AppendResponse(
        ME, YOU, term, index, rejected, hint, hint_term
    ),
    U32, U64, st.booleans(), U64, U32,
)  # fmt: skip


@given(st.lists(st.tuples(U32, ANSWERS), min_size=1, max_size=20))
def test_answers_come_out_as_they_went_in(answers: list[tuple[int, AppendResponse]]) -> None:
    (frame,) = pack_answers(answers)

    assert unpack_answers(frame, 0, len(frame), ME, YOU) == answers


def test_many_messages_make_several_frames() -> None:
    answers = [(gid, AppendResponse(ME, YOU, 1, gid)) for gid in range(ROWS_MAX + 2)]

    frames = pack_answers(answers)

    assert [len(unpack_answers(frame, 0, len(frame), ME, YOU)) for frame in frames] == [ROWS_MAX, 2]
    assert len(frames[1]) < FRAME_HEADER_BYTES + 100
