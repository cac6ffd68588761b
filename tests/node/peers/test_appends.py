from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import BATCH_BYTES_MAX, control_batch, stamp
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers import appends
from penstock_broker.node.peers.appends import pack_appends, size_of, unpack_appends
from penstock_broker.node.peers.frames import (
    APPENDS_BYTES_MAX,
    FRAME_BYTES_MAX,
    ROWS_MAX,
    Channel,
    checked_frame,
)
from penstock_broker.raft import Append, Configuration, Entry, Message
from penstock_broker.raft.entry import CONFIG, NOOP
from tests.node.peers.damage import U32, refuses_any_change, refuses_any_cut

ME, YOU = 7, 8
DATA, CONTROL = 1, 2


def entry(index: int, term: int, kind: int = DATA, body: bytes = b"") -> Entry:
    if kind == NOOP:
        return Entry(index, term, kind, b"")
    if kind == CONFIG:
        return Entry(index, term, kind, Configuration.of([1, 2, 3], [4]).encode())
    batch = control_batch(body)
    stamp(batch, kind, index, term, 3, 4, 5)
    return Entry(index, term, kind, bytes(batch))


@st.composite
def append(draw: st.DrawFn) -> Append:
    index, terms = draw(st.integers(0, 1 << 40)), sorted(draw(st.lists(U32, max_size=5)))
    entries = [
        entry(index + number, term, draw(st.integers(1, 4)), draw(st.binary(max_size=99)))
        for number, term in enumerate(terms, 1)
    ]
    prev_term = draw(st.integers(0, terms[0] if terms else 9))
    term = draw(st.integers(terms[-1] if terms else 9, 2**32 - 1))
    return Append(ME, YOU, term, index, prev_term, entries, draw(st.integers(0, 1 << 41)))


APPENDS = st.lists(st.tuples(U32, append()), min_size=1, max_size=6)


def packed(messages: Sequence[tuple[int, Append]]) -> bytes:
    (buffers,) = pack_appends([(gid, message, size_of(message)) for gid, message in messages])
    frame = b"".join(buffers)
    assert FRAME_HEADER.unpack_from(frame)[0] == len(frame)
    return frame


def unpacked(frame: bytes, owned: bool = True) -> list[tuple[int, Message]]:
    return unpack_appends(memoryview(frame), 0, len(frame), owned, ME, YOU)


@given(APPENDS, st.booleans())
def test_appends_come_out_as_they_went_in(messages: list[tuple[int, Append]], owned: bool) -> None:
    assert unpacked(packed(messages), owned) == messages


@given(APPENDS, U32, U32)
def test_a_damaged_frame_of_appends_is_refused(
    messages: list[tuple[int, Append]], place: int, value: int
) -> None:
    frame = packed(messages)

    refuses_any_change(frame, unpacked, place, value)
    refuses_any_cut(frame, unpacked, place)


@given(st.binary(max_size=300))
def test_a_frame_of_anything_is_refused(body: bytes) -> None:
    frame = checked_frame(0x71, body)
    with suppress(RemoteProtocolError):
        assert unpacked(frame) == []


def test_entries_that_do_not_follow_each_other_are_refused() -> None:
    good = [entry(5, 2), entry(6, 3)]
    assert unpacked(packed([(1, Append(ME, YOU, 3, 4, 2, good, 0))]))
    for term, prev_index, prev_term, entries in (
        (3, 4, 2, [entry(6, 3)]),  # not the next index
        (3, 4, 2, [entry(5, 2), entry(5, 2)]),  # the same again
        (3, 4, 2, [entry(5, 3), entry(6, 2)]),  # terms fall
        (3, 4, 3, [entry(5, 2)]),  # older than what comes before
        (3, 4, 2, [entry(5, 4)]),  # newer than the leader
    ):
        frame = packed([(1, Append(ME, YOU, term, prev_index, prev_term, entries, 0))])

        with pytest.raises(RemoteProtocolError):
            unpacked(frame)


def test_kinds_that_no_entry_has_are_refused() -> None:
    for kind in (0, 5, 255):
        batch = control_batch(b"x")
        stamp(batch, kind, 5, 2, 0, 0, 0)
        message = Append(ME, YOU, 2, 4, 2, [Entry(5, 2, DATA, batch)], 0)

        with pytest.raises(RemoteProtocolError):
            unpacked(packed([(1, message)]))


def test_a_configuration_that_is_none_is_refused() -> None:
    message = Append(ME, YOU, 2, 4, 2, [Entry(5, 2, CONFIG, b"\x01nonsense")], 0)

    with pytest.raises(RemoteProtocolError):
        unpacked(packed([(1, message)]))


def test_batches_are_sent_without_a_copy() -> None:
    one = entry(5, 2, DATA, bytes(1000))
    message = Append(ME, YOU, 2, 4, 2, [one], 0)

    (buffers,) = pack_appends([(1, message, size_of(message))])

    assert buffers[1] is one.data


def test_a_large_batch_stays_in_an_owned_buffer_and_a_small_one_does_not_keep_it() -> None:
    entries = [entry(5, 2, DATA, bytes(100_000)), entry(6, 2, DATA, b"small")]
    frame = packed([(1, Append(ME, YOU, 2, 4, 2, entries, 0))])

    ((_, message),) = unpacked(frame)

    assert isinstance(message, Append)
    large, small = message.entries
    assert isinstance(large.data, memoryview)
    assert large.data.obj is frame
    assert isinstance(small.data, bytes)


def test_nothing_stays_in_a_buffer_that_is_used_again() -> None:
    scratch = bytearray(packed([(1, Append(ME, YOU, 2, 4, 2, [entry(5, 2)], 0))]))

    ((_, message),) = unpack_appends(memoryview(scratch), 0, len(scratch), False, ME, YOU)
    scratch[:] = bytes(len(scratch))

    assert message == Append(ME, YOU, 2, 4, 2, [entry(5, 2)], 0)


def test_too_much_for_one_frame_goes_into_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "APPENDS_BYTES_MAX", 1000)
    messages = [
        (gid, Append(ME, YOU, 2, 4, 2, [entry(5, 2, DATA, bytes(400))], 0)) for gid in range(5)
    ]

    frames = [b"".join(buffers) for buffers in pack_appends(
        [(gid, message, size_of(message)) for gid, message in messages]
    )]  # fmt: skip

    assert len(frames) == 3
    assert [item for frame in frames for item in unpacked(frame)] == messages
    assert max(map(len, frames)) < 1000 + 2 * 100 + FRAME_HEADER_BYTES


def test_the_largest_frame_of_appends_is_within_the_limit_of_its_channel() -> None:
    rows = ROWS_MAX * appends._HEAD.size

    most = FRAME_HEADER_BYTES + 4 + rows + APPENDS_BYTES_MAX + BATCH_BYTES_MAX

    assert most <= FRAME_BYTES_MAX[Channel.APPENDS]
