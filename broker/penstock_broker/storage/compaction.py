"""Key compaction: of each key only the newest record stays, in segments that no longer change.

A pass has two phases. It first notes the newest offset of every key in the part of the log that no
pass has seen, then rewrites sealed segments, oldest first, without the records that a newer one
replaces and without tombstones past their time. Invariants:
- Offsets stay, and the log stays contiguous: a rewritten batch says which offsets it covers.
- A tombstone goes only when no older record of its key can be left: not while anything in the log
  could not be read or rewritten.
- A pass works off the owner's thread; meanwhile the owner reads the segment that is rewritten
  through a descriptor and an index that were opened before (`Pass.pin`).
- At any moment a stop leaves the old file or the new one, each whole (see `rewrite.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import ClassVar, Final

from penstock.errors import BadRequest, CorruptBatch, CorruptData, RecordTooLarge
from penstock.protocol.records import RecordBatch, encode_compacted
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import File, Files
from penstock_broker.storage.index import SparseIndex
from penstock_broker.storage.index_cache import build_index, read_index_file
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.rewrite import Rewrite
from penstock_broker.storage.scan import Hole, walk
from penstock_broker.storage.segment import Segment

_DIRTY_SHARE: Final = 2  # a pass begins when the dirty part is half of what it would rewrite
_DIGEST_BYTES: Final = 16
_REFUSED = (CorruptBatch, RecordTooLarge, BadRequest)


class Pass:
    """One pass over a partition; `step` does a bounded piece of it and is called from jobs."""

    def __init__(self, log: PartitionLog, files: Files, config: StorageConfig) -> None:
        self.log = log
        self.segments = [one for one in log.segments if compactable(log, one)]
        self.pin: tuple[Segment, File, SparseIndex] | None = None
        """What the owner is to read a segment through while it is rewritten."""
        self.swapped: list[tuple[Segment, int]] = []
        """Segments with a new file, and its size; the owner takes them out."""
        self.finished = False
        self.cut = False
        """Whether there were more keys than fit: another pass goes on."""
        self.intact = not log.keeps_tombstones
        """Whether all that was met so far could be read and rewritten."""
        self._covered = log.compacted_to
        """Offset below which every key is in `_newest` or was compacted before."""
        self._from = log.compacted_to
        self._files = files
        self._config = config
        self._newest: dict[bytes, int] = {}
        self._tombstones_before_us = log.last_append_ts_us - log.delete_retention_us
        self._room = 0
        self._steps = self._run()

    @property
    def valid(self) -> bool:
        """Whether all segments of the pass are still part of the log."""
        return set(self.segments) <= set(self.log.segments)

    @property
    def covered(self) -> int:
        """The offset up to which the log is compacted when the pass is done."""
        return self._covered

    def step(self) -> None:
        """A bounded piece of work; blocks.

        Raises:
            OSError: a read or write failed.
        """
        self._room = self._config.scrub_bytes
        self.finished = next(self._steps, True)

    def _run(self) -> Iterator[bool]:
        """Yield False where a step may end."""
        for segment in self.segments:
            if segment.end_offset > self._from and not self.cut:
                yield from self._note(segment)
        for segment in self.segments:
            if segment.base_offset < self._covered and (yield from self._differs(segment)):
                self.pin = self._pin(segment)
                yield False  # the owner takes the pin
                yield from self._rewrite(segment)
                yield False  # and the new size

    def _batches(self, segment: Segment) -> Iterator[tuple[RecordBatch, bytes]]:
        """The batches of a segment.

        Raises:
            CorruptData: the segment is damaged: it is left alone.
        """
        file = self._files.open(segment.path)
        for piece in walk(file, 0, segment.size, segment.base_offset):
            if isinstance(piece, Hole):
                raise CorruptData(f"{segment.path} is damaged at {piece.position}")
            data = file.pread(piece.end - piece.position, piece.position)
            try:
                yield RecordBatch(data, verify=False), data
            except CorruptBatch as error:
                raise CorruptData(f"{segment.path}: {error}") from error

    def _spent(self, data: bytes) -> bool:
        """Whether the step has read as much as it may."""
        self._room -= len(data)
        return self._room <= 0

    def _note(self, segment: Segment) -> Iterator[bool]:
        """Note the keys of a segment, as far as there is room for them."""
        try:
            for batch, data in self._batches(segment):
                if batch.next_offset > self._from:
                    if len(self._newest) >= self._config.compaction_keys_max:
                        self.cut = True
                        return
                    self._note_batch(batch)
                if self._spent(data):
                    yield False
        except CorruptData:
            self.intact = False
        self._covered = segment.end_offset

    def _note_batch(self, batch: RecordBatch) -> None:
        try:
            for offset, key in zip(batch.offsets, batch.keys, strict=True):
                if key is not None:
                    self._newest[_name(key)] = offset
        except CorruptBatch:
            self.intact = False  # nobody can read it: it is kept as it is
        self._covered = batch.next_offset

    def _differs(self, segment: Segment) -> Generator[bool, None, bool]:
        """Whether a rewrite would leave anything out."""
        try:
            for batch, data in self._batches(segment):
                if self._keep(batch) is not None:
                    return True
                if self._spent(data):
                    yield False
        except CorruptData:
            self.intact = False
        return False

    def _pin(self, segment: Segment) -> tuple[Segment, File, SparseIndex]:
        file = self._files.open(segment.path)
        read = read_index_file(self._files, segment)
        if read is None:
            ignore = lambda segment, hole: None  # noqa: E731 - a walk with bodies found none
            read = build_index(file, segment, segment.size, self._config, ignore)
        return segment, file, read[0]

    def _rewrite(self, segment: Segment) -> Iterator[bool]:
        out = Rewrite(self._files, segment, self._config)
        try:
            for batch, data in self._batches(segment):
                self._carry_over(batch, data, out)
                if self._spent(data):
                    yield False
            out.finish()
        except CorruptData:
            self.intact = False
            out.drop()
            return
        except OSError:
            out.drop()
            raise
        out.swap()
        self.swapped.append((segment, out.size))
        out.write_index()

    def _carry_over(self, batch: RecordBatch, data: bytes, out: Rewrite) -> None:
        kept = self._keep(batch)
        if kept == [] or not len(batch):
            out.leave_out(batch.header, batch.next_offset)
            return
        if kept is not None:
            try:
                data = bytes(encode_compacted(batch, kept))
            except _REFUSED:
                self.intact = False
        out.add(data, batch.header)

    def _keep(self, batch: RecordBatch) -> list[int] | None:
        """Positions of the records that stay; None when all do."""
        newest = self._newest
        try:
            old = (
                self.intact
                and batch.header.append_ts_us < self._tombstones_before_us
                and batch.next_offset <= self._covered
            )
            kept = [
                at
                for at, (offset, key, value) in enumerate(
                    zip(batch.offsets, batch.keys, batch.values, strict=True)
                )
                if key is None
                or (newest.get(_name(key), -1) <= offset and not (value is None and old))
            ]
        except CorruptBatch:
            self.intact = False
            return None
        return kept if len(kept) < len(batch) else None


def _name(key: bytes) -> bytes:
    """A key as a pass remembers it: a short one itself, a long one by its digest."""
    if len(key) < _DIGEST_BYTES:
        return key
    return hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()


class CompactJob(Job):
    """One step of a pass."""

    name: ClassVar[str] = "compaction"
    waits_for_space: ClassVar[bool] = True

    def __init__(self, compactor: Compactor, running: Pass, released: list[File]) -> None:
        super().__init__()
        self.running = running
        self._compactor = compactor
        self._released = released

    def work(self) -> None:
        self._released.clear()
        self.running.step()

    def finish(self) -> Flushed:
        self._compactor.stepped(self)
        return []


class ReleaseJob(Job):
    """Lets go of files that compaction replaced, after the last step of a pass."""

    name: ClassVar[str] = "release of replaced files"

    def __init__(self, released: list[File]) -> None:
        super().__init__()
        self._released = released

    def work(self) -> None:
        self._released.clear()

    def finish(self) -> Flushed:
        return []


class Compactor:
    """Chooses the partition that needs a pass most, and takes in what passes did."""

    def __init__(self, logs: dict[int, PartitionLog], files: Files, config: StorageConfig) -> None:
        self._logs = logs
        self._files = files
        self._config = config
        self._running: Pass | None = None
        self._pinned: Segment | None = None
        self._unpinned: list[File] = []
        self.passes = 0

    def take_job(self) -> Job | None:
        """The next step; None when no partition needs one."""
        running = self._running
        if running is not None and not self._goes_on(running):
            self._end()
        if self._running is None:
            log = next((log for log in self._logs.values() if needs_pass(log)), None)
            if log is None:
                return ReleaseJob(self._released()) if self._unpinned else None
            self._running = Pass(log, self._files, self._config)
        return CompactJob(self, self._running, self._released())

    def _released(self) -> list[File]:
        """Files whose last reference is to go in a job: that frees their space, which blocks."""
        released, self._unpinned = self._unpinned, []
        return released

    def _goes_on(self, running: Pass) -> bool:
        """Whether the log is still there, with all its segments: no trim and no snapshot."""
        return self._logs.get(running.log.gid) is running.log and running.valid

    def stepped(self, job: CompactJob) -> None:
        """Take in what a step did; a full disk ends the pass, and a later one begins anew."""
        running = job.running
        self._take_over(running)
        if running.finished or job.full:
            self._end()
        log = running.log
        log.keeps_tombstones = log.keeps_tombstones or not running.intact
        if running.finished:
            log.compacted_to = max(log.compacted_to, running.covered)
            self.passes += 1
            if running.cut:
                self._running = Pass(log, self._files, self._config)

    def _take_over(self, running: Pass) -> None:
        """Have the owner read new files, and pin the one that is rewritten next."""
        while running.swapped:
            segment, size = running.swapped.pop()
            self._unpin()
            running.log.replaced(segment, size)
        if running.pin is not None:
            self._unpin()
            segment, segment.file, segment.index = running.pin
            self._pinned, running.pin = segment, None

    def _unpin(self) -> None:
        if self._pinned is not None:
            if self._pinned.file is not None:
                self._unpinned.append(self._pinned.file)
            self._pinned.file = self._pinned.index = None
            self._pinned = None

    def _end(self) -> None:
        self._unpin()
        self._running = None


def compactable(log: PartitionLog, segment: Segment) -> bool:
    """Whether a segment no longer changes and recovery never reads on from inside it."""
    return segment.indexed and segment.base_offset < log.durable_base


def needs_pass(log: PartitionLog) -> bool:
    """Whether half of what a pass would rewrite is new."""
    if not log.compacts:
        return False
    sealed = [segment for segment in log.segments if compactable(log, segment)]
    dirty = sum([one.size for one in sealed if one.end_offset > log.compacted_to])
    return dirty > 0 and dirty * _DIRTY_SHARE >= sum([one.size for one in sealed])
