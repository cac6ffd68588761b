"""Snapshots in frames: each frame has a head, the configuration, and a piece of the blob.

A snapshot leaves piece by piece, as the connection takes them; small ones are one piece. The
receiver puts the pieces together in memory, where the machine is made from them. A piece that does
not follow the last one costs the whole: Raft has the snapshot sent again. Invariants: what waits to
be sent is references to the blob, a few pieces at a time; what is put together is bounded, and
grows only by what has arrived.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import PIECE_BYTES, SNAPSHOT, SNAPSHOT_BYTES_MAX, check
from penstock_broker.raft import Configuration, InstallSnapshot, Snapshot

_HEAD: Final = struct.Struct("<IIQIIQQI")
"""Group, term, index and its term, bytes of the configuration, bytes of the whole blob, where the
piece begins in it, checksum of the piece."""


class Piece(NamedTuple):
    """A part of a snapshot as it arrived."""

    gid: int
    message: InstallSnapshot
    """Its data is the piece."""
    total: int
    """Bytes of the whole blob."""
    offset: int


class Outgoing:
    """A snapshot on its way to a node.

    Attributes:
        gid: its group.
    """

    def __init__(self, gid: int, message: InstallSnapshot, piece_bytes: int = PIECE_BYTES) -> None:
        assert isinstance(message.snapshot.data, bytes | bytearray | memoryview), "sent as bytes"
        self.gid = gid
        self._message = message
        self._blob = memoryview(message.snapshot.data)
        self._piece_bytes = piece_bytes
        self._offset = 0
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether all pieces were taken."""
        return self._begun and self._offset >= len(self._blob)

    def take(self) -> list[Buffer]:
        """The frame of the next piece, as the buffers to send one after another."""
        index, term, configuration, _ = self._message.snapshot
        offset, self._begun = self._offset, True
        piece = self._blob[offset : offset + self._piece_bytes]
        self._offset += len(piece)
        encoded = configuration.encode()
        numbers = len(encoded), len(self._blob), offset, crc32c(piece)
        head = _HEAD.pack(self.gid, self._message.term, index, term, *numbers) + encoded
        length = FRAME_HEADER_BYTES + len(head) + len(piece)
        return [FRAME_HEADER.pack(length, SNAPSHOT, 0, 0, crc32c(head), 0) + head, piece]


def fits(message: InstallSnapshot) -> bool:
    """Whether a snapshot is within the limit."""
    blob = message.snapshot.data
    return isinstance(blob, bytes | bytearray | memoryview) and len(blob) <= SNAPSHOT_BYTES_MAX


def unpack_piece(buffer: memoryview, start: int, end: int, sender: int, to: int) -> Piece:
    """A piece of a snapshot; it is copied.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    at = start + FRAME_HEADER_BYTES
    if end - at < _HEAD.size:
        raise RemoteProtocolError("a snapshot is cut off")
    gid, term, index, of_term, encoded, total, offset, crc = _HEAD.unpack_from(buffer, at)
    covered = _HEAD.size + encoded
    if covered > end - at or of_term > term or total > SNAPSHOT_BYTES_MAX:
        raise RemoteProtocolError("the head of a snapshot can't be")
    check(buffer, start, end, covered)
    blob = bytes(buffer[at + covered : end])
    if crc32c(blob) != crc or offset + len(blob) > total or (not blob and total):
        raise RemoteProtocolError("a snapshot is damaged")
    try:
        configuration = Configuration.decode(bytes(buffer[at + _HEAD.size : at + covered]))
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from None
    message = InstallSnapshot(sender, to, term, Snapshot(index, of_term, configuration, blob))
    return Piece(gid, message, total, offset)


class Assembly:
    """Pieces that arrived, by sender and group, until a snapshot is whole.

    Attributes:
        bytes_max: what all together may take up; who needs more has to begin anew.
    """

    def __init__(self, bytes_max: int = SNAPSHOT_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._parts: dict[tuple[int, int], tuple[InstallSnapshot, bytearray]] = {}

    @property
    def size_bytes(self) -> int:
        """What is kept at the moment."""
        return sum([len(blob) for _, blob in self._parts.values()])

    def add(self, piece: Piece) -> InstallSnapshot | None:
        """Take a piece; the snapshot when this was the last one."""
        gid, message, total, offset = piece
        data = message.snapshot.data
        assert isinstance(data, bytes), "a piece is bytes"
        key = message.sender, gid
        first, blob = self._parts.pop(key, (message, bytearray()))
        if offset == 0:
            first, blob = message, bytearray()
        same = message.snapshot[:3] == first.snapshot[:3] and message.term == first.term
        if not same or offset != len(blob):
            return None  # something is missing
        if len(data) == total:
            return message
        if self.size_bytes + len(blob) + len(data) > self.bytes_max:
            return None
        blob += data
        if len(blob) < total:
            self._parts[key] = first, blob
            return None
        return first._replace(snapshot=first.snapshot._replace(data=bytes(blob)))

    def forget(self, sender: int) -> None:
        """A node is gone: what it had begun to send comes anew."""
        self._parts = {key: part for key, part in self._parts.items() if key[0] != sender}
