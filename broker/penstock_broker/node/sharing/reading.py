"""Which batches hold the records of a grant: from the RAM tail, or from a segment.

Spans are lists of (first offset, records), ascending and apart. Batches are served whole; a batch
that the member keeps already is left out, whatever number of its records are granted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import CorruptData, PenstockError
from penstock.protocol.batch import Buffer, iterate, next_offset
from penstock_broker.node.sharing.spans import Spans
from penstock_broker.storage import Cold

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_broker.node.session import Session
    from penstock_broker.storage import PartitionLog


class Covered(NamedTuple):
    """What of some spans goes out, and with which batches."""

    spans: Spans
    rest: Spans
    """What is beyond the byte limit, or was not read."""
    buffers: list[Buffer]


class SharedRead:
    """A job: reads one range of a segment in the reader thread.

    A session that waits for it is charged with its bytes; None: the broker itself wants it.
    """

    __slots__ = ("cold", "data", "finish", "session")

    def __init__(
        self,
        session: Session | None,
        cold: Cold,
        finish: Callable[[SharedRead, PenstockError | None], None],
    ) -> None:
        self.session = session
        self.cold = cold
        self.finish = finish
        """Called in the owner's thread, also if the session is gone."""
        self.data: Buffer = b""

    def run(self) -> None:
        """Read the bytes; called in a thread.

        Raises:
            CorruptData: the disk can't read them.
        """
        try:
            self.data = self.cold.file.pread(self.cold.length, self.cold.position)
        except OSError as error:
            raise CorruptData(f"the disk can't read a segment: {error}") from error


def is_warm(log: PartitionLog, offset: int) -> bool:
    """Whether an offset below the log's end is in the RAM tail."""
    return len(log.tail) > 0 and offset >= log.tail.first_offset


def cover_warm(log: PartitionLog, spans: Spans, max_bytes: int, have: Container[int]) -> Covered:
    """Batches of the RAM tail for spans that lie in it: at least one, then up to `max_bytes`."""
    tail = log.tail
    return _cover(tail.offsets, tail.buffers, log.end_offset, spans, max_bytes, have)


def cover_cold(
    run: Sequence[Buffer], spans: Spans, max_bytes: int, have: Container[int]
) -> Covered:
    """As `cover_warm`, of batches that were read from a segment."""
    offsets, buffers, end = [], [], 0
    for piece in run:
        view = memoryview(piece)
        for at, header in iterate(view):
            batch = view[at : at + header.length]
            offsets.append(header.base_offset)
            buffers.append(batch)
            end = next_offset(batch, header)
    return _cover(offsets, buffers, end, spans, max_bytes, have)


def _cover(
    offsets: Sequence[int],
    buffers: Sequence[Buffer],
    end: int,
    spans: Spans,
    max_bytes: int,
    have: Container[int],
) -> Covered:
    """Walk spans and batches side by side; a batch costs a step, a record nothing."""
    chosen: list[Buffer] = []
    size, at, last, following = 0, -1, len(offsets) - 1, 0
    for number, (first, count) in enumerate(spans):
        begin, stop = first, first + count
        while first < stop:
            if first >= following:
                at = bisect_right(offsets, first, max(at, 0)) - 1
                following = offsets[at + 1] if at < last else end
                fits = at >= 0 and first < following
                if fits and offsets[at] not in have:
                    fits = not chosen or size + len(buffers[at]) <= max_bytes
                    if fits:
                        chosen.append(buffers[at])
                        size += len(buffers[at])
                if not fits:
                    head = [(begin, first - begin)] if first > begin else []
                    rest = [(first, stop - first), *spans[number + 1 :]]
                    return Covered(spans[:number] + head, rest, chosen)
            first = following
    return Covered(spans, [], chosen)
