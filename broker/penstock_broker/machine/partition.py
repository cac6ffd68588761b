"""The machine of a data partition: lineage epoch, offsets, and which batches are duplicates.

The leader asks `check` before it appends a batch, and tells `note_appended` after; every replica
calls `apply_batch` for each committed batch, in order. Both sides of a change of leader see the
same: the verdict comes from applied batches plus the overlay of those that are appended and not
yet applied, and a leader serves only when the overlay of its predecessor is applied or gone.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock.errors import BadRequest, CorruptBatch, LimitExceeded, OffsetOutOfRange
from penstock.protocol.batch import (
    FLAG_COMPACTED,
    SYSTEM_PRODUCERS,
    BatchHeader,
    Buffer,
    PublishHeader,
    next_offset,
)
from penstock_broker.machine import encoding
from penstock_broker.machine.commands import (
    Command,
    Configure,
    ConfigureShared,
    DropSchedule,
    HoldFloor,
    PauseSchedule,
    PutSchedule,
    Refused,
    RemoveShared,
    ShareOps,
    SkipSchedule,
    Trim,
    refuse,
)
from penstock_broker.machine.config import KEYS, TopicConfig
from penstock_broker.machine.dedup import DedupRow, DedupWindow, dedup_id_of
from penstock_broker.machine.effects import Effect, LogStartMoved
from penstock_broker.machine.producers import Duplicate, ProducerRow, Producers
from penstock_broker.machine.schedules import (
    Schedule,
    ScheduleReply,
    Schedules,
)
from penstock_broker.machine.sharing.arrivals import deliver_at_of
from penstock_broker.machine.sharing.group import GroupRow
from penstock_broker.machine.sharing.sharing import Sharing, SharingReply
from penstock_broker.machine.stamp import Stamp

FLOORS_MAX: Final = 1_000
_VERSION: Final = 1


class Trimmed(Struct, frozen=True):
    """Replies to `Trim`."""

    log_start_offset: int


class Configured(Struct, frozen=True):
    """Replies to `Configure`."""


class FloorHeld(Struct, frozen=True):
    """Replies to `HoldFloor`: the lowest offset that any group still needs."""

    floor: int | None


PartitionReply = Refused | Trimmed | Configured | FloorHeld | ScheduleReply | SharingReply


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    epoch: int
    log_start_offset: int
    end_offset: int
    dedup_window_us: int
    floors: list[tuple[str, int]]
    producers_now_us: int
    producers: list[ProducerRow]
    dedup_now_us: int
    dedup: list[DedupRow]
    schedules: list[Schedule] = []
    shared: list[GroupRow] = []


_DECODER: Final = encoding.decoder_of(_State)


class PartitionMachine:
    """A data partition's machine.

    Attributes:
        epoch: how many leaders the partition's lineage has had.
        log_start_offset: first offset that is not deleted.
        end_offset: the offset after the last applied batch.
        sharing: the shared groups.
        schedules: what is published again and again.
    """

    __slots__ = ("_dedup", "_floors", "_producers", "end_offset", "epoch", "log_start_offset",
                 "schedules", "sharing")  # fmt: skip

    def __init__(self) -> None:
        self.epoch = 0
        self.log_start_offset = 0
        self.end_offset = 0
        self.sharing = Sharing()
        self._floors: dict[str, int] = {}
        self._producers = Producers()
        self._dedup = DedupWindow(TopicConfig().dedup_window_ms * 1000)
        self.schedules = Schedules(self._producers.forget)

    @property
    def producers(self) -> int:
        """How many idempotent producers are remembered."""
        return len(self._producers)

    @property
    def dedup_ids(self) -> int:
        """How many dedup ids are remembered."""
        return len(self._dedup)

    @property
    def dedup_window_ms(self) -> int:
        """The window as configured; the leader proposes `Configure` when the topic's differs."""
        return self._dedup.window_us // 1000

    @property
    def floor(self) -> int | None:
        """Lowest offset that a group still needs; None: no group said so."""
        floors = list(self._floors.values())
        shared = self.sharing.floor
        return min(floors if shared is None else [*floors, shared], default=None)

    # ----- the leader, around appending

    def check(
        self, head: PublishHeader, batch: Buffer, now_us: int = 0, skips_from: int = -1
    ) -> Duplicate | None:
        """Judge a batch that is to be appended: None means that it is new.

        With the time given, a dedup id counts only within its window. A batch without producer id
        and extension fields is always new; asking is not needed. `skips_from`: see
        `Producers.check`.

        Raises:
            OutOfSequence, UnknownProducer, Fenced, BadRequest, CorruptBatch: it must not be
                appended.
        """
        _, id_, _, _, ext_len = head
        if ext_len:
            dedup_id = dedup_id_of(batch, ext_len)
            if dedup_id and id_:
                # A duplicate id would leave a gap in the producer's sequence.
                raise BadRequest("a batch has a producer id or a dedup id, not both")
            if dedup_id:
                return self._dedup.check(dedup_id, now_us)
        return self._producers.check(head, skips_from) if id_ else None

    def expected(self, producer_id: int) -> int | None:
        """The sequence that a producer's next batch has; None: the producer is not known."""
        return self._producers.expected(producer_id)

    def note_appended(
        self,
        head: PublishHeader,
        index: int,
        base_offset: int,
        append_ts_us: int,
        batch: Buffer | None = None,
    ) -> None:
        """The leader appended a batch that `check` let pass.

        The batch itself is needed only if it has extension fields.
        """
        _, id_, _, _, ext_len = head
        if id_:
            self._producers.note_appended(head, index, base_offset, append_ts_us)
        elif ext_len and batch is not None:
            dedup_id = dedup_id_of(batch, ext_len)
            if dedup_id:
                self._dedup.note_appended(dedup_id, index, base_offset, append_ts_us)

    def drop_overlay(self) -> None:
        """The lead is lost: what was appended and is not committed may never be."""
        self._producers.drop_overlay()
        self._dedup.drop_overlay()

    # ----- every replica, in log order

    def apply_noop(self, at: Stamp) -> int:
        """A new leader's first entry: its records belong to the next epoch, which is returned."""
        self.epoch += 1
        return self.epoch

    def apply_batch(self, header: BatchHeader, batch: Buffer) -> None:
        """A DATA batch is committed."""
        head = (
            header.record_count,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.ext_len,
        )
        self.apply_appended(head, header.log_index, header.base_offset, header.append_ts_us, batch)
        if header.flags & FLAG_COMPACTED:
            self.end_offset = next_offset(batch, header)
            if self.sharing.collecting:
                self.sharing.appended(self.end_offset, 0)

    def apply_appended(
        self, head: PublishHeader, index: int, base_offset: int, append_ts_us: int, batch: Buffer
    ) -> None:
        """As `apply_batch`, on the leader that appended the batch and knows what it says."""
        count, id_, _, _, ext_len = head
        self.end_offset = base_offset + count
        if id_:
            self._producers.apply(head, index, base_offset, append_ts_us)
            if id_ >= SYSTEM_PRODUCERS:
                self.schedules.fired(id_, ext_len, batch)
        elif ext_len:
            self._apply_dedup_id(ext_len, base_offset, append_ts_us, batch)
        if self.sharing.collecting:
            self.sharing.appended(self.end_offset, deliver_at_of(batch, ext_len))

    def _apply_dedup_id(
        self, ext_len: int, base_offset: int, append_ts_us: int, batch: Buffer
    ) -> None:
        try:
            dedup_id = dedup_id_of(batch, ext_len)
        except CorruptBatch:
            return  # committed is committed; every replica sees the same bytes
        if dedup_id:
            self._dedup.apply(dedup_id, base_offset, append_ts_us)

    def apply(self, command: Command, at: Stamp) -> tuple[PartitionReply, list[Effect]]:
        """Carry out a committed command."""
        match command:
            case Trim(offset=offset):
                return self._trim(offset)
            case Configure(dedup_window_ms=window_ms):
                return self._configure(window_ms), []
            case HoldFloor():
                return self._hold_floor(command), []
            case PutSchedule() | PauseSchedule() | SkipSchedule() | DropSchedule():
                return self.schedules.apply(command)
            case ShareOps() | ConfigureShared() | RemoveShared():
                return self.sharing.apply(command, at, self.log_start_offset, self.end_offset)
        return refuse(BadRequest, f"a partition takes no {type(command).__name__}"), []

    def _trim(self, offset: int) -> tuple[PartitionReply, list[Effect]]:
        if not 0 <= offset <= self.end_offset:
            return refuse(
                OffsetOutOfRange,
                f"can't trim to {offset}: the log ends at {self.end_offset}",
                log_start_offset=self.log_start_offset,
                end_offset=self.end_offset,
            ), []
        if offset <= self.log_start_offset:
            return Trimmed(self.log_start_offset), []
        self.log_start_offset = offset
        return Trimmed(offset), [LogStartMoved(offset), *self.sharing.trimmed(offset)]

    def _configure(self, window_ms: int) -> PartitionReply:
        high = KEYS["dedup_window_ms"].high
        if not 0 <= window_ms <= high:
            return refuse(BadRequest, f"a dedup window has at most {high} ms")
        self._dedup.configure(window_ms * 1000)
        return Configured()

    def _hold_floor(self, command: HoldFloor) -> PartitionReply:
        floors, group, offset = self._floors, command.group, command.offset
        if offset is None:
            floors.pop(group, None)
        elif not 0 <= offset < 1 << 63:
            return refuse(BadRequest, f"{offset} is no offset")
        elif group not in floors and len(floors) >= FLOORS_MAX:
            return refuse(
                LimitExceeded, f"at most {FLOORS_MAX} groups can hold a partition's records"
            )
        else:
            floors[group] = offset
        return FloorHeld(self.floor)

    # ----- snapshots

    def snapshot(self) -> bytes:
        """The committed state; equal on all replicas that applied the same entries."""
        producers_now_us, producers = self._producers.rows()
        dedup_now_us, dedup = self._dedup.rows()
        state = _State(
            self.epoch,
            self.log_start_offset,
            self.end_offset,
            self._dedup.window_us,
            sorted(self._floors.items()),
            producers_now_us,
            producers,
            dedup_now_us,
            dedup,
            self.schedules.all(),
            self.sharing.rows(),
        )
        return encoding.encode(_VERSION, state)

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot; the overlay is gone.

        Raises:
            UnsupportedFormat, CorruptData: it can't be read; the state is as before.
        """
        state: _State = encoding.decode(_VERSION, _DECODER, blob, "a partition snapshot")
        self.sharing.restore(state.shared)
        self.epoch = state.epoch
        self.log_start_offset = state.log_start_offset
        self.end_offset = state.end_offset
        self._floors = dict(state.floors)
        self._producers.restore(state.producers_now_us, state.producers)
        self._dedup.window_us = state.dedup_window_us
        self._dedup.restore(state.dedup_now_us, state.dedup)
        self.schedules.restore(state.schedules)
