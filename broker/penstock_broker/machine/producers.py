"""What a partition remembers of idempotent producers.

Committed state is written only by applied batches; the overlay holds what the leader appended and
has not applied yet. Losing the lead drops the overlay: there is nothing to roll back.

A producer numbers its records per partition without gaps, so of its last batches only count,
offset and time are kept: their sequences follow from the next one, backwards.

Producers of the brokers themselves (`SYSTEM_PRODUCERS`: moved and scheduled records) are never
forgotten: what they publish exactly once may be tried again after any time.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from penstock.errors import BadRequest, Fenced, OutOfSequence, UnknownProducer
from penstock.protocol.batch import SYSTEM_PRODUCERS, PublishHeader

PRODUCERS_MAX: Final = 100_000
"""Producers per partition; beyond it the one that was silent for longest is forgotten."""
EXPIRY_US: Final = 7 * 86_400 * 1_000_000
"""A producer silent for so long, by the log's own time, is forgotten."""
RING_BATCHES: Final = 16
"""The last batches of a producer whose offsets are remembered for sure; at most twice as many."""
UNKNOWN_OFFSET: Final = (1 << 64) - 1
"""The offset of a duplicate that is too old for its place to be remembered."""

_PLACED: Final = struct.Struct("<HQQ")
_RING_BYTES: Final = RING_BATCHES * _PLACED.size

_Flight = tuple[int, int, int, int, int, int]
"""Epoch, sequence, count, index, base offset, append time of a batch that is not applied yet."""

ProducerRow = tuple[int, int, int, int, bytes]
"""Producer id, epoch, next sequence, last use, ring: the snapshot's form."""


def system_producer(*parts: object) -> int:
    """A producer id of the brokers' own, made of what it stands for."""
    text = "\0".join(map(str, parts)).encode()
    return SYSTEM_PRODUCERS | int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class Duplicate(Struct, frozen=True, gc=False):
    """The batch is in the log already, or on its way into it."""

    base_offset: int
    """`UNKNOWN_OFFSET` if it is too long ago."""
    append_ts_us: int
    index: int
    """Raft index of the entry while it is in flight, 0 once it is applied."""


class _Producer:
    __slots__ = ("epoch", "last_used_us", "next_sequence", "ring")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_sequence = 0
        self.last_used_us = 0
        self.ring = bytearray()

    def find(self, sequence: int, count: int) -> Duplicate | None:
        """Where committed records [sequence, sequence + count) are; None: they are not all in."""
        if sequence + count > self.next_sequence:
            return None
        first = self.next_sequence
        for at in range(len(self.ring) - _PLACED.size, -1, -_PLACED.size):
            stored, offset, ts = _PLACED.unpack_from(self.ring, at)
            first -= stored
            if first <= sequence:
                if sequence + count <= first + stored:
                    return Duplicate(offset + sequence - first, ts, 0)
                break
        return Duplicate(UNKNOWN_OFFSET, 0, 0)


class _Overlay:
    __slots__ = ("epoch", "flights", "next_sequence")

    def __init__(self) -> None:
        self.epoch = 0
        self.next_sequence = 0
        self.flights: list[_Flight] = []


