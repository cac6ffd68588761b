"""The frames of shared groups: they come back as they were, and nothing else gets in."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadRequest, RemoteProtocolError
from penstock.protocol import leases
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock.protocol.leases import Acquire, Acquired, Settled, Span, Verdict

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U63 = st.integers(0, 2**63 - 1)
ACQUIRES = st.builds(
    Acquire, U32, U32.filter(bool), U32.filter(bool), U32, st.lists(U63, max_size=leases.HAVE_MAX)
)
SPANS = st.lists(st.builds(Span, U63, U32, U16, U16, U16, U16), max_size=20)
VERDICTS = st.builds(
    Verdict,
    U63,
    U63,
    st.integers(1, 2**31 - 1),
    st.integers(leases.ACK, leases.RELEASE),
    U63,
    st.text(max_size=leases.REASON_CHARACTERS_MAX),
    st.text(max_size=50),
)


@given(ACQUIRES)
def test_acquire_is_read_as_it_was_written(wanted: Acquire) -> None:
    frame = b"before" + leases.acquire_request(5, 6, wanted)
    found = leases.read_acquire(frame, 6, len(frame))
    assert found._replace(have=list(found.have)) == wanted


@given(SPANS, st.binary(max_size=50))
def test_acquire_reply_is_read_as_it_was_written(spans: list[Span], run: bytes) -> None:
    head = leases.acquire_reply_head(1, 2, Acquired(7, 8, 9, 10, spans, b""), len(run))
    found = leases.read_acquired(head + run, 0, len(head) + len(run))
    assert (found[:4], found.spans, bytes(found.run)) == ((7, 8, 9, 10), spans, run)
    assert FRAME_HEADER.unpack_from(head)[0] == len(head) + len(run)


@given(st.lists(VERDICTS, min_size=1, max_size=20))
def test_settle_is_read_as_it_was_written(verdicts: list[Verdict]) -> None:
    frame = b"x" + leases.settle_request(1, 2, 77, verdicts)
    assert leases.read_settle(frame, 1, len(frame)) == (77, verdicts)


@given(U63, U63, U63, st.lists(U63, max_size=6))
def test_settle_reply_is_read_as_it_was_written(a: int, b: int, c: int, lost: list[int]) -> None:
    frame = leases.settle_reply(1, 2, Settled(a, b, c, lost))
    assert leases.read_settled(frame, 0, len(frame)) == Settled(a, b, c, lost)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    frame = bytes(FRAME_HEADER_BYTES) + body
    for read in (leases.read_acquire, leases.read_settle):
        with contextlib.suppress(BadRequest):
            read(frame, 0, len(frame))
    for answer in (leases.read_acquired, leases.read_settled):
        with contextlib.suppress(RemoteProtocolError):
            answer(frame, 0, len(frame))


@pytest.mark.parametrize(
    "body",
    [
        [],
        [[1, 2, 0, 1, 0, "", ""]],
        [[1, 2, 3, 0, 0, "", ""]],
        [[1, 2, 3, 5, 0, "", ""]],
        [[-1, 2, 3, 1, 0, "", ""]],
        [[1, 2, 3, 1, -5, "", ""]],
        [[1, 2, 3, 1, 0, "r" * 201, ""]],
        [[1, 2, 3, 1, 0, "", "e" * 2001]],
        [[1, 2, 3, 1, 0, 5, ""]],
        [[1, 2, 3, 1]] * (leases.VERDICTS_MAX + 1),
    ],
)
def test_verdicts_out_of_range_are_refused(body: list[object]) -> None:
    frame = leases.SETTLE_REQUEST.pack(0, leases.SETTLE, 0, 0, 1, 2, 3) + msgspec.msgpack.encode(
        body
    )
    with pytest.raises(BadRequest):
        leases.read_settle(frame, 0, len(frame))


def test_acquire_of_nothing_is_refused() -> None:
    for wanted in (Acquire(1, 0, 5, 0), Acquire(1, 5, 0, 0)):
        frame = leases.acquire_request(1, 2, wanted)
        with pytest.raises(BadRequest):
            leases.read_acquire(frame, 0, len(frame))


def test_acquire_that_keeps_too_many_batches_is_refused() -> None:
    frame = leases.acquire_request(1, 2, Acquire(1, 1, 1, 0, range(leases.HAVE_MAX + 1)))
    with pytest.raises(BadRequest):
        leases.read_acquire(frame, 0, len(frame))
