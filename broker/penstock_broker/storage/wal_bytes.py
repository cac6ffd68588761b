"""The bytes of a WAL file while it is looked through: read in pieces, so that memory stays small.

Invariant: what is kept is at most one piece of `PIECE_BYTES`; a longer one is handed out and not
kept.
"""

from __future__ import annotations

from typing import Final

from penstock_broker.storage.files import File
from penstock_broker.storage.wal_format import FLUSH, FLUSH_MAGIC

PIECE_BYTES: Final = 1 << 20


class WalBytes:
    """One file's bytes.

    Attributes:
        size: of the file.
    """

    __slots__ = ("_file", "_kept", "_start", "size")

    def __init__(self, file: File) -> None:
        self._file = file
        self.size = file.size()
        self._start = 0
        self._kept = memoryview(b"")

    def piece(self, at: int, length: int) -> memoryview:
        """Bytes from a position on; fewer only at the end of the file.

        Raises:
            OSError: the file can't be read.
        """
        begin = at - self._start
        if begin < 0 or begin + length > len(self._kept):
            if length > PIECE_BYTES:
                return memoryview(self._file.pread(length, at))
            self._kept = memoryview(b"")  # its bytes go before others come
            self._kept = memoryview(self._file.pread(PIECE_BYTES, at))
            self._start, begin = at, 0
        return self._kept[begin : begin + length]

    def flush(self, at: int, nonce: int | None) -> memoryview:
        """What may be a flush: as much as its header says, or the header if it can't be one.

        Args:
            at: where it begins.
            nonce: of this use of the file; None: any will do.

        Raises:
            OSError: the file can't be read.
        """
        head = self.piece(at, FLUSH.size)
        if len(head) < FLUSH.size:
            return head
        magic, _, found, _, _, _, _, length = FLUSH.unpack(head)
        may_be = magic == FLUSH_MAGIC and (nonce is None or found == nonce)
        if not may_be or at + FLUSH.size + length > self.size:
            return head
        return self.piece(at, FLUSH.size + length)
