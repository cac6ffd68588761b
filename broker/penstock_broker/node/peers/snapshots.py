"""A snapshot in a frame: a fixed head, the configuration, the blob of the machine."""

from __future__ import annotations

import struct
from typing import Final

from penstock.errors import RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.checksum import crc32c
from penstock.protocol.frames import FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.node.peers.frames import SNAPSHOT, SNAPSHOT_BYTES_MAX, check
from penstock_broker.raft import Configuration, InstallSnapshot, Snapshot

_HEAD: Final = struct.Struct("<IIQIII")
"""Group, term, index and its term, bytes of the configuration, checksum of the blob."""


def pack_snapshot(gid: int, message: InstallSnapshot) -> list[Buffer]:
    """The frame, as the buffers to send one after another; its data must be bytes."""
    index, term, configuration, blob = message.snapshot
    assert isinstance(blob, bytes | bytearray | memoryview), "a snapshot is sent as bytes"
    encoded = configuration.encode()
    head = _HEAD.pack(gid, message.term, index, term, len(encoded), crc32c(blob)) + encoded
    length = FRAME_HEADER_BYTES + len(head) + len(blob)
    header = FRAME_HEADER.pack(length, SNAPSHOT, 0, 0, crc32c(head), 0)
    return [header + head, blob]


def fits(message: InstallSnapshot) -> bool:
    """Whether a snapshot is within the limit."""
    blob = message.snapshot.data
    return isinstance(blob, bytes | bytearray | memoryview) and len(blob) <= SNAPSHOT_BYTES_MAX


def unpack_snapshot(
    buffer: memoryview, start: int, end: int, sender: int, to: int
) -> tuple[int, InstallSnapshot]:
    """Group and message; the blob is copied.

    Raises:
        RemoteProtocolError: the frame is damaged.
    """
    at = start + FRAME_HEADER_BYTES
    if end - at < _HEAD.size:
        raise RemoteProtocolError("a snapshot is cut off")
    gid, term, index, of_term, encoded, crc = _HEAD.unpack_from(buffer, at)
    covered = _HEAD.size + encoded
    if covered > end - at or of_term > term:
        raise RemoteProtocolError("the head of a snapshot can't be")
    check(buffer, start, end, covered)
    blob = bytes(buffer[at + covered : end])
    if crc32c(blob) != crc or len(blob) > SNAPSHOT_BYTES_MAX:
        raise RemoteProtocolError("a snapshot is damaged")
    try:
        configuration = Configuration.decode(bytes(buffer[at + _HEAD.size : at + covered]))
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from None
    return gid, InstallSnapshot(sender, to, term, Snapshot(index, of_term, configuration, blob))