class Producers:
    """The producers of one partition."""

    def __init__(self) -> None:
        self._table: OrderedDict[int, _Producer] = OrderedDict()
        self._system: dict[int, _Producer] = {}
        self._overlay: dict[int, _Overlay] = {}
        self._now_us = 0
        self._oldest_us = 0

    def __len__(self) -> int:
        return len(self._table) + len(self._system)

    def expected(self, id_: int) -> int | None:
        """The sequence that a producer's next batch has; None: the producer is not known."""
        state = self._overlay.get(id_) or self._known(id_)
        return None if state is None else state.next_sequence

    def forget(self, id_: int) -> None:
        """A producer of the brokers is gone for good."""
        self._system.pop(id_, None)

    def _known(self, id_: int) -> _Producer | None:
        return self._table.get(id_) if id_ < SYSTEM_PRODUCERS else self._system.get(id_)

    # ----- the leader, around appending

    def check(self, head: PublishHeader, skips_from: int = -1) -> Duplicate | None:
        """Whether a batch of an idempotent producer is new (None) or a duplicate.

        Args:
            head: what the batch says of itself.
            skips_from: the sequence that a system producer knows to be expected, when nothing
                before its batch will be sent any more.

        Raises:
            OutOfSequence, UnknownProducer, Fenced, BadRequest: it must not be appended.
        """
        _, id_, epoch, sequence, _ = head
        state: _Overlay | _Producer | None = (
            self._overlay.get(id_) or self._table.get(id_) or self._system.get(id_)
        )
        if state is not None and state.epoch == epoch and state.next_sequence == sequence:
            return None
        return self._judge(head, state, skips_from)

    def _judge(
        self, head: PublishHeader, state: _Overlay | _Producer | None, skips_from: int
    ) -> Duplicate | None:
        count, id_, epoch, sequence, _ = head
        if state is None:
            if sequence and id_ < SYSTEM_PRODUCERS:
                raise UnknownProducer(producer=id_)
            return None
        if epoch < state.epoch:
            raise Fenced(f"producer epoch {epoch} is over; {state.epoch} has begun", producer=id_)
        expected = state.next_sequence if epoch == state.epoch else 0
        if sequence == expected or expected == skips_from < sequence:
            return None
        if sequence > expected:
            raise OutOfSequence(
                f"sequence {sequence} came before {expected}", producer=id_, expected=expected
            )
        if sequence + count > expected:
            raise BadRequest(
                f"the batch at sequence {sequence} repeats and continues others",
                producer=id_,
                expected=expected,
            )
        return self._find(id_, epoch, sequence, count)

    def _find(self, id_: int, epoch: int, sequence: int, count: int) -> Duplicate:
        overlay = self._overlay.get(id_)
        if overlay is not None:
            for its_epoch, first, size, index, offset, ts in overlay.flights:
                within = first <= sequence and sequence + count <= first + size
                if within and its_epoch == epoch:
                    return Duplicate(offset + sequence - first, ts, index)
        producer = self._known(id_)
        if producer is not None and producer.epoch == epoch:
            found = producer.find(sequence, count)
            if found is not None:
                return found
        assert overlay is not None, "what is neither in flight nor committed is no duplicate"
        # It spans batches, or its producer was forgotten: it is in when the last one in flight is.
        return Duplicate(UNKNOWN_OFFSET, 0, overlay.flights[-1][3])

    def note_appended(
        self, head: PublishHeader, index: int, base_offset: int, append_ts_us: int
    ) -> None:
        """The leader appended a batch that `check` let pass."""
        count, id_, epoch, sequence, _ = head
        overlay = self._overlay.get(id_)
        if overlay is None:
            overlay = self._overlay[id_] = _Overlay()
        overlay.epoch = epoch
        overlay.next_sequence = sequence + count
        overlay.flights.append((epoch, sequence, count, index, base_offset, append_ts_us))

    def drop_overlay(self) -> None:
        """Forget what is in flight: the lead is lost."""
        self._overlay.clear()

    # ----- every replica, when a batch is applied

    def apply(self, head: PublishHeader, index: int, base_offset: int, append_ts_us: int) -> None:
        """Remember a committed batch. It is in the log: whatever it says is a fact by now."""
        count, id_, epoch, sequence, _ = head
        if self._overlay:
            self._land(id_, index)
        producer = self._table.get(id_)
        if producer is not None:
            self._table.move_to_end(id_)
        else:
            producer = self._system.get(id_) or self._admit(id_, epoch)
        ring = producer.ring
        if producer.epoch != epoch or producer.next_sequence != sequence:
            producer.epoch = epoch
            ring.clear()
        ring += _PLACED.pack(count, base_offset, append_ts_us)
        if len(ring) >= 2 * _RING_BYTES:
            del ring[:_RING_BYTES]  # by halves: that is cheaper than one batch each time
        producer.next_sequence = sequence + count
        if append_ts_us > self._now_us:
            self._now_us = append_ts_us
        producer.last_used_us = self._now_us
        if self._now_us - self._oldest_us > EXPIRY_US and id_ < SYSTEM_PRODUCERS:
            self._expire()

    def _land(self, id_: int, index: int) -> None:
        overlay = self._overlay.get(id_)
        if overlay is not None:
            flights = overlay.flights
            while flights and flights[0][3] <= index:
                del flights[0]
            if not flights:
                del self._overlay[id_]

    def _admit(self, id_: int, epoch: int) -> _Producer:
        if id_ >= SYSTEM_PRODUCERS:
            producer = self._system[id_] = _Producer(epoch)
            return producer
        if len(self._table) >= PRODUCERS_MAX:
            self._table.popitem(last=False)
        producer = self._table[id_] = _Producer(epoch)
        return producer

    def _expire(self) -> None:
        """Forget the silent ones. `_oldest_us` is a lower bound, so this rarely has work."""
        table = self._table
        limit = self._now_us - EXPIRY_US
        # The producer that was just used ends the search at the latest.
        while (oldest := next(iter(table.values()))).last_used_us < limit:
            table.popitem(last=False)
        self._oldest_us = oldest.last_used_us

    # ----- snapshots

    def rows(self) -> tuple[int, list[ProducerRow]]:
        """Log time, and the table in the order of last use, the brokers' own at its end."""
        rows = [
            (id_, p.epoch, p.next_sequence, p.last_used_us, bytes(p.ring))
            for table in (self._table, self._system)
            for id_, p in table.items()
        ]
        return self._now_us, rows

    def restore(self, now_us: int, rows: list[ProducerRow]) -> None:
        """Take over `rows`."""
        self._overlay.clear()
        self._table.clear()
        self._system.clear()
        self._now_us = now_us
        self._oldest_us = rows[0][3] if rows else now_us
        for id_, epoch, next_sequence, last_used_us, ring in rows:
            table = self._table if id_ < SYSTEM_PRODUCERS else self._system
            producer = table[id_] = _Producer(epoch)
            producer.next_sequence = next_sequence
            producer.last_used_us = last_used_us
            producer.ring += ring
