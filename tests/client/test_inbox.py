"""Frames come out of the receive buffer whole, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._core.inbox import OWN_BUFFER_FROM, Inbox
from penstock.errors import RemoteProtocolError
from penstock.protocol.frames import FRAME_HEADER_BYTES, frame


def feed(inbox: Inbox, data: bytes, pieces: list[int]) -> list[bytes]:
    """Feed bytes in pieces of the given sizes, again and again; the bodies of the frames."""
    bodies: list[bytes] = []
    turn = 0
    while data:
        space = inbox.space()
        count = min(len(space), len(data), pieces[turn % len(pieces)])
        turn += 1
        space[:count] = data[:count]
        data = data[count:]
        for buffer, frames, owned in inbox.filled(count):
            for each in frames:
                assert not owned or (each.start, each.end) == (0, len(buffer))
                bodies.append(bytes(buffer[each.start + FRAME_HEADER_BYTES : each.end]))
    return bodies


@given(
    sizes=st.lists(
        st.one_of(st.integers(0, 300), st.integers(OWN_BUFFER_FROM - 40, OWN_BUFFER_FROM + 40),
                  st.just(300_000)),
        min_size=1, max_size=8,
    ),
    pieces=st.lists(st.integers(1, 200_000), min_size=1, max_size=5),
)  # fmt: skip
def test_any_frames_in_any_pieces(sizes: list[int], pieces: list[int]) -> None:
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    data = b"".join(frame(0x10, 1, number, body) for number, body in enumerate(bodies))
    # Tiny pieces of large frames only take time.
    pieces = [max(each, len(data) // 5000) for each in pieces]
    assert feed(Inbox(), data, pieces) == bodies


def test_a_large_frame_is_received_into_a_buffer_of_its_own() -> None:
    inbox = Inbox()
    data = frame(0x11, 1, 7, b"x" * 100_000)
    inbox.space()[:50_000] = data[:50_000]
    assert list(inbox.filled(50_000)) == []
    assert len(inbox.space()) == len(data) - 50_000


def test_a_frame_beyond_the_limit_gets_no_memory() -> None:
    inbox = Inbox(limit=1000)
    data = frame(0x11, 1, 7, b"x" * 2000)
    inbox.space()[:16] = data[:16]
    with pytest.raises(RemoteProtocolError):
        list(inbox.filled(16))
