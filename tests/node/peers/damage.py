"""What every decoder of frames between nodes must do with frames that are not whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from penstock.errors import RemoteProtocolError
from penstock.protocol.frames import FRAME_HEADER_BYTES

Decode = Callable[[bytes], object]

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


def refuses_any_change(frame: bytes, decode: Decode, place: int, value: int) -> None:
    """A byte of the body, or of its checksum, is another one."""
    at = 8 + place % (len(frame) - 8)
    if 12 <= at < FRAME_HEADER_BYTES:
        at = 8
    changed = bytearray(frame)
    changed[at] ^= 1 + value % 255
    with pytest.raises(RemoteProtocolError):
        decode(bytes(changed))


def refuses_any_cut(frame: bytes, decode: Decode, place: int) -> None:
    """The frame ends too early, or has something behind it."""
    length = FRAME_HEADER_BYTES + place % (len(frame) - FRAME_HEADER_BYTES)
    for changed in (frame[:length], frame + bytes(1 + place % 50)):
        with pytest.raises(RemoteProtocolError):
            decode(changed)
