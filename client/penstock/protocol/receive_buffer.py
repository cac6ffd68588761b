"""Received bytes, kept until a whole frame is there, copied at most once.

Invariant: bytes handed out by `take` never change, so that bodies can be views of them; hence
what is fed must be `bytes`, and anything else is copied on entry. Small pieces are gathered, so a
peer that sends byte by byte costs no more memory than one that does not.
"""

from __future__ import annotations

from typing import Final

from penstock.protocol.batch import Buffer

_SMALL_BYTES: Final = 4096
_GATHER_BYTES: Final = 64 * 1024


class ReceiveBuffer:
    """A queue of bytes, read from `at` on in `data`."""

    __slots__ = ("_parts", "_waiting", "at", "data")

    def __init__(self) -> None:
        self.data = b""
        self.at = 0
        self._parts: list[bytes | bytearray] = []
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.data) - self.at + self._waiting

    def feed(self, data: Buffer) -> None:
        """Add received bytes."""
        if not self._parts and self.at == len(self.data):
            self.data = data if type(data) is bytes else bytes(data)
            self.at = 0
            return
        self._waiting += len(data)
        if len(data) >= _SMALL_BYTES:
            self._parts.append(data if type(data) is bytes else bytes(data))
            return
        last = self._parts[-1] if self._parts else b""
        if isinstance(last, bytearray) and len(last) < _GATHER_BYTES:
            last += data
        else:
            self._parts.append(bytearray(data))

    def has(self, count: int) -> bool:
        """Whether `count` bytes are there; if so they lie in `data` from `at` on."""
        have = len(self.data) - self.at
        if have >= count:
            return True
        if have + self._waiting < count:
            return False
        self.data = b"".join((memoryview(self.data)[self.at :], *self._parts))
        self.at = 0
        self._parts.clear()
        self._waiting = 0
        return True

    def take(self, count: int) -> memoryview:
        """Take bytes that `has` found, without a copy."""
        start = self.at
        self.at = end = start + count
        return memoryview(self.data)[start:end]

    def clear(self) -> None:
        """Drop everything."""
        self.data = b""
        self.at = self._waiting = 0
        self._parts.clear()
