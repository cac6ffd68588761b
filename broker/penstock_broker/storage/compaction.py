"""Key compaction: of each key only the newest value stays, in segments that no longer change.

A pass has two phases. It first notes the newest offset of every key in the part of the log that no
pass has seen ("dirty"), then rewrites all sealed segments, oldest first, without the records that a
newer one replaces and without tombstones past their time. Offsets stay: a rewritten batch says
which ones it covers. A rewritten segment is made durable beside the old one and takes its name by a
rename, so a stop at any moment leaves one or the other; a reader of the old file keeps it. Work is
done in bounded steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from penstock.errors import CorruptData
from penstock.protocol.records import RecordBatch
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import File, Files
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.rewrite import Rewrite, readable
from penstock_broker.storage.scan import Hole, walk
from penstock_broker.storage.segment import Segment

_DIRTY_SHARE: Final = 2  # a pass begins when the dirty part is half of what it would rewrite


class Pass:
    """One pass over a partition; `step` does a bounded piece of it and is called from jobs."""

    def __init__(self, log: PartitionLog, files: Files, config: StorageConfig) -> None:
        self.log = log
        self.segments = [one for one in log.segments if compactable(log, one)]
        self._files = files
        self._config = config
        self._dirty = [one for one in self.segments if one.end_offset > log.compacted_to]
        self._newest: dict[bytes, int] = {}
        self._covered = log.compacted_to
        """Offsets below it are in `newest` or were compacted before."""
        self.more = False
        """Whether there were more keys than fit into RAM: another pass goes on there."""
        self._intact = True
        """False when a segment could not be read: then all tombstones stay."""
        self._tombstones_before_us = log.last_append_ts_us - log.delete_retention_us
        self.swapping: Segment | None = None
        """The segment whose file is replaced in the next step."""
        self.rewritten: list[tuple[Segment, Rewrite]] = []
        self.finished = False
        self._steps = self._run()

    def step(self) -> None:
        """A bounded piece of work; blocks."""
        self.finished = next(self._steps, True)

    def _run(self) -> Iterator[bool]:
        for segment in self._dirty:
            if not self.more:
                yield from self._note_keys(segment)
        for segment in self.segments:
            if segment.base_offset < self._covered:
                yield from self._rewrite(segment)

    def _batches(self, segment: Segment) -> Iterator[tuple[RecordBatch, bytes] | None]:
        """Batches of a segment; None where a step may end.

        Raises:
            CorruptData: the segment is damaged: it is left alone.
        """
        file: File = self._files.open(segment.path)
        done = 0
        for piece in walk(file, 0, segment.size, segment.base_offset):
            if isinstance(piece, Hole):
                raise CorruptData(f"{segment.path} is damaged at {piece.position}")
            data = file.pread(piece.end - piece.position, piece.position)
            yield RecordBatch(data, verify=False), data
            done += len(data)
            if done >= self._config.scrub_bytes:
                done = 0
                yield None

    def _note_keys(self, segment: Segment) -> Iterator[bool]:
        try:
            for item in self._batches(segment):
                if item is None:
                    yield False
                elif len(self._newest) >= self._config.compaction_keys_max:
                    self.more = True
                    return
                elif item[0].next_offset > self._covered:
                    self._note_batch(item[0])
        except CorruptData:
            self._intact = False
            return
        self._covered = max(self._covered, segment.end_offset)

    def _note_batch(self, batch: RecordBatch) -> None:
        if readable(batch):
            for offset, key in zip(batch.offsets, batch.keys, strict=True):
                if key is not None:
                    self._newest[key] = offset
        else:
            self._intact = False
        self._covered = batch.next_offset

    def _rewrite(self, segment: Segment) -> Iterator[bool]:
        out = Rewrite(self._files, segment, self._config)
        try:
            for item in self._batches(segment):
                if item is None:
                    yield False
                    continue
                if not out.add(*item, self._keep(item[0])):
                    self._intact = False
            out.end()
        except CorruptData:
            out.changed = self._intact = False
        if not out.changed or out.size >= segment.size:
            out.drop()
            return
        self.swapping = segment
        yield False  # the owner keeps the old file open for readers before the name changes
        out.swap()
        self.rewritten.append((segment, out))
        yield False

    def _keep(self, batch: RecordBatch) -> list[int] | None:
        """Positions of the records that stay; None when all do."""
        if not readable(batch):
            self._intact = False
            return None
        old = (
            self._intact
            and batch.header.append_ts_us < self._tombstones_before_us
            and batch.next_offset <= self._covered
        )
        newest = self._newest
        records = zip(batch.offsets, batch.keys, batch.values, strict=True)
        kept = [
            at
            for at, (offset, key, value) in enumerate(records)
            if key is None or (newest.get(key, -1) <= offset and not (value is None and old))
        ]
        return kept if len(kept) < len(batch) else None

    @property
    def covered(self) -> int:
        """The offset up to which the log is compacted when the pass is done."""
        return self._covered


class CompactJob(Job):
    """One step of a pass."""

    name: ClassVar[str] = "compaction"
    waits_for_space: ClassVar[bool] = True

    def __init__(self, compactor: Compactor, running: Pass) -> None:
        super().__init__()
        self.running = running
        self._compactor = compactor

    def work(self) -> None:
        try:
            self.running.step()
        except FileNotFoundError:
            self.running.finished = True  # trimmed or deleted meanwhile

    def finish(self) -> Flushed:
        self._compactor.stepped(self)
        return []


class Compactor:
    """Chooses the partition that needs a pass most, and takes in what passes did."""

    def __init__(self, logs: dict[int, PartitionLog], files: Files, config: StorageConfig) -> None:
        self._logs = logs
        self._files = files
        self._config = config
        self._running: Pass | None = None
        self.passes = 0

    def take_job(self) -> Job | None:
        """The next step; None when no partition needs one."""
        if self._running is None:
            log = next((log for log in self._logs.values() if needs_pass(log)), None)
            if log is None:
                return None
            self._running = Pass(log, self._files, self._config)
        return CompactJob(self, self._running)

    def stepped(self, job: CompactJob) -> None:
        """Take in what a step did; a full disk ends the pass, and a later one begins anew."""
        running = job.running
        while running.rewritten:
            segment, out = running.rewritten.pop()
            running.log.replaced(segment, out.size)
            running.swapping = None
        if running.swapping is not None and not running.log.pin(running.swapping):
            self._running = None  # trimmed, deleted or unreadable
            return
        if running.finished and not job.full:
            running.log.compacted_to = max(running.log.compacted_to, running.covered)
            running.log.compacts_on = running.more
            self.passes += 1
        if running.finished or job.full or self._logs.get(running.log.gid) is not running.log:
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
    due = log.compacts_on or dirty * _DIRTY_SHARE >= sum([one.size for one in sealed])
    return dirty > 0 and due
