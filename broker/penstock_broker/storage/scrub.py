"""Scrubbing: cold segments are read again and verified, a bounded step at a time.

Damage that nobody reads would stay unknown until it is too late to repair it from a peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from penstock.errors import CorruptData
from penstock_broker.storage.files import File
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.scan import Hole, walk
from penstock_broker.storage.segment import Segment


class Scrubber:
    """Goes round and round over the sealed segments of all partitions."""

    def __init__(self, logs: Mapping[int, PartitionLog], step_bytes: int) -> None:
        self._logs = logs
        self.step_bytes = step_bytes
        self._gid = -1
        self._base = -1
        self._rewrites = 0
        self._position = 0
        self._offset = 0
        self.verified_bytes = 0
        self.read_errors = 0

    def take_job(self) -> Job | None:
        """The next step; None when there is no sealed segment."""
        found = self._find()
        if found is None:
            return None
        log, segment = found
        place = log.gid, segment.base_offset, segment.rewrites
        if place != (self._gid, self._base, self._rewrites):
            # Another one, or compaction put a new file in its place.
            self._gid, self._base, self._rewrites = place
            self._position, self._offset = 0, segment.base_offset
        try:
            file = log.open_segment(segment)
        except CorruptData as error:
            if isinstance(error.__cause__, FileNotFoundError):
                log.mark_hole(segment, Hole(0, segment.size, segment.base_offset, None))
            else:
                self.read_errors += 1  # perhaps it can be opened another time
            self._leave(segment)
            return None
        return ScrubJob(self, log, segment, file, self._position, self._offset)

    def _find(self) -> tuple[PartitionLog, Segment] | None:
        """The segment at the cursor, or the first one behind it, or the first of all."""
        known = [
            (log, segment)
            for gid in sorted(self._logs)
            for log in (self._logs[gid],)
            for segment in log.segments
            if segment.indexed
        ]
        for log, segment in known:
            if (log.gid, segment.base_offset) >= (self._gid, self._base):
                return log, segment
        return known[0] if known else None

    def _leave(self, segment: Segment) -> None:
        self._base, self._rewrites = segment.base_offset + 1, -1

    def advance(self, job: ScrubJob) -> None:
        """Go on where a step ended."""
        self.verified_bytes += job.position - job.start
        self.read_errors += job.failed
        if job.position >= job.end:
            self._leave(job.segment)
        else:
            self._position, self._offset = job.position, job.offset


class ScrubJob(Job):
    """Verifies some batches of one segment."""

    name: ClassVar[str] = "scrub"

    def __init__(
        self,
        scrubber: Scrubber,
        log: PartitionLog,
        segment: Segment,
        file: File,
        start: int,
        offset: int,
    ) -> None:
        super().__init__()
        self.segment = segment
        self.start = self.position = start
        self.offset = offset
        self.end = segment.size
        self._scrubber = scrubber
        self._log = log
        self._limit = start + scrubber.step_bytes
        self._file = file
        self._holes: list[Hole] = []
        self.failed = False
        """Whether the disk did not give back some bytes."""

    def work(self) -> None:
        try:
            for piece in walk(self._file, self.position, self.end, self.offset):
                if isinstance(piece, Hole):
                    self._holes.append(piece)
                following = piece.next_offset
                self.position = piece.end
                self.offset = self.segment.end_offset if following is None else following
                if self.position >= self._limit:
                    return
        except OSError:
            # Perhaps the disk gives the bytes back another time; a read tries it anyway.
            self.failed = True
            self.offset = self.segment.end_offset
        self.position = self.end

    def finish(self) -> Flushed:
        if self.segment in self._log.segments:
            for hole in self._holes:
                self._log.mark_hole(self.segment, hole)
            if self.position >= self.end and self.offset < self.segment.end_offset:
                missing = Hole(self.end, self.end, self.offset, None)
                self._log.mark_hole(self.segment, missing)
        self._scrubber.advance(self)
        return []
