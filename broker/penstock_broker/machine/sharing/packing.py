"""Long arrays in snapshots: compressed piece by piece, so that sizes stay within limits."""

from __future__ import annotations

from array import array
from typing import Final

from penstock.errors import CorruptBatch, CorruptData
from penstock.protocol.compression import compress, decompress

Packed = list[tuple[int, bytes]]
"""Pieces: size, and bytes of which there are fewer if the piece is compressed."""

_PIECE_BYTES: Final = 4 << 20


def pack(data: bytes | bytearray | array[int]) -> Packed:
    """The snapshot's form of bytes."""
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    pieces = (view[at : at + _PIECE_BYTES] for at in range(0, len(view), _PIECE_BYTES))
    return [(len(piece), compress(piece) or bytes(piece)) for piece in pieces]


def unpack(packed: Packed, size: int) -> bytearray:
    """Undo `pack`.

    Raises:
        CorruptData: it is damaged, or does not hold `size` bytes.
    """
    if sum(length for length, _ in packed) != size:
        raise CorruptData("an array in a snapshot has another size than it should")
    found = bytearray()
    for length, data in packed:
        try:
            found += data if len(data) == length else decompress(data, length)
        except CorruptBatch as error:
            raise CorruptData(f"an array in a snapshot is damaged: {error}") from error
    return found
