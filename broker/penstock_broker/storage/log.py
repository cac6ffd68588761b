"""A partition's log: committed data batches, appended in RAM, written to segments by jobs.

Invariants: offsets are dense; a batch is at every time in the RAM tail, in a segment file, or in
both; the log's start and end only grow; what is damaged is refused by name and the rest is served.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from penstock.errors import OffsetOutOfRange
from penstock.protocol.batch import FLAG_COMPACTED, BatchHeader, next_offset
from penstock_broker.storage import lookup, retention
from penstock_broker.storage.config import LogSettings, StorageConfig
from penstock_broker.storage.files import Buffer, File, Files
from penstock_broker.storage.index import SparseIndex
from penstock_broker.storage.index_cache import IndexCache
from penstock_broker.storage.reads import Cold, Damage, Memory, damaged, unreadable
from penstock_broker.storage.scan import Hole, servable, walk
from penstock_broker.storage.segment import Segment
from penstock_broker.storage.tail import Tail, TailBudget

_FOREVER = 1 << 62


@dataclass(slots=True)
class LogContext:
    """What all partitions of a store share."""

    files: Files
    config: StorageConfig
    budget: TailBudget
    cache: IndexCache
    due: dict[int, PartitionLog] = field(default_factory=dict)
    """Partitions with enough unwritten bytes for a segment write."""
    doomed: dict[int, PartitionLog] = field(default_factory=dict)
    """Partitions with segment files to remove."""
    found: list[Damage] = field(default_factory=list)
    """Damage that nobody was told of yet."""


class PartitionLog:
    """The log of one group; made by `Store.create_log` or by recovery."""

    def __init__(self, gid: int, context: LogContext, start_offset: int = 0) -> None:
        self.gid = gid
        self.start_offset = start_offset
        self.end_offset = start_offset
        self.last_index = 0
        """Raft index of the newest batch: what has a lower one is held already."""
        self.last_append_ts_us = 0
        self.size_bytes = 0
        self.damages: list[Damage] = []
        self.segments: list[Segment] = []
        self.bases: list[int] = []
        self.tail = Tail(context.budget)
        self.on_disk = False
        """Whether the partition's directory exists durably."""
        self.names_durable = True
        """False when recovery found a file whose name may not have been synced."""
        self.doomed: list[int] = []
        """Base offsets of segments that are no longer part of the log; their files go."""
        self.durable_base = 0
        """Base offset of the segment in which the checkpoint's position lies."""
        self.segment_bytes = context.config.segment_bytes
        self.segment_us = _FOREVER
        self.compacts = False
        self.delete_retention_us = 0
        self.compacted_to = 0
        """Offset below which a compaction pass has been."""
        self.keeps_tombstones = False
        """A batch could not be compacted: a tombstone may still have something to hide."""
        self.passing = False
        """Whether what is appended now is a copy of old records that nobody reads soon: it would
        only push out of the operating system's memory what is read."""
        self._replaced: list[int] = []
        """Segments that a reset took out of the log: they go when a checkpoint knows of it."""
        self._context = context
        self._config = context.config
        self._interval = context.config.index_interval_bytes
        self._write_bytes = context.config.write_bytes
        self.save_index_bytes = context.config.save_index_bytes
        self._active: Segment | None = None

    @property
    def segment_count(self) -> int:
        return len(self.segments)

    def append(self, buffer: Buffer, header: BatchHeader) -> None:
        """Add a committed, stamped data batch; one that is held already is passed over."""
        base = header.base_offset
        if header.flags & FLAG_COMPACTED:
            following = next_offset(buffer, header)
        else:
            following = base + header.record_count
        self.append_at(buffer, header.log_index, base, following, header.append_ts_us)

    def append_at(
        self, buffer: Buffer, index: int, base: int, following: int, append_ts_us: int
    ) -> None:
        """As `append`, for a caller that knows what the header says."""
        if index <= self.last_index:
            return
        assert base == self.end_offset, "offsets are dense"
        size = len(buffer)
        segment = self._active
        if (
            segment is None
            or segment.size + size > self.segment_bytes
            or append_ts_us - segment.first_time_us > self.segment_us
        ):
            segment = self.roll(base, append_ts_us)
        segment.extend(size, base, following, index, append_ts_us, self._interval)
        self.end_offset = following
        self.last_index = index
        if append_ts_us > self.last_append_ts_us:
            self.last_append_ts_us = append_ts_us
        self.size_bytes += size
        tail = self.tail
        tail.append(base, buffer)
        if tail.end - tail.written >= self._write_bytes:
            self._context.due[self.gid] = self

    def configure(self, settings: LogSettings) -> None:
        """Take the topic's settings; they hold from the next append on."""
        self.segment_bytes = min(settings.segment_bytes, self._config.segment_bytes)
        self.segment_us = settings.segment_ms * 1000
        self.compacts = settings.cleanup == "compact"
        self.delete_retention_us = settings.delete_retention_ms * 1000

    def roll(self, base_offset: int, time_us: int) -> Segment:
        """Begin a segment; the one before is sealed."""
        active = self._active
        if active is not None:
            active.sealed = True
            self._context.due[self.gid] = self
        segment = Segment(self.gid, base_offset, self.tail.end)
        segment.first_time_us = time_us
        segment.index = SparseIndex()
        self.adopt(segment)
        return segment

    def adopt(self, segment: Segment) -> None:
        """Take a segment as the newest."""
        self.segments.append(segment)
        self.bases.append(segment.base_offset)
        self._active = segment

    def unfinished(self) -> list[Segment]:
        """Segments that are not sealed on disk yet, oldest first; the active one is the last."""
        at = len(self.segments)
        while at and not self.segments[at - 1].indexed:
            at -= 1
        return self.segments[at:]

    def behind(self) -> bool:
        """Whether a segment write is due."""
        unwritten = self.tail.end - self.tail.written
        return unwritten >= self._config.write_bytes or len(self.unfinished()) > 1

    def trim(self, new_start: int) -> None:
        """Raise the start of the log after a committed trim; whole segments below it go."""
        if new_start <= self.start_offset:
            return
        assert new_start <= self.end_offset, "a log is not trimmed beyond its end"
        self.start_offset = new_start
        self.damages = [damage for damage in self.damages if damage.end_offset > new_start]
        self._drop_trimmed()

    def vouched(self, segment_base: int) -> None:
        """A checkpoint vouches for the log up to somewhere in this segment."""
        self.durable_base = segment_base
        if segment_base >= self.start_offset:
            self.doomed += self._replaced
            self._replaced = []
        self._drop_trimmed()

    def reset(self, start_offset: int, last_index: int) -> None:
        """Begin anew behind what a snapshot covers; to be followed by `Store.install`."""
        assert start_offset >= self.end_offset, "a log is not reset to offsets that it holds"
        self._replaced += self.bases
        self._forget_all()
        self.segments, self.bases, self._active = [], [], None
        self.start_offset = self.end_offset = start_offset
        self.last_index = last_index
        self.size_bytes = 0
        self.damages = []

    def _forget_all(self) -> None:
        self.tail.clear()
        for segment in self.segments:
            self._context.cache.forget(self.gid, segment.base_offset)

    def _drop_trimmed(self) -> None:
        """Drop segments below the start; never the one that recovery would start from."""
        limit = min(self.start_offset, self.durable_base)
        count = bisect_right(self.bases, limit) - 1
        if count > 0:
            for segment in self.segments[:count]:
                self._context.cache.forget(self.gid, segment.base_offset)
                self.size_bytes -= segment.size
            self.doomed += self.bases[:count]
            del self.segments[:count], self.bases[:count]
        if self.doomed:
            self._context.doomed[self.gid] = self

    def discard(self) -> None:
        """Drop all of it from RAM: the group was deleted.

        Its open files too, or the disk keeps what is in them for as long as anybody refers to the
        log.
        """
        self._forget_all()
        self.segments, self.bases, self._active = [], [], None
        self._context.due.pop(self.gid, None)
        self._context.doomed.pop(self.gid, None)

    def drop_newest(self) -> None:
        """Forget the newest segment, which recovery found empty."""
        self.segments.pop()
        self.bases.pop()
        self._active = self.segments[-1] if self.segments else None
        if self._active is not None:
            self._active.sealed = False

    def read(self, offset: int, max_bytes: int) -> Memory | Cold:
        """Where the batches from `offset` on are; at the end of the log nothing: Memory([]).

        At least one batch, then as many whole ones as fit into `max_bytes`.

        Raises:
            OffsetOutOfRange: below the start of the log or beyond its end.
            CorruptData: the bytes of this offset are damaged.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(
                f"offset {offset} is outside {self.start_offset} to {self.end_offset}",
                start_offset=self.start_offset,
                end_offset=self.end_offset,
            )
        if self.damages:
            self._refuse_damage(offset)
        if len(self.tail) and offset >= self.tail.first_offset:
            if offset == self.end_offset:
                return Memory([])
            return Memory(self.tail.read(offset, max_bytes))
        if offset == self.end_offset:
            return Memory([])
        return self._cold(offset, max_bytes)

    def _refuse_damage(self, offset: int) -> None:
        for damage in self.damages:
            if damage.start_offset <= offset < damage.end_offset:
                raise damaged(damage)

    def written_bytes(self, segment: Segment) -> int:
        """Bytes of a segment that its file holds."""
        return min(segment.size, self.tail.written - segment.start)

    def _cold(self, offset: int, max_bytes: int) -> Cold:
        at = bisect_right(self.bases, offset) - 1
        if at < 0:
            raise damaged(self.mark_missing(offset, self.bases[0]))
        segment = self.segments[at]
        index = self.index_of(segment)
        if self.damages:
            self._refuse_damage(offset)  # making the index may have found it
        if offset >= segment.end_offset or not len(index):
            following = self.bases[at + 1] if at + 1 < len(self.bases) else self.end_offset
            raise damaged(self.mark_missing(offset, following))
        place = index.for_offset(offset)
        written = self.written_bytes(segment)
        end = written if place.end is None else min(place.end + max_bytes, written)
        file = self.open_segment(segment)
        first = index.offsets[bisect_right(index.offsets, offset) - 1]
        return Cold(file, place.position, end - place.position, segment.base_offset, first)

    def replaced(self, segment: Segment, size: int) -> None:
        """Compaction put a smaller file in the place of a segment's."""
        self._context.cache.forget(self.gid, segment.base_offset)
        if segment in self.segments:
            self.size_bytes += size - segment.size
        segment.size = segment.synced = size
        segment.rewrites += 1

    def open_segment(self, segment: Segment) -> File:
        """The segment's file.

        Raises:
            CorruptData: it can't be opened.
        """
        try:
            return self._context.cache.open(segment)
        except OSError as error:
            raise unreadable(segment.path, error) from error

    def mark_missing(self, offset: int, following: int) -> Damage:
        """Offsets that no segment file holds."""
        at = max(bisect_right(self.bases, offset) - 1, 0)
        segment = self.segments[at]
        damage = Damage(offset, following, segment.path, segment.size, 0)
        return self.mark(damage)

    def mark(self, damage: Damage) -> Damage:
        """Refuse a range of offsets from now on."""
        if damage not in self.damages:
            self.damages.append(damage)
            self._context.found.append(damage)
        return damage

    def segment_of(self, damage: Damage) -> Segment | None:
        """The segment whose file is damaged, if it is still part of the log."""
        for segment in self.segments:
            if segment.path == damage.file:
                return segment
        return None

    def repaired(self, damage: Damage, segment: Segment) -> None:
        """The bytes of a damaged range are there again."""
        self.damages = [one for one in self.damages if one != damage]
        self._context.cache.forget(self.gid, segment.base_offset)

    def finish_read(self, cold: Cold, data: Buffer, offset: int, max_bytes: int) -> list[Buffer]:
        """Cut what a cold read brought to whole, verified batches from the wanted offset on.

        Raises:
            CorruptData: the batch with the wanted offset is damaged; the range is refused from
                now on.
        """
        first, last = servable(data, cold.offset, offset, max_bytes)
        if first < 0:
            return self._read_around(cold, offset, max_bytes)
        return [memoryview(data)[first:last]]

    def _read_around(self, cold: Cold, offset: int, max_bytes: int) -> list[Buffer]:
        """Name the damage that a read met; serve the batch if it lies behind it."""
        at = bisect_right(self.bases, offset) - 1
        if at < 0 or self.bases[at] != cold.base_offset:
            raise OffsetOutOfRange(f"offset {offset} was trimmed", start_offset=self.start_offset)
        segment = self.segments[at]
        try:
            # A compacted segment has a new file; the read still has the old one.
            end = cold.file.size() if segment.sealed else self.written_bytes(segment)
            for piece in walk(cold.file, cold.position, end, cold.offset):
                if isinstance(piece, Hole):
                    damage = self.mark_hole(segment, piece)
                    if offset < damage.end_offset:
                        raise damaged(damage)
                elif piece.next_offset > offset:
                    data = cold.file.pread(piece.end - piece.position, piece.position)
                    again = cold._replace(position=piece.position, offset=piece.base_offset)
                    return self.finish_read(again, data, offset, max_bytes)
        except OSError as error:
            raise unreadable(segment.path, error) from error
        raise damaged(self.mark_missing(offset, segment.end_offset))

    def mark_hole(self, segment: Segment, hole: Hole) -> Damage:
        """Refuse what a walk could not read."""
        following = hole.next_offset if hole.next_offset is not None else segment.end_offset
        return self.mark(
            Damage(
                hole.base_offset, following, segment.path, hole.position, hole.end - hole.position
            )
        )

    def retention_point(
        self,
        now_us: int,
        retention_us: int,
        retention_bytes: int,
        floor_offset: int | None = None,
    ) -> int | None:
        """Where the log should start now, or None when nothing is to go; negative: no limit.

        Nothing at or above `floor_offset` goes: what a group still needs.
        """
        point = max(
            retention.by_time(self, now_us - retention_us) if retention_us >= 0 else 0,
            retention.by_size(self, retention_bytes) if retention_bytes >= 0 else 0,
        )
        if floor_offset is not None:
            point = min(point, floor_offset)
        return point if point > self.start_offset else None

    def offset_at(self, time_us: int) -> int:
        """Offset of the first batch appended at or after a time; the end when there is none.

        Reads at most about one index interval from disk.
        """
        return lookup.offset_at(self, time_us)

    def index_of(self, segment: Segment) -> SparseIndex:
        """A segment's index, loaded or rebuilt when needed."""
        try:
            return self._context.cache.get(segment, self.mark_hole)
        except OSError as error:
            raise unreadable(segment.path, error) from error
