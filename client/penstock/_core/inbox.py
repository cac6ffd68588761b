"""Received bytes on their way to whole frames, copied as little as can be.

The driver receives straight into `space()`. Small frames are read in a reused scratch buffer; a
frame larger than what has arrived gets a buffer of its own, so its bytes are written once and may
be kept. Invariant: no frame beyond the limit is ever given memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from penstock.protocol.frames import REPLY_BYTES_MAX, Frame, scan

SCRATCH_BYTES: Final = 128 * 1024
OWN_BUFFER_FROM: Final = 32 * 1024


class Inbox:
    """The receive buffer of one connection."""

    __slots__ = ("_end", "_own", "_scratch", "limit")

    def __init__(self, limit: int = REPLY_BYTES_MAX) -> None:
        self.limit = limit
        self._scratch = bytearray(SCRATCH_BYTES)
        self._own: bytearray | None = None
        """The buffer of the one large frame that is arriving."""
        self._end = 0
        """How much of the present buffer is filled."""

    def space(self) -> memoryview:
        """Where the next bytes belong; never empty. Call `filled` before asking again."""
        buffer = self._scratch if self._own is None else self._own
        return memoryview(buffer)[self._end :]

    def filled(self, count: int) -> Iterator[tuple[bytearray, list[Frame], bool]]:
        """Take `count` received bytes; yields (buffer, whole frames, may be kept).

        Raises:
            RemoteProtocolError: the bytes are no frames.
        """
        self._end += count
        own = self._own
        if own is not None:
            if self._end == len(own):
                self._own = None
                self._end = 0
                yield own, scan(own, 0, len(own), self.limit)[0], True
            return
        scratch, end = self._scratch, self._end
        frames, unfinished = scan(scratch, 0, end, self.limit)
        done = frames[-1].end if frames else 0
        if frames:
            yield scratch, frames, False
        self._keep(done, end, unfinished)

    def _keep(self, done: int, end: int, unfinished: int) -> None:
        rest = end - done
        if unfinished > OWN_BUFFER_FROM:
            self._own = bytearray(unfinished)
            self._own[:rest] = memoryview(self._scratch)[done:end]
        elif done and rest:
            self._scratch[:rest] = self._scratch[done:end]
        self._end = rest
