"""Frames between nodes: types, limits, and the bodies that are tables of numbers.

A table is packed column by column in one call, whatever the number of rows. The header's
correlation holds the CRC32C of a body that is not otherwise protected, its group is zero.
Invariant: whatever arrives is either what a node packed or refused with `RemoteProtocolError`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import BATCH_BYTES_MAX, Buffer
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES

PEER_HELLO: Final = 0x70
APPENDS: Final = 0x71
ANSWERS: Final = 0x72
HEARTBEATS: Final = 0x73
HEARTBEAT_ACKS: Final = 0x74
VOTES: Final = 0x75
SNAPSHOT: Final = 0x76
LEADS: Final = 0x77
RELAY: Final = 0x78
RELAYED: Final = 0x79


class Channel(IntEnum):
    """One of the connections from a node to another."""

    CONTROL = 0
    """Small and urgent: heartbeats, votes, who leads what, relayed requests."""
    APPENDS = 1
    """The log's entries, and the answers to them."""
    BULK = 2
    """Snapshots, and reads of those who catch up."""


ROWS_MAX: Final = 32_768
"""Rows of one table; more of them go into several frames."""
APPENDS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of one frame of appends, after which another one is begun."""
SNAPSHOT_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Of one snapshot; it goes in pieces."""
PIECE_BYTES: Final = 4 * 1024 * 1024
FRAME_BYTES_MAX: Final = {
    Channel.CONTROL: 4 * 1024 * 1024,
    Channel.APPENDS: APPENDS_BYTES_MAX + BATCH_BYTES_MAX + 2 * 1024 * 1024,
    Channel.BULK: 64 * 1024 * 1024 + 256 * 1024,
}
QUEUE_BYTES_MAX: Final = {
    Channel.CONTROL: 4 * 1024 * 1024,
    Channel.APPENDS: 64 * 1024 * 1024,
    Channel.BULK: 96 * 1024 * 1024,
}
"""Unsent bytes, of one connection, beyond which nothing more is queued."""

Columns = Sequence[Sequence[int]]


class Table:
    """A body of one fixed head and equal rows, column after column, little endian."""

    def __init__(self, type_: int, head: str, columns: str) -> None:
        self.type = type_
        self._columns = columns
        self._head = struct.Struct(f"<{head}")
        self._row_bytes = struct.calcsize(f"<{columns}")

    def pack(self, head: Sequence[int], columns: Columns) -> bytes:
        """The whole frame."""
        count = len(columns[0])
        assert count <= ROWS_MAX, f"{count} rows in one frame"
        codes = "".join(f"{count}{code}" for code in self._columns)
        values = [value for column in columns for value in column]
        body = self._head.pack(*head) + struct.pack(f"<{codes}", *values)
        return checked_frame(self.type, body)

    def unpack(
        self, buffer: Buffer, start: int, end: int
    ) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Head and columns of the frame in `buffer[start:end]`.

        Raises:
            RemoteProtocolError: it is not what `pack` makes.
        """
        at = start + FRAME_HEADER_BYTES
        check(buffer, start, end)
        count, rest = divmod(end - at - self._head.size, self._row_bytes)
        if count < 0 or rest or count > ROWS_MAX:
            raise RemoteProtocolError(f"a table of {end - at} bytes can't be")
        head = self._head.unpack_from(buffer, at)
        codes = "".join(f"{count}{code}" for code in self._columns)
        values = struct.unpack_from(f"<{codes}", buffer, at + self._head.size)
        width = range(0, count * len(self._columns), count) if count else ()
        return head, [values[first : first + count] for first in width] or [()] * len(self._columns)


def checked_frame(type_: int, body: Buffer) -> bytes:
    """A frame that carries its body's checksum."""
    length = FRAME_HEADER_BYTES + len(body)
    return FRAME_HEADER.pack(length, type_, 0, 0, crc32c(body), 0) + body


def check(buffer: Buffer, start: int, end: int, covered: int | None = None) -> None:
    """Check the header of a frame, and the checksum of its body or the first bytes of that.

    Raises:
        RemoteProtocolError: they do not fit.
    """
    _, _, flags, _, crc, zero = FRAME_HEADER.unpack_from(buffer, start)
    at = start + FRAME_HEADER_BYTES
    last = end if covered is None else at + covered
    if flags or zero or crc32c(memoryview(buffer)[at:last]) != crc:
        raise RemoteProtocolError("a frame of another node is damaged")


HEARTBEAT_TABLE: Final = Table(HEARTBEATS, "QQ", "IIQ")
"""Round, mark of the sender's disk; group, term, commit."""
HEARTBEAT_ACK_TABLE: Final = Table(HEARTBEAT_ACKS, "QI", "II")
"""Round, number of groups in it; group, term of those that did not follow (0: not there)."""
LEADS_TABLE: Final = Table(LEADS, "B", "II")
"""Whether these are all; group, term (0: led no longer)."""
VOTE_TABLE: Final = Table(VOTES, "", "BIIQI")
"""What (see `messages`), group, term, last index, last term."""
ANSWER_TABLE: Final = Table(ANSWERS, "", "IIQBQI")
"""Group, term, index, whether rejected, hint index, hint term."""
