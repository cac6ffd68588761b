"""The frames of copying: one asks for records of a partition from an offset on, one brings them.

A request is protected by its own checksum; of an answer only the head is, since every batch has
checksums of its own. Invariant: whatever arrives is either what a node packed, or refused.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import check, checked_frame

COPY: Final = 0x7A
COPIED: Final = 0x7B

_ASKED: Final = struct.Struct("<IQQQI")
_HEAD: Final = struct.Struct("<IQBQQ")


class Outcome(IntEnum):
    """What became of a request for records."""

    RECORDS = 0
    """They follow; none: the log ends here."""
    ABSENT = 1
    """The partition is not there."""
    TRIMMED = 2
    """The log begins later."""
    DAMAGED = 3
    """They can't be read there."""
    MORE = 4
    """They follow, and another frame of the same number with what comes after them."""


class Asked(NamedTuple):
    """A request: records of a group from an offset on, up to about another one, or so many bytes.

    The answer is one frame or more, of the same number.
    """

    group: int
    number: int
    offset: int
    until: int
    max_bytes: int


class Copied(NamedTuple):
    """The head of an answer: where the log there starts and ends now."""

    group: int
    number: int
    outcome: int
    start_offset: int
    end_offset: int


def pack_asked(asked: Asked) -> bytes:
    """The frame of a request."""
    return checked_frame(COPY, _ASKED.pack(*asked))


def unpack_asked(buffer: memoryview, start: int, end: int) -> Asked:
    """Read a request.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    check(buffer, start, end)
    at = start + FRAME_HEADER_BYTES
    if end - at != _ASKED.size:
        raise RemoteProtocolError("a request for records has another length")
    return Asked._make(_ASKED.unpack_from(buffer, at))


def pack_copied(copied: Copied, batches: Sequence[Buffer]) -> list[Buffer]:
    """The frame of an answer, as the buffers to send one after another."""
    head = _HEAD.pack(*copied)
    length = FRAME_HEADER_BYTES + len(head) + sum(map(len, batches))
    header = FRAME_HEADER.pack(length, COPIED, 0, 0, crc32c(head), 0)
    return [header + head, *batches]


def unpack_copied(
    buffer: memoryview, start: int, end: int, owned: bool
) -> tuple[Copied, memoryview]:
    """Read an answer; its batches lie in memory that may be kept.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    at = start + FRAME_HEADER_BYTES
    if end - at < _HEAD.size:
        raise RemoteProtocolError("an answer with records is cut off")
    check(buffer, start, end, _HEAD.size)
    batches = buffer[at + _HEAD.size : end]
    if not owned:
        batches = memoryview(bytes(batches))
    return Copied._make(_HEAD.unpack_from(buffer, at)), batches
